"""Exams: what users were asked at earlier cuts, and what followed.

    sequences           one row per user, up to the present
    exams_at_cuts       one row per user and cut at which something followed: the row, the cut, the request, the truth
    answerable          those that teach: something of the truth was there to be listed
    exams_sampled       at most `max_users` per cut, chosen by a hash of the user
    exams_to_fit        the three together, as a model is fitted; enough_cuts says at which cuts
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recs.evidence.histories import SEQUENCE_COLUMNS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from recs.config import FitConfig

NO_CUT = np.iinfo(np.int64).max
EXAM_COLUMNS = (*SEQUENCE_COLUMNS, "night", "cut_us", "request_us", "truth", "gain")


@dataclass(frozen=True)
class Cut:
    """One earlier night: its item tables, the knowledge cut, the instant its lists were used; what counts followed within the horizon."""

    tables: str | Path
    cut_us: int
    request_us: int
    horizon_us: int


def one_target(item_index: str) -> list[Column]:
    """`truth` and `gain` of exams whose lists have one target each: the item in a column."""
    from pyspark.sql import functions as F

    return [F.array(item_index).alias("truth"), F.array(F.lit(1.0).cast("float")).alias("gain")]


def exams_at_cuts(sequences: DataFrame, cuts: Sequence[Cut], gains: Mapping[int, float]) -> DataFrame:
    """EXAM_COLUMNS: a row per user and cut with a target event in [cut, cut + horizon); `night` is the place in `cuts`.

    `gains`: of every target event type, by its code (`EventMapping.gains`).
    """
    from pyspark.sql import functions as F

    nights = F.array(*(
        F.struct(
            F.lit(n).alias("night"), F.lit(c.cut_us).alias("cut_us"), F.lit(c.request_us).alias("request_us"),
            F.lit(c.cut_us + c.horizon_us).alias("until_us"),
        )
        for n, c in enumerate(cuts)
    ))
    targets = ", ".join(str(int(code)) for code in gains)
    met = F.expr(f"""
        filter(arrays_zip(item_index, ts, type_code), e -> e.ts >= cut_us AND e.ts < until_us AND e.type_code IN ({targets}))
    """)
    worth = "CASE e.type_code " + " ".join(f"WHEN {int(code)} THEN {float(gain)!r}F" for code, gain in gains.items()) + " END"
    gain = F.expr(f"transform(truth, i -> array_max(transform(filter(met, e -> e.item_index = i), e -> {worth})))")
    since = F.timestamp_micros(F.lit(min(c.cut_us for c in cuts)))
    recent = sequences.where(F.col("last_ts") >= since).select(*SEQUENCE_COLUMNS, F.explode(nights).alias("at"))
    asked = recent.select(*SEQUENCE_COLUMNS, "at.*").withColumn("met", met).where(F.size("met") > 0)
    truth = F.expr("array_distinct(transform(met, e -> e.item_index))")
    return asked.withColumn("truth", truth).withColumn("gain", gain).select(*EXAM_COLUMNS)


def answerable(exams: DataFrame, sequences: DataFrame, repeats: bool, judged: int = 0) -> DataFrame:
    """The exams that teach: an item of the truth had been met by somebody before the cut, and is new to the user unless `repeats`.

    On a log of news seven in ten have none.  Nights below `judged` stay whole: models are compared by them, and there a miss is a miss.
    """
    from pyspark.sql import functions as F

    met = sequences.select(F.explode(F.arrays_zip("item_index", "ts")).alias("e"))
    first = met.groupBy(F.col("e.item_index").alias("item")).agg(F.min("e.ts").alias("first_us"))
    asked = exams.where(F.col("night") >= judged).select("user_id", "night", "cut_us", "item_index", "ts", F.explode("truth").alias("item"))
    known = asked.join(F.broadcast(first), "item").where("first_us < cut_us")
    if not repeats:
        known = known.where("NOT exists(arrays_zip(item_index, ts), e -> e.item_index = item AND e.ts < cut_us)")
    teaching = exams.join(known.select("user_id", "night").distinct(), ["user_id", "night"], "left_semi").select(*exams.columns)
    return teaching if not judged else exams.where(F.col("night") < judged).unionByName(teaching)


def enough_cuts(
    sequences: DataFrame, cuts_us: Sequence[int], horizon_us: int, gains: Mapping[int, float], fit: FitConfig, repeats: bool = True,
) -> list[int]:
    """The latest of these cuts (latest first) to train on: `train_nights`, and more where fewer than `train_lists` lists of those teach."""
    def lists(some: Sequence[int]) -> np.ndarray:
        exams = answerable(exams_at_cuts(sequences, [Cut("", c, c, horizon_us) for c in some], gains), sequences, repeats)
        found = dict(exams.groupBy("night").count().collect())
        return np.cumsum([found.get(n, 0) for n in range(len(some))])

    usual, more = list(cuts_us[: fit.train_nights]), list(cuts_us[fit.train_nights : fit.max_train_nights])
    if not more or (have := lists(usual)[-1]) >= fit.train_lists:
        return usual
    return usual + more[: int(np.searchsorted(have + lists(more), fit.train_lists)) + 1]


def exams_sampled(exams: DataFrame, n_cuts: int, max_users: int, *, each_cut: bool = False) -> DataFrame:
    """About `max_users` exams per cut; the same users at every cut, or others at `each_cut`: to learn from, many users are worth more."""
    from pyspark.sql import functions as F

    share = max_users * n_cuts / max(exams.count(), 1)
    if share >= 1:
        return exams
    drawn = F.xxhash64("user_id", "cut_us" if each_cut else F.lit("fit"))
    return exams.where(F.pmod(drawn, F.lit(1_000_000)) < int(share * 1_000_000))


def exams_to_fit(
    sequences: DataFrame, cuts: Sequence[Cut], gains: Mapping[int, float], fit: FitConfig, *, repeats: bool, trains: bool, max_users: int,
) -> DataFrame:
    """What users were asked at these cuts (latest first), sampled; where a model trains: what teaches, and users drawn anew at each cut."""
    exams = exams_at_cuts(sequences, cuts, gains)
    if trains:
        exams = answerable(exams, sequences, repeats, judged=fit.nights)
    return exams_sampled(exams, len(cuts), max_users, each_cut=trains)
