"""What is known about a user at the instant of an event: the users table has a row per validity interval.

    users   ann  1970-01-01 .. 2024-03-05   segment gold        event of ann at 2024-03-04 12:00  ->  gold
            ann  2024-03-05 ..              segment NULL        event of ann at 2024-03-05 00:00  ->  the default

The interval is looked up at the event's own time, not at the cut, so a row that was counted stays as it was counted, and an
earlier night reads nothing that was known later.  Intervals that overlap are cut where the next one begins.
"""
from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from .news import State


def known_users(users: DataFrame, state: State) -> DataFrame:
    """The rows of the users table the state knows."""
    return users.where(F.col("batch_id") <= state.max_batch)


def with_fact(events: DataFrame, users: DataFrame, fact: str, default: str) -> DataFrame:
    """`events` with column `fact` (zone, segment) as it held for the user at the event; `default` where nothing is known."""
    intervals = _intervals(users, fact)
    joined = events.join(intervals, _within(events, intervals), "left")
    return joined.select(*events.columns, F.coalesce(joined[fact], F.lit(default)).alias(fact))


def changed_users(before: DataFrame, after: DataFrame, fact: str) -> DataFrame:
    """Users (touched_user) about whom the two states of the users table say different things, at any time."""
    old, new = _intervals(before, fact), _intervals(after, fact)
    return old.exceptAll(new).union(new.exceptAll(old)).select(F.col("of_user").alias("touched_user")).distinct()


def with_other_fact(events: DataFrame, before: DataFrame, after: DataFrame, fact: str) -> DataFrame:
    """The events whose `fact` is another one in the second state of the users table."""
    candidates = events.join(changed_users(before, after, fact), F.col("user_id") == F.col("touched_user"), "left_semi")
    both = with_fact(with_fact(candidates, before, fact, "").withColumnRenamed(fact, "was"), after, fact, "")
    return both.where(F.col("was") != F.col(fact)).select(*events.columns)


def _within(events: DataFrame, intervals: DataFrame) -> Column:
    """The event lies in the interval of its user: from its start on, before its end."""
    before_end = intervals.valid_until.isNull() | (events.ts < intervals.valid_until)
    return (events.user_id == intervals.of_user) & (events.ts >= intervals.valid_from) & before_end


def _intervals(users: DataFrame, fact: str) -> DataFrame:
    """Disjoint intervals per user in which the fact is known; an event falls into one at most."""
    by_start = Window.partitionBy("user_id").orderBy("valid_from")
    # least() passes over NULLs: an open end, or no later row
    until = F.least("valid_to", F.lead("valid_from").over(by_start))
    return (
        users.select(F.col("user_id").alias("of_user"), "valid_from", until.alias("valid_until"), fact)
        .where(F.col(fact).isNotNull() & (F.col(fact) != ""))
    )
