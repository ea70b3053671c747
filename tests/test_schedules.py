"""What the DAGs put on command lines, and the jobs they name (Airflow itself is asked in airflow_dags/tests, in its own environment)."""
from __future__ import annotations

import importlib
import re
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import tiny_warehouse

from recs.clock import Night
from recs.jobs import compact, fresh
from recs.schemas import RECOMMENDATIONS
from recs.session import DELTA_PACKAGE
from recs.tables import Lake

DAGS = Path(__file__).resolve().parents[1] / "airflow_dags"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(DAGS))
    monkeypatch.setenv("RECS_ZONE", "Europe/Amsterdam")
    monkeypatch.setenv("RECS_SUBMIT", "--master local[2]")
    yield importlib.import_module("commands")
    sys.modules.pop("commands")


def test_a_night_is_the_local_day_that_begins_where_the_interval_ends(commands):
    end = datetime(2024, 3, 30, 23, tzinfo=UTC)         # midnight of the day on which the clocks go forward
    assert commands.run_date({}, end) == "2024-03-31" and commands.as_of({}, end) == "2024-03-30T23:00:00Z"
    after = {"run_date": "2024-04-01"}                  # its midnight is an hour closer
    assert commands.run_date(after, end) == "2024-04-01" and commands.as_of(after, end) == "2024-03-31T22:00:00Z"
    night = Night.of(date(2024, 4, 1), "Europe/Amsterdam", timedelta(hours=7))
    assert commands.as_of(after, end) == night.as_of.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")     # as the jobs reckon


def test_files_are_named_by_day_and_quoted(commands):
    end = datetime(2024, 3, 30, 23, tzinfo=UTC)
    assert commands.paths("--input", "raw/{day}/*.gz raw/it's/{run_date}", {}, end) == (
        """--input 'raw/2024-03-30/*.gz' 'raw/it'"'"'s/2024-03-31'""")
    assert commands.paths("--items", "", {}, end) == ""


def test_a_submit_names_python_delta_and_the_job_by_path(commands):
    said = commands.submit("publish", commands.NIGHT)
    quiet = "--conf spark.log.level=WARN"       # before what an installation says, which may say otherwise
    assert said.startswith("PYSPARK_PYTHON=") and f"--packages {DELTA_PACKAGE} {quiet} --master local[2]" in said
    assert said.endswith("jobs/publish.py --config {{ quote(params.config) }} --root {{ quote(params.root) }} " + commands.NIGHT)


def test_every_job_that_a_dag_names_is_there_with_its_flags():
    source = "\n".join(p.read_text() for p in DAGS.glob("recs_*.py"))
    named = set(re.findall(r'(?:submit|command)\("(\w+)"', source)) | {"sessionize", "item_hours", "sequences"}
    training, other = {"train", "evaluate", "promote", "build_examples"}, {"compact", "clean", "fresh", "report"}
    assert {"ingest", "recommend", "publish"} | training | other <= named
    for job in named:
        module = importlib.import_module(f"recs.jobs.{job}")
        with pytest.raises(SystemExit) as refused:
            module.main(["--help"])
        assert refused.value.code == 0


def test_files_go_together_and_the_note_stays(spark, lake: Lake):
    tiny_warehouse.write(lake)
    before, note = lake.read(RECOMMENDATIONS).orderBy("run_date", "list_name", "user_id", "rank").collect(), lake.note(RECOMMENDATIONS)
    lake.append(lake.read(RECOMMENDATIONS).limit(1), RECOMMENDATIONS, note)      # a second small file of a partition
    counts = lake.compact(RECOMMENDATIONS, timedelta(days=7))
    assert counts["files"] > counts["into"] >= 1
    assert lake.note(RECOMMENDATIONS) == note
    assert lake.read(RECOMMENDATIONS).dropDuplicates().count() == len(before)
    with pytest.raises(Exception, match="retention"):
        lake.compact(RECOMMENDATIONS, timedelta(hours=1))
    with pytest.raises(SystemExit):
        compact.main(["--keep-days", "3"])


def test_lists_that_are_too_old_are_told_about(spark, lake: Lake, capsys: pytest.CaptureFixture[str]):
    tiny_warehouse.write(lake)
    ask = ["--config", "tiny", "--root", lake.root]
    last = tiny_warehouse.LAST
    assert fresh.main([*ask, "--today", str(last)]) == 0 and f"the newest is of {last}" in capsys.readouterr().out
    assert fresh.main([*ask, "--today", str(last + timedelta(days=1)), "--days", "1"]) == 0
    assert fresh.main([*ask, "--today", str(last + timedelta(days=2))]) == fresh.STALE
    assert "2 days old; nothing was begun" in capsys.readouterr().err
