"""Item factors of implicit ALS (Hu, Koren, Volinsky, ICDM 2008) as Spark MLlib computes them.

    histories           ann: a b a          bob: b
    counts              (ann, a, 2) (ann, b, 1) (bob, b, 1)         events per user and item
    factors             a: [F]  b: [F]

MLlib's loss: confidence 1 + alpha * events on preference 1, confidence 1 on preference 0 elsewhere, regularisation `reg` times
the number of items of the user (of users of the item).  Only the item factors are kept: whoever reads them folds users in.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pyspark.sql import functions as F

from recs.evidence.item_kinds import parse_kind

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SEED = 7
ONE_ORDER_PAIRS = 1 << 25   # pairs of items that users form, about 2 million user-item counts: up to here one order, see below


def als_factors(histories: DataFrame, item_index: pd.Series, n_pairs: int, kind: str, iterations: int) -> np.ndarray:
    """Factors [I, F] float32 of the items `item_index` [I] by `als:<F>:<reg>:<alpha>`; zeros for items without a history.

    `histories`: user_id and item_index (an array) per user.  With few pairs Spark gets the counts in one order and two blocks, and the
    factors have the same bits every time; with many they agree to rounding only (Spark adds up blocks as they come).
    """
    from pyspark.ml.recommendation import ALS

    rank, regularisation, alpha = parse_kind(kind)[1]
    factors = np.zeros((len(item_index), int(rank)), np.float32)
    if not n_pairs:
        return factors
    counts = _counts(histories)
    blocks = {}
    if n_pairs <= ONE_ORDER_PAIRS:
        counts = counts.coalesce(1).sortWithinPartitions("user", "item")
        blocks = {"numUserBlocks": 2, "numItemBlocks": 2}
    als = ALS(
        rank=int(rank), maxIter=iterations, regParam=regularisation, alpha=alpha, implicitPrefs=True, seed=SEED,
        userCol="user", itemCol="item", ratingCol="events", **blocks,
    )
    learned = als.fit(counts).itemFactors.toPandas()
    row = pd.Index(item_index).get_indexer(learned["id"])
    factors[row[row >= 0]] = np.array(learned["features"].to_list(), np.float32).reshape(-1, int(rank))[row >= 0]
    return factors


def _counts(histories: DataFrame) -> DataFrame:
    """Events per user and item; ALS wants integers for users, and they must not collide."""
    numbered = histories.select("user_id").sort("user_id").rdd.map(lambda user: user[0]).zipWithIndex()
    users = histories.sparkSession.createDataFrame(numbered, "user_id string, user bigint")
    met = histories.join(users, "user_id").select(F.col("user").cast("int"), F.explode("item_index").alias("item"))
    return met.groupBy("user", "item").agg(F.count(F.lit(1)).cast("float").alias("events"))
