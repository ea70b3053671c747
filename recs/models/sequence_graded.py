"""Graded feedback: ratings (`value`) of a user's newest events, each asked of the history before it.

    history     a 4 stars   b 2 stars   c (no value)   d 5 stars                       graded: 2
    asked       [a b c] ─▶ d: 5       [a] ─▶ b: 2                                      never what comes later

    training    each user's ratings as the newest night knows them
    held out    ratings given since the newest night that is trained on; their errors also by quarter of that time

Shapes: U users, N examples, L events, T = 1 target.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recs.nn.graded import SLICES
from recs.nn.staged import Staged, read_columns

from .examples import newest_events
from .fitting import Question
from .sequence_examples import HISTORY, Numbers, Shape, by_number, held, read_history, user_hashes, write_examples


def graded_examples(shape: Shape, question: Question) -> dict[str, np.ndarray]:
    """One row per rated event: the fields of recs/models/sequence_examples.py and `rating` [N]."""
    h = question.histories
    rated = np.flatnonzero(~np.isnan(h.value))
    user, last = h.user[rated], np.searchsorted(h.user[rated], np.arange(len(h)), side="right")
    newest = last[user] - np.arange(len(rated)) <= shape.graded
    event, user = rated[newest], user[newest]
    asked_us = h.ts[event]
    before = h.take(user).before(asked_us)
    events = newest_events(before, asked_us, shape.length, shape.also)
    return {name: events[name] for name in HISTORY if name in events} | {
        "who": user_hashes(h)[user], "window": np.zeros(len(event), np.int32),
        "target": h.item[event][:, None].astype(np.int32),
        "n_truth": np.ones(len(event), np.int32), "rating": h.value[event].astype(np.float32),
        "h_text": read_history(shape.written or {}, before, asked_us, question.tables, graded=True),
    }


def graded_training(folder: Path, newest_first: Sequence[Staged], numbers: Numbers, held_out: float = 0.0) -> Staged:
    """Every rating once; without those of the share `held_out` of the users."""
    seen, parts = np.empty(0, np.int64), []
    for night in newest_first:
        columns = read_columns(night, night.fields)
        parts.append(_numbered(columns, numbers, ~np.isin(columns["who"], seen) & ~held(columns["who"], held_out)))
        seen = np.union1d(seen, columns["who"])
    return write_examples(folder, parts)


def graded_validation(
    folder: Path, newest_first: Sequence[Staged], numbers: Numbers, since_us: int | None, held_out: float = 1.0,
) -> Staged:
    """Ratings of the newest night that were given since an instant (None: ever), by users of the share `held_out`."""
    columns = read_columns(newest_first[0], newest_first[0].fields)
    asked = held(columns["who"], held_out) & (columns["request_us"] >= (since_us or np.iinfo(np.int64).min))
    return write_examples(folder, [_numbered(columns, numbers, asked)])


def _numbered(columns: dict[str, np.ndarray], numbers: Numbers, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Of some rows those whose item has a number; `slice` [N]: the quarter of their time."""
    rows = rows & (numbers.number[np.minimum(columns["target"][:, 0], len(numbers.number) - 1)] > 0)
    mine = {name: values[rows] for name, values in columns.items()}
    found = by_number(mine, numbers, np.zeros(rows.sum(), bool), repeats=True)
    since = mine["request_us"] - mine["request_us"].min(initial=np.iinfo(np.int64).max)
    quarter = np.minimum(SLICES * since // max(since.max(initial=0), 1), SLICES - 1)
    return found | {"rating": mine["rating"], "slice": quarter.astype(np.int32)}
