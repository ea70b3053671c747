"""Several models' lists held against what followed: figures with intervals, on Spark.

    lists         a row per model, night and user: the items, best first, and what the list is like (recs/judge/beyond.py)
    truth         a row per night, user and item that came true, with the slices it belongs to
    units         per slice, night and user: how many items came true, and every model's ranks of those it listed
    sums          of all metrics of all models, in every bootstrap replicate (recs/judge/bootstrap.py)
    figures       means and paired differences with their intervals; the driver sees sums, never a user

A slice is a part of the truth: a list counts in it by the items of the slice alone, so `age=<1d` asks how well fresh items are
found.  What is true of the whole list (night, length of the history, segment) holds for all its items.  A list that a model did not make
scores 0.  Headline figures are of the slice ''.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import bootstrap
from .beyond import TIERS, Shelf, described
from .metrics import all_metrics_of_hits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recs.serve.artifacts import Artifact

RANKS = 10_000          # model * RANKS + rank stands for a hit: a list is not longer than a thousand
ALL = ""
LIKE = ("novelty", "items", "categories", "has_categories", "cooccurrence", "has_cooccurrence", *(f"exposure_{t}" for t in TIERS))
LIST_COLUMNS = ("model", "night", "user_id", "segment", "items", "like")
LIST_DDL = "model string, night int, user_id string, segment string, items array<string>, like array<double>"


@dataclass(frozen=True)
class Figure:
    """One number about a model, or about its difference to another on the same lists; `n`: lists behind it."""

    model: str
    versus: str
    name: str
    slice: str
    value: float
    low: float | None
    high: float | None
    p: float | None
    n: int


def listed(rows: DataFrame, model: str, night: int, shelf: Artifact | Shelf, k: int) -> DataFrame:
    """LIST_COLUMNS of a model's lists (user_id, segment, item_id, rank), cut at k.

    `shelf`: the item tables of the night, or their `Shelf`; it is opened once per worker.
    """
    from pyspark.sql import functions as F

    top = rows.where(F.col("rank") <= k)
    in_order = F.transform(F.sort_array(F.collect_list(F.struct("rank", "item_id"))), lambda x: x["item_id"])
    lists = top.groupBy("user_id", "segment").agg(in_order.alias("items"))
    named = lists.select(F.lit(model).alias("model"), F.lit(night).alias("night"), "user_id", "segment", "items")
    return named.mapInPandas(partial(_describe_on_worker, shelf), LIST_DDL)


def _describe_on_worker(shelf: Artifact | Shelf, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    shelf = shelf if isinstance(shelf, Shelf) else _opened(shelf)
    for frame in frames:
        if len(frame):
            found = described([np.asarray(items, object) for items in frame["items"]], shelf)
            exposure = found.pop("exposure")
            like = np.column_stack([*(found[name] for name in LIKE[: -len(TIERS)]), exposure])
            yield frame.assign(like=list(like))


_SHELVES: dict[str, Shelf] = {}     # of this process; one at a time


def _opened(tables: Artifact) -> Shelf:
    if tables.content_hash not in _SHELVES:
        from recs.evidence.item_tables import ItemTables

        _SHELVES.clear()
        _SHELVES[tables.content_hash] = Shelf.of(ItemTables(tables.local, verify=True))
    return _SHELVES[tables.content_hash]


def units(lists: DataFrame, truth: DataFrame, models: Sequence[str]) -> DataFrame:
    """slice, night, user_id, wanted, hits array<int> (place of the model in `models` * RANKS + rank): a row per list and slice.

    `truth`: night, user_id, item_id, slices array<string>; an item comes true once for a user and night.
    """
    from pyspark.sql import functions as F

    number = F.create_map(*(F.lit(x) for pair in ((m, i) for i, m in enumerate(models)) for x in pair))
    ranked = lists.select("night", "user_id", number[F.col("model")].alias("number"), F.posexplode("items").alias("place", "item_id"))
    ranked = ranked.where("number IS NOT NULL").select(
        "night", "user_id", "item_id", (F.col("number") * RANKS + F.col("place") + 1).alias("hit"),
    )
    hits = ranked.groupBy("night", "user_id", "item_id").agg(F.collect_list("hit").alias("hits"))
    met = truth.join(hits, ["night", "user_id", "item_id"], "left").withColumn("slice", F.explode("slices"))
    return met.groupBy("slice", "night", "user_id").agg(
        F.count(F.lit(1)).cast("int").alias("wanted"), F.flatten(F.collect_list("hits")).alias("hits"),
    )


def compare(
    lists: DataFrame, truth: DataFrame, models: Sequence[str], k: int, versus: Sequence[str] = (), replicates: int = bootstrap.REPLICATES,
) -> list[Figure]:
    """All figures of the lists (LIST_COLUMNS) against the truth (see `units`).  `versus`: whom the others are compared with, pairwise."""
    return quality(units(lists, truth, models), models, k, versus, replicates) + likeness(lists, models, k, replicates)


def quality(
    asked: DataFrame, models: Sequence[str], k: int, versus: Sequence[str] = (), replicates: int = bootstrap.REPLICATES,
) -> list[Figure]:
    """Figures of `units`: every metric of every model in every slice; of slice '' also the paired differences."""
    from pyspark.sql import functions as F

    rows = asked.select(F.col("slice").alias("group"), bootstrap.user_key().alias("user_key"), "wanted", "hits")
    values = rows.mapInPandas(partial(_metrics_on_worker, len(models), k), "group string, user_key bigint, values array<double>")
    found = bootstrap.sums(values, replicates)
    names = metric_names(k)
    place = {(m, name): i * len(names) + j for i, m in enumerate(models) for j, name in enumerate(names)}
    lists = len(place)      # the last column counts
    out = []
    for part, s in sorted(found.items()):
        n = int(s[0, lists])
        for (model, name), column in place.items():
            out.append(figure_of(model, "", name, part, bootstrap.ratio(s, column, lists), n))
        for model, other in ((m, v) for v in versus for m in models if m != v and part == ALL):
            for name in names:
                gain = bootstrap.difference(s, place[model, name], place[other, name], lists)
                out.append(figure_of(model, other, name, part, gain, n))
    return out


def metric_names(k: int) -> list[str]:
    """Names of the metrics of a list of k, as in `all_metrics_of_hits`."""
    return list(all_metrics_of_hits(np.zeros((1, k), bool), np.ones(1, int)))


def _metrics_on_worker(n_models: int, k: int, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for frame in frames:
        if not len(frame):
            continue
        lengths = frame["hits"].map(len).to_numpy(np.int64)
        row = np.repeat(np.arange(len(frame)), lengths)
        model, rank = np.divmod(np.concatenate([np.asarray(h, np.int64) for h in frame["hits"]]), RANKS)
        hits = np.zeros((len(frame), n_models, k), bool)
        inside = rank <= k
        hits[row[inside], model[inside], rank[inside] - 1] = True
        wanted = frame["wanted"].to_numpy(np.int64)
        columns = [v for m in range(n_models) for v in all_metrics_of_hits(hits[:, m], wanted).values()]
        values = np.column_stack([*columns, np.ones(len(frame))])
        yield pd.DataFrame({"group": frame["group"], "user_key": frame["user_key"], "values": list(values)})


def likeness(lists: DataFrame, models: Sequence[str], k: int, replicates: int = bootstrap.REPLICATES) -> list[Figure]:
    """What the lists are like (novelty, diversity, exposure), of all lists and by segment; coverage is `coverage`."""
    from pyspark.sql import functions as F

    groups = F.array(F.col("model"), F.concat_ws("\x1f", "model", "segment"))
    counted = F.array_append(F.col("like"), F.lit(1.0))
    rows = lists.where(F.col("model").isin(list(models))).select(
        F.explode(groups).alias("group"), bootstrap.user_key().alias("user_key"), counted.alias("values"),
    )
    at = {name: i for i, name in enumerate((*LIKE, "lists"))}
    out = []
    for group, s in sorted(bootstrap.sums(rows, replicates).items()):
        model, _, segment = group.partition("\x1f")
        part, n = f"segment={segment}" if segment else ALL, int(s[0, at["lists"]])
        shown = [at[f"exposure_{t}"] for t in TIERS]
        s = np.column_stack([s, s[:, shown].sum(axis=1)])
        pairs = [
            ("novelty", "novelty", "items"), ("diversity_category", "categories", "has_categories"),
            ("diversity_cooccurrence", "cooccurrence", "has_cooccurrence"), ("length", "items", "lists"),
        ]
        found = {name: bootstrap.ratio(s, at[above], at[below]) for name, above, below in pairs}
        found |= {f"exposure_{t}": bootstrap.ratio(s, column, s.shape[1] - 1) for t, column in zip(TIERS, shown, strict=True)}
        out += [figure_of(model, "", f"{name}@{k}", part, e, n) for name, e in found.items() if np.isfinite(e.value)]
    return out


def coverage(lists: DataFrame, models: Sequence[str], k: int, n_catalogue: int) -> list[Figure]:
    """Distinct items in a model's lists as a share of the catalogue; an interval would be of another quantity, so there is none."""
    from pyspark.sql import functions as F

    rows = lists.where(F.col("model").isin(list(models)))
    found = rows.select("model", F.explode("items").alias("item_id")).groupBy("model").agg(F.count_distinct("item_id").alias("items"))
    counted = found.join(rows.groupBy("model").agg(F.count(F.lit(1)).alias("lists")), "model")
    shares = [(r["model"], round(r["items"] / max(n_catalogue, 1), bootstrap.DIGITS), r["lists"]) for r in counted.collect()]
    return [Figure(model, "", f"coverage@{k}", ALL, share, None, None, None, n) for model, share, n in sorted(shares)]


def figure_of(model: str, versus: str, name: str, part: str, e: bootstrap.Estimate, n: int) -> Figure:
    """A figure of an estimate; ends of an interval that could not be drawn are None."""
    low, high = (v if np.isfinite(v) else None for v in (e.low, e.high))
    return Figure(model, versus, name, part, e.value, low, high, e.p, n)
