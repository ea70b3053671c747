"""Erase a user: every row about him in every table, and the files beside them that name him or hold what he did.

reads   every table with a user
writes  events, users, blocks, events_quarantine, sessions, sequences, recommendations (rows go)
removes root/_staging (staged lists), root/_examples (what models learn from), root/_rebuilt, root/_reports (pages of nights), and
        what unfinished contests hold of users

    recs erase USER --root warehouse
    recs compact --root warehouse --keep-days 7       # a week later: until then older versions of the tables hold the rows

What stays: counts per item and hour, models and item tables made before, which name nobody; the raw files, which are yours.  Held and
withdrawn nights can no longer be released, they take `recs night --refresh`.  No id is written into Delta's log.
"""
from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from recs.jobs import _contest
from recs.jobs._cli import RunRecord, add_wait, load, parser, run_job
from recs.schemas import BLOCKS, EVENTS, QUARANTINE, RECOMMENDATIONS, SEQUENCES, SESSIONS, USERS
from recs.serve.retention import remove
from recs.session import start
from recs.tables import Lake, TableError, lease

# events go first: a run that dies on the way has left nothing from which the others could be made again
TABLES = (EVENTS, USERS, BLOCKS, QUARANTINE, SESSIONS, SEQUENCES, RECOMMENDATIONS)
FOLDERS = ("_staging", "_examples", "_rebuilt", "_reports", *(f"_contests/*/{part}" for part in _contest.OF_USERS))


def run(lake: Lake, user: str) -> dict[str, int]:
    """Rows erased by table.  The caller holds the leases on the root."""
    erased = {}
    for table in TABLES:
        if lake.exists(table):
            rows = lake.read(table)
            # a refused row is text that was not understood: what holds the id as a word goes
            mine = rows.raw.rlike(rf"(?<![\w-])\Q{user}\E(?![\w-])") if table is QUARANTINE else (rows.user_id == user)
            if table is RECOMMENDATIONS:
                mine &= rows.audience == "user"     # a segment may have the name of a user
            erased[table.name] = lake.erase(rows.where(mine).select(*table.key), table)
    for pattern in FOLDERS:
        for folder in Path(lake.root).glob(pattern):
            remove(folder)
    return erased


def main(argv: list[str] | None = None) -> int:
    """The command; one line of JSON says what was done."""
    p = parser(__doc__)
    p.add_argument("user", help="the user’s id")
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> None:
        config = load(args.config)
        if "://" in args.root:
            raise TableError(f"{args.root} is a URL: files beside the tables could not be removed there")
        record = RunRecord("erase", args.root, config)
        with ExitStack() as leases:
            for name in ("night", "publish"):
                leases.enter_context(lease(args.root, name, args.wait))
            erased = run(Lake(start("recs erase", config.spark), args.root), args.user)
        record.write(erased=erased)
        print(json.dumps({"job": "erase", **erased}))
        if not any(erased.values()):
            raise TableError(f"no row under {args.root} names this user: check the spelling")

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
