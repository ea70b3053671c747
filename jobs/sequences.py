"""Bring the users' histories to a cut: users with new events get a new row, all others keep theirs.

reads   events, users (time zones, segments)
writes  sequences, in one commit, only the rows that changed

    recs sequences --root warehouse --as-of 2024-03-31T00:00:00Z
    spark-submit jobs/sequences.py --config my.yaml --root /data/recs --as-of 2024-03-31T00:00:00Z --max-batch 12
"""
from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from recs.config import Config
from recs.etl import sequences as stage
from recs.etl.news import new_events, visible
from recs.etl.users_at import known_users
from recs.jobs._stage import plan, run_stage, users_before
from recs.schemas import EVENTS, SEQUENCES, USERS
from recs.tables import Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def rule_of(config: Config) -> stage.SequenceRule:
    """The part of the configuration a row of `sequences` depends on."""
    gap_us = config.sessions.gap // timedelta(microseconds=1)
    return stage.SequenceRule(config.sequences.max_events, gap_us, config.clock.zone, config.log.events.has_clock)


def run(spark: SparkSession, lake: Lake, config: Config, as_of: datetime, max_batch: int, full: bool = False) -> dict[str, Any]:
    """The histories at (as_of, max_batch): how they got there (`step`), rows written."""
    rule = rule_of(config)
    way = plan(lake, SEQUENCES, as_of, max_batch, full, version=2, **asdict(rule))
    if way.step == "unchanged":
        return way.done(lake)
    users = known_users(lake.read(USERS), way.wanted)
    if way.step == "full":
        lake.overwrite(stage.sequences(visible(lake.read(EVENTS), way.wanted), users, as_of, rule), SEQUENCES, way.note)
        return way.done(lake)
    news = new_events(lake.read(EVENTS), way.old, way.wanted)
    changes = stage.changed_sequences(lake.read(SEQUENCES), news, users_before(lake, way) if way.users_changed else None, users, rule)
    lake.merge(changes, SEQUENCES, way.note)
    return way.done(lake)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_stage(__doc__, "sequences", run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
