"""Taste: factors of implicit feedback, learned by Spark, users folded in from their history (Hu, Koren, Volinsky, ICDM 2008).

    r(u, i)     weight of u's events on i by the span ("all": their number)
    x(u)        solves  (Y'Y + alpha * sum_i r(u, i) y_i y_i' + reg * n_u I) x = sum_i (1 + alpha * r(u, i)) y_i
    score(u, i) = x(u) . y_i

The half-step MLlib takes for a user (regularisation times the number n_u of the user's items), so a user who was there when
the factors were learned gets the same vector, and one who came later one as good.
"""
from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.evidence.profiles import event_weights, profile, speaking_event

from .base import REASONS, Model, Reasons, Scorer, Setting

# A user's bits must not depend on the batch.  BLAS adds up in another order when a shape changes, and on some processors (OpenBLAS's
# Haswell kernels on AVX-512 machines) even from row to row of one product: so a vector at a time, by blocks of one width.
COLUMNS = 2048


class Als(Model):
    """Nearness in taste."""

    name = "als"

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        kinds = ("als:64:0.1:10", "als:64:0.02:1", "als:64:0.1:40")
        spans = ("all", "90d", "14d") if setting.clock else ("all", "10e")
        return [{"kind": k, "span": s} for k, s in product(kinds, spans)]

    @classmethod
    def needs(cls, params: dict[str, Any]) -> frozenset[str]:
        return frozenset({params["kind"]})

    def vectors(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> np.ndarray:
        """[U, F] float32; 0 for users without a known item."""
        _, n_factors, regularisation, alpha = self.params["kind"].split(":")
        items = np.asarray(tables.dense(self.params["kind"]), np.float64)
        ratings = profile(histories, request_us, self.params["span"], tables)
        out = np.zeros((len(histories), int(n_factors)), np.float32)
        everywhere = items.T @ items
        for u in range(len(histories)):
            row = slice(ratings.indptr[u], ratings.indptr[u + 1])
            y, extra = items[ratings.indices[row]], float(alpha) * ratings.data[row].astype(np.float64)
            if len(y):
                a = everywhere + (y.T * extra) @ y + float(regularisation) * len(y) * np.eye(len(everywhere))
                out[u] = np.linalg.solve(a, (1.0 + extra) @ y)
        return out

    def scorer(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
        vectors, items = self.vectors(histories, request_us, tables), tables.dense(self.params["kind"])

        def tile(first: int) -> np.ndarray:
            """[U, COLUMNS] scores of the columns first … first + COLUMNS, padded: a product per user."""
            block = np.zeros((vectors.shape[1], COLUMNS), np.float32)
            block[:, : len(items[first : first + COLUMNS])] = items[first : first + COLUMNS].T
            return np.stack([vector @ block for vector in vectors]) if len(vectors) else np.zeros((0, COLUMNS), np.float32)

        def score(lo: int, hi: int) -> np.ndarray:
            start = lo - lo % COLUMNS
            return np.concatenate([tile(first) for first in range(start, hi, COLUMNS)], axis=1)[:, lo - start : hi - start]

        return score

    def explain(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> Reasons:
        items = tables.dense(self.params["kind"])
        weights = event_weights(histories, request_us, self.params["span"])
        event = speaking_event(histories, weights, tables, columns, lambda have, listed: items[have] @ items[listed].T)
        return Reasons(np.where(columns >= 0, REASONS.index("taste"), REASONS.index("popular")).astype(np.int8), event)
