"""The book of nights: which tuple an attempt was made from, what was decided about it, which night stands.

    plan       a night that was never tried: attempt 1 takes the newest batch and is written down as `started`
               tried before: the same attempt with the tuple in the book, whatever arrived since
               --refresh: a new attempt with the newest batch
    record     one row per decision; the same facts are in the note of the commit that carried it out
    repair     a run that was killed between that commit and its row: the row is written from the note

Instants travel as microseconds: a Python datetime that Spark collects depends on the machine's time zone.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from recs.clock import Night, from_micros
from recs.local_frame import local_frame
from recs.schemas import BATCHES, NIGHTS, RECOMMENDATIONS
from recs.tables import Lake, TableError

from .staging import staged_table

DECIDED = ("published", "held", "released", "withdrawn")
STANDS, GONE = ("published", "released"), ("withdrawn",)
_INSTANTS = ("as_of", "serve_at", "decided_at")


@dataclass(frozen=True)
class Attempt:
    """One attempt at one night: the tuple it is made from.  `item_tables` and `model_version` are '' until a try has chosen them."""

    night: Night
    list_name: str
    number: int
    max_batch: int
    started_us: int
    config_hash: str
    code_version: str
    item_tables: str = ""
    model_version: str = ""

    @property
    def table(self):
        """Contract (and place) of its staged rows."""
        return staged_table(self.night.run_date, self.list_name, self.number)

    @property
    def name(self) -> str:
        """For messages."""
        return f"night {self.night.run_date} of list {self.list_name}, attempt {self.number}"

    def made_with(self, item_tables: str, model_version: str) -> Attempt:
        """The attempt with its item tables and model chosen."""
        return replace(self, item_tables=item_tables, model_version=model_version)

    def facts(self) -> dict[str, Any]:
        """The tuple as it goes into notes and rows."""
        return {
            "run_date": self.night.run_date.isoformat(), "list_name": self.list_name, "attempt": self.number,
            "as_of_us": self.night.as_of_us, "serve_at_us": self.night.serve_at_us, "max_batch": self.max_batch,
            "item_tables": self.item_tables, "model_version": self.model_version,
            "config_hash": self.config_hash, "code_version": self.code_version,
        }


def plan(
    lake: Lake, night: Night, list_name: str, *, config_hash: str, code_version: str, refresh: bool = False, max_batch: int | None = None,
) -> Attempt:
    """The attempt to work on now.  Hold the lease `night` around it: two that plan at once would take the same number.

    `max_batch` (default: the newest finished batch) counts for new attempts only.  Raises TableError when nothing was ingested yet.
    """
    repair(lake)
    tried = rows_of(lake, list_name, night.run_date)
    if tried and not refresh:
        return _again(lake, tried, config_hash, code_version)
    newest = newest_batch(lake) if max_batch is None else max_batch
    number = 1 + max((r["attempt"] for r in tried), default=0)
    attempt = Attempt(night, list_name, number, newest, now_us(), config_hash, code_version)
    record(lake, attempt.facts() | decision("started", "night", "started", decided_at_us=attempt.started_us))
    return attempt


def _again(lake: Lake, tried: list[dict[str, Any]], config_hash: str, code_version: str) -> Attempt:
    """The newest attempt with its tuple; what a killed try chose is in the note of its staged rows.

    TableError when it was decided and the configuration is another one now.
    """
    number = max(r["attempt"] for r in tried)
    same = [r for r in tried if r["attempt"] == number]
    last = same[-1]
    if last["decision"] in DECIDED and last["config_hash"] != config_hash:
        was = f"night {last['run_date']} of list {last['list_name']}, attempt {number} was made with configuration {last['config_hash']}"
        raise TableError(f"{was}, now it is {config_hash}; a re-run gives the same lists: use --refresh for a new attempt")
    night = Night(last["run_date"], from_micros(last["as_of_us"]), from_micros(last["serve_at_us"]))
    attempt = Attempt(night, last["list_name"], number, last["max_batch"], same[0]["decided_at_us"], config_hash, code_version)
    known = last if last["model_version"] else lake.note(attempt.table)
    return attempt.made_with(known.get("item_tables", ""), known.get("model_version", ""))


def newest_batch(lake: Lake) -> int:
    """The highest finished batch; TableError when there is none."""
    from pyspark.sql import functions as F

    newest = lake.read(BATCHES).agg(F.max("batch_id")).collect()[0][0]
    if newest is None:
        raise TableError(f"{lake.path(BATCHES)} is empty: ingest a log first (recs ingest)")
    return newest


def rows_of(lake: Lake, list_name: str, run_date: date | None = None) -> list[dict[str, Any]]:
    """The rows of `nights` of one list (and night), oldest decision first, instants as microseconds (`as_of_us`, …)."""
    from pyspark.sql import functions as F

    found = lake.read(NIGHTS).where(F.col("list_name") == list_name)
    if run_date is not None:
        found = found.where(F.col("run_date") == F.lit(run_date))
    plain = [c for c in NIGHTS.column_names if c not in _INSTANTS]
    rows = found.select(*plain, *(F.unix_micros(c).alias(f"{c}_us") for c in _INSTANTS)).collect()
    return sorted((r.asDict() for r in rows), key=lambda r: (r["decided_at_us"], r["attempt"]))


def standing(lake: Lake, list_name: str, before: date | None = None) -> dict[str, Any] | None:
    """The row of the newest published night (before a run date); None when there is none."""
    by_date: dict[date, dict[str, Any]] = {}
    for row in rows_of(lake, list_name):
        if row["decision"] in STANDS + GONE and (before is None or row["run_date"] < before):
            by_date[row["run_date"]] = row
    published = [r for r in by_date.values() if r["decision"] in STANDS]
    return max(published, key=lambda r: r["run_date"], default=None)


def decision(what: str, by: str, reason: str, *, decided_at_us: int | None = None, **more: Any) -> dict[str, Any]:
    """The second half of a row: the decision and what it rests on (audit, n_lists, n_rows, content_hash)."""
    blank = {"audit": "{}", "n_lists": 0, "n_rows": 0, "content_hash": ""}
    at = now_us() if decided_at_us is None else decided_at_us
    return {**blank, **more, "decision": what, "decided_by": by, "reason": reason, "decided_at_us": at}


def record(lake: Lake, facts: dict[str, Any], delta_version: int | None = None) -> None:
    """Append one row to `nights`."""
    from pyspark.sql import functions as F

    row = {**facts, "run_date": date.fromisoformat(facts["run_date"]), "delta_version": delta_version}
    names = [c for c in NIGHTS.column_names if c not in _INSTANTS] + [f"{c}_us" for c in _INSTANTS]
    types = {c.name: c.type for c in NIGHTS.columns}
    ddl = ", ".join(f"{n} {types.get(n, 'bigint')}" for n in names)
    frame = local_frame(lake.spark, [tuple(row[n] for n in names)], ddl)
    plain = [c for c in NIGHTS.column_names if c not in _INSTANTS]
    lake.append(frame.select(*plain, *(F.timestamp_micros(f"{c}_us").alias(c) for c in _INSTANTS)), NIGHTS, facts)


def repair(lake: Lake) -> None:
    """Write the row of a decision that was carried out by a run that died before it could record it.

    Only the newest decision can lack its row: whoever decides repairs first, under the lease.
    """
    for version, note in lake.commits(RECOMMENDATIONS):
        if note.get("decision"):
            booked = rows_of(lake, note["list_name"], date.fromisoformat(note["run_date"]))
            if not any(r["decided_at_us"] == note["decided_at_us"] and r["decision"] == note["decision"] for r in booked):
                record(lake, note, version if note["decision"] in STANDS else None)
            return


def now_us() -> int:
    """The machine's clock, microseconds since 1970 UTC."""
    return time.time_ns() // 1000
