"""Every kind of time, what cannot be read, and the two nights on which clocks change."""
from __future__ import annotations

from datetime import timedelta

import pytest
from pyspark.sql import functions as F

from recs.config import TimeColumn
from recs.etl.clocks import ClockMappingError, instant

pytestmark = pytest.mark.spark


def read(spark, time: TimeColumn, values: list, type_: str = "string", zones: list | None = None) -> list[str | None]:
    """The instants of `values`, as UTC text."""
    rows = [(i, v, (zones or [None] * len(values))[i]) for i, v in enumerate(values)]
    frame = spark.createDataFrame(rows, f"i int, v {type_}, zone string").coalesce(1)
    ts = instant(time, F.col("v"), frame.schema["v"].dataType, F.col("zone") if zones else None)
    return [r[0] for r in frame.orderBy("i").select(ts.cast("string")).collect()]


def time(kind: str, **settings) -> TimeColumn:
    return TimeColumn(kind=kind, expr="v", **settings)


def test_seconds(spark):
    said = {
        "1465413032": "2016-06-08 19:10:32",
        "1465413032.123456": "2016-06-08 19:10:32.123456",
        "1.465413032E9": "2016-06-08 19:10:32",             # as pandas writes large floats
        "0": "1970-01-01 00:00:00",
        "-1": "1969-12-31 23:59:59",
        "abc": None,
        "": None,
        "NaN": None,
        "99999999999999999999999": None,                    # no instant has that many digits
    }
    assert read(spark, time("epoch_s"), list(said)) == list(said.values())


def test_milliseconds_and_microseconds_are_exact(spark):
    assert read(spark, time("epoch_ms"), [1465413032123, None], "bigint") == ["2016-06-08 19:10:32.123", None]
    # 16 digits: a double would lose the last one
    assert read(spark, time("epoch_us"), [9007199254740993], "bigint") == ["2255-06-05 23:47:34.740993"]
    assert read(spark, time("epoch_us"), ["1465413032123456"]) == ["2016-06-08 19:10:32.123456"]
    # milliseconds that somebody calls seconds do not overflow: they are refused as in_future later
    assert read(spark, time("epoch_s"), [1465413032123], "bigint")[0].startswith("+48407")


def test_iso_offset_wins_over_the_zone(spark):
    said = {
        "2024-03-31T12:00:00+02:00": "2024-03-31 10:00:00",
        "2024-03-31T12:00:00Z": "2024-03-31 12:00:00",
        "2024-03-31t12:00:00z": "2024-03-31 12:00:00",
        "2024-03-31T12:00:00.123456789+0200": "2024-03-31 10:00:00.123456",     # what is finer than a microsecond is cut off
        "2024-03-31T12:00-05": "2024-03-31 17:00:00",
        "2024-01-15T12:00:00": "2024-01-15 17:00:00",       # no offset: New York, winter
        " 2024-07-15 12:00:00 ": "2024-07-15 16:00:00",     # summer
        "2024-01-15": "2024-01-15 05:00:00",
        "12:30": None,                                      # Spark alone would read today
        "2024": None,                                       # … and New Year
        "2024-02-30T00:00:00": None,
        "2024-01-15T24:00:00": None,
        "15.01.2024": None,
        "0001-01-01T00:00:00Z": "0001-01-01 00:00:00",
    }
    assert read(spark, time("iso", zone="America/New_York"), list(said)) == list(said.values())


def test_wall_clock_with_a_format(spark):
    told = time("local", format="dd/MM/yyyy HH:mm", zone="Europe/Amsterdam")
    assert read(spark, told, ["15/01/2024 12:00", "15/13/2024 12:00", None]) == ["2024-01-15 11:00:00", None, None]
    # a format that reads an offset needs no zone (web server logs)
    told = time("local", format="dd/MMM/yyyy:HH:mm:ss Z", zone="Europe/Amsterdam")
    assert read(spark, told, ["10/Oct/2023:13:55:36 -0700"]) == ["2023-10-10 20:55:36"]


# In Amsterdam clocks went from 02:00 to 03:00 on 2024-03-31 and from 03:00 back to 02:00 on 2024-10-27.
CHANGES = {
    "2024-03-31 01:59:59": "2024-03-31 00:59:59",
    "2024-03-31 02:30:00": "2024-03-31 01:30:00",   # never on the wall: read with the offset before the change, 03:30 summer time
    "2024-03-31 03:30:00": "2024-03-31 01:30:00",
    "2024-10-27 02:30:00": "2024-10-27 00:30:00",   # twice on the wall: the first of the two, summer time
    "2024-10-27 03:00:00": "2024-10-27 02:00:00",
}


def test_skipped_and_repeated_hours(spark):
    assert read(spark, time("local", zone="Europe/Amsterdam"), list(CHANGES)) == list(CHANGES.values())


def test_the_zone_of_the_row_follows_the_same_rules(spark):
    told = time("local", zone="Europe/Amsterdam", zone_expr="zone")
    n = len(CHANGES)
    assert read(spark, told, list(CHANGES), zones=["Europe/Amsterdam"] * n) == list(CHANGES.values())
    noon = "2024-01-15 12:00:00.5"
    zones = ["Asia/Tokyo", "Mars/Olympus", None, " ", "+05:30"]
    assert read(spark, told, [noon] * 5, zones=zones) == [
        "2024-01-15 03:00:00.5",
        None,                       # no such zone: the row is refused, the batch lives
        "2024-01-15 11:00:00.5",    # none said: the log's
        "2024-01-15 11:00:00.5",
        "2024-01-15 06:30:00.5",
    ]


def test_timestamps(spark):
    noon = ["2024-01-15 12:00:00"]
    amsterdam = time("timestamp", zone="Europe/Amsterdam")
    frame = spark.createDataFrame([(t,) for t in noon], "t string")
    by_type = {"timestamp": "2024-01-15 12:00:00", "timestamp_ntz": "2024-01-15 11:00:00", "date": "2024-01-14 23:00:00"}
    for type_, expected in by_type.items():
        typed = frame.select(F.col("t").cast(type_).alias("v"))
        got = typed.select(instant(amsterdam, F.col("v"), typed.schema["v"].dataType).cast("string")).first()[0]
        assert got == expected, type_
    with pytest.raises(ClockMappingError, match="use iso, or local"):
        read(spark, amsterdam, noon)
    with pytest.raises(ClockMappingError, match="needs text"):
        read(spark, time("iso"), [1], "int")


def test_positions(spark):
    assert read(spark, time("order_only"), ["0", "3", "-1", "x", "99999999"]) == [
        "1970-01-01 00:00:00", "1970-01-04 00:00:00", None, None, None,     # a day that has no date is refused
    ]
    assert read(spark, time("order_only", step=timedelta(seconds=1)), [90], "int") == ["1970-01-01 00:01:30"]
