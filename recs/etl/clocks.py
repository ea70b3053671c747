"""What a log calls a time -> an instant: UTC, microseconds, or NULL where it cannot be read.

Numbers (`epoch_s`, `epoch_ms`, `epoch_us`) become whole microseconds without passing through a double.  Text (`iso`) must look
like ISO 8601: Spark's own reading would take '12:30' for today and '2024' for a New Year's Day.  Wall-clock times (`local`, and
`iso` or `timestamp` without an offset) are read in a zone.

When clocks change, two wall-clock times are odd.  One that was skipped (02:30 on the night they go forward) is read with the
offset that held before: it comes out as 03:30 of the new time, the instant a clock nobody had put forward would mean.  One that
happened twice (02:30 on the night they go back) is the first of the two.  Both are Java's rules, and the tests pin them.

`order_only` is no time: a position becomes 1970 plus so many steps, so that everything sorts, and nothing may read it as a clock.
"""
from __future__ import annotations

import re

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ByteType, DataType, DateType, IntegerType, LongType, ShortType, StringType, TimestampNTZType, TimestampType

from recs.clock import MICROS
from recs.config import TimeColumn

PER_UNIT = {"epoch_s": MICROS, "epoch_ms": 1_000, "epoch_us": 1}
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_OFFSET = r"(Z|z|[+-][0-9]{2}(:?[0-9]{2})?)"
ISO = rf"^{_DATE}([Tt ]{_CLOCK} ?{_OFFSET}?)?$"
HAS_OFFSET = rf"^{_DATE}[Tt ]{_CLOCK} ?{_OFFSET}$"
# 9999-12-31T23:59:59.999999Z: later instants cannot be written as dates by every reader
LAST_US = 253_402_300_799_999_999


class ClockMappingError(ValueError):
    """The time of a mapping cannot be read from the column it names."""


def instant(time: TimeColumn, value: Column, type_: DataType, zone: Column | None = None) -> Column:
    """`value` (a column of `type_`) as a timestamp.  `zone`: a column of zone names, for logs whose rows have their own."""
    if time.kind in PER_UNIT:
        return F.timestamp_micros(_micros(value, type_, PER_UNIT[time.kind]))
    if time.kind == "order_only":
        return _position(time, value)
    if isinstance(type_, TimestampType):
        return value
    if isinstance(type_, (TimestampNTZType, DateType)):
        return _from_wall(value.cast("timestamp_ntz").cast("timestamp"), time, zone)
    if not isinstance(type_, StringType):
        raise ClockMappingError(f"time.kind {time.kind} needs text or a timestamp, time.expr is {type_.simpleString()}")
    if time.kind == "timestamp":
        raise ClockMappingError("time.kind timestamp needs a timestamp, time.expr is text: use iso, or local with a format")
    return _from_text(time, F.trim(value), zone)


def _micros(value: Column, type_: DataType, per_unit: int) -> Column:
    if isinstance(type_, (ByteType, ShortType, IntegerType, LongType)):
        return F.try_multiply(value.cast("bigint"), F.lit(per_unit))
    exact = value.try_cast("decimal(28,6)") * F.lit(per_unit).cast("decimal(7,0)")  # 22 digits: nothing that is a time overflows
    return exact.try_cast("bigint")


def _position(time: TimeColumn, value: Column) -> Column:
    step = round(time.step.total_seconds() * MICROS)
    us = F.try_multiply(value.try_cast("bigint"), F.lit(step))
    return F.timestamp_micros(F.when((us >= 0) & (us <= LAST_US), us))


def _from_text(time: TimeColumn, text: Column, zone: Column | None) -> Column:
    if time.kind == "local" and time.format:
        read = F.try_to_timestamp(text, F.lit(time.format))
        has_offset = set(re.sub(r"'[^']*'", "", time.format)) & set("XxZzVO")
        return read if has_offset else _from_wall(read, time, zone)
    # Spark reads an offset only behind seconds
    to_the_minute = (F.length(text) > 10) & (F.substring(text, 17, 1) != ":")
    whole = F.when(to_the_minute, F.concat(F.substring(text, 1, 16), F.lit(":00"), F.substring(text, 17, 40))).otherwise(text)
    read = F.when(text.rlike(ISO), F.upper(whole).try_cast("timestamp"))
    return F.when(text.rlike(HAS_OFFSET), read).otherwise(_from_wall(read, time, zone))


def _from_wall(wall: Column, time: TimeColumn, zone: Column | None) -> Column:
    """`wall` holds a wall-clock time as if it were UTC (the session's zone)."""
    if zone is None:
        return wall if time.zone == "UTC" else F.to_utc_timestamp(wall, time.zone)
    name = F.coalesce(F.nullif(F.trim(zone), F.lit("")), F.lit(time.zone))
    # reading 'time zone' as text gives NULL for a zone that does not exist, where to_utc_timestamp would fail the batch
    return F.concat_ws(" ", wall.cast("string"), name).try_cast("timestamp")
