"""The bootstrap on Spark: the same draw everywhere, Poisson weights, intervals as a plain bootstrap's, pairs kept together."""
from __future__ import annotations

import numpy as np
import pytest

from recs.judge import bootstrap
from recs.judge.bootstrap import difference, ratio, sums, user_key, weights


def lists_of(n_users: int = 60, seed: int = 5) -> list[tuple[str, float, float]]:
    """(user, value of model a, value of model b): users have one to five lists, and users differ more than lists do."""
    rng = np.random.default_rng(seed)
    out = []
    for u in range(n_users):
        level = rng.random()
        for _ in range(rng.integers(1, 6)):
            a = float(np.clip(level + rng.normal(0, 0.1), 0, 1))
            out.append((f"u{u:02d}", a, float(np.clip(a - 0.05 + rng.normal(0, 0.1), 0, 1))))
    return out


def frame(spark, rows, parts: int):
    from pyspark.sql import functions as F

    df = spark.createDataFrame(rows, "user_id string, a double, b double").repartition(parts)
    return df.select(F.lit("g").alias("group"), user_key().alias("user_key"), F.array("a", "b", F.lit(1.0)).alias("values"))


def test_weights_are_poisson_and_depend_on_the_user_alone():
    keys = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 2_000)
    w = weights(keys, 500)
    assert w.mean() == pytest.approx(1, abs=0.01)
    assert w.var() == pytest.approx(1, abs=0.01)
    assert (w == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)
    assert abs(np.corrcoef(w[:, 0], w[:, 1])[0, 1]) < 0.1       # replicates are drawn apart
    assert abs(np.corrcoef(w[0], w[1])[0, 1]) < 0.15            # and users
    assert (weights(keys[5:7], 500) == w[5:7]).all()
    assert (weights(keys, 20) == w[:, :20]).all()


def test_sums_are_the_same_however_the_rows_lie_and_are_those_of_plain_numpy(spark):
    rows = lists_of()
    one, many = (sums(frame(spark, rows, parts), 200)["g"] for parts in (1, 7))
    np.testing.assert_allclose(one, many, rtol=1e-12)
    keys = {r["user_id"]: r["user_key"] for r in spark.createDataFrame(rows, "user_id string, a double, b double").select(
        "user_id", user_key().alias("user_key")).distinct().collect()}
    w = weights(np.array([keys[u] for u, _, _ in rows]), 200)
    values = np.array([(a, b, 1.0) for _, a, b in rows])
    np.testing.assert_allclose(one, np.vstack([values.sum(axis=0), w.T @ values]), rtol=1e-12)


def by_drawing_users(rows, of, draws: int = 4_000) -> np.ndarray:
    """A plain bootstrap: users drawn with replacement, all their lists with them."""
    users, code = np.unique([u for u, *_ in rows], return_inverse=True)
    value = np.array([of(a, b) for _, a, b in rows])
    rng = np.random.default_rng(1)
    total, n = np.bincount(code, value), np.bincount(code)
    drawn = rng.integers(0, len(users), (draws, len(users)))
    return np.quantile(total[drawn].sum(axis=1) / n[drawn].sum(axis=1), [0.025, 0.975])


def test_intervals_are_those_of_drawing_users(spark):
    rows = lists_of(200)
    found = sums(frame(spark, rows, 3), 2_000)["g"]
    mean, gain = ratio(found, 0, 2), difference(found, 0, 1, 2)
    assert mean.value == pytest.approx(np.mean([a for _, a, _ in rows]))
    assert gain.value == pytest.approx(np.mean([a - b for _, a, b in rows]))
    for estimate, of in ((mean, lambda a, b: a), (gain, lambda a, b: a - b)):
        low, high = by_drawing_users(rows, of)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.15 * (high - low))
    assert gain.high - gain.low < 0.3 * (mean.high - mean.low)      # paired: what users have in common cancels
    assert gain.low > 0
    assert gain.p == pytest.approx(2 / 2_000)                       # no replicate on the other side
    none = difference(found, 0, 0, 2)
    assert (none.value, none.low, none.high, none.p) == (0, 0, 0, 1)


def test_one_list_many_times_is_one_user(spark):
    """Clustering: the same evidence from one user ten times is no more evidence."""
    few = [(f"u{u}", float(u % 2), 0.0) for u in range(40)]
    many = [r for r in few for _ in range(10)]
    a, b = (ratio(sums(frame(spark, rows, 2), 500)["g"], 0, 2) for rows in (few, many))
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


def test_nobody_is_no_number():
    empty = np.zeros((11, 2))
    assert np.isnan(ratio(empty, 0, 1).value)
    assert np.isnan(difference(empty, 0, 0, 1).low)
    assert bootstrap.difference(empty, 0, 0, 1).p is None
