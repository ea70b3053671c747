"""Bring the item-hour counts to a cut: days that got new events are counted again, all else stays.

reads   events, users (segments)
writes  item_hours, in one commit, only the days that changed

    recs item-hours --root warehouse --as-of 2024-03-31T00:00:00Z
    spark-submit jobs/item_hours.py --config my.yaml --root /data/recs --as-of 2024-03-31T00:00:00Z --max-batch 12
"""
from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from recs.config import Config
from recs.etl import item_hours as stage
from recs.etl.news import new_events, visible
from recs.etl.users_at import known_users
from recs.jobs._stage import plan, run_stage, users_before
from recs.schemas import EVENTS, ITEM_HOURS, USERS
from recs.tables import Lake, any_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(spark: SparkSession, lake: Lake, config: Config, as_of: datetime, max_batch: int, full: bool = False) -> dict[str, Any]:
    """The item-hour counts at (as_of, max_batch): how they got there (`step`), days and rows written."""
    gap, types = config.sessions.gap, sorted(config.log.events.event_types)
    way = plan(lake, ITEM_HOURS, as_of, max_batch, full, rule=1, gap=gap, types=types)
    if way.step == "unchanged":
        return way.done(lake)
    events, users = visible(lake.read(EVENTS), way.wanted), known_users(lake.read(USERS), way.wanted)
    if way.step == "full":
        lake.overwrite(stage.item_hours(events, users, as_of, gap, types).hint("rebalance", "event_date"), ITEM_HOURS, way.note)
        return way.done(lake)
    days = set(stage.touched_days(new_events(lake.read(EVENTS), way.old, way.wanted)))
    if way.users_changed:
        days |= set(stage.days_of_changed_segments(events, users_before(lake, way), users))
    if days:
        rows = stage.item_hours(events.where(F.col("event_date").isin(*days)), users, as_of, gap, types).hint("rebalance", "event_date")
        lake.replace(rows, ITEM_HOURS, any_of("event_date", sorted(days)), way.note)
    return way.done(lake, days_rewritten=len(days))


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_stage(__doc__, "item_hours", run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
