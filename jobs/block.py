"""Keep an item out of everybody's lists, or of one user's.

reads   items known to item_vocabulary
writes  blocks (one row per decision)

    recs block ITEM --reason "recalled" [--user USER] [--until INSTANT] [--root warehouse]

Takes effect with the next night (and with the next `--refresh` of this one).
"""
from __future__ import annotations

from datetime import UTC, datetime

from recs.clock import parse_instant
from recs.jobs._cli import _typed, load, parser, run_job
from recs.schemas import BLOCKS, ITEM_VOCABULARY
from recs.session import start
from recs.tables import Lake, TableError


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("item", help="the item’s id")
    p.add_argument("--reason", required=True, help="why, in words; kept in the table")
    p.add_argument("--user", help="only for this user")
    p.add_argument("--until", type=_typed(parse_instant), help="until this instant (default: for good)")
    args = p.parse_args(argv)

    def body() -> None:
        lake = Lake(start("recs block", load(args.config).spark), args.root)
        known = lake.read(ITEM_VOCABULARY)
        if known.filter(known.item_id == args.item).isEmpty():
            raise TableError(f"the item is not in {lake.path(ITEM_VOCABULARY)}: check its spelling; nothing was blocked")
        # instants with their zone: Spark reads those without one on the machine's clock
        row = [(args.user, args.item, datetime.now(UTC), args.until, args.reason)]
        lake.append(lake.spark.createDataFrame(row, BLOCKS.ddl), BLOCKS, {"job": "block"})

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
