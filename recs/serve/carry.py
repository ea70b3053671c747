"""`--changed-only`: lists of users without new events are carried forward from the night that stands.

    the night that stands     knew (as_of, batch)
    users with an event this night knows and that one did not       scored again
    active users without a list there, or whose list is now empty    scored
    all other active users                                           the same list with its own scored_as_of, less what may no
                                                                     longer be shown, ranks without gaps
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from recs.schemas import RECOMMENDATIONS

if TYPE_CHECKING:
    from typing import Any

    from pyspark.sql import DataFrame

    from recs.serve.nights import Attempt


def with_new_events(events: DataFrame, since: dict[str, Any], attempt: Attempt) -> DataFrame:
    """user_id of users with an event that the attempt knows and the night `since` (a row of `nights`) did not, each once."""
    from pyspark.sql import functions as F

    def before(us: int):
        return F.col("ts") < F.timestamp_micros(F.lit(us))

    now = (F.col("batch_id") <= attempt.max_batch) & before(attempt.night.as_of_us)
    new = (F.col("batch_id") > since["max_batch"]) | ~before(since["as_of_us"])
    return events.where(now & new).select("user_id").distinct()


def carried(lists: DataFrame, who: DataFrame, changed: DataFrame, out_of: DataFrame, blocks: DataFrame, k: int) -> DataFrame:
    """Lists of the standing night that hold on: rows of `recommendations` of users in `who` and not in `changed`, ranked anew.

    `out_of`: item_id that nobody may be shown; `blocks`: user_id (NULL = everybody), item_id.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    kept = (
        lists.where("audience = 'user'")
        .join(who.select("user_id"), "user_id", "left_semi")
        .join(changed.select("user_id"), "user_id", "left_anti")
        .join(out_of.select("item_id"), "item_id", "left_anti")
        .join(blocks.where("user_id IS NULL").select("item_id"), "item_id", "left_anti")
        .join(blocks.where("user_id IS NOT NULL").select("user_id", "item_id"), ["user_id", "item_id"], "left_anti")
    )
    rank = F.row_number().over(Window.partitionBy("user_id").orderBy("rank"))
    return kept.withColumn("rank", rank).where(F.col("rank") <= k).select(*RECOMMENDATIONS.column_names)
