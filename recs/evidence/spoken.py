"""What a user's history says through the item x item tables: neighbours, transitions, votes of recent adopters, EASE.

    voice           kind of table and span of the profile, `adopters:30@all`: the newest distinct items, all alike, times the table
    matrices        [U, I] sparse, one per voice
    at pairs        log1p of a thousand times the value; the value as a share of the user's greatest; log1p of its rank

Row by row (scipy adds up the table's rows in the order of the profile): a user's values have the same bits in any batch.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from .histories import Histories
from .item_tables import ItemTables
from .profiles import profile, shares
from .sparse import cells_at

# kinds of item tables x spans of the profile; what needs a clock is marked by the span's unit
VOICES = (
    "ease_near:300@all", "ease_near:300@14d", "cooc@7d", "cooc@10e", "adopters:1@all", "adopters@all", "adopters:30@all",
    "adopters:30@14d", "transitions@2e", "transitions@0.05d",
    "ease_near:300@0.1d", "ease_near:300@2e", "together@0.1d", "together@2e", "together@7d",    # the visit under way
    "follows:4:3@0.5e", "follows:4:3@2e",
)
VOICES_WITHOUT_CLOCK = (
    "ease_near:300@all", "ease_near:300@10e", "ease_near:300@2e", "cooc@10e", "cooc@2e", "transitions@0.5e", "transitions@2e",
    "transitions@10e",
)


@dataclass(frozen=True)
class Spoken:
    """The voices of some histories; those whose table the cut had to leave out say nothing."""

    histories: Histories
    request_us: np.ndarray
    tables: ItemTables
    voices: tuple[str, ...]

    @cached_property
    def matrices(self) -> list[sp.csr_matrix]:
        """[U, I] float32 per voice, columns ascending."""
        profiles: dict[str, sp.csr_matrix] = {}
        out = []
        for voice in self.voices:
            kind, _, span = voice.partition("@")
            if kind not in self.tables.kinds:
                out.append(sp.csr_matrix((len(self.histories), self.tables.n_items), dtype=np.float32))
                continue
            if span not in profiles:
                profiles[span] = shares(profile(self.histories, self.request_us, span, self.tables, binary=span == "all"))
            found = (profiles[span] @ self.tables.neighbours(kind)).tocsr()
            found.sort_indices()
            out.append(found)
        return out

    def at(self, user: np.ndarray, column: np.ndarray) -> list[np.ndarray]:
        """[P] float32 per voice: its value for pairs."""
        return [cells_at(values, user, column) for values in self.matrices]
