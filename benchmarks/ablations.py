"""What each part of `timeline` is worth: trained without it on the earlier nights of a fit, asked on the nights that the fit held out.

    python benchmarks/ablations.py deskdrop=WORK/tables/deskdrop-nightly/shared/examples/timeline-….json [NAME=BOOK …] [--seeds 1 2 3]

A BOOK is what a fit reads (docs/training.md), with nights held out, as run_split.py and quality.py leave it in their work folder; nothing
of the test nights is looked at.  Trees are grown without one family of evidence after another (as `--set family_<name>=false` does), the
network is trained without its encoder and without the evidence (`--networks`: minutes each).  A row per log and variant goes to
ablations.csv: the mean of the seeds, and its difference to everything with a 95 % interval over lists; then the table in
docs/timeline.md is made of all rows.  `--table` makes only that.
"""
from __future__ import annotations

import argparse
import csv
import json
import logging
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from put_into import put_into

from recs.evidence.features import FAMILIES, TIME
from recs.models.timeline import recipe_of
from recs.models.timeline_fit import flat, ndcg_of_lists
from recs.models.timeline_network import Network
from recs.models.timeline_train import Frame, train_network
from recs.models.trees import Trees, train_trees
from recs.nn.staged import Staged, link_together, open_staged, read_columns

HERE = Path(__file__).resolve().parent
ROWS, PAGE = HERE / "ablations.csv", HERE.parent / "docs/timeline.md"
HEAD = ("log", "ranker", "variant", "ndcg", "difference", "low", "high", "seeds", "lists")
REPLICATES = 1_000
LISTS = ("evidence", "prior", "label", "there", "n_truth")


@dataclass(frozen=True)
class Fitted:
    """The nights of a fit, as its book names them."""

    folder: Path
    book: dict[str, Any]

    @classmethod
    def of(cls, file: Path) -> Fitted:
        book = json.loads(file.read_text())
        if not book["whole"]:
            raise SystemExit(f"{file}: no night was held out in this fit: name the book of the first one")
        return cls(file.parent, book)

    def nights(self, names: list[str]) -> list[Staged]:
        return [open_staged(self.folder / name) for name in names]

    @property
    def early(self) -> list[Staged]:
        """Trained on."""
        return self.nights([self.book["drawn"][str(n)] for n in self.book["early"]])

    @property
    def whole(self) -> list[Staged]:
        """Held out."""
        return self.nights(list(self.book["whole"].values()))

    @cached_property
    def asked(self) -> dict[str, np.ndarray]:
        parts = [read_columns(s, LISTS) for s in self.whole]
        return {name: np.concatenate([p[name] for p in parts]) for name in LISTS}

    @cached_property
    def known(self) -> list[np.ndarray]:
        """Evidence [P, F], prior [P], label [P], candidates per list [N] of the nights trained on."""
        parts = []
        for staged in self.early:
            data = read_columns(staged, LISTS)
            there = data["there"] > 0
            parts.append([data["evidence"][there], data["prior"][there], data["label"][there], there.sum(axis=1)])
        return [np.concatenate(some) for some in zip(*parts, strict=True)]

    @cached_property
    def columns(self) -> dict[str, list[int]]:
        """Columns by family, of those that this log has."""
        recipe = recipe_of(self.book["params"])
        place = {name: i for i, name in enumerate(recipe.names)}
        found = {family: [place[n] for n in replace(recipe, families=frozenset({family})).names if n in place] for family in FAMILIES}
        return {family: some for family, some in found.items() if some and family in recipe.families}

    def trees(self, without: set[str], seed: int, start: float = 0.0) -> np.ndarray:
        """[N, C] of trees that never saw these families."""
        evidence, prior, label, lists = self.known
        gone = [c for family in without for c in self.columns[family]]
        left = np.setdiff1d(np.arange(evidence.shape[1]), gone)
        grown = Trees(train_trees(evidence[:, left], prior, label, lists, self.book["params"]["trees"], seed, start))
        rows, begins = flat(self.asked)
        return grown.scores(rows[:, left], begins).reshape(self.asked["there"].shape)

    def network(self, switches: dict[str, Any], seed: int) -> np.ndarray:
        """[N, C] of the network with these switches, at its best epoch."""
        params = self.book["params"] | switches | {"seed": seed}
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            early, latest = link_together(folder / "early", self.early), link_together(folder / "latest", self.whole)
            frame = Frame.of(params, early)
            arrays, _ = train_network(frame, early, latest, params["epochs"], folder / "run")
            return Network(params | {"sizes": frame.sizes}, arrays).of_staged(latest)


def variants(fitted: Fitted, networks: bool) -> dict[tuple[str, str], Any]:
    """(ranker, variant) -> scores by seed; everything first."""
    families = {"everything": set(), "no time at all": TIME & set(fitted.columns)}
    families |= {f"family_{family}=false": {family} for family in fitted.columns}
    found = {("trees", name): (lambda seed, gone=gone: fitted.trees(gone, seed)) for name, gone in families.items()}
    if networks:
        switched = {"everything": {}, "encoder=false": {"encoder": False}, "evidence=false": {"evidence": False}}
        found |= {("network", name): (lambda seed, s=s: fitted.network(s, seed)) for name, s in switched.items()}
    return found


def measure(log: str, fitted: Fitted, seeds: list[int], networks: bool) -> None:
    """A row per variant that is not there yet."""
    there = {(r["log"], r["ranker"], r["variant"]) for r in read_rows()}
    whole: dict[str, np.ndarray] = {}
    add_row((log, "prior", "alone"), ndcg_of_lists(fitted.asked["prior"], fitted.asked), None, 1, there)
    for (ranker, variant), scores in variants(fitted, networks).items():
        if (log, ranker, variant) in there and variant != "everything":
            continue
        asked = seeds if ranker == "trees" else seeds[:1]
        found = np.mean([ndcg_of_lists(scores(seed), fitted.asked) for seed in asked], axis=0)
        whole.setdefault(ranker, found)
        add_row((log, ranker, variant), found, whole[ranker], len(asked), there)


def add_row(key: tuple[str, str, str], found: np.ndarray, whole: np.ndarray | None, seeds: int, there: set) -> None:
    if key in there:
        return
    row = dict(zip(HEAD, key, strict=False)) | {"ndcg": found.mean(), "seeds": seeds, "lists": len(found)}
    if whole is not None and whole is not found:
        apart = found - whole
        drawn = np.random.default_rng(1).poisson(1.0, (REPLICATES, len(apart)))
        low, high = np.quantile(drawn @ apart / drawn.sum(axis=1), [0.025, 0.975])
        row |= {"difference": apart.mean(), "low": low, "high": high}
    print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
    new = not ROWS.exists()
    with ROWS.open("a", newline="") as f:
        writer = csv.DictWriter(f, HEAD, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.5f}" if isinstance(v, float) else v for k, v in row.items()})


def read_rows() -> list[dict[str, str]]:
    if not ROWS.exists():
        return []
    with ROWS.open() as f:
        return list(csv.DictReader(f))


def render() -> None:
    """The table in docs/timeline.md."""
    rows = read_rows()
    logs = list(dict.fromkeys(r["log"] for r in rows))
    names = list(dict.fromkeys((r["ranker"], r["variant"]) for r in rows))
    cell = {(r["log"], r["ranker"], r["variant"]): r for r in rows}
    lines = ["| | " + " | ".join(logs) + " |", "|---|" + "--:|" * len(logs)]
    for ranker, variant in sorted(names, key=lambda n: ("prior", "network", "trees").index(n[0])):
        label = f"{ranker}, {variant}" if variant in ("everything", "alone", "no time at all") else f"{ranker}, `{variant}`"
        lines.append(f"| {label} | " + " | ".join(said(cell.get((log, ranker, variant))) for log in logs) + " |")
    put_into(PAGE, "ablations", "\n".join(lines))


def said(row: dict[str, str] | None) -> str:
    if row is None:
        return ""
    if not row["difference"]:
        return f"{float(row['ndcg']):.4f}"
    return f"{float(row['difference']):+.4f} [{float(row['low']):+.3f}, {float(row['high']):+.3f}]"


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("books", nargs="*", metavar="NAME=BOOK")
    p.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of trees; the network takes the first")
    p.add_argument("--networks", action="store_true", help="the network, too")
    p.add_argument("--table", action="store_true", help="only render docs/timeline.md")
    args = p.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for pair in [] if args.table else args.books:
        name, _, file = pair.partition("=")
        measure(name, Fitted.of(Path(file)), args.seeds, args.networks)
    render()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
