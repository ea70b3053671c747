"""A network of recs/nn/zoo where lists are made: histories in, scores out, each user's the same in any batch.

The bits of a matrix product depend on its shape, so the shapes depend on the user alone: histories are cut to a multiple of `WIDTH`
events, users of one width go `ROWS` at a time through one thread, and what is missing is filled up with empty rows.

An item that came after training is scored like any other where a text speaks for it; one without has the mean score of the items met least.

Shapes: U users, L events, W items of a block, R items met least, D dimensions.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recs.evidence.item_kinds import TEXT
from recs.evidence.item_tables import ArtifactError, ItemTables
from recs.nn.next_item import OF_HISTORY, NextItem
from recs.nn.zoo import network_class

from .network_arrays import state_of
from .sequence_side import Side, place_of
from .sequence_tuning import told

WIDTH, ROWS = 16, 16
NUMBER, RAREST, SEGMENTS = "number", "rarest", "segments"
SAID, READ = "item.said", "of_text.weight"      # the network's copy of the items' texts; what reads a history's


def make_network(
    name: str, params: dict[str, Any], n_items: int, said: int = 0, read: int = 0, side: dict[str, Any] | None = None, segments: int = 0,
) -> NextItem:
    """The network of these parameters, untrained; widths of what is `said` of items and of histories that are `read`; sizes of `side`;
    how many `segments` of users it knows."""
    cls = network_class(name)
    widths = {"said": said, "values": params.get("values", False), "segments": segments, **(side or {})}
    widths |= ({"read": read} if cls.reads_text else {}) | ({"places": params["places"]} if cls.reads_places else {})
    graded = {"loss": "ratings"} if params.get("graded") else {}
    return cls(n_items, cls.Config(**{"length": params["length"], "repeats": params["repeats"], **widths, **params["network"], **graded}))


def numbered(events: dict[str, np.ndarray], number: np.ndarray, segments: np.ndarray) -> dict[str, np.ndarray]:
    """Events as recs.models.examples.newest_events gives them, items by the network's numbers, what has none left out: h_len [U] remain.

    `number` [V] of each vocabulary integer, 0 = none; `segments`: codes of users' segments, ascending, numbered by their place from 1.
    """
    items = numbers_of(events["h_item"], number)
    order = _known_last(items)
    found = {name: np.take_along_axis(events[name], order, axis=1) for name in ("h_type", "h_ts", "h_dwell")}
    items = np.take_along_axis(items, order, axis=1)
    there = items > 0
    request_us = events["request_us"]
    place = {}
    if "h_value" in events:
        place["h_value"] = np.where(there, np.take_along_axis(events["h_value"], order, axis=1), np.float32(np.nan))
    if "h_segment" in events:
        place["h_segment"] = place_of(segments, np.take_along_axis(events["h_segment"], order, axis=1)) * there
    if "h_place" in events:
        moved = np.take_along_axis(events["h_place"], order[..., None], axis=1)
        place["h_place"] = np.where(there[..., None], moved, np.float32(np.nan))
    return place | {
        "h_item": items, "h_type": found["h_type"] * there, "h_ts": np.where(there, found["h_ts"], request_us[:, None]),
        "h_dwell": found["h_dwell"] * there, "h_len": there.sum(axis=1).astype(np.int32), "request_us": request_us,
    }


def numbers_of(integers: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Vocabulary integers -> the network's numbers, 0 for those without one (any shape)."""
    inside = (integers >= 0) & (integers < len(number))
    return np.where(inside, number[np.where(inside, integers, 0)], 0).astype(np.int32)


@dataclass(frozen=True)
class Read:
    """What the network made of histories: `states` [U, D]; `known` [U]: is there an event it could read?"""

    states: np.ndarray
    known: np.ndarray


class Network:
    """The network with its weights (`network.*`, `number`, `rarest` of the model's arrays)."""

    def __init__(self, name: str, params: dict[str, Any], weights: dict[str, np.ndarray], tables: ItemTables | None = None) -> None:
        """`tables`: where items that came after training stand; those of which something is said there get numbers, too."""
        self.number, self.rarest = weights[NUMBER], torch.from_numpy(weights[RAREST].astype(np.int64))
        state, n_items = state_of(weights), int(self.number.max(initial=0))
        said = state[SAID].shape[1] if SAID in state else 0
        read = state[READ].shape[1] if READ in state else 0
        side = Side.of_model(params, weights, state)
        self.segments = weights.get(SEGMENTS, np.zeros(0, np.int32))
        sizes = said, read, side.sizes, len(self.segments)
        self.net = make_network(name, params, n_items, *sizes)
        self.net.load_state_dict(state)
        if tables is not None:
            index = np.asarray(tables.array("item_index"))
            new = np.flatnonzero(numbers_of(index, self.number) == 0)
            rows = _said(tables, new, said, weights) | side.rows(tables, index[new], self.number)
            if len(new) and rows:
                speaks = np.any([values.numpy().any(axis=1) for values in rows.values()], axis=0)
                new, rows = new[speaks], {name: values[torch.from_numpy(speaks)] for name, values in rows.items()}
                state = _with_rows(state, self.net.rows_for_new(len(new)) | rows)
                self.net = make_network(name, params, n_items + len(new), *sizes)
                self.net.load_state_dict(state)
                self.number = _numbered_on(self.number, index[new], n_items)
        self.net.eval()

    def known(self, newest: dict[str, np.ndarray]) -> np.ndarray:
        """[U] bool: is there an event the network has a number for?"""
        return (numbers_of(newest["h_item"], self.number) > 0).any(axis=1)

    def read(self, newest: dict[str, np.ndarray]) -> Read:
        """States of histories, as recs.models.examples.newest_events gives them."""
        events = numbered(newest, self.number, self.segments) | ({"h_text": newest["h_text"]} if "h_text" in newest else {})
        known, length = events["h_len"] > 0, events["h_item"].shape[1]
        states: np.ndarray | None = None
        with one_thread():
            for w, some in _by_width(events["h_len"], length):
                found = self.net.state(_cut(events, some, w)).numpy()
                states = np.zeros((len(known), found.shape[1]), np.float32) if states is None else states
                states[some] = found[: len(some)]
        return Read(np.zeros((len(known), self.net.config.dim), np.float32) if states is None else states, known)

    def scores(self, read: Read, integers: np.ndarray) -> np.ndarray:
        """[U, W] float32 of items by their vocabulary integers; one without a number has the mean score of the items met least."""
        numbers = numbers_of(integers, self.number)
        out = np.zeros((len(read.states), len(numbers)), np.float32)
        with one_thread():
            vectors, rare = self.net.vectors(torch.from_numpy(numbers.astype(np.int64))), self.net.vectors(self.rarest)
            for some in _by_rows(np.flatnonzero(read.known)):
                states = torch.from_numpy(_filled(read.states[some]))
                said = self.net.logits(states, vectors).numpy()
                unknown = self.net.logits(states, rare).numpy().mean(axis=1, keepdims=True)
                out[some] = np.where(numbers > 0, said, unknown)[: len(some)]
        return out

    def decode(
        self, newest: dict[str, np.ndarray], k: int, integers: np.ndarray, closed: np.ndarray, added: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """[U, k] places in `integers` [I] (-1: none is left) and scores of lists made one item after another; `closed` [U, I] are left
        out, `added` [U, I] joins every score.

        Each item is the best after those before it have joined the history, as if met at the request; a score is at most the one before.
        """
        users, closed = np.arange(len(closed)), closed.copy()
        columns, scores = np.full((len(closed), k), -1, np.int32), np.full((len(closed), k), -np.inf, np.float32)
        for place in range(min(k, len(integers))):
            found = np.where(closed, -np.inf, self.scores(self.read(newest), integers) + added)
            best = found.argmax(axis=1)
            scores[:, place] = found[users, best]
            columns[:, place] = np.where(np.isfinite(scores[:, place]), best, -1)
            closed[users, best] = True
            newest = _met(newest, integers[best])
        return columns, np.minimum.accumulate(scores, axis=1)

    def attribution(self, newest: dict[str, np.ndarray], listed: np.ndarray) -> np.ndarray | None:
        """[U, K, L] how much each event speaks for each item `listed` [U, K] (vocabulary integers): gradient of the score x input.

        The input is the vector of the event's item (Simonyan et al. 2014; Ancona et al., ICLR 2018).  0 for events and items without a
        number; None for a network that does not read items.
        """
        if self.net.reads_text:
            return None
        events, numbers = numbered(newest, self.number, self.segments), numbers_of(listed, self.number)
        order = _known_last(numbers_of(newest["h_item"], self.number))
        length = events["h_item"].shape[1]
        out = np.zeros((*listed.shape, length), np.float32)
        with one_thread(), torch.inference_mode(False), torch.enable_grad():
            for w, some in _by_width(events["h_len"], length):
                self.net.item.watched = []
                state = self.net.state(_cut(events, some, w))
                read, self.net.item.watched = self.net.item.watched[0], None
                asked = torch.from_numpy(_filled(numbers[some]).astype(np.int64))
                for k in range(asked.shape[1]):
                    score = self.net.pair_logits(state, self.net.vectors(asked[:, k])).sum()
                    (gradient,) = torch.autograd.grad(score, read, retain_graph=True)
                    out[some, k, length - w :] = (gradient * read).sum(-1).detach().numpy()[: len(some)]
        out[numbers == 0] = 0
        back = np.empty_like(out)
        np.put_along_axis(back, np.broadcast_to(order[:, None, :], out.shape), out, axis=2)
        return back

    def likeness(self, have: np.ndarray, listed: np.ndarray) -> np.ndarray:
        """[H, W] cosine of the vectors of items by their vocabulary integers; 0 where one has none."""
        with one_thread():
            a, b = (_unit(self.net.item(torch.from_numpy(numbers_of(integers, self.number))).numpy()) for integers in (have, listed))
        return a @ b.T


def _met(newest: dict[str, np.ndarray], item: np.ndarray) -> dict[str, np.ndarray]:
    """The events with one more at the end, of the type of the newest, at the request."""
    new = {"h_item": item, "h_type": newest["h_type"][:, -1], "h_ts": newest["request_us"], "h_dwell": 0, "h_there": 1}
    if "h_segment" in newest:
        new["h_segment"] = newest["h_segment"][:, -1]
    moved = {name: np.roll(newest[name], -1, axis=1) for name in new}
    for name, values in new.items():
        moved[name][:, -1] = values
    return newest | moved


def _said(tables: ItemTables, columns: np.ndarray, width: int, weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """What items that came after training say, for a network that reads texts; zeros where the tables have none."""
    if not width:
        return {}
    if TEXT not in tables.kinds:
        return {SAID: torch.zeros(len(columns), width, dtype=torch.float16)}
    vectors = tables.dense(TEXT)
    if vectors.shape[1] != width:
        raise ArtifactError(f"{tables.path}: texts of {vectors.shape[1]} numbers, the model learned from {width}: train it again")
    return {SAID: torch.from_numpy(told(vectors[columns], weights))}


def _with_rows(state: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([values, new[name].detach().to(values.dtype)]) if name in new else values for name, values in state.items()}


def _numbered_on(number: np.ndarray, integers: np.ndarray, n_items: int) -> np.ndarray:
    """[V] numbers, with those of some more vocabulary integers after the n_items there are."""
    out = np.pad(number, (0, max(0, int(integers.max(initial=-1)) + 1 - len(number))))
    out[integers] = n_items + 1 + np.arange(len(integers))
    return out


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _by_width(h_len: np.ndarray, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """Width and users, ROWS at a time, of those with an event: a user's width depends on him alone."""
    width = np.minimum(-(-h_len // WIDTH) * WIDTH, length)
    for w in np.unique(width[h_len > 0]):
        for some in _by_rows(np.flatnonzero((h_len > 0) & (width == w))):
            yield int(w), some


def _cut(events: dict[str, np.ndarray], some: np.ndarray, width: int) -> dict[str, torch.Tensor]:
    """The newest `width` events of these users, filled up to ROWS."""
    cut = {n: v[some][:, v.shape[1] - width :] if v.ndim > 1 and n not in OF_HISTORY else v[some] for n, v in events.items()}
    return {name: torch.from_numpy(_filled(values)) for name, values in cut.items()}


def _known_last(items: np.ndarray) -> np.ndarray:
    """[U, L] order in which what has no number (0) joins the padding on the left."""
    return np.argsort(items > 0, axis=1, kind="stable")


def _by_rows(users: np.ndarray) -> Iterator[np.ndarray]:
    return (users[lo : lo + ROWS] for lo in range(0, len(users), ROWS))


def _filled(values: np.ndarray) -> np.ndarray:
    """ROWS rows, empty ones at the end."""
    return np.concatenate([values, np.zeros((ROWS - len(values), *values.shape[1:]), values.dtype)])


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread and without gradients: Spark runs a task per core, and threads change the bits of a sum."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
