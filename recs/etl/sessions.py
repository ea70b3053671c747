"""Events -> sessions: a user's events belong together as long as no gap between neighbours exceeds the limit.

    ann, limit 30 min     09:00  09:20  09:50          10:20:01
                          └── one session ──┘          └ the next: 30 min and a second after 09:50
                                (a gap of exactly 30 min still joins)

A row is an interval with sums; an event is an interval of no length.  Intervals of one user that touch within the limit are
joined, and it is the same whether they are events or sessions of an earlier night: so an update joins the new events with the
sessions they can reach and never reads old events.  A late event may fall into a session, precede it (the session gets a new
first event, hence a new id), bridge two or more, or open one in the past.  Sessions open at the old cut are looked at again even
when their user has no new event: time alone closes them.

Sums are kept in millionths, whole numbers, so that no order of adding changes a bit (recs/etl/instants.py).
"""
from __future__ import annotations

from datetime import date, datetime, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recs.clock import micros
from recs.schemas import SESSIONS

from .instants import instant, millionths, total, utc_date
from .news import before


def _event_intervals(events: DataFrame) -> DataFrame:
    """One interval of no length per event."""
    return events.select(
        "user_id", F.col("ts").alias("started_at"), F.col("ts").alias("ended_at"),
        F.col("event_id").alias("first_event_id"), F.col("source_seq").alias("first_source_seq"),
        F.lit(1).cast("bigint").alias("n_events"), millionths(F.col("dwell_s")).alias("dwell"), millionths(F.col("value")).alias("amount"),
    )


def _session_intervals(sessions: DataFrame) -> DataFrame:
    """Known sessions as intervals, with the row they would replace."""
    return sessions.select(
        "user_id", "started_at", "ended_at", "first_event_id", "first_source_seq", "n_events",
        millionths(F.col("dwell_s")).alias("dwell"), millionths(F.col("value")).alias("amount"),
        F.struct("session_id", "started_date").alias("old"), F.col("is_open").alias("was_open"),
    )


def _with_first_event(intervals: DataFrame, gap: timedelta) -> DataFrame:
    """Each interval with the first event of the session it belongs to.

    A session begins where nothing before ended within the limit; the running maximum, because an interval may lie inside an earlier one.
    """
    # both steps look at a user's intervals in the same order: one shuffle, one sort
    in_order = Window.partitionBy("user_id").orderBy("started_at", "first_source_seq", "first_event_id")
    so_far = in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    ended = F.max(F.unix_micros("ended_at")).over(in_order.rowsBetween(Window.unboundedPreceding, -1))
    begins = F.coalesce(F.unix_micros("started_at") - ended > _us(gap), F.lit(True))

    def of_the_beginning(column: str) -> Column:
        return F.last(F.when(F.col("begins"), F.col(column)), ignorenulls=True).over(so_far)

    return intervals.withColumn("begins", begins).select(
        "*", of_the_beginning("first_event_id").alias("session_event"), of_the_beginning("first_source_seq").alias("session_seq"),
    )


def _joined(intervals: DataFrame, gap: timedelta, as_of: datetime, *more: Column) -> DataFrame:
    """Intervals -> SESSIONS rows.  The text is in the key, the sums are numbers: the hash aggregate needs no second sort."""
    ended_us = F.unix_micros("ended_at")
    return (
        _with_first_event(intervals, gap)
        .groupBy("user_id", F.col("session_event").alias("first_event_id"), F.col("session_seq").alias("first_source_seq"))
        .agg(
            F.min("started_at").alias("started_at"), F.max("ended_at").alias("ended_at"), F.sum("n_events").alias("n_events"),
            total(F.col("dwell")).alias("dwell_s"), total(F.col("amount")).alias("value"), *more,
        )
        .withColumn("session_id", F.substring(F.sha2(F.concat_ws("\u0000", "user_id", "first_event_id"), 256), 1, 32))
        .withColumn("is_open", ended_us + F.lit(_us(gap)) >= F.lit(micros(as_of)))
        .withColumn("started_date", utc_date(F.col("started_at")))
    )


def changed_sessions(sessions: DataFrame, news: DataFrame, since_us: int, gap: timedelta, as_of: datetime) -> DataFrame:
    """SESSIONS rows that are new or differ, each with the rows it takes the place of: `replaces` array<(session_id, started_date)>.

    `sessions`: the table at the old cut; `news`: the events it does not know; `since_us`: the earliest of them or the old cut,
    whichever is earlier.  What ended more than the limit before that can neither be reached nor still be open, so Delta skips
    the files that hold nothing younger.
    """
    reachable = sessions.where(F.col("ended_at") >= instant(since_us - _us(gap)))
    touched = news.select(F.col("user_id").alias("touched_user")).distinct()
    concerned = (
        reachable.join(touched, reachable.user_id == touched.touched_user, "left")
        .where(F.col("is_open") | F.col("touched_user").isNotNull())
    )
    intervals = _session_intervals(concerned).unionByName(_event_intervals(news), allowMissingColumns=True)
    joined = _joined(
        intervals, gap, as_of,
        F.collect_set("old").alias("replaces"), F.count_if(F.col("old").isNull()).alias("n_new"), F.bool_or("was_open").alias("was_open"),
    )
    closed = F.col("was_open") & ~F.col("is_open")
    return joined.where((F.col("n_new") > 0) | (F.size("replaces") > 1) | closed).select(*SESSIONS.column_names, "replaces")


def changed_dates(changes: DataFrame) -> list[date]:
    """Partitions of the session table that hold a changed row, before or after: as many as days, however many users."""
    before = changes.select(F.explode("replaces.started_date").alias("day"))
    days = before.union(changes.select("started_date")).distinct().collect()
    return sorted(r["day"] for r in days)


def rewritten(sessions: DataFrame, changes: DataFrame, dates: list[date]) -> DataFrame:
    """All rows of these partitions after the change."""
    gone = changes.select(F.explode("replaces.session_id").alias("gone_id"))
    kept = sessions.where(F.col("started_date").isin(dates)).join(gone, F.col("session_id") == F.col("gone_id"), "left_anti")
    return kept.select(*SESSIONS.column_names).unionByName(changes.select(*SESSIONS.column_names))


def sessions(events: DataFrame, gap: timedelta, as_of: datetime) -> DataFrame:
    """All sessions of these events (those before `as_of`): the full rebuild that every update is tested against."""
    return SESSIONS.conform(_joined(_event_intervals(before(events, as_of)), gap, as_of))


def _us(gap: timedelta) -> int:
    return gap // timedelta(microseconds=1)
