"""Examples of ranked candidates, from a question about an earlier night: what a ranker is trained on, in fixed shapes.

    question      histories before the cut, request time, item tables of the cut, what may be listed, what came true
    example       one user and cut: the candidates with their evidence and the prior's score, what it is worth that some of them came
                  true (the weight of the best event type that did), the newest events

A training example holds all candidates that came true and a uniform draw of the others: a draw that prefers some (the user's own
items, say) teaches the ranker to push those down.  A validation example holds every candidate.  The draw is a function of the user's
id and the cut.  Users without a candidate that came true teach nothing and are left out of training; in validation they count as zero.

Shapes: N examples, C candidates, F evidence, L events.
"""
from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recs.evidence.candidates import Pairs
from recs.evidence.features import Recipe, gather
from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables

from .blend import Blend
from .fitting import Question

HALF = np.finfo(np.float16).max
ALSO = ("places", "values", "segments")     # parameters of a sequence model: what of events it reads beside the usual
FORMAT = 2      # of the fields below: examples of another are never taken for these


@dataclass(frozen=True)
class Shape:
    """What goes into an example."""

    recipe: Recipe
    prior: dict[str, float]     # weights of the blend whose score is the prior
    candidates: int             # C
    length: int                 # L
    training: bool = True

    @property
    def key(self) -> str:
        """Equal keys make equal examples of the same question."""
        facts = [FORMAT, sorted(self.recipe.families), self.recipe.names, self.recipe.each, self.recipe.repeats, self.recipe.horizon_us]
        body = json.dumps([facts, self.prior, self.candidates, self.length, self.training], sort_keys=True)
        return hashlib.sha256(body.encode()).hexdigest()[:16]


def prior_scores(weights: dict[str, float], histories: Histories, request_us: np.ndarray, tables: ItemTables, pairs: Pairs) -> np.ndarray:
    """[P] float32: the blend's score of pairs."""
    if not weights:
        return np.zeros(len(pairs.column), np.float32)
    return Blend({"weights": weights}).scorer(histories, request_us, tables)(0, tables.n_items)[pairs.user, pairs.column]


def half(values: np.ndarray) -> np.ndarray:
    """As float16, which is how evidence is staged; serving rounds it the same way."""
    return np.clip(values, -HALF, HALF).astype(np.float16)


def examples(shape: Shape, question: Question) -> dict[str, np.ndarray]:
    """The fields of the examples of one question; none when nothing that came true is among the candidates."""
    found = gather(shape.recipe, question.histories, question.request_us, question.tables, question.forbidden)
    prior = prior_scores(shape.prior, question.histories, question.request_us, question.tables, found.pairs)
    user, column = found.pairs.user, found.pairs.column
    gain = question.gains(user * question.tables.n_items + column)
    hit = gain > 0
    chosen = _drawn(shape, question, user, hit) if shape.training else _first(shape, question, found.pairs, hit, prior)
    n, c = len(question.histories), shape.candidates
    there = chosen >= 0
    at = np.maximum(chosen, 0)
    keep = np.flatnonzero((hit[at] & there).any(axis=1)) if shape.training else np.arange(n)
    if not len(column):
        keep = keep[:0]
    at, there = at[keep], there[keep]
    evidence = half(found.values) if len(column) else np.zeros((1, len(shape.recipe.names)), np.float16)
    index = np.asarray(question.tables.array("item_index"))
    fields = {
        "evidence": evidence[at] * there[:, :, None],
        "prior": (prior[at] * there).astype(np.float32) if len(column) else np.zeros((0, c), np.float32),
        "item": np.where(there, index[column[at]], -1).astype(np.int32) if len(column) else np.zeros((0, c), np.int32),
        "label": (gain[at] * there).astype(np.float16) if len(column) else np.zeros((0, c), np.float16),
        "there": there.astype(np.uint8), "n_truth": question.wanted[keep].astype(np.int32),
    }
    return fields | newest_events(question.histories.take(keep), np.asarray(question.request_us)[keep], shape.length)


def newest_events(histories: Histories, request_us: np.ndarray, length: int, also: Collection[str] = ()) -> dict[str, np.ndarray]:
    """h_item, h_type, h_ts, h_dwell, h_there [N, L], the newest event last, and request_us [N]; items by their vocabulary integer.

    `also`, of ALSO: with `places` h_place [N, L, 2], latitude and longitude, NaN = none; with `values` h_value [N, L] float32,
    NaN = none; with `segments` h_segment [N, L] int32, the user's segment as `sequences` codes it, 0 = none.
    """
    n = len(histories)
    place = histories.offsets[1:, None] - length + np.arange(length)
    there = place >= histories.offsets[:-1, None]
    at = np.where(there, place, 0)

    def padded(values: np.ndarray, dtype: Any, empty: Any) -> np.ndarray:
        return np.where(there, values[at] if len(values) else np.zeros((n, length)), empty).astype(dtype)

    request = np.asarray(request_us, np.int64)
    more: dict[str, np.ndarray] = {}
    if "places" in also:
        more["h_place"] = np.stack([padded(x, np.float32, np.nan) for x in (histories.lat, histories.lon)], axis=-1)
    if "values" in also:
        more["h_value"] = padded(histories.value, np.float32, np.nan)
    if "segments" in also:
        more["h_segment"] = padded(histories.segment, np.int32, 0)
    return more | {
        "h_item": padded(histories.item, np.int32, -1), "h_type": padded(np.clip(histories.type_code, 0, 254) + 1, np.uint8, 0),
        "h_ts": np.where(there, padded(histories.ts, np.int64, 0), request[:, None]),
        "h_dwell": half(padded(np.nan_to_num(histories.dwell_s), np.float32, 0)), "h_there": there.astype(np.uint8), "request_us": request,
    }


def also_read(params: Mapping[str, Any]) -> tuple[str, ...]:
    """What of ALSO a model with these parameters reads of events."""
    return tuple(name for name in ALSO if params.get(name))


def item_numbers(met: np.ndarray, least: int) -> np.ndarray:
    """[V] int32 a network's own number of each vocabulary integer, from how often each was met [V]; 0 for those met less than `least`."""
    number = np.zeros(max(len(met), 1), np.int32)
    known = np.flatnonzero(met >= least)
    number[known] = np.arange(1, len(known) + 1)
    return number


def _drawn(shape: Shape, question: Question, user: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """[U, C] positions of pairs, -1 = none: the hits (at most half of C), then a uniform draw of the others."""
    keys = np.empty(len(user))
    starts = np.searchsorted(user, np.arange(len(question.histories) + 1))
    for u, name in enumerate(question.histories.user_ids):
        a, b = starts[u], starts[u + 1]
        keys[a:b] = np.random.default_rng([zlib.crc32(str(name).encode()), question.tables.cut_us // 1_000_000]).random(b - a)
    return _padded(user, np.where(hit, keys - 2, keys), len(question.histories), shape.candidates)


def _first(shape: Shape, question: Question, pairs: Pairs, hit: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """[U, C] positions of pairs, all of them where they fit, else those with the best prior."""
    return _padded(pairs.user, -prior.astype(np.float64), len(question.histories), shape.candidates)


def _padded(user: np.ndarray, key: np.ndarray, n_users: int, width: int) -> np.ndarray:
    """[U, width] positions of each user's pairs with the smallest keys, ascending by position."""
    order = np.lexsort((key, user))
    place = np.arange(len(user)) - np.searchsorted(user, user[order])
    out = np.full((n_users, width), -1, np.int64)
    first = place < width
    out[user[order][first], place[first]] = order[first]
    return out
