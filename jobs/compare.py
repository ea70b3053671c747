"""A contest of models: each fitted in the same minutes on one log, their lists of the same nights judged, all in one table with costs.

reads   events, users, items, item_vocabulary, item_hours, blocks; pinned versions, and no lease on the tables is taken
writes  metrics (run = the contest), root/_contests/<contest>: compare.md with plots, and the models

    recs compare --root warehouse --models blend sasrec gru4rec timeline --minutes 10
    recs compare --models all --nights 7 --minutes 30
    recs compare --protocol loo --models popularity ease sasrec
    spark-submit jobs/compare.py --config my.yaml --root /data/recs --until 2024-03-30 --nights 4 --every 7

Models are fitted once, as of the first night.  The first three places are fitted by further seeds, where they have one.  Killed, the same
command goes on where it was; with more models named it fits only those.  A model that fails is a row that says so, and exit code 7.
"""
from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from recs.clock import from_micros, parse_date
from recs.config import Config
from recs.etl.news import State
from recs.jobs import _again, _grounds, item_tables
from recs.jobs._cli import FAILED, RunRecord, _typed, load, parser, run_job
from recs.jobs._contest import Contest, Entry
from recs.jobs.evaluate import figure_rows
from recs.judge.comparison import Figure, compare, coverage, quality, units
from recs.models import NAMES, model_class
from recs.report import contest as report
from recs.report.comparison import Page
from recs.report.progress import Steps
from recs.schemas import METRICS
from recs.session import start
from recs.tables import Lake, TableError, lease, predicate

PROTOCOLS = ("nightly", "loo", "gts_last")
PLACES = 3      # that are fitted by further seeds


def ground(lake: Lake, config: Config, args: argparse.Namespace, names: Sequence[str], state: State) -> tuple[_grounds.Ground, Path]:
    """What the contest is held on, and its folder: named after all that its figures depend on, but for which models take part."""
    asked = []
    if args.protocol == "nightly":
        asked = _again.past_nights(lake, config, state, args.nights, timedelta(days=args.every), args.until)
        if not asked:
            raise TableError("no past night has a whole horizon after it and one before it: the log is too short, or --until too early")
    days = [str(n.run_date) for n in asked]
    body = [config.hash, args.protocol, days, state.as_of_us, state.max_batch, args.minutes, args.k]
    key = hashlib.sha256(json.dumps(body).encode()).hexdigest()[:8]
    folder = Path(lake.root) / "_contests" / f"{config.log.name}-{args.protocol}-{key}"
    if asked:
        return _grounds.Nights(lake, config, asked, state.max_batch, names, folder), folder
    return _grounds.Targets(lake, config, args.protocol, state, names, folder), folder


def judged(contest: Contest, repeated: dict[str, list[Entry]], best: Entry, k: int) -> list[Figure]:
    """All figures of these entries (by model, the first seed first), differences to the best model."""
    entries = [e for some in repeated.values() for e in some]
    labels, lists, truth = [e.label for e in entries], contest.lists(entries), contest.ground.truth()
    figures = compare(lists, truth, labels, k, [best.label]) + coverage(lists, labels, k, contest.ground.n_catalogue)
    n = next(f.n for f in figures if f.model == best.label)
    figures += [figure for e in entries for figure in e.costs(n)]
    return report.with_seeds(figures, {m: [e.label for e in some] for m, some in repeated.items()}, f"ndcg@{k}")


def places(contest: Contest, entries: Sequence[Entry], k: int) -> list[Entry]:
    """These by their NDCG, the best first."""
    labels = [e.label for e in entries]
    found = quality(units(contest.lists(entries), contest.ground.truth(), labels), labels, k, replicates=1)
    ndcg = {f.model: f.value for f in found if f.name == f"ndcg@{k}" and not f.slice}
    return sorted(entries, key=lambda e: -ndcg.get(e.label, -1.0))


def run(lake: Lake, config: Config, args: argparse.Namespace, steps: Steps) -> tuple[Page, dict[str, str], Path]:
    """From nights to the page: figures, why models failed, and the contest's folder."""
    names = list(NAMES) if args.models == ["all"] else list(dict.fromkeys(args.models or config.models))
    for name in names:
        model_class(name)       # an unknown name is refused before anything is done
    k = args.k
    if "://" in lake.root:
        raise TableError(f"{lake.root} is a URL and a contest is a folder of the driver: use a folder that driver and executors see")
    state = item_tables.standing(lake)
    on, folder = ground(lake, config, args, names, state)
    facts = {"log": f"{config.log.name}, as of {from_micros(state.as_of_us):%Y-%m-%d %H:%M} UTC", **on.facts}
    facts |= {"budget": f"{args.minutes:g} min to fit each model", "run": folder.name}
    with lease(lake.root, f"compare-{folder.name}"):
        contest = Contest(on, folder, args.minutes, k, lake.spark)
        on.prepare(steps)
        entries = [contest.run(name, 1, steps) for name in names]
        failed = {e.label: e.failed for e in entries if e.failed}
        there = [e for e in entries if not e.failed]
        repeated, figures = {e.name: [e] for e in there}, []
        ranked = places(contest, there, k) if there else []
        for e in ranked[:PLACES]:
            more = [contest.run(e.name, seed, steps) for seed in range(2, args.seeds + 1)] if e.seeded else []
            failed |= {m.label: m.failed for m in more if m.failed}
            repeated[e.name] += [m for m in more if not m.failed]
        if there:
            with steps("judge") as counts:
                figures = judged(contest, repeated, ranked[0], k)
                counts.update(figures=len(figures))
            rows = figure_rows(lake, folder.name, figures)
            lake.replace(rows, METRICS, predicate(run=folder.name), {"stage": "compare", "run": folder.name})
        every = [e for some in repeated.values() for e in some]     # some may have been fitted before, elsewhere
        facts |= {"fitted on": "; ".join(sorted({e.machine for e in every})), "by code": ", ".join(sorted({e.code for e in every}))}
        page = Page(f"{config.log.name}, {args.protocol}", figures, [e.name for e in there], k, facts)
        report.write(page, failed, 60 * args.minutes, folder)
        if not failed:
            contest.clear()
    return page, failed, folder


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("--models", nargs="+", default=[], metavar="NAME", help="recipes, or all (default: those of the configuration)")
    p.add_argument("--minutes", type=float, default=10.0, help="that each model has to be fitted in (%(default)s)")
    p.add_argument("--nights", type=int, default=7, help="past nights to ask (%(default)s)")
    p.add_argument("--every", type=int, default=1, metavar="DAYS", help="from one night to the next (%(default)s)")
    p.add_argument("--until", type=_typed(parse_date), metavar="YYYY-MM-DD", help="the last run date (default: the newest possible)")
    p.add_argument("--protocol", choices=PROTOCOLS, default="nightly", help="nights, or a published protocol of one target per user")
    p.add_argument("--seeds", type=int, default=3, help="of the first three places (%(default)s)")
    p.add_argument("--k", type=int, default=10, help="length of the lists that is judged (%(default)s)")
    args = p.parse_args(argv)

    def body() -> int:
        config, console = load(args.config), Console()
        steps, noted = Steps(console), RunRecord("compare", args.root, config)
        with steps("start"):
            lake = Lake(start("recs compare", config.spark), args.root)
        page, failed, folder = run(lake, config, args, steps)
        for name, seconds in steps.seconds.items():
            noted.step(name, seconds, **steps.counts[name])
        noted.write(run=folder.name, facts=page.facts, failed=failed)
        console.print(report.grid(page, failed, 60 * args.minutes))
        console.print(f"table: {folder / 'compare.md'}   figures: metrics, run {folder.name}", highlight=False)
        return FAILED if failed else 0

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
