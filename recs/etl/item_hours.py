"""Events -> item_hours: what happened to one item in one UTC hour, by segment of the users.

Every event first learns three things about itself, all inside its user's day, so that no step needs a distinct count:
is it the user's first on the item in this session, in this hour, in this day?

    ann   10:05 item a      first in session, hour and day
          10:20 item a      none of them
          10:55 item a      30 min after the last event: a new session, the same hour and day
          11:10 item a      a new hour; a session counts in every hour it reaches into

Then the events of an item and hour are counted, on the side of the readers first, so an item that is in every session is no
heavier than others.  Sessions are cut here by the same limit as in recs/etl/sessions.py, but inside the hour only: whether two
events of one hour belong together depends on the events between them, which are of that hour too.  A row is thus a function of its
own day's events, and an update rebuilds the days that got new ones.
"""
from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recs.schemas import ITEM_HOURS

from .instants import millionths, total, utc_hour
from .news import before
from .users_at import with_fact, with_other_fact

_HOUR = timedelta(hours=1)
_ROW = ("item_id", "item_index", "event_date", "hour", "segment")


def _with_session_number(events: DataFrame, gap: timedelta) -> DataFrame:
    """Number of the session inside the user's day.  With a limit of an hour or more nobody has two in one hour."""
    if gap >= _HOUR:
        return events.withColumn("session_number", F.lit(0))
    in_order = Window.partitionBy("user_id", "event_date").orderBy("us")
    pause = F.col("us") - F.lag("us").over(in_order)
    breaks = F.coalesce((pause > gap // timedelta(microseconds=1)).cast("int"), F.lit(0))
    numbered = F.sum("breaks").over(in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    return events.withColumn("breaks", breaks).withColumn("session_number", numbered)


def _with_firsts(events: DataFrame) -> DataFrame:
    """Is the event its user's first on the item in the day, in the hour, in the session?  Ties in time share hour and session.

    A user who changes segment inside an hour counts once in each.
    """
    on_item = Window.partitionBy("user_id", "event_date", "item_index").orderBy("us")

    def differs(*columns: str) -> Column:
        """From the user's event before on this item; true for the first of the day."""
        return ~F.lag(F.struct(*columns)).over(on_item).eqNullSafe(F.struct(*columns))

    return events.select(
        "*", F.lag("us").over(on_item).isNull().alias("first_in_day"),
        differs("hour", "segment").alias("first_in_hour"), differs("hour", "segment", "session_number").alias("first_in_session"),
    )


def _counted(events: DataFrame, event_types: Sequence[str]) -> DataFrame:
    """One row per item, hour and segment."""
    columns = {t: f"n_{i}" for i, t in enumerate(sorted(event_types))}
    by_type = [F.count_if(F.col("event_type") == t).alias(column) for t, column in columns.items()]
    pairs = [c for t, column in columns.items() for c in (F.lit(t), F.col(column))]
    return (
        events.groupBy(*_ROW)
        .agg(
            F.count("*").alias("n_events"), F.count_if("first_in_hour").alias("n_users"), F.count_if("first_in_day").alias("n_day_users"),
            F.count_if("first_in_session").alias("n_sessions"), total(F.col("amount")).alias("value"), *by_type,
        )
        .withColumn("n_by_type", F.map_filter(F.create_map(*pairs), lambda _, n: n > 0))
    )


def touched_days(news: DataFrame) -> list[date]:
    """Days that got new events."""
    return sorted(r["event_date"] for r in news.select("event_date").distinct().collect())


def days_of_changed_segments(events: DataFrame, users_before: DataFrame, users_after: DataFrame) -> list[date]:
    """Days with an event whose user's segment at that time is another one than was known before."""
    return touched_days(with_other_fact(events.select("user_id", "ts", "event_date"), users_before, users_after, "segment"))


def item_hours(events: DataFrame, users: DataFrame, as_of: datetime, gap: timedelta, event_types: Sequence[str]) -> DataFrame:
    """ITEM_HOURS rows of all days these events have before `as_of`.

    `users`: rows of the users table (segments); `gap`: the session limit; `event_types`: the names of the mapping, for n_by_type
    (an event of a type the mapping no longer has counts in n_events only).
    """
    narrow = with_fact(before(events, as_of), users, "segment", "").select(
        "user_id", "item_id", "item_index", "event_date", "event_type", "segment",
        F.unix_micros("ts").alias("us"), utc_hour(F.col("ts")).alias("hour"), millionths(F.col("value")).alias("amount"),
    )
    return ITEM_HOURS.conform(_counted(_with_firsts(_with_session_number(narrow, gap)), event_types))
