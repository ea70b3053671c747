"""Examples of histories, from questions about earlier nights: what a sequence model is trained on, in fixed shapes.

    question    histories before the cut, request time, what came true
    known       all users' histories up to the present: the newest event is what came true after the others; where histories are
                written out, each of the newest few events came true after those before its time
    staged      window 0: the newest L events of a user, and up to T items that came true after them (fewer of them are trained)
                windows 1 …: his older events, L at a time, and the event that came after them
    gathered    the same by the network's numbers, with the positions that are trained

A user is asked about many nights, and his histories of two nights overlap: the positions of one of them, the newest, are trained on the
item that follows, those of the others only at their end, on what came true.  Where known items are not listed, a position is
trained only if the next item is new in its window: to predict the rest would be to learn what is never asked.

Every window ends with something that came true, because lists are asked at the end of a history: positions count from there, and a
last position that training seldom asks costs half the NDCG (deskdrop, benchmarks/README.md).

Shapes: U users, N examples, L events, T targets.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.nn.staged import Columns, Staged, StagedFile, fields_of, read_columns, write_manifest, write_part
from recs.nn.text import encode

from .examples import item_numbers, newest_events
from .fitting import Question
from .sequence_network import NUMBER, RAREST, SEGMENTS, numbered, numbers_of
from .written import template_of, written

ROWS_PER_FILE = 4_096
ASKED_AT_ONCE = 4_096   # of a user's newest events, whose histories are written out
FORMAT = 3      # of what is staged: examples of another are never taken for these
MEETINGS = 1 << 20      # at most, of which lift draws
RAREST_ITEMS = 256      # whose mean score stands for an item never met
ASKED = 40      # items that came true of which an example knows; a model is trained on fewer, its held-out figures see them all
HISTORY = ("h_item", "h_type", "h_ts", "h_dwell", "h_place", "h_value", "h_segment", "request_us")


@dataclass(frozen=True)
class Shape:
    """What goes into an example."""

    length: int     # L
    windows: int    # at most, of one history
    targets: int    # trained, at most
    also: tuple[str, ...] = ()  # read of events beside the usual (recs.models.examples.ALSO)
    written: dict[str, Any] | None = None       # how histories are written out and read (see SequenceModel.grid), None: they are not
    graded: int = 0             # ratings of each user that are asked (recs/models/sequence_graded.py), 0: what comes next is asked

    @property
    def kept(self) -> int:
        """T."""
        return max(self.targets, ASKED)

    @property
    def key(self) -> str:
        """Equal keys make equal examples of the same question."""
        facts = ["sequence", FORMAT, self.length, self.windows, self.targets, *self.also, *([self.written] * bool(self.written)),
                 *([f"graded {self.graded}"] * bool(self.graded))]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def examples(shape: Shape, question: Question) -> dict[str, np.ndarray]:
    """The fields of the examples of one question; items by their vocabulary integer, -1 = none."""
    who, request_us = user_hashes(question.histories), np.asarray(question.request_us)
    found = _windows(shape, question.histories, request_us, who, _targets(shape, question, who), question.wanted)
    if shape.written is None:
        return found
    # the text is of the whole history: older windows have none
    newest = {name: values[: len(who)] for name, values in found.items()}
    return newest | {"h_text": read_history(shape.written, question.histories, request_us, question.tables)}


def read_history(
    written_by: dict[str, Any], histories: Histories, request_us: np.ndarray, tables: ItemTables, graded: bool = False,
) -> np.ndarray:
    """[U, S] float16: histories written out (with their ratings, if `graded`) and read."""
    template = template_of(written_by["language"])
    texts = written(histories, request_us, tables, template, written_by["events"], written_by.get("clean", True), graded)
    return encode(written_by["model"], texts, written_by["max_tokens"], written_by["offline"]).astype(np.float16)


def known_examples(shape: Shape, before_us: int | None, histories: Histories, tables: ItemTables) -> dict[str, np.ndarray]:
    """The same of histories before an instant (None: whole ones), each with its newest event as what came true after the others."""
    histories = histories if before_us is None else histories.before(before_us)
    histories = histories.take(np.flatnonzero(np.diff(histories.offsets) > 1))
    if shape.written is not None:
        return _known_written(shape, histories, tables)
    newest = histories.offsets[1:] - 1
    before, request_us = histories.where(_back(histories) > 0), histories.ts[newest]
    return _windows(shape, before, request_us, user_hashes(histories), _one(shape, histories.item[newest]), np.ones(len(histories)))


def _known_written(shape: Shape, histories: Histories, tables: ItemTables) -> dict[str, np.ndarray]:
    """A window per asked event, newest first: a text is of a whole history, so that no other position of a window may be asked."""
    who, newest_us = user_hashes(histories), histories.ts[histories.offsets[1:] - 1]
    asked, back = shape.written["asked"], _back(histories)
    first_us = histories.ts[histories.offsets[:-1]]
    event = np.flatnonzero((back < asked) & (histories.ts > first_us[histories.user]))      # something is before it
    event = event[np.lexsort((back[event], histories.user[event]))]
    item, window, user, asked_us = histories.item[event], back[event].astype(np.int32), histories.user[event], histories.ts[event]
    histories, parts = histories.where(back < asked + 2 * max(shape.length, shape.written["events"])), []      # the rest is read by nobody
    for lo in range(0, max(len(event), 1), ASKED_AT_ONCE):
        now = slice(lo, lo + ASKED_AT_ONCE)
        before = histories.take(user[now]).before(asked_us[now])
        found = _window(shape, 0, before, asked_us[now], who[user[now]], _one(shape, item[now]), np.ones(len(user[now])))
        parts.append(found | {"h_text": read_history(shape.written, before, asked_us[now], tables)})
    together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return together | {"window": window, "asked_us": newest_us[user]}


def _windows(
    shape: Shape, histories: Histories, request_us: np.ndarray, who: np.ndarray, target: np.ndarray, wanted: np.ndarray,
) -> dict[str, np.ndarray]:
    """`asked_us` [N]: when the history was asked of which this is a window."""
    parts, back = [_window(shape, 0, histories, request_us, who, target, wanted) | {"asked_us": request_us}], _back(histories)
    for number in range(1, shape.windows):
        older = histories.where(back >= number * shape.length)
        users = np.flatnonzero(np.diff(older.offsets) > 0)
        if not len(users):
            break
        follows = histories.offsets[1:][users] - number * shape.length      # the event after them
        found = _window(
            shape, number, older.take(users), histories.ts[follows], who[users], _one(shape, histories.item[follows]), np.ones(len(users)))
        parts.append(found | {"asked_us": request_us[users]})
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _window(
    shape: Shape, number: int, histories: Histories, request_us: np.ndarray, who: np.ndarray, target: np.ndarray, wanted: np.ndarray,
) -> dict[str, np.ndarray]:
    events = newest_events(histories, request_us, shape.length, shape.also)
    return {name: events[name] for name in HISTORY if name in events} | {
        "who": who, "window": np.full(len(who), number, np.int32), "target": target, "n_truth": wanted.astype(np.int32)}


def _back(histories: Histories) -> np.ndarray:
    """[E] how many events of its user each lies before the newest."""
    return np.repeat(histories.offsets[1:], np.diff(histories.offsets)) - 1 - np.arange(histories.n_events)


def _one(shape: Shape, item: np.ndarray) -> np.ndarray:
    """[U, T] targets, of which there is one."""
    return np.where(np.arange(shape.kept) == 0, item[:, None], -1).astype(np.int32)


def user_hashes(histories: Histories) -> np.ndarray:
    """[U] int64 of the users' ids."""
    digests = [hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in histories.user_ids]
    return np.frombuffer(b"".join(digests), np.int64)


def _targets(shape: Shape, question: Question, who: np.ndarray) -> np.ndarray:
    """[U, T] vocabulary integers of what came true, -1 = no more; of many a draw that depends on the user alone."""
    users, columns = np.divmod(question.truth, question.tables.n_items)
    drawn = (who[users] ^ (columns + 1) * 0x9E3779B97F4A7C1) * 0x2545F4914F6CDD1D >> 17
    order = np.lexsort((drawn, users))
    place = np.arange(len(users)) - np.searchsorted(users, users)       # `users` is ascending
    first, out = place < shape.kept, np.full((len(who), shape.kept), -1, np.int32)
    out[users[first], place[first]] = np.asarray(question.tables.array("item_index"))[columns[order][first]]
    return out


@dataclass(frozen=True)
class Numbers:
    """Which items a network has numbers for: `number` [V] of each vocabulary integer, 0 = none; `met` [items] how often, by number - 1.

    `segments`: codes of the users' segments, ascending: a segment's number is its place + 1.
    """

    number: np.ndarray
    met: np.ndarray
    segments: np.ndarray

    @classmethod
    def of(cls, nights: Iterable[Staged], least: int) -> Numbers:
        """Items met at least so often in the examples of these nights."""
        met, segments = np.zeros(0, np.int64), np.zeros(0, np.int32)
        for night in nights:
            columns = read_columns(night, [name for name in ("h_item", "target", "h_segment") if name in night.fields])
            segments = np.union1d(segments, columns.pop("h_segment", segments))
            for integers in columns.values():
                more = np.bincount(integers.ravel() + 1)[1:]
                met = np.pad(met, (0, max(0, len(more) - len(met))))
                met[: len(more)] += more
        return cls(item_numbers(met, least), met[met >= least], segments[segments > 0])

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What travels beside the network; its `rarest` are the numbers of the items met least."""
        rarest = np.sort(np.argsort(self.met, kind="stable")[:RAREST_ITEMS] + 1).astype(np.int32)
        return {NUMBER: self.number, RAREST: rarest} | ({SEGMENTS: self.segments} if len(self.segments) else {})


def training(
    folder: Path, newest_first: Sequence[Staged], numbers: Numbers, repeats: bool, held_out: float = 0.0, targets: int = ASKED,
) -> Staged:
    """What a network is trained on, of so many targets; without those of the share `held_out` of the users."""
    few = (columns | {"target": columns["target"][:, :targets]} for columns in _new_users_marked(newest_first))
    return write_examples(folder, (_trained(columns, numbers, repeats, held_out) for columns in few))


def validation(folder: Path, nights: Sequence[Staged], numbers: Numbers, held_out: float = 1.0) -> Staged:
    """Lists that are asked while it is trained: all of these nights, or those of the share `held_out` of the users."""
    def asked(night: Staged) -> dict[str, np.ndarray]:
        columns = read_columns(night, night.fields)
        rows = (columns["window"] == 0) & held(columns["who"], held_out)
        return by_number({name: values[rows] for name, values in columns.items()}, numbers, np.zeros(rows.sum(), bool), repeats=True)

    found = [asked(night) for night in nights]
    # ranks are computed for every column
    used = max((1 + int(np.flatnonzero(some["target"].any(axis=0)).max(initial=0)) for some in found), default=1)
    return write_examples(folder, (some | {"target": some["target"][:, :used]} for some in found))


def meetings(data: Staged) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [M] int64 and instants [M] of all that is trained, in the order of time; of very many every second, third, …"""
    found = read_columns(data, ["h_item", "h_ts", "follow", "target", "request_us"])
    user, place = np.nonzero(found["follow"])
    asked, target = np.nonzero(found["target"])
    item = np.concatenate([found["h_item"][user, place + 1], found["target"][asked, target]]).astype(np.int64)
    ts = np.concatenate([found["h_ts"][user, place + 1], found["request_us"][asked]])
    order = np.argsort(ts, kind="stable")[:: 1 + len(ts) // MEETINGS]
    return item[order], ts[order]


def held(who: np.ndarray, share: float) -> np.ndarray:
    """[N] bool: users held out, by their hash."""
    return who % 10_000 < share * 10_000


def _new_users_marked(newest_first: Sequence[Staged]) -> Iterable[dict[str, np.ndarray]]:
    """Each night's columns with `whole` [N]: is this the newest history of its user?"""
    seen = np.empty(0, np.int64)
    for night in newest_first:
        columns = read_columns(night, night.fields)
        users, place = np.unique(columns["who"], return_inverse=True)
        newest_us = np.full(len(users), np.iinfo(np.int64).min)
        np.maximum.at(newest_us, place, columns["asked_us"])
        whole = ~np.isin(columns["who"], seen) & (columns["asked_us"] == newest_us[place])
        keep = whole | (columns["window"] == 0)
        yield {name: values[keep] for name, values in (columns | {"whole": whole}).items()}
        seen = np.union1d(seen, users)


def _trained(columns: dict[str, np.ndarray], numbers: Numbers, repeats: bool, held_out: float) -> dict[str, np.ndarray]:
    found = by_number(columns, numbers, columns["whole"], repeats)
    older = (columns["window"] > 0) & ("h_text" not in columns)     # what came after an older window was never asked; texts are all asked
    asked = (older | ~held(columns["who"], held_out))[:, None]
    if not repeats:
        asked = asked & first_meetings(np.concatenate([found["h_item"], found["target"]], axis=1))[:, found["h_item"].shape[1] :]
    found["target"] = np.where(asked, found["target"], 0)
    says = found["follow"].any(axis=1) | found["target"].any(axis=1)
    return {name: values[says] for name, values in found.items()}


def by_number(columns: dict[str, np.ndarray], numbers: Numbers, whole: np.ndarray, repeats: bool) -> dict[str, np.ndarray]:
    """The fields of recs/nn/next_item.py."""
    found = numbered({name: columns[name] for name in HISTORY if name in columns}, numbers.number, numbers.segments)
    follow, text = np.zeros(found["h_item"].shape, np.uint8), {"h_text": columns["h_text"]} if "h_text" in columns else {}
    if not text:    # a text says nothing of any other position
        follow[:, :-1] = (found["h_item"][:, :-1] > 0) & whole[:, None] & (repeats | first_meetings(found["h_item"])[:, 1:])
    return found | text | {"follow": follow, "target": numbers_of(columns["target"], numbers.number), "n_truth": columns["n_truth"]}


def first_meetings(h_item: np.ndarray) -> np.ndarray:
    """[N, L] bool: has the item not been there before, in the same row?"""
    order = np.argsort(h_item, axis=1, kind="stable")
    values = np.take_along_axis(h_item, order, axis=1)
    new = np.ones(h_item.shape, bool)
    new[:, 1:] = np.diff(values, axis=1) != 0
    out = np.empty_like(new)
    np.put_along_axis(out, order, new, axis=1)
    return out


def write_examples(folder: Path, nights: Iterable[Columns]) -> Staged:
    """A part per night."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[StagedFile] = []
    for columns in nights:
        fields = fields_of(columns)
        for lo in range(0, len(columns["n_truth"]), ROWS_PER_FILE):
            part = {name: values[lo : lo + ROWS_PER_FILE] for name, values in columns.items()}
            files.append(write_part(folder, len(files), part, fields))
    return write_manifest(folder, fields, files)
