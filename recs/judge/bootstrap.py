"""95 % intervals by a Poisson bootstrap over users, on the executors: nobody collects a user.

    lists         ann  night 1   1.0        replicate       1   2   3   …
                  ann  night 2   0.5        weight of ann   1   0   2       Poisson(1) from a hash of (user, replicate)
                  bob  night 1   0.0        weight of bob   2   1   0
    sums                                    weighted sums and weighted numbers of lists: added up over tasks
    mean of a replicate                     one by the other; the 2.5 % and 97.5 % quantiles over replicates are the interval

Drawing users with replacement gives each a multinomial weight; independent Poisson(1) weights come to the same for more than a few
dozen users (Hanley and MacGibbon 2006; Chamandy et al. 2012) and need no list of the users.  All lists of a user, of whatever night, have
the user's weight.  The weights depend on user and replicate alone: a rerun, other partitions, or another model draw the same, so
that the difference of two models within a replicate is a paired one.

Shapes: L rows, U users, B replicates, C columns (numerators and denominators).
"""
from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

REPLICATES = 1_000
USERS_AT_A_TIME = 1_024         # times 1000 replicates: 8 MB an array
DIGITS = 9                      # partial sums arrive in any order: their last bits are not told
_CDF = np.cumsum([math.exp(-1) / math.factorial(n) for n in range(16)])
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of two, with its 95 % interval; `p`: two-sided, that the difference is none (differences only)."""

    value: float
    low: float
    high: float
    p: float | None = None


def user_key(user_id: str = "user_id") -> Column:
    """64 bits that stand for a user: what the weights are drawn from."""
    from pyspark.sql import functions as F

    return F.xxhash64(user_id, F.lit("bootstrap"))


def weights(keys: np.ndarray, replicates: int) -> np.ndarray:
    """[U, B] float64 Poisson(1) weights of the users with these keys [U] int64."""
    with np.errstate(over="ignore"):
        x = keys.astype(np.int64).view(np.uint64)[:, None] + np.arange(1, replicates + 1, dtype=np.uint64) * _GOLDEN
        # SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
    return np.searchsorted(_CDF, uniform, side="right").astype(np.float64)


def sums(rows: DataFrame, replicates: int = REPLICATES) -> dict[str, np.ndarray]:
    """Per group [1 + B, C]: the columns added up, first as they are, then in every replicate.

    `rows`: group string, user_key bigint, values array<double> (C of them, as many in every row of a group).
    """
    parts = rows.select("group", "user_key", "values").mapInPandas(partial(_on_worker, replicates), "group string, sums binary")
    added = parts.groupBy("group").applyInPandas(_added, "group string, sums binary")
    return {r["group"]: np.load(io.BytesIO(r["sums"]), allow_pickle=False) for r in added.collect()}


def _on_worker(replicates: int, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    totals: dict[str, np.ndarray] = {}
    for frame in frames:
        for group, rows in frame.groupby("group"):
            keys, user = np.unique(rows["user_key"].to_numpy(np.int64), return_inverse=True)
            values = np.stack(rows["values"].to_list())
            mine = np.zeros((len(keys), values.shape[1]))
            np.add.at(mine, user, values)
            totals[str(group)] = totals.get(str(group), 0.0) + _weighted(keys, mine, replicates)
    if totals:
        yield pd.DataFrame({"group": list(totals), "sums": [_packed(t) for t in totals.values()]})


def _weighted(keys: np.ndarray, mine: np.ndarray, replicates: int) -> np.ndarray:
    """[1 + B, C] of the sums [U, C] of these users."""
    out = np.zeros((1 + replicates, mine.shape[1]))
    out[0] = mine.sum(axis=0)
    for a in range(0, len(keys), USERS_AT_A_TIME):
        some = slice(a, a + USERS_AT_A_TIME)
        out[1:] += weights(keys[some], replicates).T @ mine[some]
    return out


def _added(parts: pd.DataFrame) -> pd.DataFrame:
    total = sum(np.load(io.BytesIO(p), allow_pickle=False) for p in parts["sums"])
    return pd.DataFrame({"group": [parts["group"].iloc[0]], "sums": [_packed(total)]})


def _packed(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def ratio(found: np.ndarray, numerator: int, denominator: int) -> Estimate:
    """One column of the sums [1 + B, C] over another: a mean."""
    return _estimate(_means(found, numerator, denominator))


def difference(found: np.ndarray, a: int, b: int, denominator: int) -> Estimate:
    """Mean of column a less that of column b, replicate by replicate: the paired difference."""
    means = _means(found, a, denominator) - _means(found, b, denominator)
    drawn = means[1:][np.isfinite(means[1:])]
    if not len(drawn):
        return _estimate(means)
    tail = min((drawn <= 0).mean(), (drawn >= 0).mean())
    return _estimate(means, p=float(min(1.0, 2 * max(tail, 1 / len(drawn)))))


def _means(found: np.ndarray, numerator: int, denominator: int) -> np.ndarray:
    """[1 + B] NaN where a replicate drew nobody."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(found[:, denominator] > 0, found[:, numerator] / found[:, denominator], np.nan)


def _estimate(means: np.ndarray, p: float | None = None) -> Estimate:
    drawn = means[1:][np.isfinite(means[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return Estimate(*(round(float(v), DIGITS) for v in (means[0], low, high)), p)
