"""What a night is, on ordinary days and on the two days a year when the wall clock jumps."""
from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recs.clock import ClockError, Night, from_micros, micros, parse_date, parse_instant


@pytest.mark.parametrize(
    ("run_date", "hours_known", "serve_utc"),
    [
        (date(2024, 3, 30), 24, 6),     # winter: 07:00 in Amsterdam is 06:00 UTC
        (date(2024, 3, 31), 24, 5),     # the clocks go forward during this night
        (date(2024, 4, 1), 23, 5),      # the day before had 23 hours
        (date(2024, 10, 28), 25, 6),    # the day before had 25
    ],
)
def test_a_night_ends_at_local_midnight_and_is_served_by_the_wall_clock(run_date: date, hours_known: int, serve_utc: int):
    night = Night.of(run_date, "Europe/Amsterdam", timedelta(hours=7))
    before = Night.of(run_date - timedelta(days=1), "Europe/Amsterdam", timedelta(hours=7))
    assert night.as_of - before.as_of == timedelta(hours=hours_known)
    assert night.serve_at.hour == serve_utc


def test_a_list_cannot_be_used_before_it_is_made():
    with pytest.raises(ClockError, match="before as_of"):
        Night(date(2024, 1, 1), datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("text", ["2024-1-1", "2024-02-30", "01.02.2024", "2026-01-02' OR '1'='1", ""])
def test_a_date_is_parsed_strictly(text: str):
    with pytest.raises(ClockError, match="not a date"):
        parse_date(text)


def test_an_instant_needs_an_offset():
    with pytest.raises(ClockError, match="no offset"):
        parse_instant("2024-03-31T02:00:00")
    assert parse_instant("2024-03-31T02:00:00+02:00") == datetime(2024, 3, 31, 0, tzinfo=UTC) == parse_instant("2024-03-31")


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))
def test_microseconds_are_exact(naive: datetime):
    instant = naive.replace(tzinfo=UTC)
    assert from_micros(micros(instant)) == instant
