"""The DAGs in a real Airflow: they import, have the right shape, and put the right night on every command line.

    make test-airflow                       # in .venv-airflow; RECS_REBUILD=1 writes the goldens anew
    make test-airflow WHOLE=1               # and a whole night by Airflow's own runner, spark-submit included (ten minutes)
"""
from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
DAGS, GOLDEN = HERE.parent, HERE / "golden"
HOME = "/srv/recs"
os.environ |= {
    "RECS_HOME": HOME, "RECS_ZONE": "Europe/Amsterdam", "RECS_CONFIG": "shop.yaml", "RECS_ROOT": "/data/recs",
    "RECS_INPUT": "/raw/{day}/*.gz", "RECS_SUBMIT": "--master local[2]",
}
sys.path.insert(0, str(DAGS))


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(DAGS))


def test_all_import_and_nothing_else_is_there(bag):
    assert bag.import_errors == {}
    assert set(bag.dags) == {"recs_night", "recs_training", "recs_maintenance", "recs_freshness"}


@pytest.mark.parametrize("dag_id", ["recs_night", "recs_training", "recs_maintenance", "recs_freshness"])
def test_one_run_at_a_time_no_catching_up_and_parameters_with_schemas(bag, dag_id: str):
    dag = bag.dags[dag_id]
    assert dag.max_active_runs == 1 and dag.catchup is False and dag.doc_md
    assert {"config", "root", "run_date"} <= set(dag.params)
    dag.params.validate()
    for bad in ("2024-3-1", "2024-03-01' OR '1'='1", "yesterday"):
        with pytest.raises(Exception, match="run_date|Invalid|does not match"):
            dag.params.deep_merge({"run_date": bad}) if hasattr(dag.params, "deep_merge") else dag.params.update({"run_date": bad})
            dag.params.validate()
        dag.params["run_date"] = None
    for task in dag.tasks:
        assert task.retries == (0 if task.task_id in ("fresh", "outcomes") else 2)     # whose failures are messages
        if task.task_type == "BashOperator":
            assert 3 in task.skip_on_exit_code      # a hold is no crash


def test_the_night_is_a_chain_and_tells_who_waits_for_it(bag):
    dag = bag.dags["recs_night"]
    chain, task = [], dag.roots[0]
    while task is not None:
        chain.append(task.task_id)
        following = task.downstream_list
        assert len(following) <= 1
        task = following[0] if following else None
    assert chain == ["ingest", "sessionize", "item_hours", "sequences", "recommend", "publish", "published", "report", "outcomes"]
    for last in ("report", "outcomes"):
        assert dag.get_task(last).trigger_rule == "none_failed"      # after a held night, too
    assert [a.uri for a in dag.get_task("ingest").outlets] == ["recs://events/"]
    assert [a.uri for a in dag.get_task("published").outlets] == ["recs://night/"]


def intervals(dag) -> dict[str, datetime]:
    """The end of the data interval of a scheduled, a manual and a backfill run, as Airflow's scheduler reckons them."""
    import pendulum
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import TimeRestriction

    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    first = pendulum.datetime(2024, 3, 29, tz="Europe/Amsterdam")
    scheduled = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=TimeRestriction(first, None, True))
    again = timetable.next_dagrun_info(
        last_automated_data_interval=scheduled.data_interval, restriction=TimeRestriction(first, None, True))
    manual = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2024, 4, 2, 10, 30, tz="UTC"))
    return {"scheduled": scheduled.data_interval.end, "backfill": again.data_interval.end, "manual": manual.end}


def test_which_night_a_run_is_about(bag):
    import commands

    ends = intervals(bag.dags["recs_night"])
    assert {kind: commands.run_date({}, end) for kind, end in ends.items()} == {
        "scheduled": "2024-03-30",      # the interval of 29 March ends as 30 March begins
        "backfill": "2024-03-31",       # the next one
        "manual": "2024-04-02",         # triggered at 10:30: the night of that day, whose cut has passed
    }
    assert commands.as_of({}, ends["backfill"]) == "2024-03-30T23:00:00Z"


@pytest.mark.parametrize("kind", ["scheduled", "manual", "backfill", "again"])
@pytest.mark.parametrize("dag_id", ["recs_night", "recs_training", "recs_maintenance", "recs_freshness"])
def test_rendered_commands_are_what_they_were(bag, dag_id: str, kind: str):
    """A changed file here is a changed command line on somebody's cluster."""
    dag, ends = bag.dags[dag_id], intervals(bag.dags["recs_night"])
    params = {name: dag.params[name] for name in dag.params} | ({"run_date": "2024-02-29"} if kind == "again" else {})
    context = {"params": Params(params), "data_interval_end": ends["manual" if kind == "again" else kind]}
    lines = []
    for task in dag.tasks:
        if task.task_type == "BashOperator":
            said = " ".join(dag.get_template_env().from_string(task.bash_command).render(context).split())
            lines.append(f"{task.task_id}\n    {said}")
    text, path = "\n".join(lines) + "\n", GOLDEN / f"{dag_id}-{kind}.txt"
    if os.environ.get("RECS_REBUILD") == "1":
        path.write_text(text)
        pytest.skip(f"wrote {path.name}")
    assert path.read_text() == text


class Params(dict):
    """As Airflow hands them to templates: items and attributes."""

    __getattr__ = dict.__getitem__


@pytest.mark.skipif(os.environ.get("WHOLE") != "1", reason="ten minutes: WHOLE=1")
def test_a_whole_night_by_airflows_own_runner(tmp_path: Path):
    """Raw rows of three days, two nights: published lists, and the same command again changes nothing."""
    project = DAGS.parent
    python = project / ".venv/bin/python"
    make = [python, "-m", "recs.jobs.cli", "generate", "--out", tmp_path / "log", "--events", "4000", "--days", "40"]
    subprocess.run(make, check=True, capture_output=True)
    days = sorted(p.name.removeprefix("arrival=") for p in (tmp_path / "log/events").glob("arrival=*"))
    env = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "RECS_HOME": str(project), "RECS_CONFIG": "tiny", "RECS_ROOT": str(tmp_path / "lake"), "RECS_ZONE": "Europe/Amsterdam",
        "RECS_INPUT": f"{tmp_path}/log/events/arrival=*", "RECS_ITEMS": f"{tmp_path}/log/items", "RECS_USERS": f"{tmp_path}/log/users",
        "RECS_SUBMIT": "--master local[2]",
    }
    airflow = [Path(sys.executable).with_name("airflow")]
    subprocess.run([*airflow, "db", "migrate"], check=True, capture_output=True, env=env)
    night = datetime.fromisoformat(days[-1]).replace(tzinfo=UTC)
    said = subprocess.run([*airflow, "dags", "test", "recs_night", night.isoformat()], capture_output=True, text=True, env=env, check=False)
    assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-2000:]
    nights = subprocess.run(
        [python, "-m", "recs.jobs.cli", "nights", "--root", tmp_path / "lake"], capture_output=True, text=True, check=True).stdout
    assert "published" in nights and list((tmp_path / "lake" / "_reports").glob("main-*.html"))
