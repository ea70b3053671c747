"""The morning after: the lists that were really served on a day, held against what their users then did.

    lists       own lists as they were served (recs/serve/served.py), cut at k; whoever had none and did something saw the segment’s list
    came true   distinct (user, item) of target events in the day’s window
    could be    … of items known at the day’s cut that the rules allowed this user: what the figures are of, as in recs/judge/truth.py;
      held      the slice truth=all also holds the rest
    popularity  what yesterday’s popularity list would have held for the same user under the same rules (recs/judge/yesterday.py)

    slice                               lists, or parts of them                                     figures
    ''                                  users’ own lists                                            all
    history, segment, model, age        of users, by list; age of what came true (age=<1d: fresh)   ndcg, recall, hr, mrr, precision
    audience=segment                    segments’ lists, of the users who saw them and did something    the same
    source=model, fallback, …           places of the lists by what filled them                     precision: places that came true
    shown=yes, no                       lists of which an item was shown or not; with impressions only

A list whose user did nothing the list could have held has no ndcg: `came_true@k` (of all served lists, the share of which something
came true) and `active_users` count these too.  Popularity of a source’s places is the item that yesterday’s list had at that rank.
Everything is a sum over users on the executors (recs/judge/bootstrap.py); the driver sees no user.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from recs.schemas import USERS
from recs.serve import hidden
from recs.serve.policy import EVERYBODY, as_known

from . import bootstrap, yesterday
from .comparison import ALL, Figure, figure_of
from .metrics import metrics_of_hits, precision_of_hits
from .truth import HISTORY, age_band, band, largest_segments
from .yesterday import Yesterday

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recs.serve.inputs import Inputs

PUBLISHED = "published"
SERVED, PLACES, SHOWN = "\x1fserved ", "\x1fplaces ", "\x1fshown "      # groups of sums beside the slices
SHARED = "audience=segment"
TRUTH_ALL = "truth=all"
GROUP_DDL = "group string, user_key bigint, values array<double>"


@dataclass(frozen=True)
class Window:
    """The day’s instants: target events in [from_us, until_us) count; `shown`: codes of event types that say an item was shown."""

    from_us: int
    until_us: int
    shown: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Figures of one day, and how many lists they are of."""

    figures: list[Figure]
    n_lists: int        # own lists that were served
    n_active: int       # … whose user did something that counts
    n_judged: int       # … which a list could have held
    n_shared: int       # users who saw their segment’s list and did something it could have held


def score(inputs: Inputs, served: DataFrame, window: Window, k: int, replicates: int = bootstrap.REPLICATES) -> Outcome:
    """The outcome of a day.  `inputs`: of the day’s attempt; `served`: the rows of `recommendations` that stood."""
    order = yesterday.yesterday(inputs)
    rows = lists_and_truth(inputs, served, window, k).mapInPandas(partial(_on_worker, order, k, bool(window.shown)), GROUP_DDL)
    return _outcome(bootstrap.sums(rows, replicates), k)


def lists_and_truth(inputs: Inputs, served: DataFrame, window: Window, k: int) -> DataFrame:
    """A row per own list that was served, and per user who did something and saw the segment’s list.

    user_id, user_key, audience, segment, model, history, items, sources (best first, at most k), met (array of item_id, item_index,
    age, open, after_shown; NULL: the user did nothing), hidden (item integers), shown (item ids).
    """
    from pyspark.sql import functions as F

    attempt = inputs.attempt
    night = attempt.night
    top = F.sort_array(F.collect_list(F.struct("rank", "item_id", "source")))
    lists = (
        served.where(F.col("rank") <= k).groupBy("audience", "user_id").agg(top.alias("top"), F.first("model_version").alias("model"))
        .select("audience", "user_id", "model", F.col("top.item_id").alias("items"), F.col("top.source").alias("sources"))
    )
    own = lists.where("audience = 'user'")
    met = inputs.keep(_met(inputs, window))
    known = inputs.lake.read(USERS).where(F.col("batch_id") <= attempt.max_batch)
    segments = as_known(known, night.as_of_us, "segment")
    own = own.join(segments, "user_id", "left").withColumn("segment", F.coalesce(F.nullif("segment", F.lit("")), F.lit(EVERYBODY)))
    every = largest_segments(own).unionByName(_shared(lists, met, own, segments, as_known(known, night.serve_at_us, "opt_out")))
    blocked = hidden.hidden_items(inputs.blocks, None)
    out = every.join(met, "user_id", "left").join(_before(inputs, met), "user_id", "left").join(blocked, "user_id", "left")
    nothing = F.array().cast("array<int>")
    hides = F.array_union(F.coalesce("seen", nothing), F.coalesce("blocked", nothing))
    out = out.withColumns({"hidden": hides, "history": band("history", F.coalesce("n_events", F.lit(1)), HISTORY)})
    shown = _shown(inputs, window).groupBy("user_id").agg(F.collect_set("item_id").alias("shown"))
    return out.join(shown, "user_id", "left").withColumn("user_key", bootstrap.user_key()).drop("seen", "blocked", "n_events")


def _met(inputs: Inputs, window: Window) -> DataFrame:
    """user_id, met: what each user did in the window that the lists should bring about, every item once."""
    from pyspark.sql import functions as F

    cut_us = inputs.attempt.night.as_of_us
    targets = [t.code for t in inputs.config.log.events.event_types.values() if t.target]
    items = _in_window(inputs, window, targets).groupBy("user_id", "item_id", "item_index").agg(F.min("ts").alias("ts"))
    before = inputs.item_hours.where(F.col("hour") < F.timestamp_micros(F.lit(cut_us)))
    ages = before.groupBy("item_id").agg(F.unix_micros(F.min("hour")).alias("first_us"))
    closed = inputs.unavailable.union(inputs.blocks.where("user_id IS NULL").select("item_id")).distinct().withColumn("closed", F.lit(True))
    shown = _shown(inputs, window).withColumnRenamed("ts", "shown_ts")
    facts = items.join(ages, "item_id", "left").join(closed, "item_id", "left").join(shown, ["user_id", "item_id"], "left")
    is_open = F.col("first_us").isNotNull() & F.col("closed").isNull()
    after_shown = F.coalesce(F.col("shown_ts") <= F.col("ts"), F.lit(False))
    age = age_band(cut_us) if inputs.config.log.events.has_clock else F.lit(None).cast("string")
    one = F.struct("item_id", "item_index", age.alias("age"), is_open.alias("open"), after_shown.alias("after_shown"))
    return facts.groupBy("user_id").agg(F.collect_list(one).alias("met"))


def _shown(inputs: Inputs, window: Window) -> DataFrame:
    """user_id, item_id, ts: when the log first says in the window that the user was shown the item."""
    from pyspark.sql import functions as F

    return _in_window(inputs, window, window.shown).groupBy("user_id", "item_id").agg(F.min("ts").alias("ts"))


def _in_window(inputs: Inputs, window: Window, codes: Iterable[int]) -> DataFrame:
    """Events of these types in the window, whatever batch brought them; days of events are partitions of the table."""
    from pyspark.sql import functions as F

    at = [F.timestamp_micros(F.lit(us)) for us in (window.from_us, window.until_us)]
    day = F.col("event_date").between(F.to_date(at[0]), F.to_date(at[1]))
    return inputs.events.where(day & (F.col("ts") >= at[0]) & (F.col("ts") < at[1]) & F.col("type_code").isin(list(codes)))


def _before(inputs: Inputs, met: DataFrame) -> DataFrame:
    """user_id, n_events, seen: how many events of these users the day could know, and items the rules hide because of them."""
    from pyspark.sql import functions as F

    attempt = inputs.attempt
    known = (F.col("ts") < F.timestamp_micros(F.lit(attempt.night.as_of_us))) & (F.col("batch_id") <= attempt.max_batch)
    hides = hidden.hides_column(F.col("type_code"), F.unix_micros("ts"), inputs.rules, attempt.night.serve_at_us)
    mine = inputs.events.where(known).join(met.select("user_id"), "user_id", "left_semi")
    seen = F.collect_set(F.when(hides, F.col("item_index")))
    return mine.groupBy("user_id").agg(F.count(F.lit(1)).alias("n_events"), seen.alias("seen"))


def _shared(lists: DataFrame, met: DataFrame, own: DataFrame, segments: DataFrame, opted_out: DataFrame) -> DataFrame:
    """Rows like `own` of users who did something and have no list of their own: their segment's list, or that of `all`."""
    from pyspark.sql import functions as F

    out = opted_out.where("opt_out").select("user_id").union(own.select("user_id"))
    who = met.select("user_id").join(out, "user_id", "left_anti").join(segments, "user_id", "left")
    of_segments = lists.where("audience = 'segment'").withColumnRenamed("user_id", "name").drop("audience")
    named = of_segments.select("name", F.lit(True).alias("there"))
    mine = F.when(F.col("there"), F.col("segment")).otherwise(F.lit(EVERYBODY))
    placed = who.join(named, who["segment"] == named["name"], "left").select("user_id", mine.alias("name"))
    found = placed.join(of_segments, "name")
    return found.select(F.lit("segment").alias("audience"), "user_id", "model", "items", "sources", F.col("name").alias("segment"))


def _on_worker(order: Yesterday, k: int, has_shown: bool, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for frame in frames:
        sums = _Sums(k)
        for r in frame.itertuples(index=False):
            _one_list(sums, r, order, k, has_shown)
        yield sums.frame()


class _Sums:
    """Rows for the bootstrap: judged lists wait until their metrics are reckoned together."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.counted: list[tuple[str, int, list[float]]] = []
        self.judged: list[tuple[str, int, np.ndarray, int]] = []

    def frame(self) -> pd.DataFrame:
        """GROUP_DDL."""
        counted = pd.DataFrame(self.counted, columns=["group", "user_key", "values"])
        if not self.judged:
            return counted
        hits = np.stack([h for _, _, h, _ in self.judged])     # [rows, 2, k]
        wanted = np.array([w for *_, w in self.judged])
        columns = [c for who in (0, 1) for c in _metrics(hits[:, who], wanted).values()]
        values = list(np.column_stack([*columns, np.ones(len(wanted))]))
        groups, keys = [j[0] for j in self.judged], [j[1] for j in self.judged]
        return pd.concat([counted, pd.DataFrame({"group": groups, "user_key": keys, "values": values})])


def _metrics(hits: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    return metrics_of_hits(hits, wanted) | {f"precision@{hits.shape[1]}": precision_of_hits(hits)}


def _one_list(sums: _Sums, r: tuple, order: Yesterday, k: int, has_shown: bool) -> None:
    """What one list (a row of `lists_and_truth`) adds."""
    key, is_own = r.user_key, r.audience == "user"
    met = r.met if r.met is not None else ()
    hidden_items = np.asarray(r.hidden, np.int64)
    not_for_me = set(hidden_items.tolist())
    could = [m for m in met if m["open"] and m["item_index"] not in not_for_me]
    popular = order.list_for(r.user_id, hidden_items, k) if len(met) else []

    def hits(items: set[str]) -> np.ndarray:
        """[2, k]: of the list, of yesterday’s popularity."""
        out = np.zeros((2, k), bool)
        for n, listed in enumerate((r.items, popular)):
            out[n, : len(listed)] = [i in items for i in listed]
        return out

    every = hits({m["item_id"] for m in met})
    parts = [f"model={r.model}", *([f"segment={r.segment}"] if is_own else [])]
    shown = set(r.shown) if r.shown is not None else set()
    if is_own:
        any_hit = every.any(axis=1)
        for part in (ALL, *parts):
            sums.counted.append((SERVED + part, key, [float(len(met) > 0), *any_hit.astype(float), 1.0]))
        if has_shown:
            after = {m["item_id"] for m in met if m["after_shown"]}
            n_shown = sum(i in shown for i in r.items)
            sums.counted.append((SHOWN, key, [n_shown, sum(i in after for i in r.items), len(r.items), 1.0]))
    if is_own and len(met):
        sums.judged.append((TRUTH_ALL, key, every, len(met)))
    if not could:
        return
    mine = hits({m["item_id"] for m in could})
    if is_own:
        parts += [ALL, f"history={r.history.removeprefix('history=')}"]
        parts += [f"shown={'yes' if any(i in shown for i in r.items) else 'no'}"] if has_shown else []
    else:
        parts += [SHARED]
    sums.judged += [(part, key, mine, len(could)) for part in parts]
    for age in {m["age"] for m in could if m["age"]} if is_own else ():
        some = {m["item_id"] for m in could if m["age"] == age}
        sums.judged.append((age, key, hits(some), len(some)))
    for source in set(r.sources):
        places = np.array([s == source for s in r.sources])
        true = (mine[:, : len(places)] & places).sum(axis=1).astype(float)
        sums.counted.append((f"{PLACES}source={source}", key, [*true, float(places.sum()), 1.0]))


def _outcome(found: dict[str, np.ndarray], k: int) -> Outcome:
    names = list(_metrics(np.zeros((1, k), bool), np.ones(1, int)))
    out: list[Figure] = []
    for group, s in sorted(found.items()):
        n = int(s[0, -1])
        if group == SHOWN:
            out.append(figure_of(PUBLISHED, "", f"shown@{k}", ALL, bootstrap.ratio(s, 0, 2), n))
            out.append(figure_of(PUBLISHED, "", f"came_true_when_shown@{k}", ALL, bootstrap.ratio(s, 1, 0), n))
        elif group.startswith(SERVED):
            part = group.removeprefix(SERVED)
            out.append(figure_of(PUBLISHED, "", "active_users", part, bootstrap.ratio(s, 0, 3), n))
            out += _beside(f"came_true@{k}", part, s, (1, 2, 3), n)
        elif group.startswith(PLACES):
            out += _beside(f"precision@{k}", group.removeprefix(PLACES), s, (0, 1, 2), n)
        else:
            for c, name in enumerate(names):
                out += _beside(name, group, s, (c, len(names) + c, 2 * len(names)), n)
    counts = [int(found[g][0, c]) if g in found else 0 for g, c in ((SERVED, 3), (SERVED, 0), (ALL, -1), (SHARED, -1))]
    return Outcome([f for f in out if np.isfinite(f.value)], *counts)


def _beside(name: str, part: str, s: np.ndarray, columns: tuple[int, int, int], n: int) -> list[Figure]:
    """A figure of the lists, of yesterday’s popularity, and their paired difference."""
    ours, popular, below = columns
    return [
        figure_of(PUBLISHED, "", name, part, bootstrap.ratio(s, ours, below), n),
        figure_of(yesterday.NAME, "", name, part, bootstrap.ratio(s, popular, below), n),
        figure_of(PUBLISHED, yesterday.NAME, name, part, bootstrap.difference(s, ours, popular, below), n),
    ]


__all__ = ["PUBLISHED", "Outcome", "Window", "lists_and_truth", "score"]
