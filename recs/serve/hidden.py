"""What nobody, or one user, may be shown, as Spark frames: blocks, withdrawn items, and events older than a sequence holds.

The workers learn of it through `Rules.blocked` and the column `blocked`; lists that are carried forward and the audit use the
same frames on finished rows.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from recs.batches import known_rows

from .rules import FOR_EVER, Rules

BROADCAST = 100_000     # users with a full sequence up to which they are sent to every executor

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from recs.serve.nights import Attempt


def blocks_in_force(blocks: DataFrame, vocabulary: DataFrame, attempt: Attempt) -> DataFrame:
    """user_id (NULL = everybody), item_id, item_index of the blocks that hold for this attempt.

    A block counts if it was made before the attempt started, and holds then or when the list is used.  Blocks made later wait for
    `--refresh` or the next night: a re-run gives the same lists.
    """
    from pyspark.sql import functions as F

    def holds(us: int) -> Column:
        instant = F.timestamp_micros(F.lit(us))
        return (F.col("blocked_from") <= instant) & (F.col("blocked_until").isNull() | (F.col("blocked_until") > instant))

    made = F.col("blocked_from") <= F.timestamp_micros(F.lit(attempt.started_us))
    in_force = blocks.where(made & (holds(attempt.started_us) | holds(attempt.night.serve_at_us)))
    return in_force.select("user_id", "item_id").distinct().join(vocabulary.select("item_id", "item_index"), "item_id")


def for_everybody(blocks: DataFrame) -> tuple[int, ...]:
    """Integers of the items blocked for everybody, ascending.  On the driver: as many as people have typed in."""
    return tuple(sorted(r["item_index"] for r in blocks.where("user_id IS NULL").select("item_index").distinct().collect()))


def hidden_items(blocks: DataFrame, older: DataFrame | None) -> DataFrame:
    """user_id, blocked array<int>: what each user in person may not be shown beyond what the history says."""
    from pyspark.sql import functions as F

    pairs = blocks.where("user_id IS NOT NULL").select("user_id", "item_index")
    if older is not None:
        pairs = pairs.union(older.select("user_id", "item_index"))
    return pairs.groupBy("user_id").agg(F.sort_array(F.collect_set("item_index")).alias("blocked"))


def older_seen(events: DataFrame, sequences: DataFrame, rules: Rules, max_events: int, attempt: Attempt) -> DataFrame | None:
    """user_id, item_index hidden by events that are older than the user's sequence reaches; None when no event hides anything.

    Only users whose sequence is full are looked up, few in most logs.
    """
    from pyspark.sql import functions as F

    if not rules.hides_seen:
        return None
    full = sequences.where(F.col("n_events") >= max_events).select("user_id", "first_ts")
    n_full = full.limit(BROADCAST + 1).count()
    if n_full == 0:
        return None
    known = events.where((F.col("batch_id") <= attempt.max_batch) & (F.col("ts") < F.timestamp_micros(F.lit(attempt.night.as_of_us))))
    hides = hides_column(F.col("type_code"), F.unix_micros("ts"), rules, attempt.night.serve_at_us)
    older = known.where(hides).join(F.broadcast(full) if n_full <= BROADCAST else full, "user_id").where("ts <= first_ts")
    return older.select("user_id", "item_index").distinct()


def hides_column(type_code: Column, ts_us: Column, rules: Rules, request_us: int) -> Column:
    """`Rules.hides` in SQL."""
    from pyspark.sql import functions as F

    age = F.lit(request_us) - ts_us
    hides = age < rules.hidden_default_us if rules.hidden_default_us < FOR_EVER else F.lit(True)
    for code, us in sorted(rules.hidden_us.items()):
        hides = F.when(type_code == code, F.lit(True) if us >= FOR_EVER else age < us).otherwise(hides)
    return hides


def catalogue(items: DataFrame, attempt: Attempt) -> DataFrame:
    """What the catalogue said at the cut: item_id, category (top level, NULL = none), available_from, available_until.

    Of every item the newest row that has begun; an item whose row has ended, with none after it, is available until that end.
    """
    from pyspark.sql import functions as F

    begun = known_rows(items, "item_id", attempt.max_batch).where(F.col("valid_from") <= F.timestamp_micros(F.lit(attempt.night.as_of_us)))
    category = F.nullif(F.substring_index("category", "/", 1), F.lit(""))
    until = F.least("available_until", "valid_to")      # least passes over NULLs
    facts = F.struct(category.alias("category"), "available_from", until.alias("available_until"))
    return begun.groupBy("item_id").agg(F.max_by(facts, "valid_from").alias("at")).select("item_id", "at.*")


def unavailable(items: DataFrame, vocabulary: DataFrame, attempt: Attempt) -> DataFrame:
    """item_id that may not be recommended when the lists are used, by what was known at the cut."""
    from pyspark.sql import functions as F

    cut, serve = (F.timestamp_micros(F.lit(us)) for us in (attempt.night.as_of_us, attempt.night.serve_at_us))
    closed = catalogue(items, attempt).where((F.col("available_from") > serve) | (F.col("available_until") <= serve))
    withdrawn = vocabulary.where(F.col("tombstoned_on").cast("timestamp") <= cut)
    return closed.select("item_id").union(withdrawn.select("item_id")).distinct()
