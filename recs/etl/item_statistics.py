"""item_hours, catalogue and vocabulary -> what was known of each item at a cut, one row per item.

    item_hours rows of a     10:00 (2 day-users)   11:00 (1)   12:00 (4)        cut 12:30
    counted                  10:00                 11:00                        whole hours before the cut only
    users_6h 3, decay_6h 2 * 2^(-2 h / 6 h) + 1 * 2^(-1 h / 6 h)                ages from the middle of the hour

Sums of weights are taken over whole numbers, so that they have the same bits in any order and partitioning.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import functions as F

from recs.clock import DAY, HOUR
from recs.evidence.item_tables import FOREVER_US, HALF_LIVES, WINDOWS

from .instants import date_of_micros, instant

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame

_AVAILABILITY = ("available_from", "available_until")


def exact_sum(x: Column) -> Column:
    """Sum of a double column, the same bit for bit in any order: two sums of integers, units 2^-20 and 2^-50."""
    high = F.rint(x * 2.0**20)      # `round` would go by way of decimals, ten times slower
    low = F.rint((x * 2.0**20 - high) * 2.0**30)
    return F.sum(high.cast("bigint")) * F.lit(2.0**-20) + F.sum(low.cast("bigint")) * F.lit(2.0**-50)


def item_statistics(item_hours: DataFrame, cut_us: int, event_types: Mapping[str, int]) -> DataFrame:
    """One row per item with a whole hour before the cut: item_id, item_index and the statistics."""
    whole_hours = (F.col("hour") <= instant(cut_us - HOUR)) & (F.col("event_date") <= date_of_micros(cut_us))
    hour_us = F.unix_micros("hour")
    hours = item_hours.where(whole_hours).withColumn("age_h", (F.lit(cut_us) - hour_us) / F.lit(float(HOUR)) - 0.5)

    def inside(window_h: int | None) -> Column:
        within = hour_us >= cut_us - window_h * HOUR if window_h else F.lit(True)
        return F.sum(F.when(within, F.col("n_day_users")).otherwise(0))

    def decayed(half_life_h: int) -> Column:
        return exact_sum(F.col("n_day_users") * F.pow(F.lit(2.0), -F.col("age_h") / half_life_h))

    def of_type(name: str) -> Column:
        return F.sum(F.coalesce(F.try_element_at("n_by_type", F.lit(name)), F.lit(0)))

    events = F.sum("n_events")
    # the mean value of an hour is all that is known of its events; the logarithm bounds what one odd price can do
    mean_value = F.greatest(F.nanvl("value", F.lit(0.0)) / F.col("n_events"), F.lit(0.0))
    return hours.groupBy("item_id", "item_index").agg(
        *(inside(h).alias(f"users_{name}") for name, h in WINDOWS.items()),
        *(decayed(h).alias(f"decay_{name}") for name, h in HALF_LIVES.items()),
        *((of_type(name) / events).alias(f"type_{code}") for name, code in event_types.items()),
        events.alias("events_all"), F.sum("n_sessions").alias("sessions_all"),
        (exact_sum(F.col("n_events") * F.log1p(mean_value)) / events).alias("value_log"),
        F.max("age_h").alias("first_h"), F.min("age_h").alias("last_h"),
    )


def catalogue_at(items: DataFrame, cut_us: int) -> DataFrame:
    """What the catalogue said at the cut, one row per item: top-level category and availability in microseconds (NULL = always)."""
    cut = instant(cut_us)
    valid = items.where((F.col("valid_from") <= cut) & (F.col("valid_to").isNull() | (F.col("valid_to") > cut)))
    availability = [F.unix_micros(c).alias(c) for c in _AVAILABILITY]
    facts = F.struct(F.substring_index("category", "/", 1).alias("category"), *availability)
    return valid.groupBy("item_id").agg(F.max_by(facts, "valid_from").alias("f")).select("item_id", "f.*")


def withdrawn_at(vocabulary: DataFrame, cut_us: int) -> DataFrame:
    """Items withdrawn for good by the cut, and when (microseconds); a later tombstone is not known yet."""
    since = F.unix_date("tombstoned_on").cast("bigint") * DAY
    return vocabulary.select("item_index", since.alias("withdrawn")).where(F.col("withdrawn") <= cut_us)


def known_items(
    item_hours: DataFrame, vocabulary: DataFrame, items: DataFrame | None, cut_us: int, event_types: Mapping[str, int]
) -> pd.DataFrame:
    """The driver's frame: one row per known item, ascending by id (Python's order of str is that of UTF-8 bytes, as Spark's is).

    item_id, item_index, statistics, category (None = none), available_from, available_until (int64 microseconds).
    """
    known = item_statistics(item_hours, cut_us, event_types)
    if items is not None:
        known = known.join(catalogue_at(items, cut_us), "item_id", "left")
    else:
        known = known.withColumns({"category": F.lit(None).cast("string")} | dict.fromkeys(_AVAILABILITY, F.lit(None).cast("bigint")))
    # NULL is filled in here: on the way to pandas a column of integers with a NULL becomes one of floats
    always = {"available_from": F.lit(-FOREVER_US), "available_until": F.lit(FOREVER_US)}
    frame = known.withColumns({c: F.coalesce(c, unless) for c, unless in always.items()}).toPandas()
    gone = withdrawn_at(vocabulary, cut_us).toPandas().set_index("item_index")["withdrawn"]
    withdrawn = gone.reindex(frame["item_index"], fill_value=FOREVER_US).to_numpy(np.int64)
    frame["available_until"] = np.minimum(frame["available_until"], withdrawn)
    return frame.sort_values("item_id", ignore_index=True)
