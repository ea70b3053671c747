"""Item ids -> integers that never change.

An item gets its integer when ingest first meets it, in an event or in the catalogue: new items are sorted by their first event
(items without one come last) and then by id, and numbered on from the highest integer.  The same input in any order or
partitioning gives the same integers.

Two runs that number at the same time would hand out the same integers, and Delta would not notice: appends never conflict.
Ingest therefore runs under a lease on the root (recs.tables.lease), and looks before and after numbering (`check_dense`).
"""
from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


class VocabularyError(RuntimeError):
    """Two items have one integer, or an integer is missing."""


def first_seen(events: DataFrame, catalogue: DataFrame | None) -> DataFrame:
    """item_id, first_ts of the items of `events` (item_id, ts) and of `catalogue` (item_id), each once; NULL: no event yet."""
    seen = events.select("item_id", "ts")
    if catalogue is not None:
        seen = seen.unionByName(catalogue.select("item_id", F.lit(None).cast("timestamp").alias("ts")))
    return seen.groupBy("item_id").agg(F.min("ts").alias("first_ts"))


def unknown(seen: DataFrame, vocabulary: DataFrame) -> DataFrame:
    """The items of `seen` (`first_seen`) that have no integer yet."""
    return seen.join(vocabulary.select("item_id"), "item_id", "left_anti")


def new_entries(unknown: DataFrame, start: int, batch_id: int) -> DataFrame:
    """Rows to append to item_vocabulary, numbered from `start`.

    The numbering is one task over the new items alone: a million of them take some seconds, once.
    """
    number = F.row_number().over(Window.orderBy(F.col("first_ts").asc_nulls_last(), F.col("item_id"))) - 1
    return unknown.select(
        "item_id", (F.lit(start) + number).cast("int").alias("item_index"),
        F.lit(None).cast("date").alias("tombstoned_on"), F.lit(batch_id).cast("bigint").alias("batch_id"),
    )


def check_dense(vocabulary: DataFrame) -> int:
    """Number of items, when their integers end where n items numbered 0, 1, 2, … end; VocabularyError otherwise.

    Integers handed out twice make more rows than integers, lost rows make fewer.
    """
    n, end = vocabulary.agg(F.count("*"), F.coalesce(F.max("item_index") + 1, F.lit(0))).first()
    if n != end:
        raise VocabularyError(
            f"item_vocabulary: {n} rows, but integers up to {end - 1}: two runs wrote at once, or rows were changed by hand; "
            "if a batch is being written it does not count, and the next run takes its rows back"
        )
    return n
