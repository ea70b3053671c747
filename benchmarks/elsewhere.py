"""Rows of quality.csv whose networks are trained on another machine: one with a GPU, but without Spark, Java or the judge's folder.

    python benchmarks/elsewhere.py export JUDGE --work /tmp/quality --jobs /tmp/jobs --splits beauty:loo --models sasrec hstu
    python benchmarks/elsewhere.py train /tmp/jobs --out /tmp/fits --seconds 400 --workers 8         # on the other machine
    python benchmarks/elsewhere.py lists JUDGE --work /tmp/quality --fits /tmp/fits --mark H100 --splits … --models …

`export` goes through the split as quality.py does, and writes what each fit of a sequence model would be trained on, instead of
training it: staged examples, and a job that names them.  `train` runs the same training (recs/models/sequence_fit.py) on them.  `lists`
makes and scores the lists with those weights here; `--mark` stands in the row's settings.
"""
from __future__ import annotations

import argparse
import logging
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recs.models import sequence_fit
from recs.models.fitting import Fit
from recs.models.sequence_joined import asked
from recs.nn.staged import Staged, open_staged, read_columns

log = logging.getLogger("elsewhere")
SIDE = ("facts", "near", "values", "vectors", "graded")
HELD = {"epochs": -1}       # stands for a choice that has not been made yet


@dataclass(frozen=True)
class Job:
    """One fit: which way it goes, the staged examples by their content hash, and the catalogue by vocabulary integer."""

    name: str
    params: dict[str, Any]
    way: str
    data: tuple[list[str], ...]
    rest: tuple[int, ...]   # what that way is told beside the examples
    text: np.ndarray        # [V, S] float16
    place: np.ndarray       # [V, 2] float32
    tables: None = None     # nothing else of the catalogue is read

    def of_items(self, values: np.ndarray, integers: np.ndarray, missing: float) -> np.ndarray:
        """As `Catalogue.of_items`: whoever has no column got `missing` when the job was written."""
        return values[integers]


def export(args: argparse.Namespace) -> None:
    """Write a folder per split, model and fit; all models of a split are asked the same, so the split is gone through once."""
    from quality import each_run
    from split_run import Run

    class Exporting(Run):
        def _fit(self, exams: Any, tables: list[Path], fitted: Fit | None, histories: Any) -> Fit:
            exams, histories = exams.persist(), histories.persist()
            for name, recorder in recorders.items():
                with recorder:
                    recorder.fit = Run._fit(replace(self, name=name), exams, tables, recorder.fit, histories)
            exams.unpersist()
            histories.unpersist()
            return next(r.fit for r in recorders.values())

        def _listed(self, *_: Any) -> Path:
            return self.work

    for split, runs in groupby(each_run(args, Exporting), key=lambda found: found[0]):
        recorders = {name: _Recorder(args.jobs, f"{split.replace(':', '-')}/{name}") for name in args.models}
        *_, run = next(runs)
        run.lists()


@dataclass
class _Recorder:
    """Stands where networks are trained (sequence_fit._Bench), and notes what they would be trained on."""

    jobs: Path
    folder: str
    made: int = 0
    fit: Fit | None = None
    real: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> None:
        bench = sequence_fit._Bench
        self.real = {way: getattr(bench, way) for way in ("by_users", "by_nights", "trained")}
        bench.by_users = lambda b, *data: self._note(b, "by_users", *data)
        bench.by_nights = lambda b, *data: self._note(b, "by_nights", *data[:-1])      # without the lists to be asked
        bench.trained = lambda b, name, known, nights, chosen, figures: self._note(b, "trained", known, nights)

    def __exit__(self, *_: object) -> None:
        for way, method in self.real.items():
            setattr(sequence_fit._Bench, way, method)

    def _note(self, bench: Any, way: str, *given: list[Staged] | int) -> Fit:
        if also := [name for name in SIDE if bench.params.get(name)] + ["tuning"] * (bench.tuning is not None):
            raise SystemExit(f"elsewhere: {', '.join(also)} read more of the catalogue than jobs hold; train {bench.name} here")
        if way == "by_nights" and (joining := asked(bench.params)):
            off = " ".join(f"{kind}=false" for kind in dict.fromkeys(joining))
            raise SystemExit(f"elsewhere: {bench.name}: what joins the scores is chosen by lists, which takes Spark: --set {off}")
        data, rest = [g for g in given if isinstance(g, list)], tuple(g for g in given if not isinstance(g, list))
        catalogue, integers = bench.catalogue, np.arange(_vocabulary(data))
        job = Job(
            bench.name, bench.params, way, tuple([self._kept(staged) for staged in some] for some in data), rest,
            catalogue.of_items(catalogue.text, integers, 0), catalogue.of_items(catalogue.place, integers, np.nan))
        out = self.jobs / self.folder / f"{self.made:02d}.pkl"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(pickle.dumps(job))
        self.made += 1
        return Fit(bench.params | {"chosen": HELD}, [], {"recorded": 1.0})     # a figure: else the model would be asked for some

    def _kept(self, staged: Staged) -> str:
        to = self.jobs / "staged" / staged.content_hash
        if not to.exists():
            shutil.copytree(staged.folder, to)
        return staged.content_hash


def _vocabulary(data: list[list[Staged]]) -> int:
    """Integers that the examples hold are below this."""
    most = [values.max() for some in data for s in some for values in read_columns(s, ["h_item", "target"]).values() if values.size]
    return int(max(most, default=-1)) + 1


def train_all(args: argparse.Namespace) -> None:
    """A chain of fits per split and model, several chains at once on the one device."""
    until = time.time() + args.seconds
    chains = sorted({p.parent for p in args.jobs.glob("*/*/*.pkl")}, key=lambda p: p.name in args.last)
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_chain, chain, args.jobs / "staged", args.out, until, args.threads): chain for chain in chains}
        for done in as_completed(running):
            chain = running[done]
            print(f"{chain.parent.name} {chain.name}: {done.exception() or done.result()}", flush=True)


def _chain(chain: Path, staged: Path, out: Path, until: float, threads: int) -> str:
    logging.basicConfig(level=logging.INFO, format=f"{chain.parent.name} %(message)s", stream=sys.stdout)
    torch.set_num_threads(threads)
    began, chosen, told = time.monotonic(), None, ""
    for file in sorted(chain.glob("*.pkl")):
        fit = _fitted(pickle.loads(file.read_bytes()), staged, until, chosen)
        chosen, told = fit.params["chosen"], told or str(fit.metrics)
        to = out / chain.parent.name / chain.name / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(pickle.dumps(fit))
    return f"{time.monotonic() - began:.0f} s, {told}"


def _fitted(job: Job, folder: Path, until: float, chosen: dict[str, Any] | None) -> Fit:
    data = [[open_staged(folder / name) for name in some] for some in job.data]
    with tempfile.TemporaryDirectory() as scratch:
        bench = sequence_fit._Bench(job.name, job.params, time.monotonic() + until - time.time(), Path(scratch), job)
        if job.way == "trained":
            return bench.trained("every", *data, chosen or {"epochs": job.params["epochs"]}, {})
        return getattr(bench, job.way)(*data, *job.rest, *([None] if job.way == "by_nights" else []))


def lists(args: argparse.Namespace) -> None:
    """Lists of the split with the weights that came back, scored."""
    from quality import add_row, each_run
    from split_run import Run

    class Listing(Run):
        fits: Iterator[Fit]

        def _fitted_before(self, cut_us: int, fitted: Fit | None) -> Fit:
            return next(self.fits, fitted)

        def _earlier_targets(self) -> tuple[None, list[Path]]:
            return None, []

        def _fit(self, *_: Any) -> Fit:
            return next(self.fits)

    for split, model, seed, run in each_run(args, Listing):
        files = sorted((args.fits / split.replace(":", "-") / model).glob("*.pkl"))
        run.fits = (pickle.loads(f.read_bytes()) for f in files)
        add_row(args, split, model, seed, run)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    commands = p.add_subparsers(required=True)
    for name, work in (("export", export), ("lists", lists)):
        c = commands.add_parser(name)
        c.set_defaults(run=work, set=[], marks=[], seeds=[1], budget=1e6)
        c.add_argument("judge", type=Path)
        c.add_argument("--work", type=Path, required=True)
        c.add_argument("--splits", nargs="+", required=True)
        c.add_argument("--models", nargs="+", required=True)
        if name == "export":
            c.add_argument("--jobs", type=Path, required=True)
            c.add_argument("--set", action="append", metavar="KEY=VALUE")
        else:
            c.add_argument("--fits", type=Path, required=True)
            c.add_argument("--mark", dest="marks", action="append", required=True, help="the machine that trained them")
    c = commands.add_parser("train")
    c.set_defaults(run=train_all)
    c.add_argument("jobs", type=Path)
    c.add_argument("--out", type=Path, required=True)
    c.add_argument("--seconds", type=float, required=True, help="for all of them")
    c.add_argument("--workers", type=int, default=8)
    c.add_argument("--threads", type=int, default=1)
    c.add_argument("--last", nargs="*", default=[], help="models that are begun last")
    args = p.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
