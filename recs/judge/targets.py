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


def targets_of(events: DataFrame, after_us: int | None, filter_seen: bool, codes: Sequence[int] | None = None) -> DataFrame:
    """One target per user: his last event (of the types `codes`), with its place in his history: user_id, item_index, ts, place.

    `after_us` None: the last of all, of users with three or more (leave-one-out).  Else the last event after that instant of an item
    that has an event up to it, by a user who has one up to it; where seen items are filtered the last first meeting (time to split).
    """
    placed = events.withColumn("place", F.row_number().over(_in_order()))
    placed = placed if codes is None else placed.where(F.col("type_code").isin(list(codes)))
    placed = placed.select("user_id", "item_index", "ts", "place")
    if after_us is None:
        every = placed.groupBy("user_id").agg(F.max_by(F.struct("*"), "place").alias("t")).select("t.*")
        return every.where("place >= 3")
    met = Window.partitionBy("user_id", "item_index").orderBy("place")
    split = F.timestamp_micros(F.lit(after_us))
    fit = events.where(F.col("ts") <= split)
    later = placed.withColumn("meeting", F.row_number().over(met)).where(F.col("ts") > split)
    later = later.where("meeting = 1") if filter_seen else later
    for known in ("user_id", "item_index"):
        later = later.join(fit.select(known).distinct(), known, "left_semi")
    return later.groupBy("user_id").agg(F.max_by(F.struct("item_index", "ts", "place"), "place").alias("t")).select("user_id", "t.*")


def before_targets(events: DataFrame, targets: DataFrame) -> DataFrame:
    """Events of the targets' users that stand before the target."""
    placed = events.withColumn("place", F.row_number().over(_in_order()))
    limit = targets.select("user_id", F.col("place").alias("target_place"))
    return placed.join(limit, "user_id").where("place < target_place").select(*events.columns)


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
    lead_s = F.lit(round(lead.total_seconds()))
    wall_us = F.unix_micros(F.from_utc_timestamp("ts", zone)) - lead_s * 1_000_000
    midnight = F.to_date(F.timestamp_micros(wall_us)).cast("timestamp")
    served = F.timestamp_micros(F.unix_micros(midnight) + lead_s * 1_000_000)
    cut, request = (F.unix_micros(F.to_utc_timestamp(t, zone)) for t in (midnight, served))
    return targets.select("user_id", cut.alias("cut_us"), F.greatest(cut, request).alias("request_us"))
