"""Remove old files beside the tables: item tables, examples, staged lists, tables rebuilt for nights of the past.

reads   nights, without a JVM
removes what no kept night needs under root/item_tables, root/_examples, root/_staging, root/_rebuilt

    recs clean --root warehouse --dry-run
    recs clean --root warehouse --nights 14

Kept are the newest `keep.nights` run dates of every list (14 unless the configuration says otherwise), and what was made within a day: a
backfill may be at work on it. Older nights can still be run again, they rebuild what they need; held ones among them can no longer be
released. Examples stay as long as a fit of a kept night read them, or a model's newest: the next goes on from them. Tables, models and run
records are not touched.
"""
from __future__ import annotations

import argparse

from recs.clock import DAY
from recs.jobs._cli import add_wait, load, parser, run_job
from recs.report.show import rows
from recs.report.views import connect
from recs.serve.nights import now_us
from recs.serve.retention import newest_nights, old_folders, remove
from recs.tables import TableError, lease

BOOKED = """
    SELECT run_date, list_name, epoch_us(as_of) AS as_of_us, max_batch, item_tables, epoch_us(decided_at) AS decided_at_us FROM nights"""


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("--nights", type=_at_least_one, metavar="N", help="run dates to keep (default: `keep.nights` of the configuration)")
    p.add_argument("--dry-run", action="store_true", help="say what would go, remove nothing")
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> None:
        config = load(args.config)
        if "://" in args.root:
            raise TableError(f"{args.root} is a URL: clean removes folders of the machine's own file systems only")
        with lease(args.root, wait_s=args.wait):
            kept = newest_nights(rows(connect(args.root), BOOKED), args.nights or config.keep.nights, now_us() - DAY)
            if kept is None:
                print(f"{args.root} has no night yet: nothing was removed")
                return
            old = old_folders(args.root, kept)
            print(f"kept: {len(kept.run_dates)} run dates, {kept.since} and newer")
            for folder in old:
                print(f"would remove {folder}" if args.dry_run else f"removed {folder} ({remove(folder) / 1e6:,.1f} MB)")
            if not old:
                print("nothing is older")

    return run_job(body)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, 1 or more")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
