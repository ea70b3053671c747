"""Withdraw an item for good: its tombstone is set, and from the next night on it is in nobody's list.

reads   item_vocabulary, nights
writes  item_vocabulary (the item's tombstone), blocks (one row that says why)

    recs withdraw ITEM --reason "out of production" [--on 2024-04-01] [--root warehouse]

The tombstone counts from 00:00 UTC of its date. It lies behind the cut of every night that was made, so that a re-run of one still
gives the same lists (default: the first such date; today where there is no night yet). The item keeps its integer, its events still
count for its neighbours and for sessions. For an item that may come back: `recs block ITEM --until INSTANT`.
"""
from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from pyspark.sql import functions as F

from recs.clock import from_micros, parse_date
from recs.jobs._cli import _typed, add_wait, load, parser, run_job
from recs.schemas import BLOCKS, ITEM_VOCABULARY, NIGHTS
from recs.session import start
from recs.tables import Lake, TableError, lease


def run(lake: Lake, item: str, reason: str, on: date | None = None) -> date:
    """Set the tombstone; the date it counts from.  The caller holds the lease on the root.

    Raises TableError, before anything is written, when the item is unknown or withdrawn already, or a night was made with a cut
    at or after the date.
    """
    known = lake.read(ITEM_VOCABULARY).where(F.col("item_id") == item)
    found = known.select("tombstoned_on").collect()
    if not found:
        raise TableError(f"the item is not in {lake.path(ITEM_VOCABULARY)}: check its spelling; nothing was withdrawn")
    if found[0][0] is not None:
        raise TableError(f"the item was withdrawn on {found[0][0]} already; nothing was changed")
    first = first_free_date(lake)
    on = on or first or datetime.now(UTC).date()
    if first and on < first:
        raise TableError(f"--on {on}: a night with a later cut was made and would no longer be the same; the first free date is {first}")
    begins = max(datetime.combine(on, time(), UTC), datetime.now(UTC))
    block = [(None, item, begins, None, f"withdrawn on {on}: {reason}")]
    lake.append(lake.spark.createDataFrame(block, BLOCKS.ddl).coalesce(1), BLOCKS, {"job": "withdraw"})
    lake.merge(known.withColumn("tombstoned_on", F.lit(on)), ITEM_VOCABULARY, {"job": "withdraw", "on": str(on)})
    return on


def first_free_date(lake: Lake) -> date | None:
    """The first date whose 00:00 UTC lies behind the cut of every attempt at a night; None when there is none."""
    newest_us = lake.read(NIGHTS).agg(F.max(F.unix_micros("as_of"))).first()[0]
    return None if newest_us is None else from_micros(newest_us).date() + timedelta(days=1)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("item", help="the item’s id")
    p.add_argument("--reason", required=True, help="why, in words; kept in the table `blocks`")
    p.add_argument("--on", type=_typed(parse_date), metavar="YYYY-MM-DD", help="from 00:00 UTC of this date (default: with the next night)")
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> None:
        config = load(args.config)
        with lease(args.root, wait_s=args.wait):
            on = run(Lake(start("recs withdraw", config.spark), args.root), args.item, args.reason, args.on)
        print(f"withdrawn from {on} 00:00 UTC on; the next night lists it no more")

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
