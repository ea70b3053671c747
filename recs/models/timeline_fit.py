"""How `timeline` is fitted on earlier nights.

    prior           the blend's weights, on the latest nights
    examples        of every night, written once as staged Parquet by the executors
    choice          trained on the earlier nights, asked on the latest: which ranker, how many epochs
    training        the chosen one again, on all nights

With too few lists to learn from, or where no ranker beats it on the latest nights, the prior stays alone: `timeline` is the blend then.
"""
from __future__ import annotations

import json
import logging
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recs.judge.metrics import ndcg_of_hits
from recs.nn.settings import TrainConfig
from recs.nn.staged import Staged, link_together, read_columns
from recs.nn.train import Trained, train

from .base import Setting
from .blend_fit import components, fit_weights
from .examples import Shape, examples
from .fitting import Fit, Replay
from .timeline import recipe_of
from .timeline_network import PREFIX, Network, make_network
from .trees import Trees, inputs, train_trees

log = logging.getLogger(__name__)

PRIOR_NIGHTS = 4            # the blend has few weights
VALIDATION_SHARE = 0.2      # of the nights, the latest
LEAST_LISTS = 100           # to train on
SAMPLE_LISTS = 4_000        # whose evidence gives the quantiles
K = 10                      # of the metric that rankers are chosen by
LEAST_MEETINGS = 5          # of an item in the histories, to have a number of its own


def fit(params: dict[str, Any], setting: Setting, replay: Replay) -> Fit:
    """Parameters, weights and metrics; see the module's text."""
    newest_first = sorted(replay.nights, key=lambda n: -replay.cuts_us[n])
    recipe = recipe_of(params)
    if params["prior"] is None:
        names = [name for name in components(setting) if name.partition("@")[0] in recipe.kinds | {"popular", "new", "own"}]
        params = params | {"prior": fit_weights(setting, replay.only(newest_first[:PRIOR_NIGHTS]), names).params["weights"]}
        log.info("prior: %s", json.dumps(params["prior"]))
    with tempfile.TemporaryDirectory(prefix="recs-examples-") as folder:
        return _fit(params, setting, replay, newest_first, Path(folder), replay.scratch or Path(folder) / "examples")


def _fit(params: dict[str, Any], setting: Setting, replay: Replay, newest_first: list[int], folder: Path, kept: Path) -> Fit:
    began, recipe = time.monotonic(), recipe_of(params)
    drawn = Shape(recipe, params["prior"], params["candidates"], params["length"])
    whole = Shape(recipe, params["prior"], params["all_candidates"], params["length"], training=False)
    by_night = replay.write(partial(examples, drawn), kept / drawn.key)
    every = link_together(folder / "every", [by_night[n] for n in newest_first if n in by_night])
    log.info("examples: %d of %d nights, %d bytes each, %.0f s", every.rows, len(by_night), every.row_bytes, time.monotonic() - began)
    if every.rows < LEAST_LISTS:
        return Fit(params | {"ranker": "none"}, [], {"training_lists": float(every.rows)})
    held = newest_first[: max(1, min(setting.judged_nights, len(newest_first) // 2), round(len(newest_first) * VALIDATION_SHARE))]
    # what followed a night that is held out must not be what followed a night that is trained on
    first_held_us = min(replay.cuts_us[n] for n in held)
    early = [by_night[n] for n in newest_first if n in by_night and replay.cuts_us[n] + replay.horizon_us <= first_held_us]
    bench = _Bench(params, folder, len(recipe.names), every)
    if not params["chosen"] and sum(s.rows for s in early) >= LEAST_LISTS:
        latest = replay.only(held).write(partial(examples, whole), kept / whole.key)
        judged = sum(latest[n].rows for n in held[: setting.judged_nights] if n in latest)
        held_out = link_together(folder / "latest", [latest[n] for n in held if n in latest])
        return bench.chosen(link_together(folder / "early", early), held_out, judged)
    return bench.trained(params["ranker"], params["chosen"].get("epochs", params["epochs"]), {})


@dataclass
class _Bench:
    """Where rankers are trained and compared."""

    params: dict[str, Any]
    folder: Path
    n_evidence: int
    every: Staged

    def chosen(self, early: Staged, latest: Staged, judged: int) -> Fit:
        """The ranker that orders the latest nights best, trained on all; its figures are of the first `judged` lists."""
        data = read_columns(latest, ["evidence", "prior", "label", "there", "n_truth"])
        scores, best_epochs = {"none": data["prior"]}, self.params["epochs"]
        if self.params["ranker"] in ("network", "both", "auto"):
            arrays, how = self.network(early, latest, self.params["epochs"])
            scores["network"] = self.network_scores(arrays, latest)
            best_step = next(h["step"] for h in how.history if h["metrics"] == how.metrics)
            best_epochs = max(1, round(best_step * how.epochs / max(how.steps, 1)))
        if self.params["ranker"] in ("trees", "both", "auto"):
            grown = Trees(self.trees(early))
            scores["trees"] = grown.scores(*flat(data)).reshape(data["prior"].shape)
        if len(scores) == 3:
            scores["both"] = np.mean([_standardised(scores[r], data["there"]) for r in ("network", "trees")], axis=0)
        found = {ranker: _ndcg(s, data) for ranker, s in scores.items()}
        hit = (data["label"] > 0) & (data["there"] > 0)
        ceiling = float((hit.sum(axis=1) / data["n_truth"]).mean())
        log.info("held out: %s, ceiling %.4f, %d lists, %d epochs", json.dumps(found), ceiling, latest.rows, best_epochs)
        ranker = self.params["ranker"] if self.params["ranker"] != "auto" else max(found, key=lambda r: (found[r], r == "none"))
        if found[ranker] <= found["none"]:
            ranker = "none"
        figures = {f"held_out_{r}": round(v, 6) for r, v in found.items()} | {"ceiling": round(ceiling, 6), "lists": float(judged)}
        figures[f"ndcg@{K}"] = round(_ndcg(scores[ranker][:judged], {name: values[:judged] for name, values in data.items()}), 6)
        return self.trained(ranker, best_epochs, figures)

    def trained(self, ranker: str, epochs: int, metrics: dict[str, float]) -> Fit:
        """The ranker trained on all nights."""
        weights: dict[str, np.ndarray] = {}
        if ranker in ("network", "both"):
            weights |= self.network(self.every, None, epochs)[0]
        if ranker in ("trees", "both"):
            weights |= self.trees(self.every)
        params = self.params | {"ranker": ranker, "sizes": self.sizes, "chosen": {"epochs": epochs}}
        return Fit(params, [], metrics | {"training_lists": float(self.every.rows)}, weights)

    @cached_property
    def _number(self) -> np.ndarray:
        """[V] the network's own number of each vocabulary integer."""
        met = np.bincount(read_columns(self.every, ["h_item"])["h_item"].ravel() + 1)[1:]
        number = np.zeros(max(len(met), 1), np.int32)
        known = np.flatnonzero(met >= LEAST_MEETINGS)
        number[known] = np.arange(1, len(known) + 1)
        return number

    @property
    def sizes(self) -> dict[str, int]:
        """What the network's tables measure."""
        return {"items": int(self._number.max()), "vocabulary": len(self._number), "types": 255, "evidence": self.n_evidence}

    def network(self, data: Staged, validation: Staged | None, epochs: int) -> tuple[dict[str, np.ndarray], Trained]:
        """Arrays of a trained network, and how it went."""
        torch.manual_seed(self.params["seed"])
        net = make_network(self.params, self.sizes)
        net.number.copy_(torch.from_numpy(self._number))
        net.quantiles.edges.copy_(torch.from_numpy(quantiles(self.every, net.quantiles.edges.shape[1])))
        config = TrainConfig(**{
            "batch_size": 64, "lr": 2e-3, "epochs": epochs, "seed": self.params["seed"], "patience": 3, "tensorboard": False,
            "weight_decay": 0.02, **self.params["train"]})
        how = train(net, data, validation, config, self.folder / f"run-{data.folder.name}", check_hashes=False)
        log.info("network: %.1f epochs, %.0f s, %.0f %% waiting, %s", how.epochs, how.seconds, 100 * how.waiting_share, how.metrics)
        return {PREFIX + name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}, how

    def network_scores(self, arrays: dict[str, np.ndarray], latest: Staged) -> np.ndarray:
        """[N, C] of staged lists."""
        net, out = Network(self.params | {"sizes": self.sizes}, arrays).net, []
        data = read_columns(latest, latest.fields)
        for lo in range(0, latest.rows, 64):
            with torch.inference_mode():
                out.append(net.score({name: torch.from_numpy(values[lo : lo + 64].copy()) for name, values in data.items()}).numpy())
        return np.concatenate(out)

    def trees(self, data: Staged) -> dict[str, np.ndarray]:
        """Arrays of trained trees."""
        began, columns = time.monotonic(), read_columns(data, ["evidence", "prior", "label", "there"])
        there = columns["there"] > 0
        x = inputs(columns["evidence"][there], columns["prior"][there])
        found = train_trees(x, columns["label"][there], there.sum(axis=1), self.params["trees"], self.params["seed"])
        log.info("trees: %d rows, %.1f s", len(x), time.monotonic() - began)
        return found


def flat(data: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Evidence [N C, F] and prior [N C] of padded lists."""
    return data["evidence"].reshape(-1, data["evidence"].shape[-1]), data["prior"].ravel()


def quantiles(staged: Staged, k: int) -> np.ndarray:
    """[F, k] float32, ascending: edges of the evidence of the first lists."""
    sample = read_columns(staged, ["evidence", "there"], SAMPLE_LISTS)
    values = sample["evidence"][:SAMPLE_LISTS][sample["there"][:SAMPLE_LISTS] > 0]
    edges = np.stack([np.quantile(values[:, f].astype(np.float32), np.linspace(0, 1, k)) for f in range(values.shape[1])])
    return edges.astype(np.float32)


def _standardised(scores: np.ndarray, there: np.ndarray) -> np.ndarray:
    masked = np.ma.masked_array(scores, there == 0)
    return ((masked - masked.mean(axis=1, keepdims=True)) / np.maximum(masked.std(axis=1, keepdims=True), 1e-6)).filled(0)


def _ndcg(scores: np.ndarray, data: dict[str, np.ndarray]) -> float:
    order = np.argsort(-np.where(data["there"] > 0, scores, -np.inf), axis=1, kind="stable")[:, :K]
    hits = np.take_along_axis((data["label"] > 0) & (data["there"] > 0), order, axis=1)
    return float(ndcg_of_hits(hits, data["n_truth"]).mean())
