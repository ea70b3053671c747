"""What may stand in a list: seen items, availability, blocks, category caps, diversity.  Numpy over one batch of users.

Shapes: U users, I items (columns of the item tables), E events, C candidates per user, K list length.

        may be listed       not seen in a hiding way, available at the request, not blocked, not oneself      -> Forbidden
        in which order      score, at most `category_cap` of one category, similar ones apart (MMR)           -> arrange
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recs.clock import DAY
from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables

if TYPE_CHECKING:
    from recs.config import EventType, RuleConfig

FOR_EVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Rules:
    """The rules of one list, as the workers use them."""

    hidden_us: dict[int, int] = field(default_factory=dict)     # event type code -> microseconds for which such an event hides its item
    hidden_default_us: int = 0                                  # of other codes
    category_cap: int | None = None
    mmr_lambda: float = 1.0
    exclude_self: bool = False
    blocked: tuple[int, ...] = ()                               # integers of item_vocabulary, blocked for everybody

    @classmethod
    def of(cls, config: RuleConfig, event_types: dict[str, EventType], blocked: tuple[int, ...] = ()) -> Rules:
        """From the configuration.  ValueError when the seen policy names an event type that the log does not have."""
        if unknown := sorted(set(config.seen.by_type) - set(event_types)):
            raise ValueError(f"lists.rules.seen.by_type: unknown event types {unknown}; the log has {sorted(event_types)}")
        hidden = {t.code: hiding_us(config.seen.by_type.get(name, config.seen.default)) for name, t in event_types.items()}
        return cls(
            hidden_us=hidden, hidden_default_us=hiding_us(config.seen.default), category_cap=config.category_cap,
            mmr_lambda=config.mmr_lambda, exclude_self=config.exclude_self, blocked=blocked,
        )

    @property
    def hides_seen(self) -> bool:
        """Does any event keep an item out of the list?"""
        return self.hidden_default_us > 0 or any(self.hidden_us.values())

    def hides(self, histories: Histories, request_us: np.ndarray) -> np.ndarray:
        """[E] bool: the event keeps its item out of the list asked for at `request_us` [U].

        `again after N days` ends N days after the event, to the microsecond.
        """
        codes = np.unique(histories.type_code)
        hidden = np.array([self.hidden_us.get(int(c), self.hidden_default_us) for c in codes], np.int64)
        for_us = hidden[np.searchsorted(codes, histories.type_code)] if len(codes) else np.empty(0, np.int64)
        return np.asarray(request_us)[histories.user] - histories.ts < for_us


def hiding_us(policy: str | int) -> int:
    """`always` (may be recommended) hides for no time, `never` for ever, N for N days."""
    return {"always": 0, "never": FOR_EVER}[policy] if isinstance(policy, str) else policy * DAY


class Forbidden:
    """Called with a block of columns lo:hi it says who may not be shown what, [U, hi - lo] bool: the mask of `Model.retrieve`."""

    def __init__(
        self, rules: Rules, histories: Histories, request_us: np.ndarray, tables: ItemTables, blocked: list[np.ndarray],
        full: list[np.ndarray] | None = None,
    ) -> None:
        """`blocked`: per user, integers of item_vocabulary.  `full`: per user, categories that take no more items."""
        self.request_us = np.asarray(request_us, np.int64)
        self.tables = tables
        self.full = full
        self.everybody = np.sort(tables.columns(np.array(rules.blocked, np.int64)))
        row, column = _pairs(rules, histories, self.request_us, tables, blocked)
        known = column >= 0
        order = np.argsort(column[known], kind="stable")
        self.row, self.column = row[known][order], column[known][order]

    def __call__(self, lo: int, hi: int) -> np.ndarray:
        start, until = (self.tables.array(f"available_{end}")[lo:hi] for end in ("from", "until"))
        if (self.request_us == self.request_us[:1]).all():      # a night asks for one instant
            closed = ((start > self.request_us[0]) | (until <= self.request_us[0])) if len(self.request_us) else np.zeros(hi - lo, bool)
            out = np.repeat(closed[None, :], len(self.request_us), axis=0)
        else:
            out = (start[None, :] > self.request_us[:, None]) | (until[None, :] <= self.request_us[:, None])
        a, b = np.searchsorted(self.everybody, [lo, hi])
        out[:, self.everybody[a:b] - lo] = True
        a, b = np.searchsorted(self.column, [lo, hi])
        out[self.row[a:b], self.column[a:b] - lo] = True
        if self.full is not None:
            category = np.asarray(self.tables.array("category")[lo:hi])
            for u, categories in enumerate(self.full):
                out[u] |= np.isin(category, categories)
        return out

    def columns_of(self, user: int) -> np.ndarray:
        """Columns forbidden to this user in person (seen, blocked, oneself)."""
        return self.column[self.row == user]


def _pairs(
    rules: Rules, histories: Histories, request_us: np.ndarray, tables: ItemTables, blocked: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """(user, column) of everything that one user in person may not be shown; column -1 = unknown item."""
    seen = rules.hides(histories, request_us)
    rows = [histories.user[seen], np.repeat(np.arange(len(blocked)), [len(b) for b in blocked])]
    columns = [
        tables.columns(histories.item[seen]),
        tables.columns(np.concatenate([*blocked, np.empty(0, np.int64)]).astype(np.int64)),
    ]
    if rules.exclude_self:
        rows.append(np.arange(len(histories)))
        columns.append(tables.find(histories.user_ids))
    return np.concatenate(rows).astype(np.int64), np.concatenate(columns).astype(np.int64)


def arrange(
    columns: np.ndarray, scores: np.ndarray, k: int, rules: Rules, tables: ItemTables, used: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The best k of candidates [U, C] (best first, -1 = none) under category cap and MMR: columns and scores [U, k].

    Greedy, one rank at a time; ties go to the candidate that stands first, that is to the better score, then the smaller item id.
    MMR (Carbonell & Goldstein, SIGIR 1998): lambda * score - (1 - lambda) * similarity to the most similar item already chosen,
    with the scores of a list brought to 0..1.  `used` [U, C]: items of the candidate's category that the list already holds.
    """
    if rules.category_cap is None and rules.mmr_lambda >= 1:
        return columns[:, :k], scores[:, :k]
    users, width = columns.shape
    everyone = np.arange(users)
    category = np.asarray(tables.array("category"))[np.maximum(columns, 0)]
    taken = np.zeros((users, width), np.int64) if used is None else used.copy()
    alive = columns >= 0
    value = rules.mmr_lambda * _unit(scores) if rules.mmr_lambda < 1 else scores.astype(np.float64)
    likeness = _similarity(columns, category, tables) if rules.mmr_lambda < 1 else None
    nearest = np.zeros((users, width))
    out = np.full((users, k), -1, np.int64)
    for rank in range(min(k, width)):
        may = alive if rules.category_cap is None else alive & ((category < 0) | (taken < rules.category_cap))
        best = np.where(may, value - (1 - rules.mmr_lambda) * nearest, -np.inf).argmax(axis=1)
        found = may[everyone, best]
        out[found, rank] = best[found]
        alive[everyone[found], best[found]] = False
        taken += (category == category[everyone, best][:, None]) & found[:, None]
        if likeness is not None:
            nearest = np.maximum(nearest, likeness[everyone, best] * found[:, None])
    picked = np.maximum(out, 0)
    none = out < 0
    return (
        np.where(none, -1, np.take_along_axis(columns, picked, 1)).astype(np.int32),
        np.where(none, -np.inf, np.take_along_axis(scores, picked, 1)).astype(np.float32),
    )


def _unit(scores: np.ndarray) -> np.ndarray:
    """Scores of every list brought to 0..1 (all 1 where they are equal); absent candidates 0."""
    there = np.isfinite(scores)
    low = np.where(there, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(there, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    flat = ~(high > low)
    span = np.where(flat, 1.0, high.astype(np.float64) - low)
    return np.where(there, np.where(flat, 1.0, (np.where(there, scores, 0.0) - np.where(flat, 0.0, low)) / span), 0.0)


def _similarity(columns: np.ndarray, category: np.ndarray, tables: ItemTables) -> np.ndarray:
    """[U, C, C] similarity 0..1 of candidates: half for the same category, half the co-occurrence cosine (where the tables hold it)."""
    same = (category[:, :, None] == category[:, None, :]) & (category >= 0)[:, :, None]
    out = 0.5 * same
    kind = next((name for name in sorted(tables.kinds) if name.split(":")[0] == "cooc"), None)
    if kind is not None:
        neighbours = tables.neighbours(kind)
        for u, mine in enumerate(np.maximum(columns, 0)):
            among = neighbours[mine][:, mine].toarray()
            out[u] += 0.5 * np.maximum(among, among.T)      # a row keeps its best neighbours only: the other side may know the pair
    return out
