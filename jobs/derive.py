"""Bring sessions, item_hours and sequences to the state one night asks for, and say which versions hold it.

A state is (as_of, highest batch).  Forward is the normal night: only what changed is read.  Backward (a past night again) is a
version that Delta still keeps, or, when it was vacuumed or never existed, a full rebuild beside the tables under `root/_rebuilt`.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recs.clock import micros
from recs.config import Config
from recs.jobs import item_hours, sequences, sessionize
from recs.schemas import ITEM_HOURS, SEQUENCES, SESSIONS, Table
from recs.tables import Lake, SideLake

STAGES: tuple[tuple[str, Table, Callable[..., dict[str, Any]]], ...] = (
    ("sessionize", SESSIONS, sessionize.run),
    ("item_hours", ITEM_HOURS, item_hours.run),
    ("sequences", SEQUENCES, sequences.run),
)


@dataclass(frozen=True)
class Derived:
    """The derived tables of one state: where they are and at which version."""

    lake: Lake
    versions: dict[str, int]

    def read(self, table: Table):
        """The rows of a derived table at this state."""
        return self.lake.read(table, self.versions[table.name])


def bring(lake: Lake, config: Config, as_of: datetime, max_batch: int, step: Callable[..., Any]) -> Derived:
    """The derived tables at (as_of, max_batch).  `step(name)` is a context that times a step and takes its counts."""
    wanted = {"as_of_us": micros(as_of), "max_batch": max_batch}
    if not _behind(lake, wanted):
        kept = {t.name: lake.version_with(t, **wanted) for _, t, _ in STAGES}
        if None not in kept.values():
            return Derived(lake, kept)      # type: ignore[arg-type]
        lake = SideLake(lake, f"{lake.root}/_rebuilt/{wanted['as_of_us']}-{max_batch}", tuple(t for _, t, _ in STAGES))
    for name, _table, run in STAGES:
        with step(name) as counts:
            counts.update(run(lake.spark, lake, config, as_of, max_batch))
    return Derived(lake, {t.name: lake.version(t) for _, t, _ in STAGES})


def _behind(lake: Lake, wanted: dict[str, int]) -> bool:
    """Can every table be brought forward to the wanted state?"""
    notes = [lake.note(t) for _, t, _ in STAGES]
    return all(n.get(k, -1 << 63) <= v for n in notes for k, v in wanted.items())
