"""Train the network of `timeline` on staged examples: in one process as part of a fit, or by itself in several.

    recs build-examples --root warehouse --as-of 2024-03-31T00:00:00Z
    torchrun --nproc-per-node 2 -m recs.models.timeline_train warehouse/_examples/timeline-20240331T0000-<hash>.json --out runs/two

The command trains on the book's earlier nights, keeps the weights that are best on those held out, and writes weights.safetensors and
record.json to --out, which all processes must see.  Started again, it goes on from the newest checkpoint there.  `--set` changes
settings of the trainer (recs/nn/settings.py); the batch size is over all processes together and must be divisible by their number.
"""
from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import ValidationError
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from recs.nn.checkpoints import CheckpointError
from recs.nn.grow import warm_start
from recs.nn.ranks import Ranks, ranks
from recs.nn.records import Trained
from recs.nn.settings import TrainConfig
from recs.nn.staged import Staged, StagedError, link_together, open_staged, read_columns
from recs.nn.train import train
from recs.nn.zoo.timeline import EDGES
from recs.nn.zoo.timeline import Timeline as Net

from .examples import item_numbers
from .network_arrays import arrays_of, state_of
from .timeline_network import make_network

log = logging.getLogger(__name__)

SAMPLE_LISTS = 4_000        # whose evidence gives the quantiles
MOST_OF_ONE = 0.05          # of the evidence of a column, that one value may stand for
LEAST_MEETINGS = 5          # of an item in the histories, to have a number of its own
ITEMS = "history.item.weight"


@dataclass(frozen=True)
class Measured:
    """What the examples of all nights say of scales, read when it is first asked for, once for all networks and trees of a fit."""

    every: Staged

    @cached_property
    def edges(self) -> torch.Tensor:
        """[F, EDGES] quantiles of the evidence."""
        return torch.from_numpy(quantiles(self.every, EDGES))

    @cached_property
    def prior_scale(self) -> float:
        """What makes the prior a logit (see `calibration`)."""
        return calibration(read_columns(self.every, ["prior", "label", "there"], SAMPLE_LISTS))


@dataclass(frozen=True)
class Frame:
    """What a network takes from the examples before it is trained: numbers of items, quantiles of the evidence."""

    params: dict[str, Any]
    number: np.ndarray          # [V] the network's own number of each vocabulary integer, 0 = none
    n_evidence: int
    measured: Measured

    @classmethod
    def of(cls, params: dict[str, Any], every: Staged) -> Frame:
        """From the examples of all nights."""
        met = np.bincount(read_columns(every, ["h_item"])["h_item"].ravel() + 1)[1:]
        return cls(params, item_numbers(met, LEAST_MEETINGS), every.fields["evidence"].shape[-1], Measured(every))

    @property
    def sizes(self) -> dict[str, int]:
        """What the network's tables measure."""
        return {"items": int(self.number.max()), "vocabulary": len(self.number), "types": 255, "evidence": self.n_evidence}

    def reading(self, encoder: bool | str) -> Frame:
        """The same for a network whose history is read so."""
        return replace(self, params=self.params | {"encoder": encoder})

    def untrained(self) -> Net:
        """The network before its first step, the same for the same seed: the prior's order, as sure of it as the prior is right."""
        edges = self.measured.edges
        torch.manual_seed(self.params["seed"])
        net = make_network(self.params, self.sizes)
        net.number.copy_(torch.from_numpy(self.number))
        net.quantiles.edges.copy_(edges)
        torch.nn.init.constant_(net.prior_scale, self.measured.prior_scale)
        return net

    def going_on(self, before: dict[str, np.ndarray]) -> Net:
        """The network with the weights before; items that are new to it have rows as they are initialised."""
        net, old = self.untrained(), state_of(before)
        rows = {"number": np.full(len(self.number), -1)}        # numbers are given anew
        if ITEMS in old:
            mine, theirs = np.flatnonzero(self.number), old["number"].numpy()
            source = np.zeros(self.sizes["items"] + 1, np.int64)
            source[self.number[mine]] = np.where(mine < len(theirs), theirs[np.minimum(mine, len(theirs) - 1)], 0)
            source[source == 0] = -1
            source[0] = 0
            rows[ITEMS] = source
            log.info("%d of %d items are new to the network", (source < 0).sum(), len(source) - 1)
        warm_start(net, old, rows)
        return net

    def fits(self, before: dict[str, np.ndarray]) -> bool:
        """Can the network go on from these weights?  Not where its layers have changed since: evidence was added, say."""
        own, old = self.untrained().state_dict(), state_of(before)
        grown = {ITEMS, "number"}
        same = set(own) == set(old) and all(own[n].shape == old[n].shape for n in own if n not in grown)
        if not same:
            log.warning("the network has other layers than the weights before: it is trained from scratch")
        return same


def quantiles(staged: Staged, k: int) -> np.ndarray:
    """[F, k] float32, ascending: edges of the evidence of the first lists.

    A value that many candidates share (0 of a user's own events, for all items that he has not met) counts as MOST_OF_ONE of them at
    most: else the few that differ, which matter most, would lie between the last two edges.
    """
    sample = read_columns(staged, ["evidence", "there"], SAMPLE_LISTS)
    values = sample["evidence"][:SAMPLE_LISTS][sample["there"][:SAMPLE_LISTS] > 0]
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    order = np.argsort(halves, kind="stable")
    order = order[np.isfinite(halves[order])]
    edges = []
    for column in values.view(np.uint16).T:
        count = np.bincount(column, minlength=1 << 16)[order]
        met = count > 0
        share = np.minimum(count[met], MOST_OF_ONE * max(len(column), 1))
        place = np.cumsum(share) - share / 2
        edges.append(np.interp(np.linspace(0, 1, k), place / max(share.sum(), 1e-9), halves[order][met]) if met.any() else np.zeros(k))
    return np.stack(edges).astype(np.float32)


def calibration(lists: dict[str, np.ndarray]) -> float:
    """The factor, .001 to 100, under which the softmax of the prior gives what came true the greatest likelihood; 1 where nothing did.

    The prior's weights are chosen by the order that they make.  How far its scores lie apart says nothing: at once they are too sure
    of themselves by a factor of 5 on check-ins, of 2 on a shop, and just right on a day of news.
    """
    there, gain = lists["there"] > 0, np.where(lists["there"] > 0, lists["label"], 0).astype(np.float64)
    rows = gain.sum(axis=1) > 0
    prior, there, share = lists["prior"][rows].astype(np.float64), there[rows], (gain / np.maximum(gain.sum(axis=1), 1e-9)[:, None])[rows]
    if not len(prior) or not np.ptp(prior):
        return 1.0

    def loss(log_scale: float) -> float:
        logits = np.where(there, np.exp(log_scale) * prior, -np.inf)
        return float((logsumexp(logits, axis=1) - (share * np.where(there, logits, 0)).sum(axis=1)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(1e-3), np.log(1e2)), method="bounded").x))


def train_network(
    frame: Frame, data: Staged, validation: Staged | None, epochs: int, folder: Path, before: dict[str, np.ndarray] | None = None,
    **settings: Any,
) -> tuple[dict[str, np.ndarray], Trained]:
    """Arrays of a trained network, and how it went; `before`: the weights it goes on from, `settings`: of the trainer, by name."""
    net = frame.untrained() if before is None else frame.going_on(before)
    seed = frame.params["seed"]
    # so small a network is as fast on one thread as on two (3.2 s an epoch; 39 s on two that others want too), and in fp32 as in bf16;
    # and a night comes to the same weights whatever the machine has of either
    config = TrainConfig(**{
        "threads": 1, "precision": "fp32",
        "batch_size": 64, "lr": 2e-3, "epochs": epochs, "seed": seed, "patience": 3, "tensorboard": False, "weight_decay": 0.02,
        **frame.params["train"], **settings})
    how = train(net, data, validation, config, folder, check_hashes=False)
    log.info("network: %.1f epochs, %.0f s, %.0f %% waiting, %s", how.epochs, how.seconds, 100 * how.waiting_share, how.metrics)
    return arrays_of(net), how


def replayed_again(params: dict[str, Any], nights: Sequence[Staged]) -> list[Staged]:
    """The newest `warm_nights` nights whole, and `warm_older` of the files of the older ones, other ones on every night.

    `nights`: the newest first.  A file holds some of the users of one night.
    """
    newest, older = list(nights[: params["warm_nights"]]), nights[params["warm_nights"] :]
    files = [replace(night, files=(file,)) for night in older for file in night.files]
    order = np.random.default_rng([params["seed"], newest[0].facts.get("cut_us", 0) // 1_000_000]).permutation(len(files))
    return newest + [files[i] for i in sorted(order[: round(params["warm_older"] * len(files))])]


def main(argv: list[str] | None = None) -> int:
    """The command, in each process."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("book", type=Path, help="timeline-….json, as `recs build-examples` and `recs train` leave it in ROOT/_examples")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run, seen by all processes")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the trainer, epochs=3")
    args = p.parse_args(argv)
    # no chatter of the other processes
    level = os.environ.get("RECS_LOG", "INFO") if os.environ.get("RANK", "0") == "0" else "ERROR"
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        settings = _settings(args.set)
        with ranks() as us:
            _run(args.book, args.out, settings, us)
    except (StagedError, CheckpointError, ValidationError, FileNotFoundError) as e:
        print(f"timeline_train: {e}", file=sys.stderr)
        return 2
    return 0


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise StagedError(f"--set {wrong[0]}: write KEY=VALUE")
    return {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in pairs)}


def _run(file: Path, out: Path, settings: dict[str, Any], us: Ranks) -> None:
    from safetensors.numpy import save_file

    book = json.loads(file.read_text())
    if not book["whole"]:
        raise StagedError(f"{file}: no night was held out: {book['rows']} lists are too few to train on; build examples of more nights")
    early = [file.parent / book["drawn"][str(n)] for n in book["early"]]
    parts = {"every": [file.parent / name for name in book["drawn"].values()], "early": early,
             "latest": [file.parent / name for name in book["whole"].values()]}
    if us.first:
        for name, folders in parts.items():
            link_together(out / name, [open_staged(folder) for folder in folders])
    us.wait()
    every, training, validation = (open_staged(out / name) for name in parts)
    frame = Frame.of(book["params"], every)
    arrays, how = train_network(frame, training, validation, settings.pop("epochs", book["params"]["epochs"]), out / "run", **settings)
    if us.first:
        save_file(arrays, out / "weights.safetensors")
        record = how.record() | {"book": str(file), "processes": us.world_size, "rows": training.rows, "sizes": frame.sizes}
        (out / "record.json").write_text(json.dumps(record, indent=1))
        told = " · ".join(f"{name} {value:.4f}" for name, value in how.metrics.items())
        print(f"{us.world_size} processes · {how.steps} steps · {how.seconds:.0f} s · {told} · {out / 'weights.safetensors'}")


if __name__ == "__main__":
    raise SystemExit(main())
