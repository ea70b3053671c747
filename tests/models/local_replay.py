"""Earlier nights in this process, without Spark: a `Replay` over questions in memory."""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from item_table_double import build

from recs.clock import DAY
from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.models.fitting import Question
from recs.nn.staged import MANIFEST, Staged, open_staged, write_staged
from recs.serve.rules import FOR_EVER, Forbidden, Rules


@dataclass
class LocalReplay:
    """Questions by night."""

    questions: dict[int, Question]
    cuts_us: tuple[int, ...]
    scratch: Path | None = None
    horizon_us: int = DAY
    k: int = 10
    until: float | None = None
    histories: Histories | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    rows_per_file: int = 10_000

    @property
    def n_lists(self) -> int:
        return sum(len(q.wanted) for q in self.questions.values())

    @property
    def nights(self) -> list[int]:
        return sorted(self.questions)

    def only(self, nights: Collection[int]) -> LocalReplay:
        return replace(self, questions={n: self.questions[n] for n in nights if n in self.questions})

    def tables(self, night: int) -> ItemTables:
        return self.questions[night].tables

    def mean(self, ask: Callable[[Question], np.ndarray]) -> np.ndarray:
        return sum(ask(q) for q in self.questions.values()) / self.n_lists

    def stage(self, make: Callable[[Question], dict[str, np.ndarray]]) -> Any:
        kept, n = [make(q) for q in self.questions.values()], self.n_lists

        class Kept:
            def mean(self, ask: Callable[[dict[str, np.ndarray]], np.ndarray]) -> np.ndarray:
                return sum(ask(arrays) for arrays in kept) / n

        return Kept()

    def contents(self, kinds: Collection[str] | None = None) -> dict[int, str]:
        return {n: hashlib.sha256(q.truth.tobytes() + q.tables.digest(kinds).encode()).hexdigest() for n, q in self.questions.items()}

    def write(
        self, make: Callable[[Question], dict[str, np.ndarray]], folder: Path, kinds: Collection[str] | None = None,
    ) -> dict[int, Staged]:
        """Nights of several files; one that lies there is not written again, as on the executors."""
        out = {}
        for n, content in self.contents(kinds).items():
            place = folder / f"night-{self.cuts_us[n]}-{content[:12]}"
            if not (place / MANIFEST).exists():
                columns = make(self.questions[n])
                if not len(columns["n_truth"]):
                    continue
                write_staged(place, columns, self.rows_per_file, {"cut_us": self.cuts_us[n]})
            out[n] = open_staged(place)
        return out

    def write_histories(
        self, make: Callable[[Histories, ItemTables], dict[str, np.ndarray]], folder: Path, night: int,
    ) -> Staged | None:
        columns = {} if self.histories is None else make(self.histories, self.questions[night].tables)
        return write_staged(folder, columns) if len(columns.get("who", ())) else None

    def enough(self) -> bool:
        return False


def question(
    events: pd.DataFrame, cut_us: int, folder: Path, kinds: tuple[str, ...], hide_seen: bool = False, **tables_of: Any,
) -> Question:
    """What users (with histories) met on the day after the cut; `tables_of` goes to item_table_double.build."""
    tables = build(folder, events, cut_us, kinds, **tables_of)
    after = events[(events.ts >= cut_us) & (events.ts < cut_us + DAY)]
    users = dict(iter(events[events.ts < cut_us].groupby("user")))
    histories = Histories.of(**{f"u{u:03d}": list(zip(g.item, g.ts, strict=True)) for u, g in users.items()})
    request = np.full(len(histories), cut_us)
    rules = Rules(hidden_default_us=FOR_EVER if hide_seen else 0)
    nothing = [np.empty(0, np.int64)] * len(histories)
    forbidden = Forbidden(rules, histories, request, tables, nothing)(0, tables.n_items)
    cells = []
    for place, u in enumerate(users):
        columns = np.unique(tables.columns(after[after.user == u].item.to_numpy()))
        cells.append([c for c in columns if c >= 0 and not forbidden[place, c]])
    keep = np.array([p for p, c in enumerate(cells) if c])
    histories, request = histories.take(keep), request[keep]
    truth = np.array([row * tables.n_items + c for row, p in enumerate(keep) for c in cells[p]])
    again = Forbidden(rules, histories, request, tables, nothing[: len(keep)])
    return Question(histories, request, tables, again, truth, np.array([len(cells[p]) for p in keep]), 10)
