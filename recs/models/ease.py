"""EASE: one linear layer from what the user has to what he will have (Steck, WWW 2019, arXiv 1905.03375).

    score(u, ·) = share(u, ·) @ B  +  own * share(u, ·)  +  1e-6 * popularity        B = -P / diag(P) off the diagonal, 0 on it
                                                                                    P = (X'X + lambda I)^-1
"""
from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from recs.evidence.item_tables import ItemTables

from .base import Scorer, Setting
from .item_to_item import ItemToItem


def times_dense(mine: sp.csr_matrix, table: np.ndarray, lo: int, hi: int) -> np.ndarray:
    """Columns lo:hi of [U, I] @ [I, I], row by row: scipy adds up the rows of `table` that a user's profile names, in its order."""
    return mine @ np.ascontiguousarray(table[:, lo:hi])


class Ease(ItemToItem):
    """The dense table of the cut, with the neighbours' interface."""

    name = "ease"

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        # a second and third regularisation cost an inverse each: only where they take seconds
        lambdas = (300, 100, 1000) if setting.n_items <= 6_000 else (300,)
        return cls._grid(setting, tuple(f"ease:{x}" for x in lambdas))

    def spoken_for(self, mine: sp.csr_matrix, tables: ItemTables) -> Scorer:
        table = tables.dense(self.params["kind"])
        return lambda lo, hi: times_dense(mine, table, lo, hi)
