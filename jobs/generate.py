"""Make an event log with known truth.

reads   nothing
writes  OUT/events, OUT/items, OUT/users (raw JSON lines), OUT/truth (what really went on; recs/generate.py says how)

    recs generate --out log --preset shop --events 60000 --seed 7 --dirt 0.02
    recs ingest --config default --input log/events --items log/items --users log/users

A finished log is left alone; with other --cuts only the oracle's lists are made anew.
"""
from __future__ import annotations

import argparse
import json

from recs.clock import parse_date
from recs.generate import DIRT_KINDS, EFFECTS, PRESETS, generate, make_config
from recs.jobs._cli import Parser, _typed, run_job
from recs.session import start


def _count(text: str) -> int:
    return int(float(text.replace("_", "")))


def parser() -> argparse.ArgumentParser:
    """Flags; those not given keep the defaults of recs.generate.GenerateConfig."""
    p = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    p.add_argument("--out", required=True, help="folder or URL of the log")
    p.add_argument("--preset", choices=list(PRESETS), help="the domain (default: shop)")
    p.add_argument("--events", dest="n_events", type=_count, metavar="N", help="about this many clean events, 1e4 to 1e8 (default: 60000)")
    p.add_argument("--users", dest="n_users", type=_count, metavar="N", help="default: by preset and events")
    p.add_argument("--items", dest="n_items", type=_count, metavar="N", help="default: by preset and events")
    p.add_argument("--days", type=int, help="length of the log (default: 90)")
    p.add_argument("--end", type=_typed(parse_date), metavar="YYYY-MM-DD", help="the log ends at 00:00 UTC of it (default: 2024-03-31)")
    p.add_argument("--seed", type=int, help="another seed, another log (default: 7)")
    p.add_argument("--without", nargs="+", metavar="EFFECT", help=f"effects to switch off: {', '.join(EFFECTS)}")
    p.add_argument("--emphasis", choices=EFFECTS, help="the effect the log is made for: it decides half of the choices")
    p.add_argument("--dirt", type=float, metavar="SHARE", help="dirty rows per clean one (default: 0)")
    p.add_argument("--dirt-kinds", nargs="+", metavar="KIND", help=f"default: all of {', '.join(DIRT_KINDS)}")
    p.add_argument("--cuts", nargs="+", metavar="INSTANT", help="oracle lists as of these instants (default: one day before the end)")
    p.add_argument("--horizon", type=int, metavar="DAYS", help="the oracle looks this far beyond a cut (default: 1)")
    p.add_argument("--rollouts", type=int, metavar="N", help="futures the oracle averages over (default: 256)")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; prints the counts of the log as JSON."""
    settings = vars(parser().parse_args(argv))
    out = settings.pop("out")

    def body() -> None:
        config = make_config(**settings)
        print(json.dumps(generate(start("recs generate"), out, config), indent=1))

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
