"""Item ids -> integers that never change.

An item gets its integer when ingest first meets it, in an event or in the catalogue: new items are sorted by their first event
(items without one come last) and then by id, and numbered on from the highest integer.  The same input in any order or
partitioning gives the same integers.

Two runs that number at the same time would hand out the same integers, and Delta would not notice: appends never conflict.
Ingest therefore runs under a lease on the root (recs.tables.lease), and `check_dense` looks at the result before the batch counts.
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


def new_entries(seen: DataFrame, vocabulary: DataFrame, batch_id: int) -> DataFrame:
    """Rows to append to item_vocabulary: the items of `seen` (`first_seen`) that it lacks.

    The numbering is one task over the new items alone: a million of them take some seconds, once.
    """
    start = vocabulary.agg((F.coalesce(F.max("item_index"), F.lit(-1)) + 1).alias("start"))
    new = seen.join(vocabulary.select("item_id"), "item_id", "left_anti")
    number = F.row_number().over(Window.orderBy(F.col("first_ts").asc_nulls_last(), F.col("item_id"))) - 1
    return new.withColumn("number", number).crossJoin(F.broadcast(start)).select(
        "item_id", (F.col("start") + F.col("number")).cast("int").alias("item_index"),
        F.lit(None).cast("date").alias("tombstoned_on"), F.lit(batch_id).cast("bigint").alias("batch_id"),
    )


def check_dense(vocabulary: DataFrame) -> int:
    """Number of items, when their integers are 0, 1, …, n - 1 with one item each; VocabularyError otherwise."""
    counted = vocabulary.agg(
        F.count("*").alias("n"), F.countDistinct("item_index").alias("integers"), F.countDistinct("item_id").alias("items"),
        F.coalesce(F.max("item_index") + 1, F.lit(0)).alias("end"),
    ).first()
    if len(set(counted)) != 1:
        raise VocabularyError(
            f"item_vocabulary: {counted['n']} rows, {counted['items']} items, {counted['integers']} integers up to {counted['end'] - 1}: "
            "two runs wrote at once, or rows were changed by hand; the batch does not count, its rows go with the next run"
        )
    return counted["n"]
