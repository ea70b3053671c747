"""The report of a night: one HTML page that needs no network, from the tables and without a JVM.

reads   nights, recommendations, events, item_hours, outcomes, metrics, batches, … and root/_runs
writes  root/_reports/<list>-<run_date>.html

    recs report --root warehouse                          # the newest night again, held or not
    recs report --root warehouse --run-date 2024-03-31 --open
    recs report --root s3://bucket/recs --out night.html  # tables far away: the page is written here

The night writes its page itself, and `recs score-outcomes` writes it again when the outcome is known.
"""
from __future__ import annotations

import logging
import webbrowser
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from recs.config import Config
from recs.jobs._cli import load, parser, run_job
from recs.report.page import night

log = logging.getLogger(__name__)


def written(root: str, config: Config, run_dates: Iterable[date]) -> list[Path]:
    """Pages of nights, where the tables are local; one that cannot be written is a warning and nothing else.

    The warning names the night and the kind of fault, no more: what DuckDB says may hold a user's id.
    """
    out: list[Path] = []
    for run_date in run_dates if "://" not in root else ():
        try:
            out.append(night.write(root, config.lists.name, run_date, zone=config.clock.zone))
        except Exception as e:      # whatever it is: the lists of the night stand
            log.warning("no page of night %s (%s): recs report --run-date %s tries again", run_date, type(e).__name__, run_date)
    return out


def renewed(root: str, config: Config, counted: Iterable[date]) -> list[Path]:
    """Pages that are there already and open with another figure now that these days were counted: theirs, and the newest one."""
    days = set(counted)
    if not days or "://" in root:
        return []
    name = config.lists.name
    pages = night.pages(root, name)
    return written(root, config, [d for d in pages if d in days or d == max(pages)])


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__, night=True)
    p.add_argument("--list", dest="list_name", help="which list (default: that of the configuration)")
    p.add_argument("--say", default="en", metavar="LANGUAGE", help="language of the sentences: en, zh, a YAML file (default: %(default)s)")
    p.add_argument("--out", type=Path, metavar="FILE", help="write the page here")
    p.add_argument("--open", action="store_true", help="show it in a browser")
    args = p.parse_args(argv)

    def body() -> None:
        config = load(args.config)
        name = args.list_name or config.lists.name
        path = night.write(args.root, name, args.run_date, zone=config.clock.zone, language=args.say, out=args.out)
        print(f"report: {path}")
        if args.open:
            webbrowser.open(path.resolve().as_uri())

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
