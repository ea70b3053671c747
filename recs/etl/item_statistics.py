"""item_hours, catalogue and vocabulary -> what was known of each item at some cuts, one row per cut and item.

    item_hours rows of a     10:00 (2 day-users)   11:00 (1)   12:00 (4)        cut 12:30
    counted                  10:00                 11:00                        whole hours before the cut only
    users_6h 3, decay_6h 2 * 2^(-2 h / 6 h) + 1 * 2^(-1 h / 6 h)                ages from the middle of the hour

Sums of weights are taken over whole numbers, so that they have the same bits in any order and partitioning.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_PLACE = ("lat", "lon")


def exact_sum(x: Column) -> Column:
    """Sum of a double column, the same bit for bit in any order: two sums of integers, units 2^-20 and 2^-50."""
    high = F.rint(x * 2.0**20)      # `round` would go by way of decimals, ten times slower
    low = F.rint((x * 2.0**20 - high) * 2.0**30)
    return F.sum(high.cast("bigint")) * F.lit(2.0**-20) + F.sum(low.cast("bigint")) * F.lit(2.0**-50)


def at_cuts(frame: DataFrame, cuts_us: Sequence[int]) -> DataFrame:
    """Every row once per cut, with the column `cut_us`."""
    return frame.withColumn("cut_us", F.explode(F.array(*(F.lit(int(c)).cast("bigint") for c in cuts_us))))


def item_statistics(item_hours: DataFrame, cuts_us: Sequence[int], event_types: Mapping[str, int]) -> DataFrame:
    """One row per cut and item with a whole hour before it: cut_us, item_id, item_index and the statistics."""
    last_us, cut = max(cuts_us), F.col("cut_us")
    read = item_hours.where((F.col("hour") <= instant(last_us - HOUR)) & (F.col("event_date") <= date_of_micros(last_us)))
    hour_us = F.unix_micros("hour")
    hours = at_cuts(read, cuts_us).where(hour_us <= cut - HOUR).withColumn("age_h", (cut - hour_us) / F.lit(float(HOUR)) - 0.5)

    def inside(window_h: int | None) -> Column:
        within = hour_us >= cut - window_h * HOUR if window_h else F.lit(True)
        return F.sum(F.when(within, F.col("n_day_users")).otherwise(0))

    def decayed(half_life_h: int) -> Column:
        return exact_sum(F.col("n_day_users") * F.pow(F.lit(2.0), -F.col("age_h") / half_life_h))

    def of_type(name: str) -> Column:
        return F.sum(F.coalesce(F.try_element_at("n_by_type", F.lit(name)), F.lit(0)))

    events = F.sum("n_events")
    # the mean value of an hour is all that is known of its events; the logarithm bounds what one odd price can do
    mean_value = F.greatest(F.nanvl("value", F.lit(0.0)) / F.col("n_events"), F.lit(0.0))
    return hours.groupBy("cut_us", "item_id", "item_index").agg(
        *(inside(h).alias(f"users_{name}") for name, h in WINDOWS.items()),
        *(decayed(h).alias(f"decay_{name}") for name, h in HALF_LIVES.items()),
        *((of_type(name) / events).alias(f"type_{code}") for name, code in event_types.items()),
        events.alias("events_all"), F.sum("n_sessions").alias("sessions_all"),
        (exact_sum(F.col("n_events") * F.log1p(mean_value)) / events).alias("value_log"),
        F.max("age_h").alias("first_h"), F.min("age_h").alias("last_h"),
    )


def newest_at(items: DataFrame, cuts_us: Sequence[int], facts: Column, *more: Column) -> DataFrame:
    """cut_us, item_id, the struct `facts` of its newest row that has begun at the cut, as `f`; `more`: aggregates of all that have."""
    begun = at_cuts(items, cuts_us).where(F.col("valid_from") <= F.timestamp_micros("cut_us"))
    return begun.groupBy("cut_us", "item_id").agg(F.max_by(facts, "valid_from").alias("f"), *more)


def catalogue_at(items: DataFrame, cuts_us: Sequence[int]) -> DataFrame:
    """What the catalogue said at each cut, one row per cut and item: top-level category, place, availability (microseconds, NULL = always).

    Of every item the newest row that has begun; an item whose row has ended, with none after it, is available until that end.
    """
    until = F.least("available_until", "valid_to")      # least passes over NULLs
    availability = [F.unix_micros("available_from").alias("available_from"), F.unix_micros(until).alias("available_until")]
    facts = F.struct(F.substring_index("category", "/", 1).alias("category"), *_PLACE, *availability)
    return newest_at(items, cuts_us, facts).select("cut_us", "item_id", "f.*")


def never_met(known: DataFrame, vocabulary: DataFrame, items: DataFrame, cuts_us: Sequence[int], says: Column) -> DataFrame:
    """One row per cut and item of the catalogue that says something, is on offer and has no whole hour yet: columns of `item_statistics`.

    Counts are 0; `first_h` and `last_h` are the hours since the catalogue has it.
    """
    facts = F.struct(says.alias("says"), F.unix_micros(F.least("available_until", "valid_to")).alias("until_us"))
    newest = newest_at(items, cuts_us, facts, F.min("valid_from").alias("since"))
    on_offer = newest.where("f.says IS NOT NULL AND (f.until_us IS NULL OR f.until_us > cut_us)")
    alone = on_offer.join(known.select("cut_us", "item_id"), ["cut_us", "item_id"], "left_anti")
    numbered = alone.join(vocabulary.select("item_id", "item_index"), "item_id")
    age_h = (F.col("cut_us") - F.unix_micros("since")) / F.lit(float(HOUR))
    own = {"cut_us", "item_id", "item_index"}
    values = {c: age_h if c in ("first_h", "last_h") else F.lit(0) for c in known.columns if c not in own}
    return numbered.select(*own, *(v.cast(known.schema[c].dataType).alias(c) for c, v in values.items()))


def withdrawn_on(vocabulary: DataFrame) -> pd.Series:
    """Items withdrawn for good, item_index -> microseconds; few rows."""
    since = F.unix_date("tombstoned_on").cast("bigint") * DAY
    return vocabulary.select("item_index", since.alias("since")).where("since IS NOT NULL").toPandas().set_index("item_index")["since"]


def known_items(
    item_hours: DataFrame, vocabulary: DataFrame, items: DataFrame | None, cuts_us: Sequence[int], event_types: Mapping[str, int],
    says: Column | None = None,
) -> dict[int, pd.DataFrame]:
    """The driver's frames, one per cut: a row per known item, ascending by id (Python sorts str as Spark does UTF-8 bytes).

    `says`: what is read of a row of the catalogue; where it is given, items that say something are known before anybody has met them.
    item_id, item_index, statistics, category (None = none), lat, lon (NaN = none), available_from, available_until (int64 microseconds).
    """
    known = item_statistics(item_hours, cuts_us, event_types)
    if items is not None and says is not None:
        known = known.unionByName(never_met(known, vocabulary, items, cuts_us, says))
    if items is not None:
        known = known.join(catalogue_at(items, cuts_us), ["cut_us", "item_id"], "left")
    else:
        types = {"category": "string"} | dict.fromkeys(_PLACE, "double") | dict.fromkeys(_AVAILABILITY, "bigint")
        known = known.withColumns({name: F.lit(None).cast(kind) for name, kind in types.items()})
    # NULL is filled in here: on the way to pandas a column of integers with a NULL becomes one of floats
    always = {"available_from": F.lit(-FOREVER_US), "available_until": F.lit(FOREVER_US)}
    every = known.withColumns({c: F.coalesce(c, unless) for c, unless in always.items()}).toPandas()
    withdrawn = withdrawn_on(vocabulary)
    return {cut_us: _until_withdrawn(every[every["cut_us"] == cut_us].drop(columns="cut_us"), withdrawn, cut_us) for cut_us in cuts_us}


def _until_withdrawn(known: pd.DataFrame, withdrawn: pd.Series, cut_us: int) -> pd.DataFrame:
    """Items end with their tombstone; one set after the cut is not known yet."""
    gone = withdrawn[withdrawn <= cut_us].reindex(known["item_index"], fill_value=FOREVER_US).to_numpy(np.int64)
    return known.assign(available_until=np.minimum(known["available_until"], gone)).sort_values("item_id", ignore_index=True)
