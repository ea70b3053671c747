"""Item hours: what is counted once per hour, day and session; segments as they were at the event; days as the unit of an update."""
from __future__ import annotations

from datetime import timedelta

from made_events import as_events, at, event, events_frame, made_log, rows_of, users_frame

from recs.etl.item_hours import days_of_changed_segments, item_hours, touched_days
from recs.schemas import ITEM_HOURS

GAP = timedelta(minutes=30)
CUT = at("03-20 00:00")
TYPES = ["view", "buy"]


def test_what_counts_once(spark):
    rows = [
        event("ann", "03-01 10:05", "a", value=0.1), event("ann", "03-01 10:20", "a", value=0.2),   # one session
        event("ann", "03-01 10:55", "a", event_type="buy"),         # 35 min later: a second session in the hour, the same user
        event("ann", "03-01 11:10", "a"),                           # next hour: user and session count there too, the day does not
        event("bob", "03-01 10:10", "a"), event("bob", "03-01 10:30", "b"), event("bob", "03-01 10:55", "a"),   # b holds it together
        event("cat", "03-01 10:59", "a", value=float("nan")), event("cat", "03-01 11:00", "a"),
        event("ann", "03-02 10:05", "a"),                           # a new day
        event("ann", "03-20 00:00", "a"),                           # at the cut: not known
    ]
    table = item_hours(events_frame(spark, rows), users_frame(spark), CUT, GAP, TYPES)
    found = {(r.item_id, f"{r.hour:%d %H}"): r for r in table.collect()}
    assert {k: (r.n_events, r.n_users, r.n_day_users, r.n_sessions) for k, r in found.items()} == {
        ("a", "01 10"): (6, 3, 3, 4), ("a", "01 11"): (2, 2, 0, 2), ("b", "01 10"): (1, 1, 1, 1), ("a", "02 10"): (1, 1, 1, 1),
    }
    ten = found["a", "01 10"]
    assert (ten.n_by_type, ten.value, ten.segment, ten.item_index) == ({"view": 5, "buy": 1}, 0.3, "", 0)


def test_segments_are_those_of_the_event_s_time(spark):
    users = users_frame(
        spark,
        ("ann", "1970-01-01", "2024-03-02", None, "gold", 1), ("ann", "2024-03-02", None, None, None, 1),   # gold, then none
        ("bob", "1970-01-01", None, None, "gold", 1), ("bob", "2024-03-02", None, None, "new", 1),          # overlap: the later row
    )
    rows = [event(u, f"03-0{d} {t}") for u in ("ann", "bob", "cat") for d, t in ((1, "23:59:59"), (2, "00:00"))]
    found = item_hours(events_frame(spark, rows), users, CUT, GAP, TYPES).collect()
    assert {(f"{r.hour:%d}", r.segment): r.n_users for r in found} == {("01", "gold"): 2, ("01", ""): 1, ("02", ""): 2, ("02", "new"): 1}


def test_a_changed_segment_touches_the_days_it_changes(spark):
    before = users_frame(spark, ("ann", "1970-01-01", None, None, "gold", 1), ("bob", "1970-01-01", None, None, "gold", 1))
    after = users_frame(
        spark,
        ("ann", "1970-01-01", "2024-03-03", None, "gold", 1), ("ann", "2024-03-03", None, None, "blue", 2),
        ("bob", "1970-01-01", "2024-03-03", None, "gold", 1), ("bob", "2024-03-03", None, None, "gold", 2),     # told again, the same
        ("dan", "1970-01-01", None, None, "gold", 2),                                                           # no events
    )
    events = events_frame(spark, [event(u, f"03-0{d} 12:00") for u in ("ann", "bob") for d in (1, 2, 3, 4)])
    assert [d.day for d in days_of_changed_segments(events, before, after)] == [3, 4]


def test_the_table_agrees_with_a_plain_count_of_a_messy_log(spark):
    made = made_log(1500)
    table = item_hours(as_events(spark, made), users_frame(spark), CUT, GAP, TYPES).toPandas()
    made["hour"] = made["ts"] // 3_600_000_000
    assert table["n_events"].sum() == len(made) and abs(table["value"].sum() - made["value"].sum()) < 1e-6
    assert table["n_users"].sum() == len(made[["item_id", "hour", "user_id"]].drop_duplicates())
    assert table["n_day_users"].sum() == len(made[["item_id", "day", "user_id"]].drop_duplicates())
    ordered = made.sort_values(["user_id", "ts"])
    breaks = ordered.groupby("user_id")["ts"].diff().gt(GAP.total_seconds() * 1e6)
    ordered["session"] = breaks.groupby(ordered["user_id"]).cumsum()
    assert table["n_sessions"].sum() == len(ordered[["item_id", "hour", "user_id", "session"]].drop_duplicates())
    assert not table.duplicated(list(ITEM_HOURS.key)).any()


def test_input_order_partitions_zone_and_an_added_user_change_nothing(spark):
    made = made_log(800)
    expected = rows_of(item_hours(as_events(spark, made), users_frame(spark), CUT, GAP, TYPES).drop("hour"), "item_id")
    shuffled = as_events(spark, made.sample(frac=1, random_state=5)).repartition(5)
    spark.conf.set("spark.sql.session.timeZone", "Asia/Kathmandu")      # a zone whose hours are not UTC's
    try:
        found = rows_of(item_hours(shuffled, users_frame(spark), CUT, GAP, TYPES).drop("hour"), "item_id")
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert sorted(map(str, found)) == sorted(map(str, expected))
    # somebody in a segment of his own
    zoe = as_events(spark, made_log(60, seed=9).assign(user_id="zoe"))
    users = users_frame(spark, ("zoe", "1970-01-01", None, None, "guests", 1))
    both = item_hours(as_events(spark, made).unionByName(zoe), users, CUT, GAP, TYPES).where("segment = ''").drop("hour")
    assert sorted(map(str, rows_of(both, "item_id"))) == sorted(map(str, expected))


def test_an_update_of_the_touched_days_is_the_full_rebuild(spark):
    made = made_log(700)
    late = made_log(12, seed=4, days=3).assign(event_id=lambda d: "late" + d["event_id"])
    known, news = as_events(spark, made), as_events(spark, late)
    days = touched_days(news)
    both = known.unionByName(news)
    old = item_hours(known, users_frame(spark), CUT, GAP, TYPES)
    new = item_hours(both.where(both.event_date.isin(*days)), users_frame(spark), CUT, GAP, TYPES)
    updated = old.where(~old.event_date.isin(*days)).unionByName(new)
    full = item_hours(both, users_frame(spark), CUT, GAP, TYPES)
    assert len(days) == 3 and sorted(map(str, rows_of(updated, "item_id"))) == sorted(map(str, rows_of(full, "item_id")))
