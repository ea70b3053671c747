"""What sessionize, item_hours and sequences share: from the table's own note to the way forward, and their command line."""
from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from recs.etl.news import State, StateError, Step, next_step, recipe
from recs.jobs._cli import RunRecord, add_wait, load, parser, run_job
from recs.schemas import USERS, Table
from recs.serve import nights
from recs.session import start
from recs.tables import Lake, lease

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Plan:
    """How one derived table gets from the state in its newest commit to the wanted one."""

    table: Table
    step: Step
    wanted: State
    note: dict[str, Any]    # goes into the commit that reaches the wanted state
    have: dict[str, Any]    # what the newest commit says
    users_changed: bool     # may the users table say something else than it did at the old state?

    @property
    def old(self) -> State:
        """The state the table stands at."""
        return State.from_note(self.have)

    def done(self, lake: Lake, **more: int) -> dict[str, Any]:
        """Counts of the run.  Where nothing had to be written, an empty commit says that the table now stands at the wanted state."""
        if self.step == "unchanged":
            return {"step": self.step, "rows_written": 0}
        written = lake.rows_written(self.table, self.note)
        if written is None:
            lake.mark(self.table, self.note)
        return {"step": self.step, **more, "rows_written": written or 0}


def plan(lake: Lake, table: Table, as_of: datetime, max_batch: int, full: bool, **settings: Any) -> Plan:
    """`settings` are all the rows depend on beside events and users; other ones than last time mean a full rebuild."""
    lake.ensure(USERS)
    (users_version, users_note), *_ = lake.commits(USERS, 1)
    wanted, made_by = State.of(as_of, max_batch), recipe(**settings)
    note = {"as_of_us": wanted.as_of_us, "max_batch": max_batch, "recipe": made_by, "users_version": users_version}
    have = lake.note(table)
    # of one version the old state may still not have known the last batch; version 0 is the empty table
    last_batch = users_note.get("batch_id", float("inf")) if users_version else 0
    changed = have.get("users_version") != users_version or last_batch > have.get("max_batch", -1)
    return Plan(table, next_step(have, wanted, made_by, full), wanted, note, have, changed)


def users_before(lake: Lake, plan: Plan) -> DataFrame:
    """The users table as the old state knew it; where Delta no longer keeps that version, the rows that are still as they were."""
    from pyspark.errors import PySparkException

    try:
        users = lake.read(USERS, plan.have["users_version"])
    except PySparkException:
        users = lake.read(USERS)
    return users.where(F.col("batch_id") <= plan.old.max_batch)


def run_stage(doc: str, name: str, run: Callable[..., dict[str, Any]], argv: list[str] | None) -> int:
    """The job as a command: flags, lease, session, run record; one line of JSON says what was done."""
    p = parser(doc, as_of=True)
    p.add_argument("--full", action="store_true", help="rebuild the table from all events, whatever state it is in")
    p.add_argument("--forward-only", action="store_true", help="leave a table that is past this night; recommend makes it beside")
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> None:
        config = load(args.config)
        record = RunRecord(name, args.root, config)
        with lease(args.root, wait_s=args.wait):
            lake = Lake(start(f"recs {name}", config.spark), args.root)
            max_batch = args.max_batch if args.max_batch is not None else nights.newest_batch(lake)
            began = time.monotonic()
            try:
                counts = run(lake.spark, lake, config, args.as_of, max_batch, args.full)
            except StateError as e:
                if not args.forward_only:
                    raise
                counts = {"step": "left", "why": e.stands, "rows_written": 0}
        record.step(name, time.monotonic() - began, **counts)
        record.write(as_of=args.as_of.isoformat())
        print(json.dumps({"job": name, "as_of": args.as_of.isoformat(), "max_batch": max_batch, **counts}))

    return run_job(body)
