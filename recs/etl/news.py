"""What is new to a derived table: the rule by which a night costs what changed.

A derived table (sessions, item_hours, sequences) stands at a state: it knows the events of batches up to `max_batch` that
happened before `as_of`.  The next state knows more in two ways, late rows and rows whose time has come:

                          batch <= old batch        old batch < batch <= new batch
    ts < old as_of             known                          new (late)
    old as_of <= ts            new (waited for its day)       new
    ts >= new as_of            not yet                        not yet

Every commit of a derived table carries its state, so the difference is read from the table itself; a table never moves back.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recs.clock import from_micros, micros

from .instants import date_of_micros, instant

Step = Literal["unchanged", "update", "full"]


class StateError(ValueError):
    """A derived table cannot be brought to the state asked for; the message says from where to where, and what to do."""

    def __init__(self, have: State, wanted: State) -> None:
        self.stands = f"the table stands at {have}"
        super().__init__(f"{self.stands} and cannot go back to {wanted}: rebuild with --full, or under another --root")


@dataclass(frozen=True)
class State:
    """What a derived table knows: events of batches up to `max_batch` before the instant `as_of_us` (microseconds UTC)."""

    as_of_us: int
    max_batch: int

    @classmethod
    def of(cls, as_of: datetime, max_batch: int) -> State:
        """From an instant."""
        return cls(micros(as_of), max_batch)

    @classmethod
    def from_note(cls, note: dict[str, Any]) -> State:
        """From the note of a derived table’s commit."""
        return cls(note["as_of_us"], note["max_batch"])

    def __str__(self) -> str:
        return f"as of {from_micros(self.as_of_us).isoformat()}, batch {self.max_batch}"


def recipe(**settings: Any) -> str:
    """Hash of the settings a stage's rows depend on; when it differs from the one in the table's note, nothing old can be kept."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]


def next_step(note: dict[str, Any], wanted: State, made_by: str, full: bool) -> Step:
    """How the table whose newest commit says `note` gets to `wanted`.  Raises StateError when that lies in its past."""
    if full or "as_of_us" not in note or note.get("recipe") != made_by:
        return "full"
    have = State.from_note(note)
    if have == wanted:
        return "unchanged"
    if wanted.as_of_us < have.as_of_us or wanted.max_batch < have.max_batch:
        raise StateError(have, wanted)
    return "update"


def visible(events: DataFrame, state: State) -> DataFrame:
    """The events the state knows; the date is said too, so that Delta opens no later partition."""
    return _before(events, state.as_of_us).where(F.col("batch_id") <= state.max_batch)


def before(events: DataFrame, as_of: datetime) -> DataFrame:
    """The events that happened before `as_of`."""
    return _before(events, micros(as_of))


def new_events(events: DataFrame, old: State, new: State) -> DataFrame:
    """The events that `new` knows and `old` did not.

    Delta opens only files that can hold such rows: an ingest run's files carry its batch_id in their statistics, and what
    waited for its day is not before the old cut.
    """
    came_later = F.col("batch_id") > old.max_batch
    waited = F.col("ts") >= instant(old.as_of_us)
    return visible(events, new).where(came_later | waited)


def _before(events: DataFrame, as_of_us: int) -> DataFrame:
    return events.where((F.col("ts") < instant(as_of_us)) & (F.col("event_date") <= date_of_micros(as_of_us)))
