"""Ten consecutive nights: does a network that goes on from last night's weights keep up with one trained from scratch every night?

    python benchmarks/continual.py SPLIT_DIR --work /tmp/continual --set ranker=network --set fit.train_lists=4000

The folder is a nightly split with a horizon of one day (see run_split.py).  The first night is fitted whole: prior, choice, weights.
From then on three models answer each night, judged by what followed it:

    scratch     prior and choice of the first night, weights trained from scratch on all earlier nights
    warm        the same, going on from its own weights of the night before (`fit.warm_starts`)
    first       as it was fitted on the first night

Examples and item tables are the same for all and are not in the seconds.  What followed a night is read from the next nights' histories.
"""
from __future__ import annotations

import argparse
import logging
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from run_split import parse_settings
from split_folder import SplitError, SplitFolder
from split_run import Run, Stopwatch

from recs.config import SparkConfig
from recs.judge import replay
from recs.judge.metrics import ndcg_of_hits
from recs.models import Model, make
from recs.models.fitting import Fit, Question
from recs.models.timeline import Timeline
from recs.session import QUICK_JVM, start


def ndcg_sums(models: list[Model], question: Question) -> np.ndarray:
    """[models] sum of NDCG over the lists of a question."""
    return np.array([ndcg_of_hits(question.hits(question.lists(m)), question.wanted).sum() for m in models])


def timed(fit, *args) -> tuple[Fit, float, float]:
    """What a fit came to, its seconds and its CPU seconds."""
    wall, cpu = time.monotonic(), time.process_time()
    return fit(*args), time.monotonic() - wall, time.process_time() - cpu


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("split_dir", type=Path)
    p.add_argument("--nights", type=int, default=10)
    p.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder for item tables and examples; kept")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a fixed parameter, or a key of the configuration")
    args = p.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    fixed, keys = parse_settings(args.set)
    spark = start("recs continual", SparkConfig(shuffle_partitions=4, java_options=QUICK_JVM))
    split = SplitFolder(args.split_dir, spark)
    if split.protocol != "nightly1d":
        raise SplitError(f"{args.split_dir} is {split.protocol}: consecutive nights need nightly1d")
    run = Run(split, "timeline", split.config(keys), fixed, 10, True, args.work.resolve(), Stopwatch(86_400))
    nights_us = split.cuts_us[: args.nights]
    cuts_us = sorted({*nights_us, *run._earlier_cuts(nights_us[0])}, reverse=True)
    exams, tables = run.asked_at(cuts_us, run.config.fit.train_nights)
    with replay.Exams.open(exams, tables, run.rules, 10, scratch=args.work / "examples", horizon_us=split.horizon_us) as every:
        def earlier(night_us: int) -> replay.Exams:
            known = [n for n, c in enumerate(cuts_us) if c + split.horizon_us <= night_us]
            return every.only(known[: run.config.fit.train_nights])

        first = Timeline.fit_with(run.setting, earlier(nights_us[0]), fixed)
        held = fixed | Timeline.kept(first.params)
        print(f"first night: ranker {first.params['ranker']}, {first.params['chosen']}, {first.metrics}", flush=True)
        rows, before = [], first
        print("| night | lists | scratch | warm | first | scratch s (CPU) | warm s (CPU) |\n|---|--:|--:|--:|--:|--:|--:|")
        for place, night_us in enumerate(nights_us):
            some = earlier(night_us)
            if place:
                Timeline.fit_with(run.setting, some, held | {"ranker": "none"})     # writes the new night's examples
                scratch, *scratch_s = timed(Timeline.fit_with, run.setting, some, held)
                warm, *warm_s = timed(Timeline.fit_on, run.setting, some, fixed, make("timeline", before.params, before.weights))
            else:
                scratch, scratch_s, warm, warm_s = first, [np.nan, np.nan], first, [np.nan, np.nan]
            asked, before = every.only([cuts_us.index(night_us)]), warm
            models = [make("timeline", f.params, f.weights) for f in (scratch, warm, first)]
            found = asked.mean(partial(ndcg_sums, models))
            rows.append([asked.n_lists, *found, *scratch_s, *warm_s])
            n, a, b, c, s, s_cpu, w, w_cpu = rows[-1]
            print(f"| {place} | {n} | {a:.4f} | {b:.4f} | {c:.4f} | {s:.0f} ({s_cpu:.0f}) | {w:.0f} ({w_cpu:.0f}) |", flush=True)
    table = np.array(rows)[1:]
    lists = table[:, 0]
    mean = (table[:, 1:4] * lists[:, None]).sum(axis=0) / lists.sum()
    apart = table[:, 2] - table[:, 1]
    print(
        f"| 1-{len(table)} | {lists.sum():.0f} | {mean[0]:.4f} | {mean[1]:.4f} | {mean[2]:.4f} | {table[:, 4].sum():.0f} "
        f"({table[:, 5].sum():.0f}) | {table[:, 6].sum():.0f} ({table[:, 7].sum():.0f}) |\n"
        f"warm - scratch {apart.mean():+.4f} ± {1.96 * apart.std(ddof=1) / np.sqrt(len(apart)):.4f} by night; "
        f"{table[:, 7].sum() / table[:, 5].sum():.0%} of the CPU seconds"
    )
    spark.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
