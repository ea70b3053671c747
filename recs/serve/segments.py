"""One list per segment for everybody who gets none of their own: what the segment's users met lately.

    item_hours before the cut   day-users per segment and item, halved every ten days before the newest hour
    the segment's items         first, by that number; ties by item id
    everybody's items           behind them, where the segment is too small to fill a list (source `fallback`)

Availability, blocks and the category cap hold as for users' lists.  Weights are whole numbers, so that sums are the same in any order.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from recs.clock import DAY
from recs.local_frame import local_frame

from .policy import EVERYBODY

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recs.config import ListConfig

HALF_LIFE_D = 10
REACH = 40          # half-lives before the newest hour after which an event no longer counts: a weight of 10^-12
UNIT = 2.0**40


def segment_lists(
    item_hours: DataFrame, segments: DataFrame, out_of: DataFrame, catalogue: DataFrame, as_of_us: int, config: ListConfig,
) -> DataFrame:
    """user_id (the segment's name), rank, item_id, score, source, reason_code.

    `segments`: segment, one row each; `out_of`: item_id that nobody may be shown; `catalogue`: item_id, category (NULL = none).
    """
    from pyspark.sql import functions as F

    before = item_hours.where(F.col("hour") < F.timestamp_micros(F.lit(as_of_us))).join(out_of, "item_id", "left_anti")
    known = weighted(before).join(catalogue.select("item_id", "category"), "item_id", "left")
    everybody = known.groupBy("item_id", "category").agg(F.sum("weight").alias("weight"))
    named = known.where(~F.col("segment").isin("", EVERYBODY))
    own = named.groupBy("segment", "item_id", "category").agg(F.sum("weight").alias("weight"))
    wanted = segments.select("segment").union(local_frame(item_hours.sparkSession, [(EVERYBODY,)], "segment string")).distinct()
    first = own.join(wanted, "segment", "left_semi").withColumn("place", F.lit(0))
    ranked = _ranked(first.unionByName(_behind(own, everybody, wanted, config.k)), config)
    at_home = (F.col("place") == 0) | (F.col("segment") == EVERYBODY)
    return ranked.select(
        F.col("segment").alias("user_id"), "rank", "item_id", (F.col("weight") / F.lit(UNIT)).cast("double").alias("score"),
        F.when(at_home, "segment").otherwise("fallback").alias("source"), F.lit("popular").alias("reason_code"),
    )


def weighted(hours: DataFrame) -> DataFrame:
    """The hours within reach of the newest one, with weight (a whole number)."""
    from pyspark.sql import functions as F

    newest = hours.agg(F.max("hour").alias("newest"))
    age_d = (F.unix_micros("newest") - F.unix_micros("hour")) / F.lit(float(DAY))
    near = hours.crossJoin(F.broadcast(newest)).withColumn("age_d", age_d).where(F.col("age_d") <= REACH * HALF_LIFE_D)
    weight = F.round(F.col("n_day_users") * F.pow(F.lit(2.0), -F.col("age_d") / HALF_LIFE_D) * UNIT).cast("decimal(28,0)")
    return near.withColumn("weight", weight).drop("newest", "age_d")


def _behind(own: DataFrame, everybody: DataFrame, wanted: DataFrame, k: int) -> DataFrame:
    """Everybody's best items for every segment, without those the segment knows.

    2k of each category are enough: a segment that knows more than k of these does not need them.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    by_weight = Window.partitionBy("category").orderBy(F.desc("weight"), "item_id")
    best = everybody.withColumn("nth", F.row_number().over(by_weight)).where(F.col("nth") <= 2 * k).drop("nth")
    behind = best.crossJoin(F.broadcast(wanted)).join(own.select("segment", "item_id"), ["segment", "item_id"], "left_anti")
    return behind.withColumn("place", F.lit(1))


def _ranked(rows: DataFrame, config: ListConfig) -> DataFrame:
    """The first k per segment by (place, weight, item id) with at most `category_cap` of a category."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    order = ["place", F.desc("weight"), "item_id"]
    if config.rules.category_cap is not None:
        within = F.row_number().over(Window.partitionBy("segment", "category").orderBy(*order))
        fits = F.col("category").isNull() | (F.col("within") <= config.rules.category_cap)
        rows = rows.withColumn("within", within).where(fits)
    return rows.withColumn("rank", F.row_number().over(Window.partitionBy("segment").orderBy(*order))).where(F.col("rank") <= config.k)
