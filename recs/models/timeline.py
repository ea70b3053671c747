"""timeline: recall from many sources, then a listwise ranker on time evidence (and the history itself), above a blend.

    candidates      recs/evidence/candidates.py     a few hundred items per user; nothing else can be listed
    evidence        recs/evidence/features.py       what speaks for each
    prior           the blend of the same tables    fitted first; the ranker adds to it
    ranker          `network` (recs/nn/zoo/timeline.py), `trees` (recs/models/trees.py), `both` (mean of their standardised scores),
                    `none` (the prior itself, where the log is too small to learn from), or `auto`: the best of these on the latest nights

Fitted on many earlier nights: the latest are kept for validation while the ranker is chosen, then it is trained again on all of them.
The recall of what came true among the candidates is reported as `ceiling`: no order of them can find more.

Shapes: U users, I items, P pairs, C candidates, K list length.
"""
from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from recs.evidence.candidates import Pairs
from recs.evidence.features import FAMILIES, TIME, Recipe, gather
from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.evidence.profiles import event_weights, own_event, speaking_event
from recs.evidence.spoken import VOICES, VOICES_WITHOUT_CLOCK
from recs.nn import zoo

from .base import REASONS, Mask, Model, Reasons, Scorer, Setting, top_k_ragged
from .examples import half, newest_events, prior_scores
from .fitting import Fit, Replay, with_fixed
from .item_to_item import links_of


class Timeline(Model):
    """Parameters: what evidence, how it is ranked (see `grid`); weights: the network's and the trees'."""

    name = "timeline"
    trains = True

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        """One set: everything in it is a switch for `--set`; families of evidence are switched off by `family_<name>=false`."""
        has = {"place": setting.places} | dict.fromkeys(TIME, setting.clock)
        switches = {f"family_{family}": has.get(family, True) for family in FAMILIES}
        return [{
            "ranker": "auto", "time": setting.clock, "evidence": True, "encoder": "auto", **switches,
            "each": 40, "candidates": 256, "all_candidates": 448, "length": 50,
            "horizon_us": setting.horizon_us, "repeats": setting.repeats,
            "prior": None, "seed": 1, "epochs": 6, "trees": 120, "network": {}, "train": {}, "chosen": {},
            "warm_epochs": 2, "warm_nights": 7, "warm_older": 0.25,
        }]

    @classmethod
    def fit_with(cls, setting: Setting, replay: Replay, fixed: dict[str, Any]) -> Fit:
        """Prior, examples, ranker; see recs/models/timeline_fit.py."""
        from .timeline_fit import fit

        return fit(with_fixed(cls.grid(setting), fixed)[0], setting, replay)

    @classmethod
    def fit_on(cls, setting: Setting, replay: Replay, fixed: dict[str, Any], before: Model) -> Fit:
        """The network goes on from the weights before, on the newest nights and a draw of the older ones; trees are grown anew."""
        from .timeline_fit import fit

        params = with_fixed(cls.grid(setting), fixed)[0]
        return fit(params | cls.kept(before.params) | fixed, setting, replay, before.weights)

    @classmethod
    def stage(cls, setting: Setting, replay: Replay, params: dict[str, Any]) -> dict[str, Any]:
        """Prior and examples, see recs/models/timeline_examples.py."""
        from .timeline_examples import examples_of, write_book

        return write_book(examples_of(params, setting, replay, replay.scratch), replay, replay.scratch)

    @classmethod
    def kept(cls, params: dict[str, Any]) -> dict[str, Any]:
        """The prior, the ranker and what was chosen for it (see recs/models/timeline_fit.py); weights are trained anew."""
        return {name: params[name] for name in ("prior", "ranker", "chosen") if params.get(name)}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> frozenset[str]:
        return recipe_of(params).kinds

    @cached_property
    def recipe(self) -> Recipe:
        """The evidence of these parameters."""
        return recipe_of(self.params)

    @property
    def reads(self) -> str:
        """Names of the evidence, in order, and the form of the encoder."""
        if not self.weights:
            return ""
        encoder = self.params["encoder"]
        form = zoo.form_of(encoder) if isinstance(encoder, str) and encoder != "auto" else ""
        return hashlib.sha256("\n".join(filter(None, [*self.recipe.names, form])).encode()).hexdigest()[:16]

    def retrieve(
        self, histories: Histories, request_us: np.ndarray, tables: ItemTables, k: int, forbidden: Mask | None = None, block: int = 65_536,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Top-K of the candidates; a list is shorter than K where fewer are proposed."""
        found = gather(self.recipe, histories, request_us, tables, forbidden)
        scores = self._scores(histories, request_us, tables, found.pairs, found.values)
        return top_k_ragged(found.pairs.offsets, found.pairs.column, scores, k)

    def scorer(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
        found = gather(self.recipe, histories, request_us, tables)
        scores = self._scores(histories, request_us, tables, found.pairs, found.values)
        user, column = found.pairs.user, found.pairs.column

        def score(lo: int, hi: int) -> np.ndarray:
            out = np.full((len(histories), hi - lo), -np.inf, np.float32)
            inside = (column >= lo) & (column < hi)
            out[user[inside], column[inside] - lo] = scores[inside]
            return out

        return score

    def score_candidates(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> np.ndarray:
        """Scores of any items, proposed or not."""
        pairs, place = Pairs.of_padded(columns)
        found = gather(self.recipe, histories, request_us, tables, pairs=pairs)
        out = np.full(columns.size, -np.inf, np.float32)
        out[place] = self._scores(histories, request_us, tables, pairs, found.values)
        return out.reshape(columns.shape)

    def _scores(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, pairs: Pairs, evidence: np.ndarray) -> np.ndarray:
        """[P] float32."""
        prior = prior_scores(self.params["prior"] or {}, histories, request_us, tables, pairs)
        if not len(prior) or self.params["ranker"] in ("none", "auto"):    # auto: not trained yet
            return prior
        evidence = half(evidence)
        said = []
        if self.params["ranker"] in ("network", "both"):
            index = np.asarray(tables.array("item_index"))
            said.append(self._network.scores(newest_events(histories, request_us, self.params["length"]), pairs, evidence, prior, index))
        if self.params["ranker"] in ("trees", "both"):
            said.append(self._trees.scores(evidence, prior))
        if len(said) == 1:
            return said[0]
        return together(pairs.user, len(histories), said)

    @cached_property
    def _network(self) -> Any:
        from .timeline_network import Network

        return Network(self.params, self.weights)

    @cached_property
    def _trees(self) -> Any:
        from .trees import Trees

        return Trees(self.weights)

    def explain(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> Reasons:
        """An item he knows: repeat; else the voice that ranks it best, and the event that speaks most in it; else popular."""
        pairs, place = Pairs.of_padded(columns)
        found = gather(replace(self.recipe, families=frozenset({"neighbours"})), histories, request_us, tables, pairs=pairs)
        share = found.values[:, 1::3]       # [P, voices]: of the user's greatest
        loudest = np.full(columns.size, -1)
        if len(share):
            loudest[place] = np.where(share.max(axis=1) > 0, share.argmax(axis=1), -1)
        loudest = loudest.reshape(columns.shape)
        code = np.full(columns.shape, REASONS.index("popular"), np.int8)
        event = np.full(columns.shape, -1, np.int64)
        for number, voice in enumerate(self.recipe.voices):
            asked = np.where(loudest == number, columns, -1)
            if (asked >= 0).any():
                kind, _, span = voice.partition("@")
                weights = event_weights(histories, request_us, span)
                event = np.where(asked >= 0, speaking_event(histories, weights, tables, asked, links_of(tables, kind)), event)
                reason = "similar_users" if kind.startswith("adopters") else "neighbour"
                code = np.where(asked >= 0, REASONS.index(reason), code).astype(np.int8)
        mine = own_event(histories, event_weights(histories, request_us, "90d"), tables, columns)
        return Reasons(np.where(mine >= 0, REASONS.index("repeat"), code).astype(np.int8), np.where(mine >= 0, mine, event))


def together(user: np.ndarray, n_users: int, said: list[np.ndarray]) -> np.ndarray:
    """[P] float32: the mean of several rankers' scores [P] of the users' candidates, each with mean 0 and spread 1 for every user."""
    count = np.maximum(np.bincount(user, minlength=n_users), 1)

    def standardised(scores: np.ndarray) -> np.ndarray:
        apart = scores - (np.bincount(user, scores, minlength=n_users) / count)[user]
        spread = np.sqrt(np.bincount(user, apart**2, minlength=n_users) / count)
        return (apart / np.maximum(spread, 1e-6)[user]).astype(np.float32)

    return np.mean([standardised(scores) for scores in said], axis=0, dtype=np.float32)


def recipe_of(params: dict[str, Any]) -> Recipe:
    """The evidence that parameters ask for."""
    families = {family for family in FAMILIES if params[f"family_{family}"] and (params["time"] or family not in TIME)}
    voices = VOICES if params["time"] else VOICES_WITHOUT_CLOCK
    return Recipe(frozenset(families), voices, params["each"], params["repeats"], params["horizon_us"])
