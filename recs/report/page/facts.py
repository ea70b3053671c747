"""What the books say about one night: decisions, audit, champion, rows read, what became of the lists.

Everything is as of this night: later nights, decisions about other champions and later batches are left out, so that a page that is
written again says the same, but for what was not known yet (the morning after, a release).
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recs.judge.champions import reign, reigning_line

from ..show import Row, ShowError, rows

if TYPE_CHECKING:
    import duckdb

DECISIONS = """
    SELECT * FROM nights WHERE run_date = $run_date AND list_name = $list_name
    ORDER BY decided_at, CASE WHEN decision = 'started' THEN 0 ELSE 1 END"""
NEWEST = "SELECT max(run_date) AS d FROM nights WHERE list_name = $list_name"
STANDING = "SELECT max(run_date) AS d FROM published_nights WHERE list_name = $list_name AND run_date <= $run_date"
BOOKED = """
    SELECT run_date, decision, reason, audit FROM nights_and_holds
    WHERE list_name = $list_name AND is_last_word AND run_date BETWEEN $first AND $last ORDER BY run_date"""
DAYS = """
    SELECT * FROM (SELECT * FROM outcomes_by_day WHERE list_name = $list_name AND served_on <= $run_date ORDER BY served_on DESC LIMIT $n)
    ORDER BY served_on"""
SLICES = """
    SELECT * FROM outcomes_by_slice
    WHERE list_name = $list_name AND served_on = $day AND name = $name AND kind IN ('history', 'segment', 'age', 'audience', 'shown')
    ORDER BY kind, n DESC, part"""
BATCHES = "SELECT * FROM batches WHERE batch_id > $after AND batch_id <= $upto ORDER BY batch_id"
BEFORE = """
    SELECT coalesce(max(max_batch), 0) AS b FROM nights WHERE list_name = $list_name AND run_date < $run_date AND max_batch <= $upto"""
KINDS = "SELECT event_type AS name, count(*) AS n FROM events WHERE batch_id > $after AND batch_id <= $upto GROUP BY ALL"
REFUSED = "SELECT reason AS name, count(*) AS n FROM events_quarantine WHERE batch_id > $after AND batch_id <= $upto GROUP BY ALL"
MODEL = "SELECT * FROM models WHERE model_version = $version"
PROMOTIONS = "SELECT *, epoch_us(decided_at) AS decided_at_us FROM promotions WHERE decided_at <= $until ORDER BY decided_at, model_version"
RECORDS = 400       # run records looked at, newest first: a month of nights in single stages


@dataclass(frozen=True)
class Night:
    """One night of one list.  `standing` is the night whose lists are in use on that day (None: nothing was published yet)."""

    run_date: date
    list_name: str
    decisions: tuple[Row, ...]      # oldest first; `started` rows among them
    standing: date | None

    @property
    def last(self) -> Row:
        """The last word: the newest decision, else the newest attempt that was begun."""
        decided = [d for d in self.decisions if d["decision"] != "started"]
        return (decided or list(self.decisions))[-1]

    @property
    def audit(self) -> dict[str, dict[str, Any]]:
        """check -> {ok, value, limit} of the attempt that has the last word."""
        return json.loads(self.last["audit"] or "{}")


def night_of(con: duckdb.DuckDBPyConnection, list_name: str, run_date: date | None) -> Night:
    """The night (default: the newest that was tried).  ShowError when there is no such night."""
    day = run_date or rows(con, NEWEST, list_name=list_name)[0]["d"]
    decisions = rows(con, DECISIONS, run_date=day, list_name=list_name) if day else []
    if not decisions:
        raise ShowError(f"no night{f' {day}' if day else ''} of list {list_name!r} was tried: run `recs night`; `recs nights` lists them")
    return Night(day, list_name, tuple(decisions), rows(con, STANDING, list_name=list_name, run_date=day)[0]["d"])


@dataclass(frozen=True)
class Became:
    """The newest day whose outcome is known up to this night, and the days before it; `own`: it is this night's own day."""

    days: tuple[Row, ...]       # of outcomes_by_day, ascending
    slices: tuple[Row, ...]     # of outcomes_by_slice, for the day that is shown
    run_date: date

    @property
    def day(self) -> Row | None:
        """The day to open with: this night's own where it has a figure, else the newest that has one."""
        known = [d for d in self.days if d["value"] is not None]
        whole = [d for d in known if d["is_whole"] or d["served_on"] == self.run_date]
        return (whole or known or [None])[-1]

    @property
    def own(self) -> bool:
        """Is the day that is shown the one on which this night's lists were due?"""
        return self.day is not None and self.day["served_on"] == self.run_date


def became(con: duckdb.DuckDBPyConnection, night: Night, days: int = 28) -> Became:
    """What the lists came to, this night's and those before."""
    found = Became(tuple(rows(con, DAYS, list_name=night.list_name, run_date=night.run_date, n=days)), (), night.run_date)
    if found.day is None:
        return found
    sliced = rows(con, SLICES, list_name=night.list_name, day=found.day["served_on"], name=found.day["headline"])
    return Became(found.days, tuple(sliced), night.run_date)


def booked(con: duckdb.DuckDBPyConnection, night: Night, first: date) -> list[Row]:
    """The last word on every night from `first` to this one, its audit read."""
    found = rows(con, BOOKED, list_name=night.list_name, first=first, last=night.run_date)
    return [r | {"audit": json.loads(r["audit"] or "{}")} for r in found]


@dataclass(frozen=True)
class Arrived:
    """Rows read since the night before: the batches, accepted rows by event type, refused ones by reason."""

    batches: tuple[Row, ...]
    kinds: tuple[tuple[str, int], ...]
    reasons: tuple[tuple[str, int], ...]

    def total(self, column: str) -> int:
        """A count of `batches` over all of them."""
        return sum(b[column] for b in self.batches)


def arrived(con: duckdb.DuckDBPyConnection, night: Night) -> Arrived:
    """Row accounting of the batches that this night knows and the one before did not."""
    upto = night.last["max_batch"]
    after = rows(con, BEFORE, list_name=night.list_name, run_date=night.run_date, upto=upto)[0]["b"]
    span = {"after": after, "upto": upto}
    counted = (tuple((r["name"], r["n"]) for r in rows(con, sql, **span)) for sql in (KINDS, REFUSED))
    return Arrived(tuple(rows(con, BATCHES, **span)), *counted)


def model_of(con: duckdb.DuckDBPyConnection, version: str) -> Row | None:
    """The model's row, its figures read; None where the book has none (a model that only counts, a night that never chose)."""
    found = rows(con, MODEL, version=version)
    return found[0] | {"metrics": json.loads(found[0]["metrics"] or "{}")} if found else None


def champion(con: duckdb.DuckDBPyConnection, until: datetime) -> tuple[str | None, str]:
    """Who reigned at an instant, and why, in a line."""
    decided = rows(con, PROMOTIONS, until=until)
    return (reign(decided) or [None])[-1], reigning_line(decided)


def records(root: str | Path, night: Night) -> list[Row]:
    """The run records of this night, in the order in which they ran: one of `recs night`, or those of its single stages.

    Local roots only; a record that names another night, or that was begun after the last decision, is none of this night's.
    """
    folder = Path(str(root)) / "_runs"
    if "://" in str(root) or not folder.is_dir():
        return []
    found: dict[str, Row] = {}
    for path in sorted(folder.glob("*.json"), reverse=True)[:RECORDS]:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["job"] not in found and _is_of(body, night):
            found[body["job"]] = body
            if body["job"] == "night":
                return [body]
    return sorted(found.values(), key=lambda r: r["started_at"])


def _is_of(body: Row, night: Night) -> bool:
    """Does a run record tell of this night?"""
    if datetime.fromisoformat(body["started_at"]) > night.last["decided_at"]:
        return False
    if "run_date" in body:
        return (body["run_date"], body.get("list_name")) == (str(night.run_date), night.list_name)
    if "content_hash" in body:      # written before records named their night
        return body["content_hash"] == night.last["content_hash"]
    if "as_of" in body:             # a stage that knows a cut, not a list
        return datetime.fromisoformat(body["as_of"]) == night.last["as_of"]
    return body["job"] == "ingest" and body["steps"].get("ingest", {}).get("batch_id") == night.last["max_batch"]
