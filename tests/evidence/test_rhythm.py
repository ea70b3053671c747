"""Rhythm: circular statistics against hand-made circles and a plain loop, wall clocks through changes of the clocks."""
from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from recs.clock import DAY, HOUR, MICROS, micros
from recs.evidence.rhythm import (
    circular,
    day_rhythm,
    gap_mean_std,
    gap_us,
    hour_of_day,
    local_us,
    session_position,
    sum_by_user,
    week_rhythm,
    weekday,
)

MINUTE = 60 * MICROS
# ann has four events, bob one, cat none, dan two
OFFSETS = np.array([0, 4, 5, 5, 7])
TS = np.array([0, 30, 60, 91, 7, 100, 100]) * MINUTE


def one(*hours: float) -> tuple[np.ndarray, np.ndarray]:
    """One user's events at these local hours."""
    return np.array([int(h * HOUR) for h in hours], np.int64), np.array([0, len(hours)])


def test_gaps_and_places_start_anew_with_every_user():
    gap = gap_us(TS, OFFSETS)
    assert gap.tolist() == [-1, 30 * MINUTE, 30 * MINUTE, 31 * MINUTE, -1, -1, 0]
    # a gap of exactly the limit still joins; one of 31 minutes does not; a tie does
    assert session_position(gap, 30 * MINUTE).tolist() == [0, 1, 2, 0, 0, 0, 1]
    assert session_position(gap, 30 * MINUTE - 1).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_mean_and_spread_of_gaps():
    mean, std = gap_mean_std(gap_us(TS, OFFSETS), OFFSETS)
    gaps = np.array([1800.0, 1800.0, 1860.0])
    np.testing.assert_allclose(mean, [gaps.mean(), np.nan, np.nan, 0.0])
    np.testing.assert_allclose(std, [gaps.std(), np.nan, np.nan, 0.0])     # the population's: divided by the number of gaps


@pytest.mark.parametrize(("hours", "strength", "phase"), [
    ((9.0,), 1.0, 9.0),                                 # one event is a perfect rhythm: read strength beside the number of events
    ((9.0, 9.0, 9.0), 1.0, 9.0),
    ((23.0, 1.0), np.cos(2 * np.pi / 24), 0.0),         # centres on midnight, not on noon
    ((9.0, 15.0), np.sqrt(0.5), 12.0),                  # a right angle on the clock
    ((6.0, 18.0), 0.0, np.nan),                         # opposite hours cancel: no direction
    ((0.0, 6.0, 12.0, 18.0), 0.0, np.nan),
])
def test_strength_and_phase_of_the_day(hours, strength, phase):
    found = day_rhythm(*one(*hours))
    np.testing.assert_allclose(found.strength, [strength], atol=1e-12)
    # 24:00 is 00:00
    distance = (found.phase / HOUR - phase + 12) % 24 - 12
    assert np.isnan(found.phase[0]) if np.isnan(phase) else abs(distance[0]) < 1e-6
    assert not found.phase[0] >= DAY


def test_the_week_starts_on_monday_at_midnight():
    # 2024-03-04 was a Monday
    at = np.array([micros(datetime(2024, 3, d, 12, tzinfo=UTC)) for d in (4, 6, 10)])
    assert weekday(at).tolist() == [0, 2, 6] and hour_of_day(at).tolist() == [12, 12, 12]
    found = week_rhythm(at[:1], np.array([0, 1]))
    np.testing.assert_allclose((found.strength[0], found.phase[0] / DAY), (1.0, 0.5))
    # before 1970 the clock goes on: 1969-12-31 was a Wednesday
    assert weekday(np.array([-1])).tolist() == [2] and hour_of_day(np.array([-1])).tolist() == [23]


def test_no_events_no_rhythm():
    found = circular(np.array([], np.int64), np.array([0, 0, 0]), DAY)
    assert found.strength.tolist() == [0, 0] and np.isnan(found.phase).all()


def everything(ts: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    day, week = day_rhythm(ts, offsets), week_rhythm(ts, offsets)
    return [day.strength, day.phase, week.strength, week.phase, *gap_mean_std(gap_us(ts, offsets), offsets)]


def test_many_users_at_once_are_each_of_them_alone_to_the_bit():
    rng = np.random.default_rng(3)
    lengths = rng.integers(0, 300, 60)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ts = np.concatenate([np.sort(rng.integers(0, 90 * DAY, n)) for n in lengths])
    together = everything(ts, offsets)
    for u in range(len(lengths)):
        mine, alone = ts[offsets[u]:offsets[u + 1]], np.array([0, lengths[u]])
        for a, b in zip(together, everything(mine, alone), strict=True):
            np.testing.assert_array_equal(a[u], b[0])
        # and what the textbook's sums say
        angle = 2 * np.pi * mine / DAY
        expected = np.hypot(np.cos(angle).mean(), np.sin(angle).mean()) if len(mine) else 0.0
        np.testing.assert_allclose(together[0][u], expected, atol=1e-9)


def test_even_spread_is_weak_and_weaker_with_more_events():
    rng = np.random.default_rng(5)
    for n in (25, 400):
        ts, offsets = rng.integers(0, DAY, n * 200), np.arange(0, n * 200 + 1, n)
        np.testing.assert_allclose(day_rhythm(ts, offsets).strength.mean() * np.sqrt(n), 0.886, atol=0.08)


@pytest.mark.parametrize("zone", [
    "Europe/Amsterdam", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca", "UTC", "Pacific/Apia",
])
def test_the_wall_clock_is_zoneinfo_s(zone: str):
    rng = np.random.default_rng(7)
    ts = rng.integers(micros(datetime(1971, 1, 1, tzinfo=UTC)), micros(datetime(2045, 1, 1, tzinfo=UTC)), 3000)
    found = local_us(ts, np.zeros(len(ts), int), [zone])
    # to the whole second: datetime keeps microseconds, floats do not
    wall = [datetime.fromtimestamp(t // MICROS, ZoneInfo(zone)).replace(tzinfo=UTC) for t in ts]
    assert ((found // MICROS) == [micros(w) // MICROS for w in wall]).all()


def test_clocks_that_change_at_night():
    # Amsterdam 2024-03-31: 01:59:59 -> 03:00:00 (01:00 UTC); 2024-10-27: 02:59:59 -> 02:00:00 (01:00 UTC)
    utc = [datetime(2024, 3, 31, 0, 59, 59), datetime(2024, 3, 31, 1), datetime(2024, 10, 27, 0, 30), datetime(2024, 10, 27, 1, 30)]
    ts = np.array([micros(t.replace(tzinfo=UTC)) for t in utc])
    local = local_us(ts, np.zeros(4, int), ["Europe/Amsterdam"])
    assert hour_of_day(local).tolist() == [1, 3, 2, 2]
    assert (gap_us(ts, np.array([0, 4]))[3] // HOUR, (local[3] - local[2]) // HOUR) == (1, 0)   # an hour passed, the wall stood still


def test_zones_are_per_event_and_unknown_ones_read_as_the_default():
    noon = np.full(3, micros(datetime(2024, 1, 1, 12, tzinfo=UTC)))
    local = local_us(noon, np.array([0, 1, 2]), ["Asia/Tokyo", "Nowhere/Atlantis", "../etc/passwd"], default="America/New_York")
    assert hour_of_day(local).tolist() == [21, 7, 7]


def test_sums_leave_users_without_events_at_zero():
    assert sum_by_user(np.arange(7.0), OFFSETS).tolist() == [6.0, 4.0, 0.0, 11.0]
    assert sum_by_user(np.array([]), np.array([0, 0])).tolist() == [0.0]
