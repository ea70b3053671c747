"""Validity intervals: first descriptions, changes, tables that bring their own dates."""
from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pyspark.sql import functions as F

from recs.batches import known_rows
from recs.etl.catalogue import changes, undescribed
from recs.schemas import ITEMS

pytestmark = pytest.mark.spark
JUNE = datetime(2024, 6, 1, tzinfo=UTC)


def items(spark, rows: list[tuple]):
    """(item_id, valid_from, valid_to, title) as rows of ITEMS of batch 1; dates as text, NULL = none."""
    frame = spark.createDataFrame(rows, "item_id string, valid_from string, valid_to string, title string")
    typed = frame.withColumns({"valid_from": F.to_timestamp("valid_from"), "valid_to": F.to_timestamp("valid_to")})
    rest = {c.name: F.lit(None).cast(c.type) for c in ITEMS.columns if c.name not in frame.columns}
    return ITEMS.conform(typed.withColumns({**rest, "batch_id": F.lit(1).cast("bigint")}))


def changed(spark, current: list[tuple], delivered: list[tuple]) -> list[tuple]:
    rows = changes(items(spark, delivered).drop("batch_id"), items(spark, current), ITEMS, JUNE, 2)
    dates = [F.date_format(c, "yyyy-MM-dd") for c in ("valid_from", "valid_to")]
    return [tuple(r) for r in rows.orderBy("item_id", "valid_from").select("item_id", *dates, "title", "batch_id").collect()]


def test_a_snapshot_closes_what_changed(spark):
    current = [("bare", "1970-01-01", None, None), ("new title", "1970-01-01", None, "Old"), ("same", "1970-01-01", None, "Same")]
    delivered = [(item, None, None, title) for item, title in (
        ("bare", "Named"), ("first", "First"), ("new title", "New"), ("same", "Same"))]
    assert changed(spark, current, delivered) == [
        ("bare", "1970-01-01", None, "Named", 2),               # only an id was known: filled in
        ("first", "1970-01-01", None, "First", 2),              # a first description holds from 1970 on
        ("new title", "1970-01-01", "2024-06-01", "Old", 1),    # closed, still of its own batch
        ("new title", "2024-06-01", None, "New", 2),
    ]                                                           # "same" says nothing new


def test_a_table_with_dates_of_its_own(spark):
    current = [("a", "2020-01-01", None, "2020")]
    assert changed(spark, current, [("a", "2022-01-01", None, "2022"), ("a", "2021-01-01", None, "2021")]) == [
        ("a", "2020-01-01", "2021-01-01", "2020", 1), ("a", "2021-01-01", "2022-01-01", "2021", 2), ("a", "2022-01-01", None, "2022", 2),
    ]


def test_a_table_with_dates_of_its_own_that_is_delivered_whole_again_brings_its_news_alone(spark):
    current = [("a", "2020-01-01", "2022-01-01", "2020"), ("a", "2022-01-01", None, "2022"), ("b", "2020-01-01", "2023-01-01", "B")]
    delivered = [
        ("a", "2020-01-01", None, "2020"), ("a", "2022-01-01", None, "2022"),   # as known: the first ends where the second begins
        ("b", "2020-01-01", None, "B"),                                         # ends no more
        ("c", "2020-01-01", None, "C"),
    ]
    assert changed(spark, current, delivered[:2]) == []
    assert changed(spark, current, delivered) == [("b", "2020-01-01", None, "B", 2), ("c", "2020-01-01", None, "C", 2)]


def test_rows_are_known_as_they_were_before_a_later_batch(spark):
    first = items(spark, [("a", "2020-01-01", None, "Old"), ("b", "2020-01-01", "2023-01-01", "B")])
    late = changes(items(spark, [("a", "2021-01-01", None, "New")]).drop("batch_id"), first, ITEMS, JUNE, 2)
    after = first.join(late, ["item_id", "valid_from"], "left_anti").select(*ITEMS.column_names).unionByName(late)
    assert after.where("item_id = 'a' AND valid_to IS NULL").count() == 1       # the late row closed the old one
    assert sorted(map(str, known_rows(after, "item_id", 1).collect())) == sorted(map(str, first.collect()))
    assert sorted(map(str, known_rows(after, "item_id", 2).collect())) == sorted(map(str, after.collect()))


def test_items_that_only_events_name(spark):
    ids = spark.createDataFrame([("a",), ("b",)], "item_id string")
    rows = undescribed(ids, [items(spark, [("a", "1970-01-01", None, "A")])], ITEMS, 2).collect()
    assert [(r.item_id, r.title, r.batch_id) for r in rows] == [("b", None, 2)]
