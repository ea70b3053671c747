"""The kinds of item tables by the string a model asks for, and how each is made from sums over pairs (recs/evidence/pairs.py).

    kind                    sum                     a row j holds
    cooc, cooc:<shrink>     cooc                    n_ij / (sqrt(n_i n_j) + shrink)
    together[:<shrink>]     together                the same, of days
    transitions             transitions             w_ji / (sum_i w_ji + 5)
    follows:<events>:<hours>    the same        the same
    adopters[:<half-life>]  adopters:<half-life>    idf_j^2 * votes_ji
    ease:<lambda>           cooc                    EASE, dense
    ease_near:<lambda>      cooc                    EASE, the greatest weights of each row
    als:<f>:<reg>:<alpha>   -                       item factors, dense
    text                    -                       vectors of the items' texts, dense
    facts                   -                       codes of category path, brand and price, dense
    vectors                 -                       vectors of other modalities (image, audio), one dense table each
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from . import pairs

# how many arguments a kind may have
_ARGUMENTS = {
    "cooc": (0, 1), "together": (0, 1), "transitions": (0,), "follows": (2,), "adopters": (0, 1), "ease": (1,), "ease_near": (1,),
    "als": (3,), "text": (0,), "facts": (0,), "vectors": (0,),
}
COUNTS = "counts"   # whole rows of co-occurrence counts: what every EASE is solved from
SOLVED = ("ease", "ease_near")
TEXT, FACTS, VECTORS = OF_CATALOGUE = ("text", "facts", "vectors")


class KindError(ValueError):
    """A kind of item table that nobody builds."""


def parse_kind(kind: str) -> tuple[str, tuple[float, ...]]:
    """`ease:300` -> ("ease", (300.0,)).  Raises KindError for a kind that is not in the table above."""
    name, *args = kind.split(":")
    try:
        values = tuple(float(a) for a in args)
    except ValueError:
        values = (math.nan,)
    least = 0.0 if name in ("cooc", "together") else math.ulp(0.0)
    if len(values) not in _ARGUMENTS.get(name, ()) or not all(least <= v < math.inf for v in values):
        known = (
            "cooc[:shrink], together[:shrink], transitions, follows:events:hours, adopters[:half-life in days], ease:lambda, "
            "ease_near:lambda, als:factors:regularisation:alpha, text, facts, vectors")
        raise KindError(f"no item table is called {kind!r}; there are {known}, with positive numbers")
    return name, values


def is_solved(kind: str) -> bool:
    """Is it a solution of the whole matrix of counts (EASE)?"""
    return kind.split(":")[0] in SOLVED


@dataclass(frozen=True)
class PairKinds:
    """The kinds wanted of one cut, and what their rows are normalised with."""

    kinds: tuple[str, ...]
    neighbours: int             # kept per row
    adopter_half_life_d: float  # of plain `adopters`
    users_met: np.ndarray       # [I] int64: users who know the item (the diagonal of `cooc`)
    days_met: np.ndarray        # [I] int64: days of users on which they met the item (the diagonal of `together`)
    idf: np.ndarray             # [I] float64

    def sum_of(self, kind: str) -> str:
        """Name of the sum that a kind is made from."""
        name, args = parse_kind(kind)
        if name == "adopters":
            return f"adopters:{args[0] if args else self.adopter_half_life_d!r}"
        return "cooc" if name in SOLVED else kind if name == "follows" else name

    @property
    def sums(self) -> tuple[str, ...]:
        """Names of the sums the kinds are made of, each once."""
        return tuple(sorted({self.sum_of(kind) for kind in self.kinds}))

    def finish(self, name: str, sums: sp.csr_matrix, first_row: int) -> dict[str, sp.csr_matrix]:
        """Rows first_row, first_row + 1, … of one sum [rows, I], whole, as the same rows of the kinds made from it."""
        return {
            COUNTS if is_solved(kind) else kind: self._rows(kind, sums, first_row)
            for kind in self.kinds if self.sum_of(kind) == name
        }

    def _rows(self, kind: str, sums: sp.csr_matrix, first_row: int) -> sp.csr_matrix:
        name, args = parse_kind(kind)
        if name in SOLVED:
            return sums
        if name == "cooc":
            weights = pairs.cosine(sums, first_row, self.users_met, *args)
        elif name == "together":
            weights = pairs.cosine(sums, first_row, self.days_met, *args)
        elif name in ("transitions", "follows"):
            weights = pairs.next_item_shares(sums)
        else:
            weights = pairs.adopter_votes(sums, first_row, self.idf)
        return pairs.top_per_row(weights, self.neighbours)
