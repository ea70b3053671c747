"""How a model's parameters are fitted: it is asked for lists as of earlier nights, and told what came true.

A model class gets a `Replay` and says itself what it wants to know of it; most try a grid, the blend searches weights.  Nothing
here knows where the users are: recs/judge/replay.py asks them on the executors.

Shapes: U users of a batch (with something to hit), I items, K list length, P parameter sets.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.judge.metrics import ndcg_of_hits

if TYPE_CHECKING:
    from recs.nn.staged import Staged as StagedFolder

    from .base import Mask, Model

AT_A_TIME = 16      # parameter sets of a grid asked in one job: between jobs the time can be looked at


@dataclass(frozen=True)
class Question:
    """Lists asked for as of an earlier night, and what followed.

    `truth` [N]: cells user * I + column of the items that came true and could have been listed, ascending; `wanted` [U]: how many
    of them each user has, at least one; `gain` [N]: what each is worth in training (None: all 1).
    """

    histories: Histories
    request_us: np.ndarray
    tables: ItemTables
    forbidden: Mask
    truth: np.ndarray
    wanted: np.ndarray
    k: int
    gain: np.ndarray | None = None

    def gains(self, cells: np.ndarray) -> np.ndarray:
        """[P] float32 of cells user * I + column: what each is worth, 0 where it did not come true."""
        at = np.minimum(np.searchsorted(self.truth, cells), len(self.truth) - 1)
        gain = np.ones(len(self.truth)) if self.gain is None else self.gain
        return np.where(self.truth[at] == cells, gain[at], 0).astype(np.float32)

    def hits(self, columns: np.ndarray) -> np.ndarray:
        """[U, K] bool: the items `columns` [U, K] (-1 = none) that came true."""
        cell = np.arange(len(columns))[:, None] * self.tables.n_items + columns
        at = np.minimum(np.searchsorted(self.truth, cell), len(self.truth) - 1)
        return (self.truth[at] == cell) & (columns >= 0)

    def lists(self, model: Model) -> np.ndarray:
        """[U, k] columns the model lists."""
        return model.retrieve(self.histories, self.request_us, self.tables, self.k, self.forbidden)[0]


class Staged(Protocol):
    """What was kept of every question, so that it need not be computed again."""

    def mean(self, ask: Callable[[dict[str, np.ndarray]], np.ndarray]) -> np.ndarray:
        """As `Replay.mean`, over what was kept."""


class Replay(Protocol):
    """Earlier nights with what followed them; `n_lists` lists, `k` long."""

    k: int
    n_lists: int
    nights: list[int]           # those with a list
    cuts_us: tuple[int, ...]    # of all nights, by number
    horizon_us: int             # what followed was looked for so long after a cut
    until: float | None         # reading of time.monotonic() by which fitting should end
    scratch: Path | None        # where examples may be kept from one fit to the next
    facts: dict[str, Any]       # which tables at which versions it is made from

    def only(self, nights: Collection[int]) -> Replay:
        """Some of the nights."""

    def tables(self, night: int) -> ItemTables:
        """The item tables of a night, here."""

    def contents(self, kinds: Collection[str] | None = None) -> dict[int, str]:
        """By night: a hash of all that its questions are made of; of kinds of item tables these only (None: all)."""

    def write(
        self, make: Callable[[Question], dict[str, np.ndarray]], folder: Path, kinds: Collection[str] | None = None,
    ) -> dict[int, StagedFolder]:
        """Write arrays of every question as staged Parquet files (recs/nn/staged.py), a folder per night; `make` must pickle.

        A night with the same `contents` of the kinds that `make` reads is not written again.
        """

    def write_histories(
        self, make: Callable[[Histories, ItemTables], dict[str, np.ndarray]], folder: Path, night: int,
    ) -> StagedFolder | None:
        """The same of all users' histories up to the present, without a question; None where they are not at hand.

        The item tables are those of `night`.
        """

    def mean(self, ask: Callable[[Question], np.ndarray]) -> np.ndarray:
        """[P] mean over all lists; `ask` gives the sums [P] over the lists of a question and must pickle."""

    def stage(self, make: Callable[[Question], dict[str, np.ndarray]]) -> Staged:
        """Keep arrays of every question; `make` must pickle and give `wanted` [U] among them."""

    def enough(self) -> bool:
        """Is the time for fitting used up?"""


@dataclass(frozen=True)
class Fit:
    """The parameters that were best on the earlier nights; every set tried with its NDCG."""

    params: dict[str, Any]
    tried: list[tuple[dict[str, Any], float]]
    metrics: dict[str, float] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)


def seconds_left(until: float, share: float) -> float:
    """A share of the time up to this reading of time.monotonic(), a second at least."""
    return max(share * (until - time.monotonic()), 1.0)


class SettingError(ValueError):
    """A parameter is held fixed that the model does not have."""


def with_fixed(grid: list[dict[str, Any]], fixed: dict[str, Any]) -> list[dict[str, Any]]:
    """The grid with some parameters held fixed, each set once."""
    if unknown := sorted(set(fixed) - set(grid[0])):
        raise SettingError(f"no such parameter: {', '.join(unknown)}; the model has {', '.join(grid[0])}")
    out: list[dict[str, Any]] = []
    for params in grid:
        if {**params, **fixed} not in out:
            out.append({**params, **fixed})
    return out


def grid_search(cls: type[Model], grid: list[dict[str, Any]], replay: Replay) -> Fit:
    """The best of a grid, the earlier of equals; when time runs out, of what was tried so far."""
    tried: list[tuple[dict[str, Any], float]] = []
    for start in range(0, len(grid), AT_A_TIME):
        some = grid[start : start + AT_A_TIME]
        found = replay.mean(partial(_ndcg_sums, cls, some))
        tried += [(params, float(score)) for params, score in zip(some, found, strict=True)]
        if replay.enough():
            break
    return Fit(max(tried, key=lambda t: t[1])[0], tried)


def _ndcg_sums(cls: type[Model], grid: list[dict[str, Any]], question: Question) -> np.ndarray:
    return np.array([ndcg_of_hits(question.hits(question.lists(cls(params))), question.wanted).sum() for params in grid])
