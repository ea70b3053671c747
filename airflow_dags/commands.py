"""Command lines of the jobs, and the dates they are about: all that the DAGs know of this project.

    schedule        a data interval is one local day; it ends at the cut, and the lists are served on the day that begins there
    run_date        local date of the interval's end, or the parameter `run_date` (manual runs, nights again)
    as_of           local midnight at which run_date begins, in UTC

Where things are is the environment's, so that one checkout serves several installations:

    RECS_HOME       the checkout with its .venv (default: the folder above this one)
    RECS_CONFIG, RECS_ROOT, RECS_INPUT, RECS_ITEMS, RECS_USERS      defaults of the DAGs' parameters; {day} and {run_date} are filled in
    RECS_ZONE       the zone of `clock.zone` in that configuration
    RECS_SUBMIT     further flags of spark-submit: --master, memory, --py-files
"""
from __future__ import annotations

import os
import shlex
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

HOME = Path(os.environ.get("RECS_HOME") or Path(__file__).resolve().parents[1])
ZONE = os.environ.get("RECS_ZONE", "UTC")
DELTA = "io.delta:delta-spark_2.13:4.0.1"       # recs.session.DELTA_PACKAGE; a test holds the two together
HELD = 3                                        # the jobs' exit code for a night that is held
WAIT_S = 3_600                                  # for another run's lease


def default(name: str, fallback: str = "") -> str:
    """A parameter's default: RECS_<NAME> of the environment."""
    return os.environ.get(f"RECS_{name}", fallback)


def run_date(params: dict, data_interval_end: datetime) -> str:
    """The night, YYYY-MM-DD."""
    return params.get("run_date") or data_interval_end.astimezone(ZoneInfo(ZONE)).date().isoformat()


def as_of(params: dict, data_interval_end: datetime) -> str:
    """Its knowledge cut, an instant in UTC."""
    night = date.fromisoformat(run_date(params, data_interval_end))
    local = datetime(night.year, night.month, night.day, tzinfo=ZoneInfo(ZONE))
    return local.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def paths(flag: str, pattern: str, params: dict, data_interval_end: datetime) -> str:
    """`--input '…'` with the dates filled in, or nothing where the pattern is empty; the job expands globs."""
    if not pattern:
        return ""
    night = run_date(params, data_interval_end)
    day = (date.fromisoformat(night) - timedelta(days=1)).isoformat()
    return f"{flag} " + " ".join(shlex.quote(p.format(run_date=night, day=day)) for p in pattern.split())


MACROS = {"run_date": run_date, "as_of": as_of, "paths": paths, "quote": shlex.quote}
NIGHT = "--run-date {{ run_date(params, data_interval_end) }}"
AS_OF = "--as-of {{ as_of(params, data_interval_end) }}"


def submit(job: str, *flags: str) -> str:
    """A job under spark-submit, by path, with the parameters `config` and `root`; templates of Airflow may stand in the flags."""
    python = shlex.quote(str(HOME / ".venv/bin/python"))
    parts = [
        f"PYSPARK_PYTHON={python} PYSPARK_DRIVER_PYTHON={python} {shlex.quote(str(HOME / '.venv/bin/spark-submit'))}",
        f"--packages {DELTA} --conf spark.log.level=WARN", os.environ.get("RECS_SUBMIT", ""), shlex.quote(str(HOME / "jobs" / f"{job}.py")),
        "--config {{ quote(params.config) }} --root {{ quote(params.root) }}", *flags,
    ]
    return " ".join(p for p in parts if p)


def command(name: str, *flags: str) -> str:
    """`recs NAME`, for what needs no JVM."""
    recs = shlex.quote(str(HOME / ".venv/bin/recs"))
    return " ".join([recs, name, "--config {{ quote(params.config) }} --root {{ quote(params.root) }}", *flags])
