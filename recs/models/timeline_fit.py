"""How `timeline` is fitted on earlier nights.

    examples        prior and examples of every night                               recs/models/timeline_examples.py
    choice          trained on the earlier nights, asked on the latest: which ranker, how many epochs, where trees begin,
                    whether the network reads the history
    training        the chosen one again, on all nights                             recs/models/timeline_train.py, recs/models/trees.py

Where there is a time by which to end (`Replay.until`), networks train no longer than their share of it; a second one is not asked then.
With too few lists to learn from, or where no ranker beats it on the latest nights, the prior stays alone: `timeline` is the blend then.
A refit that goes on from earlier weights keeps the prior and the choice; its network reads the newest nights and a draw of the older ones.
"""
from __future__ import annotations

import json
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recs.judge.metrics import ndcg_of_hits
from recs.nn.staged import Staged, link_together, read_columns

from .base import Setting
from .fitting import Fit, Replay, seconds_left
from .timeline import together
from .timeline_examples import LEAST_LISTS, Nights, examples_of, write_book
from .timeline_network import Network
from .timeline_train import Frame, replayed_again, train_network
from .trees import Trees, train_trees

log = logging.getLogger(__name__)

K = 10                      # of the metric that rankers are chosen by
STARTS = (0.0, 0.5)         # of the prior as a logit: where trees may begin
NETWORK_SHARE = 0.25        # of the time left, for a network of the choice
AGAIN_SHARE = 0.8           # … and for the one that is trained on all nights


def fit(params: dict[str, Any], setting: Setting, replay: Replay, before: dict[str, np.ndarray] | None = None) -> Fit:
    """Parameters, weights and metrics; see the module's text.  `before`: weights that the network goes on from."""
    with tempfile.TemporaryDirectory(prefix="recs-examples-") as temporary:
        folder = Path(temporary)
        nights = examples_of(params, setting, replay, replay.scratch or folder / "examples")
        if replay.scratch is not None:
            write_book(nights, replay, replay.scratch)
        if nights.rows < LEAST_LISTS:
            return Fit(nights.params | {"ranker": "none"}, [], {"training_lists": float(nights.rows)})
        every = link_together(folder / "every", nights.drawn.values())
        bench = _Bench(nights, folder, every, Frame.of(nights.params, every), replay.until)
        if nights.whole:
            return bench.chosen()
        # nothing to choose by: without a choice of somebody else the prior stays alone
        ranker = "none" if params["ranker"] == "auto" else params["ranker"]
        return bench.trained(ranker, bench.unchosen | params["chosen"], {}, before)


@dataclass(frozen=True)
class _Bench:
    """Where rankers are trained and compared."""

    nights: Nights
    folder: Path
    every: Staged
    frame: Frame
    until: float | None     # reading of time.monotonic()

    @property
    def params(self) -> dict[str, Any]:
        return self.nights.params

    @property
    def unchosen(self) -> dict[str, Any]:
        """Epochs, where trees begin, and what reads the history, where no night says what is best."""
        return {"epochs": self.params["epochs"], "start": 0.0, "encoder": self._encoders[0]}

    @property
    def _encoders(self) -> list[bool | str]:
        """To choose among; without the evidence there is nothing else to read."""
        asked = self.params["encoder"]
        return [asked] if asked != "auto" else [True, False] if self.params["evidence"] else [True]

    def chosen(self) -> Fit:
        """The ranker that orders the nights held out best, trained on all; its figures are of the lists of the latest of them."""
        early = link_together(self.folder / "early", [self.nights.drawn[n] for n in self.nights.early])
        latest, judged = link_together(self.folder / "latest", self.nights.whole.values()), self.nights.judged
        data = read_columns(latest, ["evidence", "prior", "label", "there", "n_truth"])
        scores, chosen = {"none": data["prior"]}, self.unchosen
        if self.params["ranker"] in ("network", "both", "auto"):
            for encoder in self._encoders:
                frame = self.frame.reading(encoder)
                run, limit = self.folder / f"run-early-{encoder}", self._within(NETWORK_SHARE)
                arrays, how = train_network(frame, early, latest, self.params["epochs"], run, **limit)
                said = Network(frame.params | {"sizes": frame.sizes}, arrays).of_staged(latest)
                # without a best step it is the prior still, and trained again on all nights it would be something never asked
                if how.best_step and ("network" not in scores or _ndcg(said, data) > _ndcg(scores["network"], data)):
                    scores["network"], chosen = said, chosen | {"epochs": how.best_epochs, "encoder": encoder}
                if how.why == "max_minutes":
                    break
        if self.params["ranker"] in ("trees", "both", "auto"):
            said = {start: Trees(self.trees(early, start)).scores(*flat(data)).reshape(data["prior"].shape) for start in STARTS}
            chosen["start"] = max(said, key=lambda start: _ndcg(said[start], data))
            scores["trees"] = said[chosen["start"]]
        if len(scores) == 3:
            scores["both"] = _together([scores["network"], scores["trees"]], data["there"] > 0)
        found = {ranker: _ndcg(s, data) for ranker, s in scores.items()}
        hit = (data["label"] > 0) & (data["there"] > 0)
        ceiling = float((hit.sum(axis=1) / data["n_truth"]).mean())
        log.info("held out: %s, ceiling %.4f, %d lists, %s", json.dumps(found), ceiling, latest.rows, json.dumps(chosen))
        ranker = self.params["ranker"] if self.params["ranker"] in found else max(found, key=lambda r: (found[r], r == "none"))
        if found[ranker] <= found["none"]:
            ranker = "none"
        figures = {f"held_out_{r}": round(v, 6) for r, v in found.items()} | {"ceiling": round(ceiling, 6), "lists": float(judged)}
        figures[f"ndcg@{K}"] = round(_ndcg(scores[ranker][:judged], {name: values[:judged] for name, values in data.items()}), 6)
        return self.trained(ranker, chosen, figures)

    def trained(
        self, ranker: str, chosen: dict[str, Any], metrics: dict[str, float], before: dict[str, np.ndarray] | None = None,
    ) -> Fit:
        """The ranker trained on all nights, as chosen; with weights `before`, the network only on some."""
        weights: dict[str, np.ndarray] = {}
        if ranker in ("network", "both"):
            weights |= self._network(self.frame.reading(chosen["encoder"]), chosen["epochs"], before)
        if ranker in ("trees", "both"):
            weights |= self.trees(self.every, chosen["start"])
        params = self.params | {"ranker": ranker, "sizes": self.frame.sizes, "chosen": chosen, "encoder": chosen["encoder"]}
        return Fit(params, [], metrics | {"training_lists": float(self.every.rows)}, weights)

    def _network(self, frame: Frame, epochs: int, before: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        if before and frame.fits(before):
            again = link_together(self.folder / "again", replayed_again(self.params, list(self.nights.drawn.values())))
            epochs, run, limit = self.params["warm_epochs"], self.folder / "run-again", self._within(AGAIN_SHARE)
            return train_network(frame, again, None, epochs, run, before, **limit)[0]
        return train_network(frame, self.every, None, epochs, self.folder / "run-every", **self._within(AGAIN_SHARE))[0]

    def _within(self, share: float) -> dict[str, float]:
        """The trainer's limit: a share of the time that is left."""
        return {} if self.until is None else {"max_minutes": seconds_left(self.until, share) / 60}

    def trees(self, data: Staged, start: float) -> dict[str, np.ndarray]:
        """Arrays of trained trees that begin at a share of the prior."""
        began, columns = time.monotonic(), read_columns(data, ["evidence", "prior", "label", "there"])
        there = columns["there"] > 0
        rows = (columns[name][there] for name in ("evidence", "prior", "label"))
        found = train_trees(*rows, there.sum(axis=1), self.params["trees"], self.params["seed"], start * self.frame.measured.prior_scale)
        log.info("trees: %d rows, from %g of the prior, %.1f s", there.sum(), start, time.monotonic() - began)
        return found


def flat(data: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Evidence [N C, F] and prior [N C] of padded lists."""
    return data["evidence"].reshape(-1, data["evidence"].shape[-1]), data["prior"].ravel()


def _together(said: list[np.ndarray], there: np.ndarray) -> np.ndarray:
    """[N, C] of padded lists: the mean of the rankers as lists are made by it."""
    out = np.zeros(there.shape, np.float32)
    out[there] = together(np.nonzero(there)[0], len(there), [scores[there] for scores in said])
    return out


def ndcg_of_lists(scores: np.ndarray, data: dict[str, np.ndarray]) -> np.ndarray:
    """[N] NDCG@K of staged lists by scores [N, C]."""
    order = np.argsort(-np.where(data["there"] > 0, scores, -np.inf), axis=1, kind="stable")[:, :K]
    hits = np.take_along_axis((data["label"] > 0) & (data["there"] > 0), order, axis=1)
    return ndcg_of_hits(hits, data["n_truth"])


def _ndcg(scores: np.ndarray, data: dict[str, np.ndarray]) -> float:
    return float(ndcg_of_lists(scores, data).mean())
