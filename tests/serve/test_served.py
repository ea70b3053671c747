"""What was really served on a day, told from the book of nights: the cast of the module's own docstring, and replays."""
from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from recs.clock import DAY, HOUR, Night, from_micros, micros
from recs.config import ZoneConfig
from recs.serve.served import served_days

CLOCK = ZoneConfig(zone="UTC", lead=timedelta(hours=7))
D30, D31, D1, D2, D3, D4 = (date(2024, 3, 30) + timedelta(days=n) for n in range(6))


def row(run_date: date, decision: str, at: str, attempt: int = 1) -> dict:
    night, decided = Night.of(run_date, "UTC", CLOCK.lead), datetime.fromisoformat(at).replace(tzinfo=UTC)
    return {
        "run_date": run_date, "list_name": "main", "attempt": attempt, "decision": decision, "decided_at_us": micros(decided),
        "as_of_us": night.as_of_us, "serve_at_us": night.serve_at_us, "max_batch": 5, "config_hash": "c", "delta_version": 1,
    }


LIVE = [
    row(D30, "started", "2024-03-30 01:00"), row(D30, "published", "2024-03-30 02:00"),
    row(D31, "started", "2024-03-31 01:00"), row(D31, "held", "2024-03-31 02:00"),
    row(D1, "started", "2024-04-01 01:00"), row(D1, "held", "2024-04-01 02:00"), row(D1, "released", "2024-04-01 09:00"),
    row(D2, "started", "2024-04-02 01:00"), row(D2, "published", "2024-04-02 02:00"),
    row(D2, "published", "2024-04-02 12:00", attempt=2),
    row(D3, "started", "2024-04-03 01:00"), row(D3, "published", "2024-04-03 02:00"), row(D3, "withdrawn", "2024-04-03 10:00"),
]


def told(rows: list[dict], last: date = D4, horizon_us: int = DAY) -> list[tuple]:
    """(day, night of the lists, attempt, hour of the day from which, hours until) of every served day."""
    out = []
    for s in served_days(sorted(rows, key=lambda r: r["decided_at_us"]), CLOCK, horizon_us, last):
        midnight = micros(datetime(s.day.year, s.day.month, s.day.day, tzinfo=UTC))
        out.append((s.day, s.row["run_date"], s.row["attempt"], (s.from_us - midnight) // HOUR, (s.until_us - midnight) // HOUR))
    return out


def test_each_day_counts_with_the_lists_that_stood_last_on_it():
    assert told(LIVE) == [
        (D30, D30, 1, 7, 24),
        (D31, D30, 1, 7, 24),       # held: yesterday's again
        (D1, D1, 1, 9, 24),         # released at nine
        (D2, D2, 2, 12, 24),        # refreshed at noon
        (D3, D2, 2, 10, 24),        # withdrawn at ten
        (D4, D2, 2, 7, 24),         # nothing was begun
    ]
    assert [s.again for s in served_days(LIVE, CLOCK, DAY, D4)] == [False, True, False, False, True, True]


def test_a_decision_after_the_day_changes_nothing_anybody_saw():
    late = [*LIVE, row(D31, "released", "2024-04-02 15:00"), row(D30, "withdrawn", "2024-04-02 16:00")]
    assert told(late) == told(LIVE)
    withdrawn_while_it_stands = [*LIVE, row(D30, "withdrawn", "2024-03-31 15:00")]
    assert told(withdrawn_while_it_stands)[:2] == [(D30, D30, 1, 7, 24), (D1, D1, 1, 9, 24)]     # on the 31st nothing stood any more


def test_a_replay_counts_as_if_it_had_been_served_when_it_was_due():
    years_later = [r | {"decided_at_us": r["decided_at_us"] + 700 * DAY} for r in LIVE]
    assert told(years_later) == [
        (D30, D30, 1, 7, 24), (D31, D30, 1, 7, 24), (D1, D1, 1, 7, 24), (D2, D2, 2, 7, 24), (D3, D2, 2, 7, 24), (D4, D2, 2, 7, 24)]


@pytest.mark.parametrize(("horizon_us", "until"), [(2 * DAY, 48), (3 * HOUR, 10)])
def test_the_window_ends_with_the_horizon_and_is_never_empty(horizon_us, until):
    """Two days from the cut; three hours from when the lists are used, since from the cut they would end before."""
    assert {t[4] for t in told(LIVE, horizon_us=horizon_us)} == {until}
    first = served_days(LIVE, CLOCK, horizon_us, D30)[0]
    assert from_micros(first.from_us) == datetime(2024, 3, 30, 7, tzinfo=UTC)


def test_without_a_published_night_no_day_was_served():
    assert told([]) == []
    assert told([row(D30, "started", "2024-03-30 01:00"), row(D30, "held", "2024-03-30 02:00")]) == []
