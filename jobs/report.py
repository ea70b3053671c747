"""The report of a night: one HTML page that needs no network, from the tables and without a JVM.

reads   nights, recommendations, events, item_hours, outcomes, metrics, batches, … and root/_runs
writes  root/_reports/<list>-<run_date>.html

    recs report --root warehouse                          # the newest night again, held or not
    recs report --root warehouse --run-date 2024-03-31 --open
    recs report --root s3://bucket/recs --out night.html  # tables far away: the page is written here

The night writes its page itself; `recs score-outcomes`, `recs release` and `recs hold` write it again when there is something new.
"""
from __future__ import annotations

import webbrowser
from pathlib import Path

from recs.jobs._cli import load, parser, run_job
from recs.report.page import night


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
