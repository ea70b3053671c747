"""When somebody is told that the outcome fell: the band by hand, both ways, and the command's exit code."""
from __future__ import annotations

import doctest
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import pytest

from recs.clock import DAY, Night
from recs.config import ConfigError, OutcomeConfig
from recs.jobs import score_outcomes
from recs.judge import drop, mornings
from recs.judge.comparison import Figure
from recs.judge.mornings import Day
from recs.judge.outcomes import Outcome
from recs.serve.served import Served
from recs.tables import Lake

FIRST = date(2024, 3, 1)
CONFIG = OutcomeConfig(trend_nights=4, min_nights=3, max_drop=0.2)
# mean 0.30, standard deviation 0.02582; t = 3.182 with 3 degrees of freedom: the band reaches 3.182 * 0.02582 * sqrt(5 / 4) = 0.0919 down
BEFORE = (0.27, 0.33, 0.31, 0.29)
LOW = 0.30 - 0.0919


def day(n: int, value: float | None, error: float = 0.001, **more) -> Day:
    reach = None if value is None else 1.96 * error
    at = FIRST + timedelta(days=n)
    facts = {
        "served_on": at, "run_date": at, "model_version": "m1", "is_whole": True, "n_lists": 100, "n_active": 50, "n_judged": 40,
        "headline": "ndcg@10", "value": value, "low": None if value is None else value - reach,
        "high": None if value is None else value + reach, "popularity": 0.2}
    return Day(**facts | more)


def days(last: float | None, **more) -> list[Day]:
    return [*(day(n, v) for n, v in enumerate(BEFORE)), day(4, last, **more)]


def test_the_band_of_the_docstring():
    assert doctest.testmod(drop).failed == 0


def test_told_below_the_band_and_beyond_the_drop_only():
    assert drop.fallen(days(LOW + 0.001), CONFIG) is None       # 30 % lost, but such days happen
    said = drop.fallen(days(LOW - 0.001), CONFIG)
    assert said.startswith("ndcg@10 fell on 2024-03-05: 0.2071 (40 lists), 31% less than the 0.3000 of the 4 days before (band 0.2081 to")
    assert drop.fallen(days(LOW - 0.001), CONFIG.model_copy(update={"max_drop": 0.35})) is None     # a drop that was said to be all right
    assert drop.fallen(days(0.9), CONFIG) is None               # a rise


def test_a_day_of_few_lists_has_its_own_error():
    # t 3.182 * 0.1 * sqrt(5/4) = 0.356: even nothing would be no surprise
    assert drop.fallen(days(0.01, error=0.1), CONFIG) is None


def test_too_few_days_and_open_days_tell_nothing():
    assert drop.fallen([], CONFIG) is None
    assert drop.fallen([day(0, 0.3), day(1, 0.3), day(2, 0.01)], CONFIG) is None
    assert drop.fallen([day(n, 0.3) for n in range(3)] + [day(3, 0.01)], CONFIG) is not None
    # the newest day is not over: the one before is judged, and it is fine
    assert drop.fallen([*days(0.3), day(5, 0.0, is_whole=False)], CONFIG) is None


def test_only_the_days_of_the_trend_count():
    long_ago = [day(n - 10, 0.9) for n in range(5)]
    assert drop.fallen([*long_ago, *days(0.3)], CONFIG) is None


def test_the_message_says_where_to_look():
    calm = drop.fallen(days(0.1), CONFIG)
    assert "yesterday’s popularity did not fall: look at the lists first" in calm
    assert "served again" not in calm and "model changed" not in calm
    other_day = drop.fallen(days(0.1, popularity=0.08), CONFIG)
    assert "yesterday’s popularity lost 60% of its own: look at the day and at its events first" in other_day
    stale = drop.fallen(days(0.1, run_date=FIRST, model_version="m2"), CONFIG)
    assert "the lists of 2024-03-01 were served again" in stale
    assert "the model changed from m1 to m2" in stale
    before = [replace(d, slices=(("segment=a", 0.3), ("segment=b", 0.3))) for d in days(0.1)[:-1]]
    sliced = drop.fallen([*before, day(4, 0.1, slices=(("segment=a", 0.28), ("segment=b", 0.02), ("segment=new", 0.0)))], CONFIG)
    assert sliced.endswith("segment=b fell most, 0.0200 from 0.3000: view `outcomes_by_slice`")


def test_a_day_on_which_nobody_did_anything_is_told():
    said = drop.fallen(days(None, n_active=0), CONFIG)
    assert said.startswith("no user with a list did anything on 2024-03-05, on the 4 days before 50 a day did: are events missing?")
    assert drop.fallen(days(None, n_active=3), CONFIG) is None       # three did, but nothing a list could have held


def test_impressions_must_be_event_types_of_the_log():
    shown = config().model_copy(update={"outcomes": OutcomeConfig(shown_by=["view", "impression"])})
    with pytest.raises(ConfigError, match="outcomes.shown_by: unknown event types .'impression'.; the log has .*'view'"):
        mornings.targets_and_shown(shown)


# ---- the command

def book(lake: Lake, values: tuple[float, ...]) -> None:
    """Days with these headlines, as the job writes them."""
    found = []
    for n, value in enumerate(values):
        night = Night.of(FIRST + timedelta(days=n), "UTC", timedelta(hours=7))
        row = {"run_date": night.run_date, "list_name": "main", "attempt": 1, "model_version": "m1"}
        due = mornings.Due(Served(night, row, night.serve_at_us, night.as_of_us + DAY), night.as_of_us + DAY, f"s{value}")
        figure = Figure("published", "", "ndcg@10", "", value, value - 0.01, value + 0.01, None, 40)
        found.append((due, Outcome([figure], 100, 50, 40, 0)))
    mornings.write(lake, found, 10)


@pytest.mark.parametrize(("last", "code"), [(0.29, 0), (0.05, 6)])
def test_the_command_ends_with_a_code_of_its_own(lake: Lake, monkeypatch, capsys, last, code):
    book(lake, (*BEFORE, 0.01))
    book(lake, (*BEFORE, last))     # counted again: the rows of the day are replaced
    assert [d.value for d in mornings.days_of(lake, "main", 10)] == [*BEFORE, last]
    monkeypatch.setattr(score_outcomes, "start", lambda *args: lake.spark)
    monkeypatch.setattr(score_outcomes, "load", lambda name: config())
    assert score_outcomes.main(["--root", lake.root]) == code
    out = capsys.readouterr()
    assert f"list 'main' on 2024-03-05: ndcg@10 {last:.4f} [" in out.out
    assert ("recs: list 'main': ndcg@10 fell on 2024-03-05: 0.0500" in out.err) == (code == 6)


def config() -> SimpleNamespace:
    from recs.config import load

    return load("tiny").model_copy(update={"outcomes": CONFIG})
