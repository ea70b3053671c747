"""Is there a list for today?  For a schedule that tells somebody when not.

reads   recommendations, nights, without a JVM

    recs fresh --config my.yaml --root warehouse
    recs fresh --root warehouse --days 1          # yesterday's will do

Exit code 5, and one line that says what became of the night, when the newest lists are older.
"""
from __future__ import annotations

import sys
from datetime import date

from recs.clock import local_today, parse_date
from recs.config import Config
from recs.jobs._cli import _typed, load, parser, run_job
from recs.report.show import newest_run_date, rows
from recs.report.views import connect

STALE = 5
LATEST = "SELECT decision, reason FROM nights WHERE list_name = $list_name AND run_date = $run_date ORDER BY decided_at DESC LIMIT 1"


def line(root: str, config: Config, today: date, days: int) -> tuple[bool, str]:
    """Are the lists fresh, and a line that says so."""
    con, name = connect(root), config.lists.name
    newest = newest_run_date(con, name)
    age = (today - newest).days
    if age <= days:
        return True, f"list {name!r}: the newest is of {newest}"
    night = rows(con, LATEST, list_name=name, run_date=today)
    became = f"the night of {today} is {night[0]['decision']}: {night[0]['reason']}" if night else f"nothing was begun for {today}"
    return False, f"list {name!r}: the newest is of {newest}, {age} days old; {became}"


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("--days", type=int, default=0, metavar="N", help="how many days old the newest lists may be (default: %(default)s)")
    p.add_argument("--today", type=_typed(parse_date), metavar="YYYY-MM-DD", help="for replays (default: today in the configured zone)")
    args = p.parse_args(argv)

    def body() -> int:
        config = load(args.config)
        fresh, said = line(args.root, config, args.today or local_today(config.clock.zone), args.days)
        print(said, file=sys.stdout if fresh else sys.stderr)
        return 0 if fresh else STALE

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
