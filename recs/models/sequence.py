"""Sequence models: one network of recs/nn/zoo reads the history and says what comes next, over the whole catalogue.

    history      the newest `length` events whose items the network has numbers for
    network      recs/nn/zoo/<name>.py        history, instants, request time ─▶ state; score of an item = state · its vector
    score        that logit; what is popular tonight and what is the user's own may join it (recs/models/sequence_joined.py)

Every module of recs/nn/zoo that no model has of its own is a model of its name (docs/add_a_model.md).  Trained on earlier nights by
recs/models/sequence_fit.py.

    a user's ratings               asked instead of what comes next where `graded` says how many (recs/models/sequence_graded.py)
    an item never met in training           what its text says, where the model reads texts (`text`, on where the catalogue has them);
                                            else the mean score of the items met least: it is as unknown as they are
    a user without an event known here      popular items
    a model without weights                 popular items for everybody (nothing to learn from yet)

Why an item: the user met it himself (`repeat`), else the event that carried its score most, by gradient x input (`neighbour`; where a
network reads words, the event whose item it holds most alike), else `taste`.

Shapes: U users, I columns of the item tables, W of a block, R items met least, D dimensions.
"""
from __future__ import annotations

import pkgutil
from collections.abc import Collection
from typing import Any

import numpy as np

from recs.evidence.histories import Histories
from recs.evidence.item_facts import JOINING
from recs.evidence.item_kinds import FACTS, TEXT, VECTORS
from recs.evidence.item_tables import ItemTables
from recs.evidence.profiles import event_weights, own_event, speaking_event
from recs.nn import zoo

from .base import REASONS, Mask, Model, Reasons, Scorer, Setting
from .examples import also_read, newest_events
from .fitting import Fit, Replay, with_fixed
from .popularity import popularity_of
from .sequence_joined import OWN, POPULAR, joined

# how a history is written out, and what reads it; `asked`: of so many of a user's newest events it is learned what he did before them
WRITTEN = {"model": "hashed", "language": "en", "events": 20, "max_tokens": 128, "offline": True, "clean": True, "asked": None}
ASKED = {"hashed": 50}      # where nobody says how many: hashed words cost next to nothing, a language model reads 30 histories a second


class SequenceModel(Model):
    """Parameters: sizes and training (see `grid`); weights: the network's, and which vocabulary integers it has numbers for."""

    trains = light = True

    def __init__(self, params: dict[str, Any], weights: dict[str, np.ndarray] | None = None) -> None:
        super().__init__(params, weights)
        self._at_hand: tuple[str, Any] | None = None

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        """One set: everything in it is a switch for `--set`; `network` are keys of the network's Config, `train` of
        TrainConfig, `tuning` of TuningConfig."""
        network = zoo.network_class(cls.name)
        return [{
            "length": 50, "windows": 10, "targets": 10, "least": 1, "epochs": 30, "held_out": 0.1, "seed": 1,
            "repeats": setting.repeats, "text": setting.texts, "network": {}, "train": {}, "chosen": {},
            "facts": [], "vectors": [], "near": [], "values": False, "segments": False,
            POPULAR: network.joined, OWN: network.joined and setting.repeats,
            **({"written": WRITTEN, "graded": 0} if network.reads_text else {}),
            **({"decode": False} if network.decodes else {}),
            **({"tuning": {"policy": "frozen"}} if network.tunes_reader else {}),
            **({"places": setting.places} if network.reads_places else {}),
        }]

    @classmethod
    def fit_with(cls, setting: Setting, replay: Replay, fixed: dict[str, Any]) -> Fit:
        """Examples, epochs, weights; see recs/models/sequence_fit.py."""
        from .sequence_fit import fit

        params = with_fixed(cls.grid(setting), fixed)[0]
        if "written" in params:
            params["written"] = WRITTEN | params["written"]
            if params["written"]["asked"] is None:
                params["written"]["asked"] = ASKED.get(params["written"]["model"], 1)
        return fit(cls.name, params, replay, setting.serves_us)

    @classmethod
    def kept(cls, params: dict[str, Any]) -> dict[str, Any]:
        """The numbers of epochs; weights are trained anew."""
        return {"chosen": params["chosen"]} if params["chosen"] else {}

    @property
    def reads(self) -> str:
        """The form of the network, from its second on."""
        return zoo.form_of(self.name) if self.weights else ""

    @classmethod
    def needs(cls, params: dict[str, Any]) -> frozenset[str]:
        facts = bool(params.get("facts")) or not set(JOINING).isdisjoint(params.get("near", []))
        asked = {TEXT: params["text"], FACTS: facts, VECTORS: params.get("vectors")}
        return frozenset(kind for kind, wanted in asked.items() if wanted)

    def scorer(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
        popular = popularity_of(tables, "users_all")
        if not self.weights:
            return lambda lo, hi: np.broadcast_to(popular[lo:hi], (len(histories), hi - lo))
        network, index = self._network(tables), np.asarray(tables.array("item_index"))
        newest = self._newest(histories, request_us)
        if written := self.params.get("written"):
            from .sequence_examples import read_history

            newest["h_text"] = read_history(written, histories, request_us, tables, self.params.get("graded", 0) > 0)
        read, beside = network.read(newest), joined(self.params["chosen"], histories, request_us, tables)

        def score(lo: int, hi: int) -> np.ndarray:
            return np.where(read.known[:, None], network.scores(read, index[lo:hi]) + beside(lo, hi), popular[lo:hi])

        return score

    def retrieve(
        self, histories: Histories, request_us: np.ndarray, tables: ItemTables, k: int, forbidden: Mask | None = None, block: int = 65_536,
    ) -> tuple[np.ndarray, np.ndarray]:
        """With `decode` lists are made one item after another, for users with an event that is known here."""
        columns, scores = super().retrieve(histories, request_us, tables, k, forbidden, block)
        if not self.params.get("decode") or not self.weights:
            return columns, scores
        network, newest = self._network(tables), self._newest(histories, request_us)
        closed = np.zeros((len(histories), tables.n_items), bool) if forbidden is None else forbidden(0, tables.n_items)
        beside = joined(self.params["chosen"], histories, request_us, tables)(0, tables.n_items)
        known, added = np.flatnonzero(network.known(newest)), np.broadcast_to(beside, closed.shape)
        some = {name: values[known] for name, values in newest.items()}
        columns[known], scores[known] = network.decode(some, k, np.asarray(tables.array("item_index")), closed[known], added[known])
        return columns, scores

    def explain(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> Reasons:
        """Repeat, neighbour with the event that carried the score, taste; popular where no event is known."""
        weights = event_weights(histories, request_us, "all")
        mine = own_event(histories, weights, tables, columns)
        if not self.weights:
            code = np.where(mine >= 0, REASONS.index("repeat"), REASONS.index("popular"))
            return Reasons(code.astype(np.int8), mine)
        network, index = self._network(tables), np.asarray(tables.array("item_index"))
        newest = self._newest(histories, request_us)
        spoke = network.attribution(newest, np.where(columns >= 0, index[np.maximum(columns, 0)], -1))
        if spoke is None:
            others = speaking_event(
                histories, weights, tables, columns, lambda have, listed: network.likeness(index[have], index[listed]))
        else:
            place = histories.offsets[1:, None] - self.params["length"] + np.argmax(spoke, axis=2)
            others = np.where(spoke.max(axis=2) > 0, place, -1)
        event = np.where(mine >= 0, mine, others)
        known = network.known(newest)
        code = np.where(event >= 0, REASONS.index("neighbour"), np.where(known[:, None], REASONS.index("taste"), REASONS.index("popular")))
        return Reasons(np.where(mine >= 0, REASONS.index("repeat"), code).astype(np.int8), event)

    def _newest(self, histories: Histories, request_us: np.ndarray) -> dict[str, np.ndarray]:
        return newest_events(histories, request_us, self.params["length"], also_read(self.params))

    def _network(self, tables: ItemTables) -> Any:
        """The network, with the items of these tables; the latest is kept."""
        from .sequence_network import Network

        if self._at_hand is None or self._at_hand[0] != tables.version:
            self._at_hand = tables.version, Network(self.name, self.params, self.weights, tables)
        return self._at_hand[1]


def sequence_models(taken: Collection[str]) -> list[type[SequenceModel]]:
    """A model per module of recs/nn/zoo whose name is not taken; torch is imported when one is asked something."""
    names = sorted(module.name for module in pkgutil.iter_modules(zoo.__path__) if module.name not in taken)
    return [type(name.title().replace("_", ""), (SequenceModel,), {"name": name, "__doc__": f"recs/nn/zoo/{name}.py"}) for name in names]
