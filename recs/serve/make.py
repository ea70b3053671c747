"""One night's rows: active users' lists from the model (or carried forward), one list per segment for everybody else.

    who has audience user      scored by the model                                            audience user
      --changed-only           only those with new events; the others' lists are carried on   audience user, own scored_as_of
    every segment              what its users met lately                                      audience segment
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from recs.clock import from_micros
from recs.evidence.item_tables import ArtifactError, ItemTables
from recs.schemas import RECOMMENDATIONS

from . import carry, hidden, segments
from .policy import requests
from .score import recommend

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame

    from recs.serve.inputs import Inputs
    from recs.serve.nights import Attempt

SEGMENT_MODEL = "segment_popularity"    # `model_version` of segments' lists: no trained model made them


def night_rows(
    inputs: Inputs, model_path: str | Path, tables_path: str | Path, model_hash: str | None = None, changed_only: bool = False,
) -> DataFrame:
    """The rows of `recommendations` of this attempt.  Raises ArtifactError when model or item tables are not the night's."""
    _refuse_the_future(inputs.attempt, tables_path)
    active = inputs.who.where("audience = 'user'")
    kept = None
    if changed_only and inputs.yesterday is not None:
        out_of, k = inputs.unavailable, inputs.config.lists.k
        kept = inputs.keep(carry.carried(inputs.yesterday, active, inputs.changed, out_of, inputs.blocks, k))
        active = active.join(kept.select("user_id").distinct(), "user_id", "left_anti")
    rows = _scored(inputs, active, model_path, tables_path, model_hash).unionByName(_for_segments(inputs))
    return rows if kept is None else rows.unionByName(_of_this_night(kept, inputs.attempt))


def _refuse_the_future(attempt: Attempt, tables_path: str | Path) -> None:
    cut = ItemTables(tables_path).cut_us
    as_of = attempt.night.as_of
    if cut > attempt.night.as_of_us:
        raise ArtifactError(f"{tables_path}: know events up to {from_micros(cut)}, after the night’s cut {as_of}; build them as of it")


def _scored(inputs: Inputs, who: DataFrame, model_path: str | Path, tables_path: str | Path, model_hash: str | None) -> DataFrame:
    from pyspark.sql import functions as F

    recommended = model_lists(inputs, who, model_path, tables_path, model_hash)
    return _as_rows(recommended.withColumn("audience", F.lit("user")), inputs.attempt, inputs.attempt.model_version)


def model_lists(
    inputs: Inputs, who: DataFrame, model_path: str | Path, tables_path: str | Path, model_hash: str | None = None,
) -> DataFrame:
    """What `recs.serve.score.recommend` gives the users of `who`, asked as this night asks: its histories, instant, rules and blocks."""
    lists, attempt = inputs.config.lists, inputs.attempt
    asked = requests(inputs.sequences, who, hidden.hidden_items(inputs.blocks, inputs.older), attempt.night.serve_at_us)
    return recommend(
        asked.repartition(_tasks(asked), "user_id"), model_path, tables_path, lists.k, inputs.rules, model_hash=model_hash,
        tables_version=attempt.item_tables or None, block=lists.block_items, batch_users=lists.batch_users,
    )


def _tasks(frame: DataFrame) -> int:
    """Tasks to score in: a small table lies in one file, and adaptive execution would join a repartition without a number again."""
    spark = frame.sparkSession
    return max(int(spark.conf.get("spark.sql.shuffle.partitions")), spark.sparkContext.defaultParallelism)


def _for_segments(inputs: Inputs) -> DataFrame:
    from pyspark.sql import functions as F

    out_of = inputs.unavailable.union(inputs.blocks.where("user_id IS NULL").select("item_id")).distinct()
    named = inputs.who.where("audience != 'none'").select("segment").distinct()
    lists = segments.segment_lists(inputs.item_hours, named, out_of, inputs.catalogue, inputs.attempt.night.as_of_us, inputs.config.lists)
    rows = lists.select(
        "*", F.lit("segment").alias("audience"),
        F.lit(None).cast("string").alias("evidence_item_id"), F.lit(None).cast("timestamp").alias("evidence_ts"),
    )
    return _as_rows(rows, inputs.attempt, SEGMENT_MODEL)


def _as_rows(lists: DataFrame, attempt: Attempt, model_version: str) -> DataFrame:
    """With the columns that all rows of a night share."""
    from pyspark.sql import functions as F

    shared = {
        "model_version": F.lit(model_version),
        "scored_as_of": F.timestamp_micros(F.lit(attempt.night.as_of_us)),
        "serve_at": F.timestamp_micros(F.lit(attempt.night.serve_at_us)),
    }
    return _of_this_night(lists.withColumns(shared), attempt)


def _of_this_night(rows: DataFrame, attempt: Attempt) -> DataFrame:
    from pyspark.sql import functions as F

    named = rows.withColumns({"run_date": F.lit(attempt.night.run_date), "list_name": F.lit(attempt.list_name)})
    return named.select(*RECOMMENDATIONS.column_names)
