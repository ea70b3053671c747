"""Who gets a list, and what is asked for them.

    users with an event within `active_days` before the cut     user       a list of one's own
    all others with a history or a row in `users`                segment    their segment's list, stored once under its name
    opted out                                                    none       no list, and no part in making one

A segment is the one that held at the cut; '' and NULL are 'all'.  Opting out counts if it holds when the list is used.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from recs.clock import DAY
from recs.evidence.histories import SEQUENCE_COLUMNS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recs.serve.nights import Attempt

EVERYBODY = "all"       # the segment of users without one; its list is made from everybody


def audiences(sequences: DataFrame, users: DataFrame, attempt: Attempt, active_days: int) -> DataFrame:
    """One row per user: user_id, audience (user, segment or none), segment.  `sequences` as of the night's cut."""
    from pyspark.sql import functions as F

    night = attempt.night
    known = users.where(F.col("batch_id") <= attempt.max_batch)
    segments = as_known(known, night.as_of_us, "segment")
    opted_out = as_known(known, night.serve_at_us, "opt_out")
    everyone = (
        sequences.select("user_id", "last_ts")
        .join(segments, "user_id", "full_outer")
        .join(opted_out, "user_id", "full_outer")
    )
    since = F.timestamp_micros(F.lit(night.as_of_us - active_days * DAY))
    audience = (
        F.when(F.coalesce("opt_out", F.lit(False)), "none").when(F.col("last_ts") >= since, "user").otherwise("segment")
    )
    segment = F.coalesce(F.nullif("segment", F.lit("")), F.lit(EVERYBODY))
    return everyone.select("user_id", audience.alias("audience"), segment.alias("segment"))


def as_known(users: DataFrame, instant_us: int, fact: str) -> DataFrame:
    """user_id and a fact of the newest row that began by the instant.

    When the row ended is not asked: a later batch closes it when it brings the next one, and a re-run must not see that.
    """
    from pyspark.sql import functions as F

    begun = users.where(F.col("valid_from") <= F.timestamp_micros(F.lit(instant_us)))
    return begun.groupBy("user_id").agg(F.max_by(fact, "valid_from").alias(fact))


def requests(sequences: DataFrame, who: DataFrame, hidden: DataFrame, serve_at_us: int) -> DataFrame:
    """What `recs.serve.score.recommend` reads, one row per user of `who` that has a history.

    `hidden`: user_id, blocked array<int>, at most one row per user (recs.serve.hidden.hidden_items).
    """
    from pyspark.sql import functions as F

    asked = sequences.select(*SEQUENCE_COLUMNS).join(who.select("user_id"), "user_id", "left_semi")
    return asked.join(hidden, "user_id", "left").withColumn("request_us", F.lit(serve_at_us))

