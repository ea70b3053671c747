"""What followed a night: the items that came true, which of them a list could have held, and the slices they belong to.

    came true       distinct (user, item) of target events in [cut, cut + horizon), of users who get a list of their own
    could be held   the item was known at the cut (a whole hour of events before it) and the rules allowed it to this user
    slices          '' (the headline), night, history, segment, age of the item, local hour of the meeting; truth=all also holds what
                    no list could

As `scored` of outside judges: what nobody could know, or may show, is not held against a list; it stands beside the headline.
"""
from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from recs.clock import DAY

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from recs.serve.inputs import Inputs

HISTORY = (1, 2, 5, 20, 100)            # events before the cut: 1, 2-4, 5-19, 20-99, 100+
AGE_D = (0, 1, 7, 30)                   # days since the item's first event
HOURS = (0, 6, 12, 18)
SEGMENTS = 20                           # the largest ones have a slice of their own


def followed(inputs: Inputs, horizon_us: int) -> DataFrame:
    """user_id, item_id, slices array<string>: a row per item that came true after the cut of `inputs`."""
    from pyspark.sql import functions as F

    config, at = inputs.config, inputs.attempt.night
    ages = inputs.item_hours.groupBy("item_id").agg(F.unix_micros(F.min("hour")).alias("first_us"))
    who = with_own_list(inputs)
    history = inputs.sequences.select("user_id", "n_events")
    truth = met(inputs, horizon_us).join(who, "user_id").join(history, "user_id").join(ages, "item_id", "left")
    for hidden, on in _not_allowed(inputs):
        truth = truth.join(hidden.select(*on).distinct().withColumn("hidden", F.lit(True)), on, "left")
        truth = truth.withColumn("barred", F.coalesce("hidden", F.lit(False)) | F.col("barred")).drop("hidden")
    scored = F.col("first_us").isNotNull() & ~F.col("barred")
    clock = [age_band(at.as_of_us), _hour(config.clock.zone)] if config.log.events.has_clock else []
    whole = [F.lit(f"night={at.run_date}"), band("history", F.col("n_events"), HISTORY), F.concat(F.lit("segment="), "segment")]
    slices = F.when(scored, F.array(F.lit(""), *whole, *clock, F.lit("truth=all"))).otherwise(F.array(F.lit("truth=all")))
    return truth.select("user_id", "item_id", slices.alias("slices"))


def with_own_list(inputs: Inputs) -> DataFrame:
    """user_id, segment of the users who get a list of their own; the largest segments keep their names, the others are one."""
    return largest_segments(inputs.who.where("audience = 'user'").select("user_id", "segment"))


def largest_segments(who: DataFrame) -> DataFrame:
    """The rows with the names of the largest segments kept; the others are one."""
    from pyspark.sql import functions as F

    counted = who.groupBy("segment").count().orderBy(F.desc("count"), "segment").limit(SEGMENTS)
    largest = [r["segment"] for r in counted.collect()]
    return who.withColumn("segment", F.when(F.col("segment").isin(largest), F.col("segment")).otherwise(F.lit("(other)")))


def met(inputs: Inputs, horizon_us: int) -> DataFrame:
    """user_id, item_id, item_index, ts (first meeting), barred (false): targets in [cut, cut + horizon) that the attempt's batches hold."""
    from pyspark.sql import functions as F

    cut_us = inputs.attempt.night.as_of_us
    targets = [t.code for t in inputs.config.log.events.event_types.values() if t.target]
    inside = (F.col("ts") >= F.timestamp_micros(F.lit(cut_us))) & (F.col("ts") < F.timestamp_micros(F.lit(cut_us + horizon_us)))
    events = inputs.events.where((F.col("batch_id") <= inputs.attempt.max_batch) & inside & F.col("type_code").isin(targets))
    return events.groupBy("user_id", "item_id", "item_index").agg(F.min("ts").alias("ts")).withColumn("barred", F.lit(False))


def _not_allowed(inputs: Inputs) -> list[tuple[DataFrame, list[str]]]:
    """What the rules keep out of lists: frames, and the columns by which they meet the truth."""
    from pyspark.sql import functions as F

    out = [
        (inputs.unavailable, ["item_id"]), (inputs.blocks.where("user_id IS NULL"), ["item_id"]),
        (inputs.blocks.where("user_id IS NOT NULL"), ["user_id", "item_id"]),
    ]
    seen = inputs.seen()
    if seen is not None:
        out.append((seen.select("user_id", F.explode("items").alias("item_index")), ["user_id", "item_index"]))
    return out


def band(name: str, value: Column, starts: tuple[int, ...], unit: str = "") -> Column:
    """`name=5-19d` for a whole number; the last band is open."""
    from pyspark.sql import functions as F

    ends = [f"-{b - 1}" if b > a + 1 else "" for a, b in pairwise(starts)]
    labels = [f"{a}{end}{unit}" for a, end in zip(starts, [*ends, "+"], strict=True)]
    out = F.lit(f"{name}={labels[0]}")
    for start, label in zip(starts[1:], labels[1:], strict=True):
        out = F.when(value >= start, F.lit(f"{name}={label}")).otherwise(out)
    return out


def age_band(cut_us: int) -> Column:
    """The slice of an item by the days from its first event (`first_us`) to the cut."""
    from pyspark.sql import functions as F

    return band("age", F.floor((F.lit(cut_us) - F.col("first_us")) / DAY), AGE_D, "d")


def _hour(zone: str) -> Column:
    from pyspark.sql import functions as F

    return band("hour", F.hour(F.from_utc_timestamp("ts", zone)), HOURS)
