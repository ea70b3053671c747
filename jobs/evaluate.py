"""Ask past nights again: how good would the lists of several models have been, by what followed?

reads   events, users, items, item_vocabulary, item_hours, blocks, models; pinned versions, and no lease is taken
writes  metrics (run, model, versus, name, slice), root/_runs/<run>/report.md with plots, report.html

    recs evaluate --root warehouse --nights 7
    recs evaluate --models blend blend-20240324T2300-0a1b2c3d --refit nightly --nights 28
    recs evaluate --protocol gts_last                 # one target per user, asked at its own instant and by the night in use then
    spark-submit jobs/evaluate.py --config my.yaml --root /data/recs --until 2024-03-30 --nights 4 --every 7

A name of the configuration is a recipe: it is fitted as of the first night, and again as --refit says.  A version of `models` is held
as it is, and refused when it was trained beyond a cut.  popularity and recent_popularity always take part.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from recs.clock import from_micros, parse_date
from recs.config import Config
from recs.jobs import _again, _targets, item_tables, train
from recs.jobs._cli import RunRecord, _typed, load, parser, run_job
from recs.judge import champions
from recs.judge.comparison import Figure, compare, coverage
from recs.models import NAMES
from recs.report import comparison
from recs.report.page import evaluation
from recs.report.progress import Steps
from recs.schemas import METRICS
from recs.session import start
from recs.tables import Lake, TableError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BASELINES = ("recent_popularity", "popularity")
REFIT_US = {"never": None, "nightly": 0, "weekly": train.micros_of(timedelta(days=7))}
PROTOCOLS = ("nightly", "loo", "gts_last")


def contestants(lake: Lake, config: Config, named: Sequence[str]) -> list[_again.Contestant]:
    """Recipes and versions by the names on the command line (default: the configured models), and the baselines."""
    rows = {r["model_version"]: r for r in champions.models(lake)}
    out = []
    for name in dict.fromkeys([*(named or config.models), *BASELINES]):
        if name not in NAMES and name not in rows:
            raise TableError(f"no model {name!r}: name a recipe ({', '.join(NAMES)}) or a version of `models`")
        out.append(_again.Contestant(name, name) if name in NAMES else _again.Contestant(name, rows[name]["name"], rows[name]))
    return out


def figure_rows(lake: Lake, run: str, figures: Sequence[Figure]) -> DataFrame:
    """The figures as rows of `metrics`."""
    now = datetime.now(UTC)
    rows = [(run, f.model, f.versus, f.name, f.slice, f.value, f.low, f.high, f.p, f.n, now) for f in figures]
    return lake.spark.createDataFrame(rows, METRICS.ddl).coalesce(1)


def run(lake: Lake, config: Config, args: argparse.Namespace, folder: Path, steps: Steps) -> comparison.Page:
    """From past nights to figures; writes them."""
    state, k = item_tables.standing(lake), args.k or config.fit.k
    who = contestants(lake, config, args.models)
    versus, facts = list(BASELINES), {"log": f"{config.log.name}, as of {from_micros(state.as_of_us):%Y-%m-%d %H:%M} UTC"}
    if args.protocol == "nightly":
        nights = _again.past_nights(lake, config, state, args.nights, timedelta(days=args.every), args.until)
        if not nights:
            raise TableError("no past night has a whole horizon after it and one before it: the log is too short, or --until too early")
        horizon_d = config.fit.horizon / timedelta(days=1)
        facts["nights"] = f"{len(nights)}, {nights[0].run_date} to {nights[-1].run_date}, horizon {horizon_d:g} d"
        facts["refit"] = args.refit
        context = _again.replayed(lake, config, who, nights, state.max_batch, k, folder, REFIT_US[args.refit], steps)
    else:
        versus = [f"{b} @{rule}" for rule in _targets.rules_of(config) for b in versus]
        facts["targets"] = _targets.MEANING[args.protocol]
        context = _targets.replayed(lake, config, who, args.protocol, state, k, folder, steps)
    with context as found, steps("judge") as counts:
        labels = [r["model"] for r in found.lists.select("model").distinct().collect()]
        if not labels:
            raise TableError("after what was asked nobody met anything a list could hold: nothing can be judged, say an earlier --until")
        models = sorted(labels, key=[c.label for c in who].index) if args.protocol == "nightly" else sorted(labels)
        figures = compare(found.lists, found.truth, models, k, versus) + coverage(found.lists, models, k, found.n_catalogue)
        counts.update(figures=len(figures))
    lake.append(figure_rows(lake, folder.name, figures), METRICS, {"stage": "evaluate", "run": folder.name})
    page = comparison.Page(f"{config.log.name}, {args.protocol}", figures, models, k, facts | {"run": folder.name})
    comparison.write(page, folder)
    evaluation.write(page, folder)
    return page


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("--models", nargs="+", default=[], metavar="NAME", help="recipes and versions (default: those of the configuration)")
    p.add_argument("--nights", type=int, default=7, help="past nights to ask again (%(default)s)")
    p.add_argument("--every", type=int, default=1, metavar="DAYS", help="from one night to the next (%(default)s)")
    p.add_argument("--until", type=_typed(parse_date), metavar="YYYY-MM-DD", help="the last run date (default: the newest possible)")
    p.add_argument("--refit", choices=REFIT_US, default="weekly", help="when recipes are fitted again (%(default)s)")
    p.add_argument("--protocol", choices=PROTOCOLS, default="nightly", help="nights, or a published protocol of one target per user")
    p.add_argument("--k", type=int, help="length of the lists that is judged (default: fit.k of the configuration)")
    args = p.parse_args(argv)

    def body() -> None:
        config, console = load(args.config), Console()
        steps, noted = Steps(console), RunRecord("evaluate", args.root, config)
        folder = Path(args.root).resolve() / "_runs" / f"{noted.started:%Y%m%dT%H%M%S%f}-evaluate"
        with steps("start"):
            lake = Lake(start("recs evaluate", config.spark), args.root)
        page = run(lake, config, args, folder, steps)
        for name, seconds in steps.seconds.items():
            noted.step(name, seconds, **steps.counts[name])
        noted.write(run=folder.name, facts=page.facts)
        console.print(comparison.grid(page))
        console.print(f"report: {folder / 'report.html'} (or report.md)   figures: metrics, run {folder.name}", highlight=False)

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
