"""What a model is: `retrieve` (exact top-K over all items) and, for two-stage models, `rerank`.

Training, evaluation, inference, explanation and publishing never ask which model it is.  A model reads histories, the
request time and the item tables as of the cut, and nothing else.

Shapes: U users, I items (columns of the item tables), E events, K list length.
"""
from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables

from .fitting import Fit, Replay, grid_search, with_fixed

# columns lo:hi -> [U, hi - lo]: scores (float32), or what is forbidden (bool)
Scorer = Callable[[int, int], np.ndarray]
Mask = Callable[[int, int], np.ndarray]

WEIGHTS = "weights.safetensors"
REASONS = ("popular", "repeat", "neighbour", "similar_users", "taste")


@dataclass(frozen=True)
class Setting:
    """What a model may use of the log when its parameter grid is made."""

    repeats: bool = True    # may items the user knows be recommended?
    clock: bool = True      # is `ts` an instant, or only an order?
    n_items: int = 1_000    # items of the catalogue
    ease_max_items: int = 15_000    # above, the item tables leave EASE out
    judged_nights: int = 2  # the latest nights, by which models are compared
    horizon_us: int = 86_400_000_000    # what is listed should come true within this time after the request
    places: bool = False    # do items have places?
    texts: bool = False     # are there vectors of the items' texts?
    fixed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)    # by model: parameters that the configuration holds fixed
    serves_us: int | None = None        # from a fit's cut to that of the last night it makes lists for; None: for ever


@dataclass(frozen=True)
class Reasons:
    """Why: reason code per item (position in REASONS) and the event that spoke most for it (position in E, -1 = none)."""

    code: np.ndarray    # [U, K] int8
    event: np.ndarray   # [U, K] int64


class Model(ABC):
    """A model with its fitted parameters.  Subclasses set `name` and implement `scorer` and `explain`."""

    name: ClassVar[str]
    trains: ClassVar[bool] = False      # learns weights from examples of many nights; else a few parameters from a few
    light: ClassVar[bool] = False       # its examples are a kilobyte, not eighty: it learns from more of them
    personal: ClassVar[bool] = True     # False: every user is told the same, so equal lists are no sign of a broken model

    def __init__(self, params: dict[str, Any], weights: dict[str, np.ndarray] | None = None) -> None:
        """`params`: plain values; `weights`: arrays of networks and trees."""
        self.params, self.weights = params, weights or {}

    @classmethod
    @abstractmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        """The parameter sets worth trying, best guess first."""

    @classmethod
    def fit(cls, setting: Setting, replay: Replay) -> Fit:
        """The parameters that would have been best on earlier nights: by default the best of the grid."""
        return grid_search(cls, cls.grid(setting), replay)

    @classmethod
    def fit_with(cls, setting: Setting, replay: Replay, fixed: dict[str, Any]) -> Fit:
        """The same with some parameters held fixed."""
        return grid_search(cls, with_fixed(cls.grid(setting), fixed), replay) if fixed else cls.fit(setting, replay)

    @classmethod
    def fit_on(cls, setting: Setting, replay: Replay, fixed: dict[str, Any], before: Model) -> Fit:
        """A fit that goes on from an earlier one of the same recipe: by default it keeps what that chose."""
        return cls.fit_with(setting, replay, cls.kept(before.params) | fixed)

    @classmethod
    def stage(cls, setting: Setting, replay: Replay, params: dict[str, Any]) -> dict[str, Any]:
        """Write the examples that a fit of these parameters reads into `replay.scratch`, and say what they are; by default none."""
        return {}

    @classmethod
    def kept(cls, params: dict[str, Any]) -> dict[str, Any]:
        """What a refit of this model keeps of the parameters found last time: by default nothing."""
        return {}

    @classmethod
    @abstractmethod
    def needs(cls, params: dict[str, Any]) -> frozenset[str]:
        """Kinds of item tables the model reads with these parameters."""

    @abstractmethod
    def scorer(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
        """Scores of these users for any block of columns.  `request_us` [U]: the instant each list is used.

        A user's row depends on that user's own history only, bit for bit: batches of other users change nothing.
        """

    @abstractmethod
    def explain(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> Reasons:
        """Why the items `columns` [U, K] (-1 = no item) were listed."""

    def retrieve(
        self, histories: Histories, request_us: np.ndarray, tables: ItemTables, k: int,
        forbidden: Mask | None = None, block: int = 65_536,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Exact top-K: columns [U, K] int32 (-1 where fewer than K are allowed) and scores [U, K] float32 (-inf there).

        Ties go to the lower column, which is the smaller item id; a score that is not finite never ranks.
        """
        score = self.scorer(histories, request_us, tables)
        best = TopK(len(histories), k)
        for lo in range(0, tables.n_items, block):
            hi = min(lo + block, tables.n_items)
            s = np.array(score(lo, hi), np.float32)
            s[~np.isfinite(s)] = -np.inf
            if forbidden is not None:
                s[forbidden(lo, hi)] = -np.inf
            best.add(lo, s)
        return best.columns, best.scores

    def score_candidates(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> np.ndarray:
        """Scores [U, C] float32 of given candidates `columns` [U, C]; -inf for -1."""
        full = self.scorer(histories, request_us, tables)(0, tables.n_items)
        picked = np.take_along_axis(full, np.maximum(columns, 0), axis=1)
        return np.where(columns >= 0, picked, -np.inf).astype(np.float32)

    @property
    def reads(self) -> str:
        """Fingerprint of what today's code makes of histories and item tables for this model, and with what network; '' = as ever.

        A model that was trained on something else must not be served: recs.models.load refuses it.
        """
        return ""

    def save(self, path: Path) -> None:
        """Write `model.json`, and `weights.safetensors` when there are any, into the folder; recs.models.load opens it."""
        path.mkdir(parents=True, exist_ok=True)
        if self.weights:
            from safetensors.numpy import save_file

            # safetensors writes the bytes as they lie: those of a transposed array would come back in another order
            save_file({name: np.asarray(array, order="C") for name, array in self.weights.items()}, path / WEIGHTS)
        body = {"name": self.name, "params": self.params, **({"reads": self.reads} if self.reads else {})}
        (path / "model.json").write_text(json.dumps(body, indent=1, sort_keys=True))


class TopK:
    """Running best K of blocks of columns that arrive in ascending order."""

    def __init__(self, n_users: int, k: int) -> None:
        self.k = k
        self.columns = np.full((n_users, k), -1, np.int32)
        self.scores = np.full((n_users, k), -np.inf, np.float32)

    def add(self, lo: int, scores: np.ndarray) -> None:
        """Take in the scores [U, W] of columns lo:lo + W; -inf = not allowed."""
        cols, vals = top_k(scores, self.k)
        cols = np.where(np.isfinite(vals), cols + lo, -1).astype(np.int32)
        both_v = np.concatenate([self.scores, vals], axis=1)
        both_c = np.concatenate([self.columns, cols], axis=1)
        # earlier blocks hold lower columns and stand first: a stable sort keeps ties by item id
        order = np.argsort(-both_v, axis=1, kind="stable")[:, : self.k]
        self.scores = np.take_along_axis(both_v, order, axis=1)
        self.columns = np.take_along_axis(both_c, order, axis=1)


def top_k_ragged(offsets: np.ndarray, column: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Best k of each user's own columns offsets[u]:offsets[u + 1], as `TopK` gives them: ties by the lower column, -1 and -inf fill up."""
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((column, -scores, user))
    order = order[np.isfinite(scores[order])]
    place = np.arange(len(order)) - np.searchsorted(user[order], user[order])
    first = place < k
    best = TopK(len(offsets) - 1, k)
    at = user[order[first]], place[first]
    best.columns[at], best.scores[at] = column[order[first]], scores[order[first]]
    return best.columns, best.scores


def top_k(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Best k of every row of [U, W]: columns [U, k] and values, descending, ties by the lower column, also at the cut-off."""
    n, width = scores.shape
    k_in = min(k, width)
    if k_in == width:
        cols = np.broadcast_to(np.arange(width), (n, width)).copy()
    else:
        cols = np.argpartition(-scores, k_in - 1, axis=1)[:, :k_in]
        low = np.take_along_axis(scores, cols, 1).min(axis=1, keepdims=True)
        tied = np.flatnonzero((scores >= low).sum(axis=1) > k_in)
        for row in tied:    # argpartition picks any of the tied: redo these rows exactly
            at_least = np.flatnonzero(scores[row] >= low[row])
            cols[row] = at_least[np.argsort(-scores[row, at_least], kind="stable")[:k_in]]
        cols.sort(axis=1)
    vals = np.take_along_axis(scores, cols, 1)
    order = np.argsort(-vals, axis=1, kind="stable")
    cols, vals = np.take_along_axis(cols, order, 1), np.take_along_axis(vals, order, 1)
    if k_in < k:
        cols = np.pad(cols, ((0, 0), (0, k - k_in)), constant_values=0)
        vals = np.pad(vals, ((0, 0), (0, k - k_in)), constant_values=-np.inf)
    return cols, vals
