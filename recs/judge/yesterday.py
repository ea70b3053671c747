"""What a list of yesterday’s popularity would have held: what a night’s lists have to beat, and what anybody could have made.

    order       users who met the item in the 24 hours before the cut; of equals the one more popular lately (halved every ten days), then
                by item id
    list        the first k that the rules allow this user: seen items, blocks, availability, category cap, not oneself

Shapes: M items of the order.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recs.clock import DAY
from recs.serve.lists import first_allowed
from recs.serve.segments import weighted

if TYPE_CHECKING:
    from recs.serve.inputs import Inputs

NAME = "popularity_yesterday"
REACH = 2_000           # items of the order that are looked at: who has seen them all gets a shorter list
LATELY_D = 100          # ten half-lives


@dataclass(frozen=True)
class Yesterday:
    """The order as of a cut: item ids, integers of item_vocabulary, top-level categories (-1 = none), [M] each."""

    ids: tuple[str, ...]
    index: np.ndarray
    category: np.ndarray
    category_cap: int | None = None
    exclude_self: bool = False

    @cached_property
    def _place(self) -> dict[str, int]:
        return {item: n for n, item in enumerate(self.ids)}

    def list_for(self, user_id: str, hidden: np.ndarray, k: int) -> list[str]:
        """Item ids of one user’s list.  `hidden`: integers of items that this user may not be shown."""
        out_of = np.flatnonzero(np.isin(self.index, hidden))
        if self.exclude_self and user_id in self._place:
            out_of = np.append(out_of, self._place[user_id])
        order = np.arange(len(self.ids))
        chosen = first_allowed(order, out_of, np.empty(0, np.int64), k, self.category_cap, self.category)
        return [self.ids[n] for n in chosen]


def yesterday(inputs: Inputs) -> Yesterday:
    """The order that the night of `inputs` could have known; on the driver, some thousands of items at most."""
    from pyspark.sql import functions as F

    cut_us = inputs.attempt.night.as_of_us
    before = F.col("hour") < F.timestamp_micros(F.lit(cut_us))
    lately = inputs.item_hours.where(before & (F.col("hour") >= F.timestamp_micros(F.lit(cut_us - LATELY_D * DAY))))
    out_of = inputs.unavailable.union(inputs.blocks.where("user_id IS NULL").select("item_id"))
    in_last_day = F.when(F.col("hour") >= F.timestamp_micros(F.lit(cut_us - DAY)), F.col("n_day_users")).otherwise(0)
    counted = (
        weighted(lately.withColumn("users", in_last_day)).groupBy("item_id", "item_index")
        .agg(F.sum("users").alias("users"), F.sum("weight").alias("weight"))
        .join(out_of, "item_id", "left_anti").join(inputs.catalogue.select("item_id", "category"), "item_id", "left")
    )
    rows = counted.orderBy(F.desc("users"), F.desc("weight"), "item_id").limit(REACH).collect()
    codes = {name: n for n, name in enumerate(sorted({r["category"] for r in rows if r["category"] is not None}))}
    rules = inputs.config.lists.rules
    return Yesterday(
        tuple(r["item_id"] for r in rows), np.array([r["item_index"] for r in rows], np.int64),
        np.array([codes.get(r["category"], -1) for r in rows], np.int64), rules.category_cap, rules.exclude_self,
    )
