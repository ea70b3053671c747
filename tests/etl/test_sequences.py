"""Sequences: the newest N in the one order, clocks of the user's own zone, and bounded work for a user with a flood of events."""
from __future__ import annotations

import math

import pyarrow as pa
import pytest
from made_events import as_events, at, event, events_frame, made_log, rows_of, users_frame

from recs.etl.sequences import SequenceRule, _whole_users, changed_sequences, sequences
from recs.evidence.histories import segment_code

CUT = at("03-20 00:00")
RULE = SequenceRule(max_events=20, session_gap_us=30 * 60_000_000, zone="Europe/Amsterdam")


def rows(spark, events, users=(), rule=RULE, cut=CUT) -> dict:
    return {r.user_id: r for r in sequences(events_frame(spark, events), users_frame(spark, *users), cut, rule).collect()}


def test_one_row_with_all_it_holds(spark):
    found = rows(spark, [
        event("ann", "03-04 09:00", "b", value=2.5, dwell_s=10.0, lat=52.0, lon=4.0),   # a Monday, 10:00 in Amsterdam
        event("ann", "03-04 09:10", "a", source_seq=2),                                 # ties: by the order of the source …
        event("ann", "03-04 09:10", "c", source_seq=1),
        event("ann", "03-04 09:10", "d", source_seq=2, event_id="zzz"),                 # … then by id
        event("ann", "03-04 09:40:00.000001", "a", dwell_s=5.0),                        # past the limit by a microsecond
        event("ann", "03-20 00:00", "e"),                                               # at the cut: not known
        event("bob", "03-04 23:30", "a"),                                               # Tuesday 00:30 in Amsterdam
    ])
    ann, bob = found["ann"], found["bob"]
    assert ann.item_index == [1, 2, 0, 3, 0] and ann.n_events == 5
    assert ann.session_position == [0, 1, 2, 3, 0] and ann.gap_s[:4] == [-1, 600, 0, 0]
    assert ann.local_hour == [10, 10, 10, 10, 10] and ann.local_weekday == [0] * 5
    assert ann.value[0] == 2.5 and all(math.isnan(v) for v in ann.value[1:]) and (ann.lat[0], ann.lon[0], ann.browsing_s) == (52, 4, 15)
    assert 10 < ann.day_phase_h < 11 and ann.day_strength > 0.99 and ann.gap_mean_s == pytest.approx(600.00000025)
    assert (bob.local_hour, bob.local_weekday, bob.gap_s) == ([0], [1], [-1]) and math.isnan(bob.gap_mean_s) and bob.day_strength == 1.0
    assert f"{ann.first_ts:%m-%d %H:%M} {ann.last_ts:%H:%M}" == "03-04 09:00 09:40"


def test_the_segment_is_the_user_s_at_that_time(spark):
    """As a code that Python can tell, too; nothing known is 0."""
    users = [("ann", "1970-01-01", "2024-03-05", None, "gold", 1), ("ann", "2024-03-05", None, None, "", 1)]
    found = rows(spark, [event("ann", "03-04 23:59"), event("ann", "03-05 00:00"), event("bob", "03-04 12:00")], users)
    assert found["ann"].segment_code == [segment_code("gold"), 0] and found["bob"].segment_code == [0]
    assert 0 < segment_code("gold") < 2**31 and segment_code("") == 0


def test_the_zone_is_the_user_s_at_that_time_and_clocks_change(spark):
    users = [
        ("ann", "1970-01-01", "2024-03-05", "Asia/Tokyo", None, 1), ("ann", "2024-03-05", None, "America/New_York", None, 1),
        ("bob", "1970-01-01", None, "Nowhere/Atlantis", None, 1),       # not a zone: the log's
    ]
    days = ("03-04 12:00", "03-05 12:00", "03-10 06:59", "03-10 07:00")      # New York: 2024-03-10 02:00 -> 03:00, at 07:00 UTC
    found = rows(spark, [event(u, d) for u in ("ann", "bob") for d in days], users)
    assert found["ann"].local_hour == [21, 7, 1, 3] and found["bob"].local_hour == [13, 13, 7, 8]


def test_a_log_without_a_clock_has_no_hours(spark):
    rule = SequenceRule(20, RULE.session_gap_us, "Europe/Amsterdam", clock=False)
    [row] = rows(spark, [event("ann", "03-04 00:00"), event("ann", "03-05 00:00")], rule=rule).values()
    assert (row.local_hour, row.local_weekday, row.day_strength, row.week_strength) == ([0, 0], [0, 0], 0, 0)
    assert math.isnan(row.day_phase_h) and math.isnan(row.week_phase_d) and row.gap_s == [-1, 86400]


def test_only_the_newest_n(spark):
    events = [event("ann", f"03-{d:02} 12:00", "abcdefghij"[d]) for d in range(1, 10)]
    [row] = rows(spark, events, rule=SequenceRule(3, 1, "UTC")).values()
    assert row.item_index == [7, 8, 9] and row.gap_s[0] == -1       # what lies before is not known, not even as a gap


def test_order_partitions_zone_and_other_users_change_no_bit(spark):
    made = made_log(1200)
    users = users_frame(spark, ("u00001", "1970-01-01", None, "Asia/Tokyo", None, 1))
    expected = rows_of(sequences(as_events(spark, made), users, CUT, RULE).drop("first_ts", "last_ts"), "user_id")
    zoe = made_log(90, seed=9).assign(user_id="m", event_id=lambda d: "zoe" + d["event_id"])    # in the middle of the others
    other = as_events(spark, made.sample(frac=1, random_state=5)).unionByName(as_events(spark, zoe)).repartition(7)
    spark.conf.set("spark.sql.session.timeZone", "Asia/Kathmandu")
    try:
        found = rows_of(sequences(other, users, CUT, RULE).where("user_id <> 'm'").drop("first_ts", "last_ts"), "user_id")
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert found == expected and len(found) == 40


def test_a_flood_of_one_user_never_leaves_the_reading_tasks(spark):
    """50,000 events of one user: the row holds N, and the plan keeps N per user before anything is shuffled."""
    flood = spark.range(50_000).selectExpr(
        "lpad(id, 32, '0') event_id", "'bot' user_id", "'a' item_id", "0 item_index", "timestamp_seconds(1709251200 + id) ts",
        "'view' event_type", "1 type_code", "0D value", "0D dwell_s", "0D lat", "0D lon", "'' context", "id source_seq", "1L batch_id",
        "DATE'2024-03-01' event_date",
    )
    people = events_frame(spark, [event("ann", "03-01 12:00"), event("zed", "03-01 12:00")])
    table = sequences(flood.unionByName(people), users_frame(spark), CUT, RULE)
    plan = table._jdf.queryExecution().executedPlan().toString()
    shuffle = plan.index("Exchange hashpartitioning(user_id")
    assert "WindowGroupLimit" in plan[shuffle:] and "Partial" in plan[shuffle:]     # below the shuffle = before it
    found = {r.user_id: r for r in table.collect()}
    assert {u: r.n_events for u, r in found.items()} == {"ann": 1, "bot": 20, "zed": 1}
    assert found["bot"].source_seq == list(range(49_980, 50_000))


def test_batches_are_cut_between_users_wherever_arrow_cuts_them():
    users = ["a"] * 5 + ["b"] + ["c"] * 7 + ["d"] * 2
    for size in (1, 2, 3, 5, 6, 15):
        table = pa.table({"user_id": users, "n": list(range(15))})
        empty = pa.RecordBatch.from_pylist([], schema=table.schema)     # Spark sends these too
        pieces = list(_whole_users(iter([empty, *table.to_batches(max_chunksize=size), empty])))
        assert [n for p in pieces for n in p["n"].to_pylist()] == list(range(15))
        owners = [set(p["user_id"].to_pylist()) for p in pieces]
        assert sum(len(o) for o in owners) == len(set().union(*owners)) == 4      # nobody is in two pieces


def test_an_update_is_the_full_rebuild_to_the_bit(spark):
    made = made_log(900)
    late = made_log(40, seed=4, n_users=6).assign(event_id=lambda d: "late" + d["event_id"])
    before = users_frame(spark, ("u00009", "1970-01-01", None, "Asia/Tokyo", None, 1))
    after = users_frame(spark, ("u00009", "1970-01-01", None, "Asia/Tokyo", None, 1), ("u00012", "1970-01-01", None, "Asia/Seoul", None, 2))
    table = sequences(as_events(spark, made), before, CUT, RULE)
    changes = rows_of(changed_sequences(table, as_events(spark, late), before, after, RULE), "user_id")
    both = as_events(spark, made).unionByName(as_events(spark, late))
    full = {r["user_id"]: r for r in rows_of(sequences(both, after, CUT, RULE), "user_id")}
    assert {r["user_id"] for r in changes} == {*late["user_id"], "u00012"}      # news, or a zone that was learnt
    assert all(r == full[r["user_id"]] for r in changes)
    untouched = {r["user_id"]: r for r in rows_of(table, "user_id")}
    assert all(full[u] == r for u, r in untouched.items() if u not in {c["user_id"] for c in changes})
