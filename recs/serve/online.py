"""One request from Python, by the code that makes the night's lists.

    >>> service = load("warehouse/models/blend-…", "warehouse/_item_tables/…", config)          # doctest: +SKIP
    >>> service.recommend([("tea", "2024-03-30T18:00:00Z"), ("mug", "2024-03-30T18:05:00Z", "view")],
    ...                   as_of="2024-03-31T00:00:00Z", serve_at="2024-03-31T07:00:00Z", k=5)   # doctest: +SKIP

With the events of a user's sequence, the night's instants and the night's configuration the answer is that user's list, exactly.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recs.clock import ClockError, micros, parse_instant
from recs.evidence.histories import Histories, segment_code
from recs.evidence.item_tables import ArtifactError, ItemTables

from .artifacts import Opened, model_artifact, opened, tables_artifact
from .rules import Rules
from .score import NO_EVENT_US, Plan, lists_of, one_thread

if TYPE_CHECKING:
    from recs.config import Config

Instant = datetime | str | int
# (item id, instant) or (item id, instant, event type), in any order; or a frame with columns item_id, ts and if known
# event_type, value, dwell_s, lat, lon
History = Sequence[tuple] | pd.DataFrame


def load(model_dir: str | Path, tables_dir: str | Path, config: Config | None = None, model_hash: str | None = None) -> Recommender:
    """The model of a folder with the item tables of another, verified by hash.

    `config` brings the rules, the event types and the length of histories; without it nothing is filtered and every event has
    type code 1.  Raises ArtifactError when a folder is not what its hashes say.
    """
    model, tables = model_artifact(model_dir, model_hash), tables_artifact(tables_dir)
    if config is None:
        return Recommender(opened(model, tables), Plan(model, tables, k=20))
    lists, types = config.lists, config.log.events.event_types
    plan = Plan(model, tables, lists.k, Rules.of(lists.rules, types), lists.block_items, lists.batch_users)
    return Recommender(opened(model, tables), plan, {n: t.code for n, t in types.items()}, config.sequences.max_events)


class Recommender:
    """A model ready to answer; make it with `load`."""

    def __init__(self, ready: Opened, plan: Plan, type_codes: dict[str, int] | None = None, max_events: int | None = None) -> None:
        self.ready, self.plan = ready, plan
        self.type_codes, self.max_events = type_codes, max_events

    @property
    def tables(self) -> ItemTables:
        """The item tables it reads."""
        return self.ready.tables

    def recommend(
        self, history: History, *, as_of: Instant, k: int | None = None, serve_at: Instant | None = None, user_id: str = "",
        blocked: Iterable[str] = (), segment: str = "",
    ) -> pd.DataFrame:
        """rank, item_id, score, source, reason_code, evidence_item_id, evidence_ts of one list.

        Events at or after `as_of` are not read; gaps and decays are measured to `serve_at` (default: `as_of`).  `blocked`: item ids
        not for this user; `user_id` counts where items are users, `segment` where the model reads the user's segment.
        """
        request = self._request(history, as_of, serve_at, segment) | {"user_id": user_id, "blocked": self._index(list(blocked))}
        plan = self.plan if k is None else replace(self.plan, k=k)
        rows = lists_of(pd.DataFrame([request]), plan, self.ready)
        instants = [pd.NaT if us == NO_EVENT_US else pd.Timestamp(us, unit="us", tz="UTC") for us in rows.pop("evidence_us")]
        rows["evidence_ts"] = pd.Series(instants, rows.index, "datetime64[ns, UTC]")
        return rows.drop(columns="user_id")

    def score(
        self, history: History, candidates: Sequence[str], *, as_of: Instant, serve_at: Instant | None = None, segment: str = "",
    ) -> pd.DataFrame:
        """item_id and score of given candidates, in their order; NaN for items the model does not know.  No rule is applied."""
        request = self._request(history, as_of, serve_at, segment) | {"user_id": ""}
        histories = Histories.from_frame(pd.DataFrame([request]))
        columns = self.tables.find(candidates)[None, :]
        with one_thread():
            scores = self.ready.model.score_candidates(histories, np.array([request["request_us"]]), self.tables, columns)
        return pd.DataFrame({"item_id": list(candidates), "score": np.where(np.isfinite(scores[0]), scores[0].astype(np.float64), np.nan)})

    def _request(self, history: History, as_of: Instant, serve_at: Instant | None, segment: str) -> dict[str, Any]:
        """The columns of `sequences` that models read, as one row."""
        cut = _micros(as_of)
        if cut < self.tables.cut_us:
            raise ArtifactError(f"{self.tables.path}: know events after as_of {as_of}; use the item tables of that cut or a later as_of")
        events = _as_frame(history)
        events = events[events.ts < cut].sort_values("ts", kind="stable").tail(self.max_events or len(events))
        row = {name: events[name].to_numpy(np.float32) for name in ("value", "dwell_s", "lat", "lon")}
        return row | {
            "item_index": self._index(events.item_id), "type_code": self._codes(events.event_type), "ts": events.ts.to_numpy(np.int64),
            "segment_code": np.full(len(events), segment_code(segment), np.int32),
            "request_us": _micros(serve_at) if serve_at is not None else cut,
        }

    def _index(self, item_ids: Sequence[str]) -> np.ndarray:
        """Integers of item_vocabulary; -1 for items that nobody had met by the cut."""
        columns = self.tables.find(item_ids)
        index = np.asarray(self.tables.array("item_index"))
        return np.where(columns >= 0, index[columns] if len(index) else -1, -1).astype(np.int32)

    def _codes(self, names: pd.Series) -> np.ndarray:
        """Codes of event types; an event without a name has the only type there is."""
        if self.type_codes is None:
            return np.ones(len(names), np.int32)
        only = next(iter(self.type_codes.values())) if len(self.type_codes) == 1 else None
        codes = [only if name is None else self.type_codes.get(name) for name in names]
        if None in codes:
            raise ValueError(f"an event has none of the log's types {sorted(self.type_codes)}; name it as the third part of the event")
        return np.array(codes, np.int32)


def _as_frame(history: History) -> pd.DataFrame:
    """item_id, ts (microseconds), event_type (None = not named), value, dwell_s, lat, lon (NaN = not known)."""
    if not isinstance(history, pd.DataFrame):
        padded = [(*event, None)[:3] for event in history]
        history = pd.DataFrame(padded, columns=["item_id", "ts", "event_type"])
    events = pd.DataFrame({"item_id": history["item_id"], "ts": np.array([_micros(t) for t in history["ts"]], np.int64)})
    types = history["event_type"] if "event_type" in history else pd.Series([None] * len(history))
    events["event_type"] = [None if t is None or t != t else t for t in types]
    for name in ("value", "dwell_s", "lat", "lon"):
        events[name] = history[name].to_numpy(np.float64) if name in history else np.nan
    return events


def _micros(instant: Instant) -> int:
    """An aware datetime, ISO 8601 text with an offset, or microseconds since 1970 UTC."""
    if isinstance(instant, str):
        return micros(parse_instant(instant))
    if isinstance(instant, datetime):       # pandas' Timestamp is one
        if instant.tzinfo is None:
            raise ClockError(f"{instant} has no time zone; give an aware datetime")
        return micros(instant.to_pydatetime() if isinstance(instant, pd.Timestamp) else instant)
    return int(instant)
