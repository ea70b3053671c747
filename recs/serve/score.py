"""The nightly inference: histories in, ranked lists out, on the executors (`mapInPandas`) or for one request in this process.

    histories    one row per user: the arrays of `sequences`, `request_us`, and what is blocked for the user
    buckets      users with histories of like length go together, so that a batch's memory is known before it is made
    batch        scores over the catalogue in blocks with a running top-K; never more than one batch x one block of scores
    rows         user_id, rank, item_id, score, source, reason_code, evidence_item_id, evidence_us

A user's rows depend on that user's own row, the model and the item tables only, bit for bit: models promise it for `scorer`
(tests/models, tests/serve/test_metamorphic.py), and nothing here looks across users.
"""
from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from recs.evidence.histories import SEQUENCE_COLUMNS, Histories
from recs.evidence.item_tables import ArtifactError
from recs.models.base import REASONS

from .artifacts import Artifact, Opened, model_artifact, opened, ship, tables_artifact
from .lists import Asked, Lists, best, empty_lists, fill
from .rules import Rules

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

# 2^20 events of a batch are 32 MB of arrays: longer histories travel in smaller batches
EVENTS_PER_BATCH = 1 << 20
NO_EVENT_US = np.iinfo(np.int64).min
RAW_DDL = (
    "user_id string, rank int, item_id string, score double, source string, reason_code string, "
    "evidence_item_id string, evidence_us bigint"
)
MODEL_ERROR = "model_error"     # reason code of the popular items a user gets when the model fails on the history


@dataclass(frozen=True)
class Plan:
    """What a worker needs to know to make lists."""

    model: Artifact
    tables: Artifact
    k: int
    rules: Rules = Rules()
    block: int = 65_536         # catalogue columns scored at a time
    batch_users: int = 256      # histories scored at a time
    filling: bool = True        # bring short lists to k


def recommend(
    histories: DataFrame, model_path: str | Path, tables_path: str | Path, k: int, rules: Rules | None = None, *,
    model_hash: str | None = None, tables_version: str | None = None, block: int = 65_536, batch_users: int = 256, filling: bool = True,
) -> DataFrame:
    """Ranked lists of these users: user_id, rank, item_id, score, source, reason_code, evidence_item_id, evidence_ts.

    `histories` has the columns SEQUENCE_COLUMNS (those of `sequences`), `request_us` bigint (the instant the list is used) and
    may have `blocked` array<int> (items not for this user).  Rows are spread as they come: repartition before.
    Raises ArtifactError before anything is scored when model or tables are not the expected ones.
    """
    from pyspark.sql import functions as F

    spark = histories.sparkSession
    model = ship(spark, model_artifact(model_path, model_hash))
    tables = ship(spark, tables_artifact(tables_path, tables_version))
    plan = Plan(model, tables, k, rules or Rules(), block, batch_users, filling)
    blocked = F.col("blocked") if "blocked" in histories.columns else F.lit(None).cast("array<int>").alias("blocked")
    raw = histories.select(*SEQUENCE_COLUMNS, "request_us", blocked).mapInPandas(partial(_on_worker, plan), RAW_DDL)
    return raw.select(
        "user_id", "rank", "item_id", "score", "source", "reason_code", "evidence_item_id",
        F.when(F.col("evidence_us") != NO_EVENT_US, F.timestamp_micros("evidence_us")).alias("evidence_ts"),
    )


def _on_worker(plan: Plan, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    ready = opened(plan.model, plan.tables)
    for batch in batches(frames, plan.batch_users):
        yield lists_of(batch, plan, ready)


def batches(frames: Iterator[pd.DataFrame], rows: int) -> Iterator[pd.DataFrame]:
    """Regroup rows into batches of histories of like length: bucket b holds lengths 2^(b-1) … 2^b - 1, at most `rows` at a time."""
    waiting: dict[int, list[pd.DataFrame]] = {}
    for frame in frames:
        length = np.array([0 if a is None else len(a) for a in frame["item_index"]], np.int64)
        bucket = np.array([int(n).bit_length() for n in length])
        for b in np.unique(bucket):
            full = max(1, min(rows, EVENTS_PER_BATCH >> int(b)))
            parts = waiting.setdefault(int(b), [])
            parts.append(frame[bucket == b])
            if sum(map(len, parts)) >= full:
                together = pd.concat(parts, ignore_index=True)
                whole = len(together) // full * full
                yield from (together.iloc[a : a + full] for a in range(0, whole, full))
                waiting[int(b)] = [together.iloc[whole:]]
    yield from (pd.concat(parts, ignore_index=True) for _, parts in sorted(waiting.items()) if sum(map(len, parts)))


def lists_of(batch: pd.DataFrame, plan: Plan, ready: Opened) -> pd.DataFrame:
    """Rows (RAW_DDL) of one batch of requests.  Users on whom the model fails get popular items; the others are not touched by it."""
    with one_thread():
        return pd.concat(list(_bisected(batch, plan, ready)), ignore_index=True)


def _bisected(batch: pd.DataFrame, plan: Plan, ready: Opened) -> Iterator[pd.DataFrame]:
    """Halve a batch that fails until the one history that makes it fail is alone."""
    try:
        yield _scored(batch, plan, ready)
        return
    except ArtifactError:       # a folder is broken, not a history
        raise
    except Exception as e:      # noqa: BLE001 - whatever a model raises on a strange history concerns that user alone
        if len(batch) == 1:
            log.warning("the model failed on one history (%s): its user gets popular items", type(e).__name__)
            yield _popular_only(batch, plan, ready)
            return
    half = len(batch) // 2
    yield from _bisected(batch.iloc[:half], plan, ready)
    yield from _bisected(batch.iloc[half:], plan, ready)


def _scored(batch: pd.DataFrame, plan: Plan, ready: Opened) -> pd.DataFrame:
    asked = Asked(Histories.from_frame(batch), batch["request_us"].to_numpy(np.int64), _blocked(batch))
    lists = best(asked, ready.model, ready.tables, plan.rules, plan.k, plan.block)
    own = np.where(lists.filled, -1, lists.columns)
    if plan.filling:
        fill(lists, asked, ready.tables, plan.rules)
    why = ready.model.explain(asked.histories, asked.request_us, ready.tables, own)
    reason = np.where(lists.filled, "popular", np.array(REASONS, object)[why.code])
    return _rows(asked, lists, reason, np.where(own >= 0, why.event, -1), ready)


def _popular_only(batch: pd.DataFrame, plan: Plan, ready: Opened) -> pd.DataFrame:
    """The fallback list of one user; the history still says what was seen, unless it cannot even be read."""
    nobody = Histories.of(**{"": []})
    nobody.user_ids[:] = batch["user_id"].to_numpy(object)
    try:
        return _filled_only(Histories.from_frame(batch), batch, plan, ready)
    except Exception:   # noqa: BLE001 - an unreadable history has seen nothing
        return _filled_only(nobody, batch, plan, ready)


def _filled_only(histories: Histories, batch: pd.DataFrame, plan: Plan, ready: Opened) -> pd.DataFrame:
    asked = Asked(histories, batch["request_us"].to_numpy(np.int64), _blocked(batch))
    lists = empty_lists(len(batch), plan.k)
    fill(lists, asked, ready.tables, plan.rules)
    return _rows(asked, lists, np.full(lists.columns.shape, MODEL_ERROR, object), np.full(lists.columns.shape, -1, np.int64), ready)


def _blocked(batch: pd.DataFrame) -> list[np.ndarray]:
    nothing = np.empty(0, np.int64)
    return [nothing if b is None else np.asarray(b, np.int64) for b in batch["blocked"]]


def _rows(asked: Asked, lists: Lists, reason: np.ndarray, event: np.ndarray, ready: Opened) -> pd.DataFrame:
    """One row per user and rank; lists have no gaps, so the rank is the place."""
    user, place = np.nonzero(lists.columns >= 0)
    columns, event = lists.columns[user, place], event[user, place]
    there = event >= 0
    histories, tables = asked.histories, ready.tables
    evidence = np.full(len(event), -1, np.int64)
    evidence[there] = tables.columns(histories.item[event[there]])
    evidence_us = np.full(len(event), NO_EVENT_US)
    evidence_us[there] = histories.ts[event[there]]
    return pd.DataFrame({
        "user_id": histories.user_ids[user],
        "rank": (place + 1).astype(np.int32),
        "item_id": _ids(columns, ready),
        "score": lists.scores[user, place].astype(np.float64),
        "source": np.where(lists.filled[user, place], "fallback", "model"),
        "reason_code": reason[user, place],
        "evidence_item_id": _ids(evidence, ready),
        "evidence_us": np.where(evidence >= 0, evidence_us, NO_EVENT_US),
    })


def _ids(columns: np.ndarray, ready: Opened) -> np.ndarray:
    """Item ids of columns; None for -1."""
    distinct, place = np.unique(columns, return_inverse=True)
    known = distinct >= 0
    names = np.full(len(distinct), None, object)
    names[known] = ready.tables.ids(distinct[known])
    return names[place]


@cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_thread():
    """A context with one BLAS thread: Spark runs one task per core, and the number of threads can change the bits of a sum."""
    return _controller().limit(limits=1)


__all__ = ["MODEL_ERROR", "NO_EVENT_US", "Plan", "batches", "lists_of", "one_thread", "recommend"]
