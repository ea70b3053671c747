"""The morning after: hold the lists that were really served against what users then did, beside yesterday’s popularity.

reads   nights, recommendations (as they were served), events, item_hours, items, users, blocks
writes  metrics (run outcome-<list>-<date>), outcomes; the pages of these nights again (jobs/report.py)

    recs score-outcomes --root warehouse
    spark-submit jobs/score_outcomes.py --config my.yaml --root /data/recs --as-of 2024-04-01T00:00:00Z

Counts every day of the last `--days` that is not counted yet or whose events have changed since; again is safe, and changes nothing
where nothing changed.  Exit code 6: the newest whole day fell (docs/outcomes.md); one line says what, by how much and where to look.
"""
from __future__ import annotations

import sys
from contextlib import closing
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from recs.clock import from_micros, micros, parse_instant, parse_zone
from recs.config import Config
from recs.jobs import _pages
from recs.jobs._cli import RunRecord, _typed, add_wait, load, parser, run_job
from recs.judge import drop, mornings, outcomes
from recs.report.outcomes import line
from recs.report.progress import Steps
from recs.serve import nights
from recs.serve.inputs import Inputs
from recs.serve.served import rows_served, served_days
from recs.session import start
from recs.tables import Lake, lease

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FELL = 6
DAYS = 28


def run(lake: Lake, config: Config, as_of: datetime | None, days: int, step: Callable[..., Any]) -> list[date]:
    """Count what is due and write it down; the days that were counted."""
    booked = nights.rows_of(lake, config.lists.name)
    if not any(r["decision"] in nights.STANDS for r in booked):
        return []
    horizon_us, k = config.fit.horizon // timedelta(microseconds=1), config.fit.k
    reach = micros(as_of) if as_of else mornings.reach_us(lake)
    last = from_micros(reach).astimezone(parse_zone(config.clock.zone)).date()
    served = [s for s in served_days(booked, config.clock, horizon_us, last) if s.day > last - timedelta(days=days)]
    _, shown = mornings.targets_and_shown(config)
    found = []
    for due in mornings.due(lake, config, served, reach):
        with step(f"outcome {due.served.day:%m-%d}") as counts, closing(Inputs(lake, lake, config, due.served.attempt)) as inputs:
            lists = rows_served(lake, due.served, booked)
            if lists is None:
                counts.update(lists_of=str(due.served.row["run_date"]), no_longer_kept=True)
                continue
            outcome = outcomes.score(inputs, lists, outcomes.Window(due.served.from_us, due.counted_us, shown), k)
            counts.update(lists=outcome.n_lists, active=outcome.n_active, judged=outcome.n_judged, whole=due.is_whole)
            found.append((due, outcome))
    if found:
        mornings.write(lake, found, k)
    return [due.served.day for due, _ in found]


def told(lake: Lake, config: Config) -> tuple[str | None, str]:
    """What fell (None: nothing), and a line about the newest day."""
    days = mornings.days_of(lake, config.lists.name, config.outcomes.trend_nights + 3)
    return drop.fallen(days, config.outcomes), line(config.lists.name, days)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("--as-of", type=_typed(parse_instant), metavar="INSTANT", help="the log is there up to here (default: as it stands)")
    p.add_argument("--days", type=int, default=DAYS, metavar="N", help="how many days back are looked at (default: %(default)s)")
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> int:
        config, steps = load(args.config), Steps()
        record = RunRecord("score_outcomes", args.root, config)
        with lease(args.root, "outcomes", args.wait):
            with steps("start"):
                lake = Lake(start("recs score-outcomes", config.spark), args.root)
            counted = run(lake, config, args.as_of, args.days, steps)
            with steps("reports") as counts:
                counts.update(pages_again=len(_pages.renewed(args.root, config.lists.name, config.clock.zone, counted)))
            fell, newest = told(lake, config)
        for name, seconds in steps.seconds.items():
            record.step(name, seconds, **steps.counts[name])
        record.write(counted=[str(d) for d in counted], fell=fell)
        print(newest)
        if fell:
            print(f"recs: list {config.lists.name!r}: {fell}", file=sys.stderr)
        return FELL if fell else 0

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
