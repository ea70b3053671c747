"""Sessions: the limit to the microsecond, what late events do, and that nothing but a user's own events matters."""
from __future__ import annotations

from datetime import timedelta

from made_events import as_events, at, event, events_frame, made_log, rows_of

from recs.clock import micros
from recs.etl.sessions import changed_dates, changed_sessions, rewritten, sessions
from recs.schemas import SESSIONS

GAP = timedelta(minutes=30)
CUT = at("03-10 00:00")


def cut_up(spark, rows, gap=GAP, as_of=CUT) -> list[tuple]:
    """(user, first, last, events) of the sessions, in time."""
    found = sessions(events_frame(spark, rows), gap, as_of).collect()
    return sorted((r.user_id, f"{r.started_at:%m-%d %H:%M:%S}", f"{r.ended_at:%m-%d %H:%M:%S}", r.n_events) for r in found)


def test_the_limit_to_the_microsecond(spark):
    rows = [
        event("ann", "03-01 09:00"), event("ann", "03-01 09:30"),                   # exactly 30 min: joins
        event("bob", "03-01 09:00"), event("bob", "03-01 09:30:00.000001"),         # a microsecond more: breaks
        event("cat", "03-01 23:50"), event("cat", "03-02 00:10"),                   # midnight is no border
        event("dan", "03-01 09:00"), event("dan", "03-01 09:00", "b"),              # a tie
    ]
    assert cut_up(spark, rows) == [
        ("ann", "03-01 09:00:00", "03-01 09:30:00", 2),
        ("bob", "03-01 09:00:00", "03-01 09:00:00", 1), ("bob", "03-01 09:30:00", "03-01 09:30:00", 1),
        ("cat", "03-01 23:50:00", "03-02 00:10:00", 2),
        ("dan", "03-01 09:00:00", "03-01 09:00:00", 2),
    ]


def test_a_row_says_what_its_events_add_up_to(spark):
    rows = [
        event("ann", "03-01 23:55", "b", source_seq=2, value=0.1, dwell_s=10.0),    # ties: the order of the source decides
        event("ann", "03-01 23:55", "c", source_seq=1, value=0.2),
        event("ann", "03-02 00:05", "a", dwell_s=2.5, value=float("nan")),          # a value that is no number counts as unknown
    ]
    [row] = sessions(events_frame(spark, rows), GAP, CUT).collect()
    assert row.first_event_id == "ann-0301T235500000000-c-1" and row.first_source_seq == 1
    # 0.1 + 0.2 is 0.3 here, in whatever order
    assert (row.n_events, row.dwell_s, row.value, row.started_date.isoformat(), row.is_open) == (3, 12.5, 0.3, "2024-03-01", False)
    assert len(row.session_id) == 32


def test_open_means_that_an_event_at_the_cut_would_join(spark):
    rows = [event("ann", "03-09 23:30"), event("bob", "03-09 23:29:59.999999")]
    found = {r.user_id: r.is_open for r in sessions(events_frame(spark, rows), GAP, CUT).collect()}
    assert found == {"ann": True, "bob": False}


def test_nothing_at_or_after_the_cut_is_known(spark):
    rows = [event("ann", "03-09 23:59"), event("ann", "03-10 00:00"), event("ann", "03-10 00:01")]
    assert cut_up(spark, rows) == [("ann", "03-09 23:59:00", "03-09 23:59:00", 1)]


# one user per case; each has a session 09:00-09:20 and one 11:00-11:10 of 1 March: what do late events do, and does the
# session that began at nine keep its id?
LATE = {
    "inside": (["03-01 09:10"], [("09:00", "09:20", 3), ("11:00", "11:10", 2)], True),
    "precedes": (["03-01 08:30"], [("08:30", "09:20", 3), ("11:00", "11:10", 2)], False),           # first event, hence id, changes
    "precedes from the day before": (["02-29 23:59"], [("23:59", "23:59", 1), ("09:00", "09:20", 2), ("11:00", "11:10", 2)], True),
    "follows": (["03-01 11:40"], [("09:00", "09:20", 2), ("11:00", "11:40", 3)], True),
    "stands alone": (["03-01 10:10"], [("09:00", "09:20", 2), ("10:10", "10:10", 1), ("11:00", "11:10", 2)], True),
    "bridges two": (["03-01 09:50", "03-01 10:15", "03-01 10:40"], [("09:00", "11:10", 7)], True),
    "misses the bridge": (["03-01 09:50", "03-01 10:20:01"], [("09:00", "09:50", 3), ("10:20", "10:20", 1), ("11:00", "11:10", 2)], True),
    "ties with the first": (["03-01 09:00"], [("09:00", "09:20", 3), ("11:00", "11:10", 2)], True),
}


def updated(spark, known, late, old_cut=CUT, new_cut=CUT):
    """(table after the update, days it rewrote): the session table of `known` at the old cut takes in the `late` events."""
    table = sessions(events_frame(spark, known), GAP, old_cut)
    news = events_frame(spark, late)
    since = min([micros(old_cut)] + [micros(e["ts"]) for e in late])
    changes = changed_sessions(table, news, since, GAP, new_cut)
    days = changed_dates(changes)
    after = rewritten(table, changes, days).unionByName(table.where(~table.started_date.isin(days)) if days else table)
    return after, [d.isoformat() for d in days]


def test_late_events(spark):
    known = [event(case, f"03-01 {t}") for case in LATE for t in ("09:00", "09:20", "11:00", "11:10")]
    # item z: in a tie the id of the known event comes first
    news = [event(case, t, "z") for case, (late, _, _) in LATE.items() for t in late]
    at_nine = sessions(events_frame(spark, known), GAP, CUT).where("hour(started_at) = 9")
    before = {r.user_id: r.session_id for r in at_nine.collect()}
    after = rows_of(updated(spark, known, news)[0], "session_id")
    assert after == rows_of(sessions(events_frame(spark, known + news), GAP, CUT), "session_id")
    for case, (_, expected, id_stays) in LATE.items():
        mine = sorted((r for r in after if r["user_id"] == case), key=lambda r: r["started_at"])
        assert [(f"{r['started_at']:%H:%M}", f"{r['ended_at']:%H:%M}", r["n_events"]) for r in mine] == expected, case
        assert (before[case] in {r["session_id"] for r in mine}) == id_stays, case


def test_only_days_with_a_changed_session_are_rewritten(spark):
    known = [event("ann", f"03-0{d} 12:00") for d in range(1, 10)] + [event("bob", "03-05 12:00"), event("cat", "03-08 23:50")]
    # cat's late event joins the session that began the day before; ann's falls into the third
    after, days = updated(spark, known, [event("ann", "03-03 12:10"), event("cat", "03-09 00:05")])
    assert days == ["2024-03-03", "2024-03-08"] and after.count() == 11


def test_time_alone_closes_a_session(spark):
    known = [event("ann", "03-09 23:50"), event("bob", "03-09 12:00"), event("cat", "03-09 23:59")]
    later = at("03-10 00:25")
    after, days = updated(spark, known, [], new_cut=later)
    # ann's 23:50 + 30 min is before 00:25, cat's is not; bob's was closed before
    assert {r.user_id: r.is_open for r in after.collect()} == {"ann": False, "bob": False, "cat": True} and days == ["2024-03-09"]
    # 23:50 + 30 min is exactly the cut, not past it: nothing to write
    assert updated(spark, known, [], new_cut=at("03-10 00:20"))[1] == []


def test_input_order_partitions_and_the_zone_of_the_session_change_nothing(spark):
    made = made_log(1200)
    expected = rows_of(sessions(as_events(spark, made), GAP, CUT), "session_id")
    shuffled = as_events(spark, made.sample(frac=1, random_state=3)).repartition(7)
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        numbers = ("* except (started_at, ended_at)", "unix_micros(started_at) a", "unix_micros(ended_at) b")
        found = rows_of(sessions(shuffled, GAP, CUT).selectExpr(*numbers), "session_id")
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    for r in expected:
        r["a"], r["b"] = (micros(r.pop(c).replace(tzinfo=CUT.tzinfo)) for c in ("started_at", "ended_at"))
    assert found == expected and sum(r["n_events"] for r in found) == (made["ts"] < micros(CUT)).sum()


def test_an_added_user_changes_nobody_else(spark):
    made = made_log(600)
    before = rows_of(sessions(as_events(spark, made), GAP, CUT), "session_id")
    other = made_log(100, seed=9).assign(user_id="zoe", event_id=lambda d: "zoe" + d["event_id"])
    together = sessions(as_events(spark, made).unionByName(as_events(spark, other)), GAP, CUT)
    assert rows_of(together.where("user_id <> 'zoe'"), "session_id") == before
    assert SESSIONS.conform(together).count() > len(before)
