"""Is this night fit to be seen?  Spark aggregations over the staged rows; every check has a value, a limit and a verdict.

    shape       one list per eligible user, ranks 1..n, no item twice, finite scores, no NULLs, only this night's rows
    items       known, available when the list is used, not blocked, not seen where that hides, within the category cap
    yesterday   number of lists, share of items kept, lists that did not change although their users did something
    collapse    share of fallback rows and of lists the model failed on, one item everywhere, all scores of a list equal

A first night has no yesterday; a new model may change every list; a model that tells everybody the same may collapse.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from recs.schemas import RECOMMENDATIONS

from .score import MODEL_ERROR

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row

    from recs.config import AuditConfig
    from recs.serve.nights import Attempt

Results = dict[str, dict[str, Any]]

LIST = ["audience", "user_id"]
ENOUGH_LISTS = 20       # fewer changed users than this say nothing about a frozen model


@dataclass(frozen=True)
class Against:
    """What the staged lists are held against; frames as recs.serve.policy and recs.serve.hidden make them."""

    attempt: Attempt
    who: DataFrame              # user_id, audience, segment
    vocabulary: DataFrame       # item_id, item_index
    unavailable: DataFrame      # item_id
    blocks: DataFrame           # user_id (NULL = everybody), item_id
    seen: DataFrame | None      # user_id, items array<int>: integers of what the user may not be shown again; None: no such rule
    categories: DataFrame       # item_id, category (NULL = none)
    category_cap: int | None
    exclude_self: bool
    yesterday: DataFrame | None     # rows of the night that stands before this one
    changed: DataFrame | None       # user_id with events since then
    same_recipe: bool           # was yesterday made by a model of the same name?
    personal: bool              # does the model tell users different things?


def audit(staged: DataFrame, against: Against, limits: AuditConfig) -> Results:
    """check -> {ok, value, limit}.  Shares are 0..1; a limit of NULL means that the figure is shown, not judged."""
    lists = _facts_of_lists(staged, against)
    out = _shape(staged, lists, against) | _items(staged, against) | _collapse(staged, lists, against, limits)
    if against.yesterday is not None:
        out |= _yesterday(staged, lists["user_lists"], against, limits)
    return out


def failures(results: Results) -> str:
    """The failed checks in one line; '' when there is none."""
    failed = [f"{name} {_plain(r['value'])} (limit {_plain(r['limit'])})" for name, r in results.items() if not r["ok"]]
    return ", ".join(failed)


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _none(value: int) -> dict[str, Any]:
    """A count that has to be 0."""
    return {"ok": value == 0, "value": value, "limit": 0}


def _shown(value: Any) -> dict[str, Any]:
    """A figure that is not judged."""
    return {"ok": True, "value": value, "limit": None}


def _at_most(value: float, limit: float) -> dict[str, Any]:
    return {"ok": value <= limit, "value": round(value, 6), "limit": limit}


def _facts_of_lists(staged: DataFrame, against: Against) -> Row:
    """Counts over all lists, each held against the list that its user or segment should have."""
    from pyspark.sql import functions as F

    users = against.who.where("audience = 'user'").select("audience", "user_id")
    segments = against.who.where("audience != 'none'").select(F.lit("segment").alias("audience"), F.col("segment").alias("user_id"))
    wanted = users.union(segments.distinct()).withColumn("wanted", F.lit(True))
    both = _lists(staged).join(wanted, LIST, "full_outer")
    user, segment = F.col("audience") == "user", F.col("audience") == "segment"
    there, bad_ranks = F.col("n").isNotNull(), (F.col("first") != 1) | (F.col("last") != F.col("n")) | (F.col("ranks") != F.col("n"))
    return both.agg(
        F.count_if(user & there).alias("user_lists"), F.count_if(segment & there).alias("segment_lists"),
        F.count_if(user & ~there).alias("users_without"), F.count_if(segment & ~there).alias("segments_without"),
        F.count_if(user & F.col("wanted").isNull()).alias("no_right"),
        F.count_if(bad_ranks).alias("bad_ranks"), F.count_if(F.col("items") != F.col("n")).alias("twice"),
        F.coalesce(F.sum(F.when(user, F.col("n"))), F.lit(0)).alias("rows"),
        F.coalesce(F.sum(F.when(user, F.col("model_rows"))), F.lit(0)).alias("model_rows"),
        F.count_if(F.col("errors") > 0).alias("errors"), F.count_if(F.col("model_rows") > 1).alias("ranked"),
        F.count_if((F.col("model_rows") > 1) & (F.col("model_scores") == 1)).alias("flat"),
    ).collect()[0]


def _lists(staged: DataFrame) -> DataFrame:
    """One row per list."""
    from pyspark.sql import functions as F

    model_rows = F.col("source") == "model"
    return staged.groupBy(*LIST).agg(
        F.count(F.lit(1)).alias("n"), F.min("rank").alias("first"), F.max("rank").alias("last"),
        F.count_distinct("rank").alias("ranks"), F.count_distinct("item_id").alias("items"),
        F.count_if(model_rows).alias("model_rows"), F.count_distinct(F.when(model_rows, F.col("score"))).alias("model_scores"),
        F.count_if(F.col("reason_code") == MODEL_ERROR).alias("errors"),
    )


def _shape(staged: DataFrame, lists: Row, against: Against) -> Results:
    from pyspark.sql import functions as F

    required = [F.col(c.name).isNull() for c in RECOMMENDATIONS.columns if not c.nullable]
    night, name = against.attempt.night, against.attempt.list_name
    foreign = (F.col("run_date") != F.lit(night.run_date)) | (F.col("list_name") != name)
    rows = staged.agg(
        F.count(F.lit(1)).alias("rows"), F.count_if(reduce(or_, required)).alias("nulls"), F.count_if(foreign).alias("foreign"),
        F.count_if(F.unix_micros("scored_as_of") > night.as_of_us).alias("later"),
        F.count_if(F.isnan("score") | (F.abs("score") >= 1e300)).alias("not_finite"),
    ).collect()[0]
    return {
        "rows": {"ok": rows["rows"] > 0, "value": rows["rows"], "limit": 1},
        "user_lists": _shown(lists["user_lists"]),
        "segment_lists": _shown(lists["segment_lists"]),
        "users_without_list": _none(lists["users_without"]),
        "lists_without_right": _none(lists["no_right"]),
        "segments_without_list": _none(lists["segments_without"]),
        "lists_with_bad_ranks": _none(lists["bad_ranks"]),
        "lists_with_an_item_twice": _none(lists["twice"]),
        "scores_not_finite": _none(rows["not_finite"]),
        "rows_with_nulls": _none(rows["nulls"]),
        "rows_of_another_night": _none(rows["foreign"]),
        "rows_that_know_the_future": _none(rows["later"]),
    }


def _items(staged: DataFrame, against: Against) -> Results:
    """One pass over the rows with what is known of each item, one over lists and categories, one over what was seen."""
    from pyspark.sql import functions as F

    def mark(items: DataFrame, name: str) -> DataFrame:
        return items.distinct().withColumn(name, F.lit(True))

    user = F.col("audience") == "user"
    marked = (
        staged.select(*LIST, "item_id")
        .join(against.vocabulary.select("item_id", "item_index"), "item_id", "left")
        .join(mark(against.unavailable.select("item_id"), "shut"), "item_id", "left")
        .join(mark(against.blocks.where("user_id IS NULL").select("item_id"), "for_all"), "item_id", "left")
        .join(mark(against.blocks.where("user_id IS NOT NULL").select("user_id", "item_id"), "for_one"), ["user_id", "item_id"], "left")
    )
    found = marked.agg(
        F.count_if(F.col("item_index").isNull()).alias("unknown"), F.count_if("shut").alias("shut"),
        F.count_if(F.coalesce("for_all", F.col("for_one") & user, F.lit(False))).alias("blocked"),
        F.count_if(user & (F.col("user_id") == F.col("item_id"))).alias("oneself"),
    ).collect()[0]
    out = {
        "unknown_items": _none(found["unknown"]), "unavailable_items": _none(found["shut"]), "blocked_items": _none(found["blocked"]),
    }
    if against.seen is not None:
        out["seen_items"] = _none(_seen_rows(marked.where(user), against.seen))
    if against.exclude_self:
        out["users_listed_to_themselves"] = _none(found["oneself"])
    if against.category_cap is not None:
        named = staged.join(against.categories.where("category IS NOT NULL").select("item_id", "category"), "item_id")
        over = named.groupBy(*LIST, "category").count().where(F.col("count") > against.category_cap)
        out["lists_over_category_cap"] = _none(over.select(*LIST).distinct().count())
    return out


def _seen_rows(marked: DataFrame, seen: DataFrame) -> int:
    """Rows whose item the user may not be shown again: one row per user on both sides, arrays compared in place."""
    from pyspark.sql import functions as F

    listed = marked.groupBy("user_id").agg(F.collect_set("item_index").alias("listed"))
    both = listed.join(seen, "user_id").select(F.size(F.array_intersect("listed", "items")).alias("n"))
    return both.agg(F.coalesce(F.sum("n"), F.lit(0))).collect()[0][0]


def _collapse(staged: DataFrame, lists: Row, against: Against, limits: AuditConfig) -> Results:
    from pyspark.sql import functions as F

    per_item = staged.where("audience = 'user'").groupBy("item_id").count()
    counts = per_item.agg(F.max("count").alias("most"), F.count(F.lit(1)).alias("items")).collect()[0]
    n_lists = max(lists["user_lists"], 1)
    not_model = 1 - lists["model_rows"] / lists["rows"] if lists["rows"] else 0.0
    out = {
        "share_of_fallback": _at_most(not_model, limits.max_fallback_share),
        "share_of_model_errors": _at_most(lists["errors"] / n_lists, limits.max_fallback_share),
        "items_listed": _shown(counts["items"]),
        "share_of_top_item": _at_most((counts["most"] or 0) / n_lists, limits.max_item_share),
        "share_of_lists_with_equal_scores": _at_most(lists["flat"] / max(lists["ranked"], 1), limits.max_item_share),
    }
    if not against.personal or lists["user_lists"] < ENOUGH_LISTS:
        for name in ("share_of_top_item", "share_of_lists_with_equal_scores"):
            out[name] = _shown(out[name]["value"])
    return out


def _yesterday(staged: DataFrame, n_now: int, against: Against, limits: AuditConfig) -> Results:
    from pyspark.sql import functions as F

    before = against.yesterday.where("audience = 'user'").select("user_id", "item_id", "rank")
    now = staged.where("audience = 'user'").select("user_id", "item_id", "rank")
    n_before = before.select("user_id").distinct().count()
    kept = _kept_share(now, before)
    overlap = {"ok": kept is None or kept >= limits.min_overlap, "value": kept, "limit": limits.min_overlap}
    out = {
        "change_of_lists": _at_most(abs(n_now / n_before - 1) if n_before else 0.0, limits.max_change_of_lists),
        "overlap": overlap if against.same_recipe else _shown(kept),
    }
    if against.changed is not None and against.personal and against.same_recipe:
        active = _as_lists(now.join(against.changed, "user_id", "left_semi")).alias("n").join(_as_lists(before).alias("b"), "user_id")
        same = active.agg(F.count(F.lit(1)).alias("lists"), F.count_if(F.col("n.items") == F.col("b.items")).alias("same")).collect()[0]
        share = _at_most(same["same"] / max(same["lists"], 1), limits.max_identical_share)
        out["share_of_identical_lists"] = share if same["lists"] >= ENOUGH_LISTS else _shown(share["value"])
    return out


def _as_lists(rows: DataFrame) -> DataFrame:
    """user_id, items in the order of their ranks."""
    from pyspark.sql import functions as F

    return rows.groupBy("user_id").agg(F.sort_array(F.collect_list(F.struct("rank", "item_id"))).alias("items"))


def _kept_share(now: DataFrame, before: DataFrame) -> float | None:
    """Mean over users with a list on both nights of the share of yesterday's items that are still there; None without such users."""
    from pyspark.sql import functions as F

    both = before.join(now.select("user_id").distinct(), "user_id", "left_semi")
    kept = both.join(now.select("user_id", "item_id", F.lit(1).alias("kept")), ["user_id", "item_id"], "left")
    per_user = kept.groupBy("user_id").agg((F.sum(F.coalesce("kept", F.lit(0))) / F.count(F.lit(1))).alias("share"))
    found = per_user.agg(F.avg("share")).collect()[0][0]
    return None if found is None else round(found, 6)
