"""Request-time rules of published protocols: which night's list was in use when the target happened."""
from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from recs.clock import Night
from recs.judge.targets import asked_at_night, asked_at_target, targets_of

ZONE, LEAD = "Europe/Amsterdam", timedelta(hours=7)


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def frame(spark, texts: list[str]):
    rows = [(f"u{n}", datetime.fromisoformat(t).replace(tzinfo=UTC)) for n, t in enumerate(texts)]
    return spark.createDataFrame(rows, "user_id string, ts timestamp")


def test_the_night_is_the_last_one_in_use(spark):
    when = [
        "2024-03-30 05:59", "2024-03-30 06:00",     # 06:59 and 07:00 in Amsterdam: the lists of the 30th are used from seven
        "2024-03-31 04:59", "2024-03-31 05:00",     # the clocks go forward on the 31st: seven is now 05:00 UTC
        "2024-10-27 05:59", "2024-10-27 06:00",     # and back
        "2024-06-01 23:30",                         # half past one on the 2nd: still the list of the 1st
    ]
    days = [date(2024, *d) for d in ((3, 29), (3, 30), (3, 30), (3, 31), (10, 26), (10, 27), (6, 1))]
    found = {r["user_id"]: (r["cut_us"], r["request_us"]) for r in asked_at_night(frame(spark, when), ZONE, LEAD).collect()}
    for n, (text, day) in enumerate(zip(when, days, strict=True)):
        night = Night.of(day, ZONE, LEAD)
        assert found[f"u{n}"] == (night.as_of_us, night.serve_at_us), text
        assert night.as_of_us < night.serve_at_us <= us(text)


def test_the_other_rule_asks_at_the_target(spark):
    row = asked_at_target(frame(spark, ["2024-03-30 05:59"])).first()
    assert (row["cut_us"], row["request_us"]) == (us("2024-03-30 05:59"),) * 2


def test_targets_may_be_of_some_types_only(spark):
    rows = [("ann", n, t, n, f"e{n}", code) for n, (t, code) in enumerate([(1, 1), (2, 1), (3, 1), (4, 2)])]
    at = [(u, i, datetime.fromtimestamp(t, UTC), s, e, c) for u, i, t, s, e, c in rows]
    events = spark.createDataFrame(at, "user_id string, item_index int, ts timestamp, source_seq bigint, event_id string, type_code int")
    every, some = targets_of(events, None, False).first(), targets_of(events, None, False, [1]).first()
    assert (every["item_index"], every["place"]) == (3, 4)
    assert (some["item_index"], some["place"]) == (2, 3)
