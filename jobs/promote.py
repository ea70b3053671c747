"""Make a model champion: the best challenger that earned it, or one that a person names; or go back to the champion before.

reads   models, and what past nights are asked again from (jobs/evaluate.py)
writes  models (statuses), promotions (the decision: who, why, when, on what evidence)

    recs promote --root warehouse                               # judge the newest candidate of every recipe on past nights
    recs promote blend-20240324T2300-0a1b2c3d --reason "…"      # by hand: only the smoke inference is asked for
    recs promote --rollback --reason "…"                        # the champion before reigns again
    recs promote --why                                          # who is champion and why

A new recipe must be better than the champion and than recent popularity (paired lower bound above 0), a refit of the reigning one not
worse (above -promotion.not_worse), on past nights after what they were trained on (docs/decisions/0006).  Nobody earning it is no error:
the champion stays.  Exit code 4: somebody else decided in the meantime.
"""
from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence

from rich.console import Console

from recs.clock import Night, from_micros
from recs.config import Config
from recs.jobs import _champion, derive, item_tables
from recs.jobs._cli import RunRecord, code_version, load, parser, run_job
from recs.judge import champions
from recs.judge.promotion import recipe_of
from recs.report.progress import Steps
from recs.serve import nights
from recs.session import start
from recs.tables import Lake


def run(lake: Lake, config: Config, args: argparse.Namespace, steps: Steps) -> list[champions.Decision]:
    """The decisions made, the one that changed the champion (if any) last."""
    if args.rollback:
        return [champions.decide(lake, champions.back(lake, getpass.getuser(), args.reason, nights.now_us()), args.wait)]
    state = item_tables.standing(lake)
    as_of = from_micros(state.as_of_us)
    night = Night(as_of.date(), as_of, as_of + config.clock.lead)
    attempt = nights.Attempt(night, config.lists.name, 0, state.max_batch, nights.now_us(), config.hash, code_version())
    derived = derive.bring(lake, config, as_of, state.max_batch, steps)
    reigning = champions.champion(lake)
    if args.model_version:
        return [by_hand(lake, config, derived, attempt, args, reigning)]
    if reigning is None:
        raise champions.PromotionError("nobody reigns yet: `recs night` finds the first champion, or name a model and a --reason")
    decided = []
    for row in challengers(champions.models(lake), config, reigning, state.as_of_us):
        decided.append(_champion.judge(lake, config, derived, attempt, row, reigning, "promote", steps))
    earned = [d for d in decided if d.changes_the_champion]
    best = max(earned, key=lambda d: d.evidence["gains"]["over_champion"]["value"], default=None)
    lost = [d for d in decided if d is not best]
    for d in lost:
        champions.decide(lake, d if not d.changes_the_champion else champions.outdone(d, best), args.wait)
    return [*lost, champions.decide(lake, best, args.wait)] if best else lost


def challengers(rows: Sequence[champions.Row], config: Config, reigning: champions.Row, as_of_us: int) -> list[champions.Row]:
    """The newest candidate of every configured recipe that knows nothing beyond the cut."""
    mine = {recipe_of(name, config) for name in config.models}
    newest: dict[str, champions.Row] = {}
    for row in sorted(rows, key=lambda r: (r["trained_through_us"], r["model_version"])):
        if row["status"] == "candidate" and row["recipe"] in mine and row["trained_through_us"] <= as_of_us:
            newest[row["recipe"]] = row
    return [newest[recipe] for recipe in sorted(newest)]


def by_hand(lake: Lake, config: Config, derived, attempt: nights.Attempt, args: argparse.Namespace, reigning) -> champions.Decision:
    """A person's word for a model that passes the smoke inference."""
    row = next((r for r in champions.models(lake) if r["model_version"] == args.model_version), None)
    if row is None:
        raise champions.PromotionError(f"no model {args.model_version} in {lake.path('models')}")
    if fault := _champion.smoke(lake, config, derived, attempt, row):
        raise champions.PromotionError(f"{args.model_version} does not pass the smoke inference: {fault}")
    before = reigning["model_version"] if reigning else ""
    by = {"by": getpass.getuser(), "reason": args.reason, "at_us": nights.now_us(), "evidence": {"smoke": "passed"}}
    return champions.decide(lake, champions.Decision(args.model_version, "promoted", "by_hand", before, **by), args.wait)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("model_version", nargs="?", help="a version of `models`, to be promoted by hand; without one the candidates are judged")
    p.add_argument("--rollback", action="store_true", help="go back to the champion before")
    p.add_argument("--reason", help="why, in words; kept in the table (needed by hand and for --rollback)")
    p.add_argument("--why", action="store_true", help="only say who is champion and why")
    p.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait this long for another decision to end")
    args = p.parse_args(argv)
    if (args.rollback or args.model_version) and not args.reason:
        p.error("say why with --reason")
    if args.rollback and args.model_version:
        p.error("name a model or --rollback, not both")

    def body() -> None:
        config, console = load(args.config), Console()
        steps, record = Steps(console), RunRecord("promote", args.root, config)
        lake = Lake(start("recs promote", config.spark), args.root)
        decided = [] if args.why else run(lake, config, args, steps)
        for d in decided:
            console.print(d.line, style="green" if d.changes_the_champion else "yellow", highlight=False, soft_wrap=True)
        if not decided and not args.why:
            console.print("no candidate to judge: the newest models reign, or are retired", highlight=False)
        console.print(champions.why(lake), highlight=False, soft_wrap=True)
        if not args.why:
            record.write(decisions=[d.facts() for d in decided])

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
