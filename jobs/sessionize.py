"""Bring the session table to a cut: new events are joined with the sessions they can reach, all else stays.

reads   events
writes  sessions, in one commit, only the days in which a session changed

    recs sessionize --root warehouse --as-of 2024-03-31T00:00:00Z
    spark-submit jobs/sessionize.py --config my.yaml --root /data/recs --as-of 2024-03-31T00:00:00Z --max-batch 12
"""
from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from recs.config import Config
from recs.etl import sessions as stage
from recs.etl.news import new_events, visible
from recs.jobs._stage import plan, run_stage
from recs.schemas import EVENTS, SESSIONS
from recs.tables import Lake, any_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(spark: SparkSession, lake: Lake, config: Config, as_of: datetime, max_batch: int, full: bool = False) -> dict[str, Any]:
    """The session table at (as_of, max_batch): how it got there (`step`), new events, days and rows written."""
    gap = config.sessions.gap
    way = plan(lake, SESSIONS, as_of, max_batch, full, rule=1, gap=gap)
    if way.step == "unchanged":
        return way.done(lake)
    events = lake.read(EVENTS)
    if way.step == "full":
        lake.overwrite(stage.sessions(visible(events, way.wanted), gap, as_of).hint("rebalance", "started_date"), SESSIONS, way.note)
        return way.done(lake)
    news, table = new_events(events, way.old, way.wanted), lake.read(SESSIONS)
    n_new, earliest = news.agg(F.count("*"), F.min(F.unix_micros("ts"))).first()
    since = min(earliest or way.old.as_of_us, way.old.as_of_us)
    changes = stage.changed_sessions(table, news, since, gap, as_of).persist()
    try:
        if days := stage.changed_dates(changes):
            rows = stage.rewritten(table, changes, days).hint("rebalance", "started_date")
            lake.replace(rows, SESSIONS, any_of("started_date", days), way.note)
    finally:
        changes.unpersist()
    return way.done(lake, events_new=n_new, days_rewritten=len(days))


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_stage(__doc__, "sessionize", run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
