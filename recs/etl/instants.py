"""Instants, days and sums that come out the same on every machine.

Days and hours are cut from the microseconds themselves: Spark's own date functions follow the session's time zone.
"""
from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from recs.clock import DAY, HOUR


def instant(us: int) -> Column:
    """Microseconds since 1970 UTC as a timestamp; folded to a literal, so it takes part in file skipping."""
    return F.timestamp_micros(F.lit(us))


def date_of_micros(us: int) -> Column:
    """The UTC date of an instant in microseconds since 1970."""
    return F.date_from_unix_date(F.lit(us // DAY))


def utc_date(ts: Column) -> Column:
    """UTC date of a timestamp."""
    return F.date_from_unix_date((_floor(ts, DAY) / DAY).cast("int"))


def utc_hour(ts: Column) -> Column:
    """Start of the UTC hour of a timestamp."""
    return F.timestamp_micros(_floor(ts, HOUR))


def _floor(ts: Column, step: int) -> Column:
    """Microseconds cut down to a whole step; pmod, because a remainder would round instants before 1970 up."""
    us = F.unix_micros(ts)
    return us - F.pmod(us, F.lit(step))


def millionths(amount: Column) -> Column:
    """A double as a whole number of millionths, 0 when NULL, NaN or beyond ±9e12: whole numbers add up alike in any order."""
    return F.coalesce(F.round(amount * 1e6).try_cast("bigint"), F.lit(0))


def total(amount_millionths: Column) -> Column:
    """Sum of `millionths`, back as a double: exact to the sixth decimal up to 9e9, whatever the order and the partitions."""
    return F.coalesce(F.try_sum(amount_millionths) / 1e6, F.sum(amount_millionths.cast("double")) / 1e6)
