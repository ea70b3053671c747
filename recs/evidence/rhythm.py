"""When a user acts: gaps, place in the session, local clock, and how strongly events keep to the day and to the week.

All functions take many users' events as flat arrays, oldest first, user u owning offsets[u]:offsets[u + 1]; every number of a
user depends on that user's own events only, bit for bit, whoever else is in the arrays.

The clock is a circle, so hours are averaged as directions (Mardia & Jupp, Directional Statistics, 2000, section 2.2): event i at
the angle a_i = 2 pi (time of day) / 24 h; the mean vector (C, S) = (mean cos a_i, mean sin a_i) has the length R = strength and the
direction atan2(S, C) = phase.  23:00 and 01:00 centre on midnight with R = cos(15 deg) = .97, where plain averaging says noon.

        00:00                 R = 1  every event at the same time of day
     21   |   03              R = 0  events all around the clock (or on opposite sides: two peaks 12 h apart cancel)
    18 ---+--- 06             few events are no rhythm: with n events spread evenly, R is about .89 / sqrt(n), so read R beside n
     15   |   09
        12:00

Shapes: U users, E events of all of them.
"""
from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from recs.clock import DAY, HOUR, MICROS, micros

WEEK = 7 * DAY
# 1970-01-01 was a Thursday: the first Monday 00:00 lies three days before it
_MONDAY = -3 * DAY
# below this length a mean vector is rounding noise of events that cancel, and has no direction
_NO_DIRECTION = 1e-9


@dataclass(frozen=True)
class Rhythm:
    """Strength and phase of one periodicity, [U] float64 each."""

    strength: np.ndarray    # 0 (none) to 1
    phase: np.ndarray       # in microseconds from the start of the period; NaN where strength is 0


def gap_us(ts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """[E] int64: microseconds since the user's previous event; -1 for the first of each user."""
    gap = np.diff(ts, prepend=0)
    gap[offsets[:-1][np.diff(offsets) > 0]] = -1
    return gap


def session_position(gap: np.ndarray, limit_us: int) -> np.ndarray:
    """[E] int32: 0, 1, 2, … inside the session.  `gap` as from gap_us; a gap of exactly the limit still joins."""
    place = np.arange(len(gap))
    begins = np.where((gap < 0) | (gap > limit_us), place, 0)
    return (place - np.maximum.accumulate(begins)).astype(np.int32)


def gap_mean_std(gap: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[U] float64 each: mean and population standard deviation of the gaps in seconds; NaN with fewer than two events."""
    known, n_gaps = gap >= 0, np.maximum(np.diff(offsets) - 1, 0)
    seconds = np.where(known, gap / MICROS, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sum_by_user(seconds, offsets) / n_gaps
        off = np.where(known, seconds - np.repeat(mean, np.diff(offsets)), 0.0)
        return mean, np.sqrt(sum_by_user(off * off, offsets) / n_gaps)


def circular(local_us: np.ndarray, offsets: np.ndarray, period_us: int) -> Rhythm:
    """How the events of each user keep to a period; a user without events has strength 0."""
    angle = 2 * np.pi * (local_us % period_us) / period_us
    n = np.maximum(np.diff(offsets), 1)
    c, s = (sum_by_user(f(angle), offsets) / n for f in (np.cos, np.sin))
    # the vector of equal directions may come out a rounding error longer than 1
    strength = np.minimum(np.hypot(c, s), 1.0)
    flat = strength < _NO_DIRECTION
    turn = (np.arctan2(s, c) / (2 * np.pi)) % 1.0
    # a direction a hair before the start comes out as a whole turn: the same instant is written 0
    phase = np.where(turn < 1.0, turn, 0.0) * period_us
    return Rhythm(np.where(flat, 0.0, strength), np.where(flat, np.nan, phase))


def day_rhythm(local_us: np.ndarray, offsets: np.ndarray) -> Rhythm:
    """The 24 h clock; phase from local midnight."""
    return circular(local_us, offsets, DAY)


def week_rhythm(local_us: np.ndarray, offsets: np.ndarray) -> Rhythm:
    """The 7 day clock; phase from local Monday 00:00."""
    return circular(local_us - _MONDAY, offsets, WEEK)


def hour_of_day(local_us: np.ndarray) -> np.ndarray:
    """[E] int32, 0-23."""
    return (local_us % DAY // HOUR).astype(np.int32)


def weekday(local_us: np.ndarray) -> np.ndarray:
    """[E] int32, 0 = Monday."""
    return ((local_us - _MONDAY) % WEEK // DAY).astype(np.int32)


def local_us(ts: np.ndarray, zone: np.ndarray, zones: list[str], default: str = "UTC") -> np.ndarray:
    """[E] int64: the wall clock at each instant, as microseconds since 1970-01-01 00:00 on that clock.

    `zone` [E]: position in `zones`, IANA names; one that the machine does not know is read as `default`.
    """
    out = ts.copy()
    for code in np.unique(zone):
        mine = np.flatnonzero(zone == code)
        starts, offset = _offsets_of(zones[code], default)
        out[mine] += offset[np.searchsorted(starts, ts[mine], side="right") - 1]
    return out


def sum_by_user(x: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """[E] -> [U] float64 sums; 0 for a user without events.  reduceat adds each user's numbers apart from all others."""
    out = np.zeros(len(offsets) - 1)
    some = np.diff(offsets) > 0
    if some.any():
        out[some] = np.add.reduceat(x, offsets[:-1][some])
    return out


# Offsets from UTC are looked up between these years; before and after, the first and the last one hold on
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def _offsets_of(name: str, default: str) -> tuple[np.ndarray, np.ndarray]:
    """Instants (UTC microseconds) from which a zone's offset holds, ascending, and the offsets; the first holds from ever.

    zoneinfo answers one datetime at a time.  Its table is read off once per zone and process, in some 20 ms: look every four
    days (no zone has changed its clock twice within a week since 1970), halve down to the second where the offset differs.
    """
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = ZoneInfo(default)

    def offset(at: datetime) -> int:
        return zone.utcoffset(at.astimezone(zone)) // timedelta(microseconds=1)     # type: ignore[operator]

    starts, offsets = [np.iinfo(np.int64).min], [offset(_FIRST)]
    at = _FIRST
    while at < _LAST:
        later = at + timedelta(days=4)
        if offset(later) != offsets[-1]:
            before, after = at, later
            while after - before > timedelta(seconds=1):
                middle = before + (after - before) // timedelta(seconds=2) * timedelta(seconds=1)
                before, after = (middle, after) if offset(middle) == offsets[-1] else (before, middle)
            starts.append(micros(after))
            offsets.append(offset(after))
        at = later
    return np.array(starts, np.int64), np.array(offsets, np.int64)
