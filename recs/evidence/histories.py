"""Many users' histories as flat arrays: what models and evidence read.

Shapes: U users, E events of all of them together; user u owns the events offsets[u]:offsets[u + 1], oldest first.

        user      ann            bob    cat
        events    a  b  a        c      (none)
        offsets   0        3        4       4
"""
from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

# column of `sequences` -> (field, dtype)
_EVENT_FIELDS = {
    "item_index": ("item", np.int32),
    "type_code": ("type_code", np.int32),
    "ts": ("ts", np.int64),
    "value": ("value", np.float32),
    "dwell_s": ("dwell_s", np.float32),
    "lat": ("lat", np.float32),
    "lon": ("lon", np.float32),
    "segment_code": ("segment", np.int32),
}
SEQUENCE_COLUMNS = ("user_id", *_EVENT_FIELDS)


def segment_code(name: str) -> int:
    """The code that `sequences` has for a segment: CRC-32 of its name without the highest bit; 0 = none."""
    return zlib.crc32(name.encode()) & 0x7FFF_FFFF


@dataclass(frozen=True)
class Histories:
    """Ragged histories.  `item` holds integers of item_vocabulary, `ts` microseconds since 1970 UTC; NaN = missing."""

    user_ids: np.ndarray    # [U] str
    offsets: np.ndarray     # [U + 1] int64
    item: np.ndarray        # [E] int32
    type_code: np.ndarray   # [E] int32
    ts: np.ndarray          # [E] int64
    value: np.ndarray       # [E] float32
    dwell_s: np.ndarray     # [E] float32
    lat: np.ndarray         # [E] float32
    lon: np.ndarray         # [E] float32
    segment: np.ndarray     # [E] int32, the user's segment at the event, as `sequences` codes it; 0 = none

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def n_events(self) -> int:
        """E, events of all users together."""
        return len(self.item)

    @property
    def user(self) -> np.ndarray:
        """[E] int64: which user each event belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @classmethod
    def from_frame(cls, frame: Any) -> Histories:
        """From a pandas frame with the columns of `sequences` (one row per user, one array per cell)."""
        lengths = np.fromiter((len(a) for a in frame["item_index"]), np.int64, len(frame))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = {
            field: np.concatenate([np.asarray(a, dtype) for a in frame[column]]) if offsets[-1] else np.empty(0, dtype)
            for column, (field, dtype) in _EVENT_FIELDS.items()
        }
        if off := [field for field, values in flat.items() if len(values) != offsets[-1]]:
            raise ValueError(f"arrays of one row differ in length: {off}")
        return cls(user_ids=frame["user_id"].to_numpy(object), offsets=offsets, **flat)

    @classmethod
    def of(cls, **events_by_user: list[tuple[int, int]]) -> Histories:
        """From literals, for tests and notebooks: `Histories.of(ann=[(item, ts_us), …], bob=[])`."""
        lists = list(events_by_user.values())
        pairs = [p for events in lists for p in events]
        nan = np.full(len(pairs), np.nan, np.float32)
        return cls(
            user_ids=np.array(list(events_by_user), object),
            offsets=np.concatenate([[0], np.cumsum([len(e) for e in lists])]).astype(np.int64),
            item=np.array([i for i, _ in pairs], np.int32), ts=np.array([t for _, t in pairs], np.int64),
            type_code=np.ones(len(pairs), np.int32), value=nan, dwell_s=nan, lat=nan, lon=nan,
            segment=np.zeros(len(pairs), np.int32),
        )

    def where(self, keep: np.ndarray) -> Histories:
        """The events for which `keep` [E] is true; every user stays, if need be without events."""
        lengths = np.bincount(self.user[keep], minlength=len(self))
        fields = {field: getattr(self, field)[keep] for field, _ in _EVENT_FIELDS.values()}
        return replace(self, offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), **fields)

    def before(self, cut_us: int | np.ndarray) -> Histories:
        """Events strictly before the cut (one for all, or [U])."""
        cut = np.asarray(cut_us)
        return self.where(self.ts < (cut[self.user] if cut.ndim else cut))

    def take(self, users: np.ndarray) -> Histories:
        """These users [N] (positions), in this order, with their events."""
        lengths = np.diff(self.offsets)[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][users] - offsets[:-1], lengths)
        fields = {field: getattr(self, field)[events] for field, _ in _EVENT_FIELDS.values()}
        return replace(self, user_ids=self.user_ids[users], offsets=offsets, **fields)

    def users(self, start: int, stop: int) -> Histories:
        """Users start:stop with their events."""
        a, b = self.offsets[start], self.offsets[stop]
        fields = {field: getattr(self, field)[a:b] for field, _ in _EVENT_FIELDS.values()}
        return replace(self, user_ids=self.user_ids[start:stop], offsets=self.offsets[start : stop + 1] - a, **fields)
