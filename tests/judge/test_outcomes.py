"""The morning after, by hand: five users, seven items, lists of three.  Every expected number is worked out beside it.

    order of yesterday's popularity     c (3 users), b (2), a (1), then d (none yesterday, many lately), e, f
    ann, gold, bought c before          list a b (model) d (fill); does b, and g that nobody knew; a at six, before lists are used
    bob, no segment, viewed e and f     list c d e; does c and a
    cat, gold                           list a b c; does nothing
    dan, gold, dormant                  sees gold's d c b; does b
    eve, unknown before                 sees all's c b a; does c
    ike, opted out                      sees nothing; does c
"""
from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from math import log2
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serve"))
from serve_world import contract_frame  # noqa: E402

from recs.clock import DAY, Night, from_micros, micros  # noqa: E402
from recs.config import Config, FitConfig, ListConfig, LogConfig, OutcomeConfig  # noqa: E402
from recs.jobs import score_outcomes  # noqa: E402
from recs.judge import mornings  # noqa: E402
from recs.report import outcomes as became  # noqa: E402
from recs.report.progress import Steps  # noqa: E402
from recs.schemas import (  # noqa: E402
    BLOCKS,
    EVENTS,
    ITEM_HOURS,
    ITEM_VOCABULARY,
    ITEMS,
    METRICS,
    NIGHTS,
    OUTCOMES,
    RECOMMENDATIONS,
    USERS,
)
from recs.serve import nights  # noqa: E402
from recs.serve.served import served_days  # noqa: E402
from recs.tables import Lake, predicate  # noqa: E402

DAY1, DAY2 = date(2024, 10, 4), date(2024, 10, 5)
SECOND, THIRD = 1 / log2(3), 1 / log2(4)        # what a hit at rank 2 and at rank 3 is worth: 0.6309, 0.5
INDEX = {item: n for n, item in enumerate("abcdefg")}
TYPES = {"buy": 1, "view": 2, "impression": 3}
LISTS = {       # user -> items, sources, model
    ("user", "ann"): ("abd", ("model", "model", "fallback"), "m1"), ("user", "bob"): ("cde", ("model",) * 3, "m1"),
    ("user", "cat"): ("abc", ("model",) * 3, "m2"),
    ("segment", "gold"): ("dcb", ("segment",) * 3, "segment_popularity"),
    ("segment", "all"): ("cba", ("segment",) * 3, "segment_popularity"),
}

pytestmark = pytest.mark.slow     # several nights are counted: minutes


def at(text: str) -> datetime:
    """`04 08:00`: day of October 2024 and time."""
    return datetime.fromisoformat(f"2024-10-{text}").replace(tzinfo=UTC)


BEFORE = [("ann", "c", "buy", "03 20:00"), ("bob", "e", "view", "03 20:00"), ("bob", "f", "view", "03 21:00")]
ON_DAY1 = [
    ("ann", "a", "buy", "04 06:00"), ("ann", "b", "buy", "04 08:00"), ("ann", "g", "buy", "04 09:00"),
    ("bob", "c", "buy", "04 10:00"), ("bob", "a", "buy", "04 12:00"), ("bob", "b", "view", "04 13:00"),     # a view is no target
    ("dan", "b", "buy", "04 11:00"), ("eve", "c", "buy", "04 11:00"), ("ike", "c", "buy", "04 11:00"),
    ("ann", "a", "impression", "04 07:30"), ("ann", "b", "impression", "04 07:30"), ("bob", "c", "impression", "04 11:00"),
]
HOURS = [       # item, first hour, users there; users on the last day before the cut
    ("c", "01 10:00", 1, 3), ("b", "02 10:00", 1, 2), ("a", "03 22:00", 0, 1), ("d", "01 09:00", 9, 0), ("e", "01 09:00", 5, 0),
    ("f", "01 09:00", 4, 0),
]


def settings(shown_by: tuple[str, ...] = ("impression",)) -> Config:
    types = {name: {"code": code, "target": name == "buy", "weight": float(name == "buy")} for name, code in TYPES.items()}
    source = {"format": "csv"}
    log = {"name": "tiny", "events": {
        "source": source, "user_id": "u", "item_id": "i", "time": {"kind": "epoch_s", "expr": "t"}, "event_types": types}}
    return Config(
        log=LogConfig.model_validate(log), fit=FitConfig(k=3),
        lists=ListConfig.model_validate({"k": 3, "rules": {"seen": {"by_type": {"buy": "never"}}}}),
        outcomes=OutcomeConfig(shown_by=list(shown_by)),
    )


def bring_events(lake: Lake, rows: list[tuple], batch: int) -> None:
    frame = [
        {"event_id": f"{user}{item}{kind}{when}", "user_id": user, "item_id": item, "item_index": INDEX[item], "ts": at(when),
         "event_type": kind, "type_code": TYPES[kind], "source_seq": n, "batch_id": batch, "event_date": at(when).date()}
        for n, (user, item, kind, when) in enumerate(rows)
    ]
    lake.append(contract_frame(lake.spark, EVENTS, frame), EVENTS, {})


def publish(lake: Lake, day: date, lists: dict, attempt: int = 1, decided: str = "03:00") -> None:
    """One commit and its row in `nights`."""
    night = Night.of(day, "UTC", timedelta(hours=7))
    rows = [
        {"run_date": day, "list_name": "main", "audience": audience, "user_id": user, "rank": n + 1, "item_id": item, "score": 1.0,
         "source": source, "reason_code": "popular", "model_version": model, "scored_as_of": night.as_of, "serve_at": night.serve_at}
        for (audience, user), (items, sources, model) in lists.items() for n, (item, source) in enumerate(zip(items, sources, strict=True))
    ]
    lake.replace(contract_frame(lake.spark, RECOMMENDATIONS, rows), RECOMMENDATIONS, predicate(run_date=day, list_name="main"), {})
    decide(lake, day, "published", decided, attempt, lake.version(RECOMMENDATIONS))


def decide(lake: Lake, day: date, what: str, decided: str, attempt: int = 1, version: int | None = None) -> None:
    night = Night.of(day, "UTC", timedelta(hours=7))
    when = at(decided if " " in decided else f"{day.day:02d} {decided}")
    row = {
        "run_date": day, "list_name": "main", "attempt": attempt, "as_of": night.as_of, "serve_at": night.serve_at, "max_batch": 1,
        "item_tables": "t", "model_version": "m1", "decision": what, "decided_by": "audit", "reason": "-", "audit": "{}", "n_lists": 0,
        "n_rows": 0, "content_hash": f"h{attempt}", "delta_version": version, "config_hash": "c", "code_version": "v", "decided_at": when,
    }
    lake.append(contract_frame(lake.spark, NIGHTS, [row]).coalesce(1), NIGHTS, {})


@pytest.fixture(scope="module")
def lake(spark, tmp_path_factory) -> Lake:
    """Day 1 published and counted; day 2 held; the first night published again on day 3, when nobody saw it any more."""
    lake = Lake(spark, tmp_path_factory.mktemp("outcomes") / "lake")
    hours = [
        {"item_id": item, "item_index": INDEX[item], "hour": when, "segment": "", "n_events": n, "n_by_type": {}, "n_users": n,
         "n_day_users": n, "n_sessions": n, "value": 0.0, "event_date": when.date()}
        for item, first, n_first, n_last in HOURS for when, n in ((at(first), n_first), (at("03 22:00"), n_last)) if n or when == at(first)
    ]
    epoch = from_micros(0)
    users = [{"user_id": u, "valid_from": epoch, "segment": s, "opt_out": u == "ike", "batch_id": 1}
             for u, s in (("ann", "gold"), ("bob", None), ("cat", "gold"), ("dan", "gold"), ("ike", "gold"))]
    vocabulary = [{"item_id": i, "item_index": n, "batch_id": 1} for i, n in INDEX.items()]
    for table, rows in ((ITEM_HOURS, hours), (USERS, users), (ITEM_VOCABULARY, vocabulary), (ITEMS, []), (BLOCKS, [])):
        lake.append(contract_frame(lake.spark, table, rows), table, {})
    bring_events(lake, [*BEFORE, *ON_DAY1], 1)
    publish(lake, DAY1, LISTS)
    publish(lake, DAY1, {("user", "cat"): ("fff", ("model",) * 3, "m9")}, attempt=2, decided="06 15:00")
    return lake


def count(lake: Lake, as_of: str | None = None, config: Config | None = None) -> list[date]:
    return score_outcomes.run(lake, config or settings(), at(as_of) if as_of else None, 28, Steps())


def figures(lake: Lake, day: date = DAY1) -> dict[tuple, tuple]:
    """(model or 'gain', name, slice) -> (value, n)."""
    rows = lake.read(METRICS).where(f"run = 'outcome-main-{day}'").collect()
    return {("gain" if r["versus"] else r["model"], r["name"], r["slice"]): (r["value"], r["n"]) for r in rows}


def days(lake: Lake) -> dict[date, dict]:
    return {r["served_on"]: r.asDict() for r in lake.read(OUTCOMES).collect()}


@pytest.fixture(scope="module")
def day1(lake: Lake) -> dict[tuple, tuple]:
    assert count(lake, "05 00:00") == [DAY1]
    return figures(lake)


def beside(found: dict, name: str, part: str) -> tuple[float, float, int]:
    """Figure of the lists, of yesterday's popularity, number of lists; the paired difference is what it should be."""
    (ours, n), (popular, m) = found["published", name, part], found["popularity_yesterday", name, part]
    assert n == m
    assert found["gain", name, part][0] == pytest.approx(ours - popular, abs=1e-8)
    return ours, popular, n


def test_the_headline_is_the_mean_over_users_who_did_something_a_list_could_have_held(lake: Lake, day1):
    # ann wanted b: rank 2 of hers; popularity without her c is b a d: rank 1
    # bob wanted c and a: c at rank 1, of 1 + 1/log2(3) that two hits would give; popularity c b a has both, at ranks 1 and 3
    ann, bob = SECOND, 1 / (1 + SECOND)
    popular_ann, popular_bob = 1.0, (1 + THIRD) / (1 + SECOND)
    assert beside(day1, "ndcg@3", "") == pytest.approx(((ann + bob) / 2, (popular_ann + popular_bob) / 2, 2))
    assert beside(day1, "recall@3", "") == pytest.approx(((1 + 1 / 2) / 2, 1.0, 2))
    assert beside(day1, "mrr@3", "") == pytest.approx(((1 / 2 + 1) / 2, 1.0, 2))
    assert beside(day1, "precision@3", "") == pytest.approx((1 / 3, (1 / 3 + 2 / 3) / 2, 2))
    row = days(lake)[DAY1]
    assert [row[c] for c in ("n_lists", "n_active", "n_judged", "n_shared", "headline", "is_whole")] == [3, 2, 2, 2, "ndcg@3", True]
    assert (row["run_date"], row["attempt"]) == (DAY1, 1)


def test_users_who_did_nothing_are_counted(day1):
    """cat did nothing: in no mean of ndcg, but in the shares of all lists."""
    assert day1["published", "active_users", ""] == (pytest.approx(2 / 3), 3)
    assert beside(day1, "came_true@3", "") == pytest.approx((2 / 3, 2 / 3, 3))
    assert beside(day1, "came_true@3", "segment=gold") == pytest.approx((1 / 2, 1 / 2, 2))
    assert day1["published", "active_users", "model=m2"] == (0.0, 1)


def test_slices_are_of_the_lists_they_name(day1):
    ann, bob = (SECOND, 1.0, 1), (1 / (1 + SECOND), (1 + THIRD) / (1 + SECOND), 1)
    for part in ("segment=gold", "history=1"):
        assert beside(day1, "ndcg@3", part) == pytest.approx(ann), part
    for part in ("segment=all", "history=2-4"):
        assert beside(day1, "ndcg@3", part) == pytest.approx(bob), part
    assert beside(day1, "ndcg@3", "model=m1") == beside(day1, "ndcg@3", "")
    assert ("published", "ndcg@3", "model=m2") not in day1         # cat: nothing to hit
    # of bob's items c has been there for days and a since yesterday evening; of ann's b since two days
    assert beside(day1, "ndcg@3", "age=1-6d") == pytest.approx(((SECOND + 1) / 2, 1.0, 2))
    assert beside(day1, "ndcg@3", "age=0d") == pytest.approx((0.0, THIRD, 1))
    # g, which nobody knew, counts here alone: ann has one of two
    assert beside(day1, "ndcg@3", "truth=all")[0] == pytest.approx((SECOND / (1 + SECOND) + 1 / (1 + SECOND)) / 2)


def test_places_by_source_beside_what_popularity_had_there(day1):
    # model's places: a b of ann, c d e of bob; two came true, and of popularity's b a and c b a three
    assert beside(day1, "precision@3", "source=model") == pytest.approx((2 / 5, 3 / 5, 2))
    assert beside(day1, "precision@3", "source=fallback") == pytest.approx((0.0, 0.0, 1))
    assert beside(day1, "precision@3", "source=segment") == pytest.approx((2 / 6, 2 / 6, 2))


def test_users_without_a_list_of_their_own_saw_their_segments(day1):
    # dan: b at rank 3 of gold's, at rank 2 of c b a; eve: c at rank 1 of all's; ike opted out
    assert beside(day1, "ndcg@3", "audience=segment") == pytest.approx(((THIRD + 1) / 2, (SECOND + 1) / 2, 2))


def test_impressions_say_what_was_shown_and_what_came_true_then(day1):
    # of nine places a and b of ann and c of bob were shown; b was bought after it, bob's c an hour before
    assert day1["published", "shown@3", ""] == (pytest.approx(3 / 9), 3)
    assert day1["published", "came_true_when_shown@3", ""] == (pytest.approx(1 / 3), 3)
    assert day1["published", "ndcg@3", "shown=yes"] == day1["published", "ndcg@3", ""]      # ann and bob; cat's list was not shown


def test_again_changes_nothing(lake: Lake, day1):
    versions = [lake.version(t) for t in (METRICS, OUTCOMES)]
    assert count(lake, "05 00:00") == []
    assert [lake.version(t) for t in (METRICS, OUTCOMES)] == versions


@pytest.fixture(scope="module")
def day2(lake: Lake, day1) -> dict[date, dict]:
    """Noon of day 2, whose night was held; bob's purchase of day 1 arrives late."""
    decide(lake, DAY2, "held", "03:00")
    bring_events(lake, [("bob", "d", "buy", "04 15:00"), ("ann", "d", "buy", "05 09:00")], 2)
    assert count(lake, "05 12:00") == [DAY1, DAY2]
    return days(lake)


def test_a_late_event_changes_its_day(lake: Lake, day1, day2):
    # bob wanted c, a and d: two at ranks 1 and 2, of three
    late = figures(lake)
    assert late["published", "ndcg@3", ""][0] == pytest.approx((SECOND + (1 + SECOND) / (1 + SECOND + THIRD)) / 2)
    assert set(late) == set(day1)
    assert lake.read(METRICS).groupBy(*METRICS.key).count().where("count > 1").isEmpty()


def test_a_held_night_is_the_old_lists_served_again_and_an_open_day_is_marked(lake: Lake, day2):
    row = day2[DAY2]
    assert (row["run_date"], row["n_lists"], row["is_whole"]) == (DAY1, 3, False)
    # ann's old list has d at rank 3; nobody met anything on the day before, so that d (9 users lately) leads popularity
    assert beside(figures(lake, DAY2), "ndcg@3", "") == pytest.approx((THIRD, 1.0, 1))


def test_a_day_is_counted_again_when_the_log_reaches_further_and_never_with_a_shorter_look(lake: Lake, day2):
    def due(as_of: str) -> list[tuple[date, bool]]:
        served = served_days(nights.rows_of(lake, "main"), settings().clock, DAY, DAY2)
        return [(d.served.day, d.is_whole) for d in mornings.due(lake, settings(), served, micros(at(as_of)))]

    assert due("05 12:00") == due("05 11:00") == due("04 12:00") == []
    assert due("06 00:00") == due("07 00:00") == [(DAY2, True)]


def test_a_terminal_and_a_picture_show_the_days(lake: Lake, day2, tmp_path: Path):
    shown = became.by_day(lake.root, "main", 10)
    assert [(r["served_on"], r["served_again"], r["is_whole"]) for r in shown] == [(DAY1, False, True), (DAY2, True, False)]
    path = became.plot(shown, tmp_path / "trend")
    assert path.stat().st_size > 10_000
    assert became.grid(shown).row_count == len(shown)
    assert became.line("main", []) == "list 'main': no served day to count yet"
