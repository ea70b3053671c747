"""Put small files of the tables together, remove what only old versions need, bring their column comments up to date.

reads, writes  every table under --root; no row changes

    recs compact --root warehouse --keep-days 30
    spark-submit jobs/compact.py --root /data/recs

A night that is run again from versions that are gone rebuilds them beside the tables (jobs/derive.py).
"""
from __future__ import annotations

import argparse
import json
import time
from datetime import timedelta

from recs.jobs._cli import RunRecord, add_wait, load, parser, run_job
from recs.schemas import ALL_TABLES
from recs.session import start
from recs.tables import Lake, lease

LEAST_DAYS = 7      # Delta's own limit: a reader may be at work on an older version


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("--keep-days", type=_days, default=30, metavar="N", help="versions this old can still be read (default: %(default)s)")
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> None:
        config = load(args.config)
        record = RunRecord("compact", args.root, config)
        with lease(args.root, wait_s=args.wait):
            lake = Lake(start("recs compact", config.spark), args.root)
            for table in ALL_TABLES:
                if lake.exists(table):
                    began = time.monotonic()
                    counts = {"described": len(lake.describe(table)), **lake.compact(table, timedelta(days=args.keep_days))}
                    record.step(table.name, time.monotonic() - began, **counts)
                    print(json.dumps({"job": "compact", "table": table.name, **counts}))
        record.write()

    return run_job(body)


def _days(text: str) -> int:
    if not text.isdecimal() or int(text) < LEAST_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r}: give whole days, {LEAST_DAYS} or more")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
