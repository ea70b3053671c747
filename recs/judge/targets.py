"""The protocols of publications: one target per user, and the two instants at which a list may be asked for it.

    leave one out       the last event of every user with three or more
    global temporal     the last event after an instant, of users and items known by then

    rule                history                                     request time
    target              all events before the target                the target's own instant
    night               those before the cut of the night whose     serve_at of that night
                        list is in use at the target's instant

A nightly list answers by the second rule; the first tells a time-aware model "the same minute as the last click".
"""
from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

RULES = ("target", "night")


def _in_order():
    return Window.partitionBy("user_id").orderBy("ts", "source_seq", "event_id")


def targets_of(
    events: DataFrame, after_us: int | None, filter_seen: bool, codes: Sequence[int] | None = None, per_user: int = 1,
) -> DataFrame:
    """user_id, target, item_index, ts, place: up to `per_user` targets (of the types `codes`) of each user, with their places in
    his history.

    Target 0 is his last event, further ones (1, 2, …) are drawn by a hash.  `after_us` None: the last of all, of users with three or
    more (leave-one-out).  Else events after that instant of items that have an event up to it, by users who have one up to it;
    where seen items are filtered first meetings only (time to split).
    """
    placed = events.withColumn("place", F.row_number().over(_in_order()))
    placed = placed if codes is None else placed.where(F.col("type_code").isin(list(codes)))
    later = placed.select("user_id", "item_index", "ts", "place")
    if after_us is None:
        later = later.where("place >= 3")
    else:
        met = Window.partitionBy("user_id", "item_index").orderBy("place")
        split = F.timestamp_micros(F.lit(after_us))
        fit = events.where(F.col("ts") <= split)
        later = later.withColumn("meeting", F.row_number().over(met)).where(F.col("ts") > split)
        later = later.where("meeting = 1") if filter_seen else later
        for known in ("user_id", "item_index"):
            later = later.join(fit.select(known).distinct(), known, "left_semi")
    back = Window.partitionBy("user_id").orderBy(F.desc("place"))
    last_then_drawn = Window.partitionBy("user_id").orderBy(F.col("back") > 1, F.xxhash64("user_id", "place"))
    numbered = later.withColumn("back", F.row_number().over(back)).withColumn("target", F.row_number().over(last_then_drawn) - 1)
    return numbered.where(F.col("target") < per_user).select("user_id", "target", "item_index", "ts", "place")


def before_targets(events: DataFrame, targets: DataFrame, each: bool = False) -> DataFrame:
    """Events of the targets' users that stand before the target; `each`: user_id says which target too (user, 0x1f, number)."""
    placed = events.withColumn("place", F.row_number().over(_in_order()))
    limit = targets.select("user_id", "target", F.col("place").alias("target_place"))
    known = placed.join(limit, "user_id").where("place < target_place")
    named = known.withColumn("user_id", F.concat_ws("\x1f", "user_id", "target")) if each else known
    return named.select(*events.columns)


def quantile_us(events: DataFrame, q: float) -> int:
    """The instant of the event at this share of all events, microseconds."""
    return int(events.agg(F.expr(f"percentile_disc({q}) WITHIN GROUP (ORDER BY unix_micros(ts))")).first()[0])


def asked_at_target(targets: DataFrame) -> DataFrame:
    """user_id, cut_us, request_us by the rule `target`: the target's own instant; its place in the history says what came before."""
    at = F.unix_micros("ts")
    return targets.select("user_id", at.alias("cut_us"), at.alias("request_us"))


def asked_at_night(targets: DataFrame, zone: str, lead: timedelta) -> DataFrame:
    """user_id, cut_us, request_us by the rule `night`: as_of and serve_at of the last night whose lists were in use at the target.

    The lead is counted on the wall clock, as in `recs.clock.Night.of`.
    """
    lead_us = F.lit(lead // timedelta(microseconds=1)).cast("bigint")
    wall_us = F.unix_micros(F.from_utc_timestamp("ts", zone)) - lead_us
    midnight = F.to_date(F.timestamp_micros(wall_us)).cast("timestamp")
    served = F.timestamp_micros(F.unix_micros(midnight) + lead_us)
    cut, request = (F.unix_micros(F.to_utc_timestamp(t, zone)) for t in (midnight, served))
    return targets.select("user_id", cut.alias("cut_us"), F.greatest(cut, request).alias("request_us"))
