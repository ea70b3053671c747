"""Publish a night, or hold it; release a held one, take a published one back.

    staged rows     more than none, and hashing to exactly what the audit saw
    published       one overwrite of one partition (run_date, list) in one Delta commit; the note carries the tuple, the audit and
                    the decision; then the row in `nights`
    held            a row in `nights`; `recommendations` is not touched, so yesterday's lists stay current
    withdrawn       the partition is deleted in one commit: every reader's newest run_date is the night before.  The staged rows
                    stay, so that the night can be released again

Whoever decides holds the lease `publish` and repairs first what a killed run left undone (recs/serve/nights.py).
A night that a person withdrew is not published by a re-run: it takes a release, or a new attempt.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from recs.schemas import RECOMMENDATIONS
from recs.tables import Lake, lease, predicate

from . import nights
from .audit import Results, failures
from .faults import crash, crash_on_new_file
from .nights import Attempt
from .staging import Content, content, remove_old, staged_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

ROWS_PER_FILE = 2_000_000       # of a published partition; sorted by user, so that one user's list is found in one file


class PublishError(ValueError):
    """A night cannot be published, released or held as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Decision:
    """What became of an attempt."""

    run_date: date
    list_name: str
    attempt: int
    decision: str       # published, held, released or withdrawn
    reason: str
    content: Content
    audit: Results
    delta_version: int | None

    @property
    def is_published(self) -> bool:
        """Do readers see the night?"""
        return self.decision in nights.STANDS

    @property
    def line(self) -> str:
        """One line for people."""
        what = f"night {self.run_date} of list {self.list_name}, attempt {self.attempt}: {self.decision}"
        lists = f"{self.content.n_lists} lists, content {self.content.hash[:12]}"
        return f"{what}, {lists}" if self.decision == "published" else f"{what}: {self.reason}"


def staged_rows(lake: Lake, attempt: Attempt) -> DataFrame:
    """The staged rows of an attempt at their newest version.  PublishError when there are none."""
    note = lake.note(attempt.table)
    if not note:
        raise PublishError(f"{attempt.name}: nothing is staged; run `recs recommend` first")
    return lake.read(attempt.table, lake.version(attempt.table))


def decide(lake: Lake, attempt: Attempt, staged: DataFrame, audited: Content, results: Results, wait_s: float = 0.0) -> Decision:
    """Publish the staged rows if every check of the audit passed, hold the night otherwise; either way with a row in `nights`.

    `audited` is what the audit saw.  LeaseError when somebody else is deciding for longer than `wait_s`.
    """
    with lease(lake.root, "publish", wait_s):
        nights.repair(lake)
        acted = _newest(lake, attempt.list_name, attempt.night.run_date, nights.STANDS + nights.GONE)
        if acted is not None and acted["attempt"] == attempt.number:
            if acted["decision"] in nights.GONE:
                by = f"withdrawn by {acted['decided_by']} ({acted['reason']})"
                return _held(lake, attempt, audited, results, f"{by}: `recs release` publishes it again, `--refresh` makes a new attempt")
            if acted["content_hash"] == audited.hash:       # a re-run that made the same lists
                return _decision(acted, results)
        why_not = failures(results) or _changed_since(staged, audited)
        if why_not:
            return _held(lake, attempt, audited, results, why_not)
        decision = _publish(lake, attempt, staged, nights.decision("published", "audit", "all checks passed", **_seen(audited, results)))
        remove_old(lake, attempt.night.run_date)
        return decision


def release(lake: Lake, run_date: date, list_name: str, reason: str, by: str, wait_s: float = 0.0) -> Decision:
    """Publish the newest attempt of a held or withdrawn night by a person's decision.

    PublishError when the night stands already, was never decided, or its staged rows are not those that were audited.
    """
    with lease(lake.root, "publish", wait_s):
        nights.repair(lake)
        last = _newest(lake, list_name, run_date, nights.DECIDED)
        if last is None:
            raise PublishError(f"night {run_date} of list {list_name}: no attempt was ever decided; `recs nights` shows what there is")
        if last["decision"] in nights.STANDS:
            raise PublishError(f"night {run_date} of list {list_name} is published already (attempt {last['attempt']})")
        attempt = _attempt_of(last)
        staged = staged_rows(lake, attempt)
        if changed := _changed_since(staged, Content(last["content_hash"], last["n_rows"], last["n_lists"])):
            raise PublishError(f"{attempt.name}: {changed}; run the night again")
        facts = {k: last[k] for k in ("audit", "n_lists", "n_rows", "content_hash")}
        return _publish(lake, attempt, staged, nights.decision("released", by, reason, **facts))


def hold(lake: Lake, run_date: date, list_name: str, reason: str, by: str, wait_s: float = 0.0) -> Decision:
    """Take a published night back by a person's decision: its partition goes, the night before is current again."""
    with lease(lake.root, "publish", wait_s):
        nights.repair(lake)
        last = _newest(lake, list_name, run_date, nights.STANDS + nights.GONE)
        if last is None or last["decision"] not in nights.STANDS:
            state = last["decision"] if last else "not published"
            raise PublishError(f"night {run_date} of list {list_name} is {state}: only a published night can be taken back")
        facts = {k: last[k] for k in ("audit", "n_lists", "n_rows", "content_hash")}
        note = _attempt_of(last).facts() | nights.decision("withdrawn", by, reason, **facts)
        lake.delete(RECOMMENDATIONS, predicate(run_date=run_date, list_name=list_name), note)
        crash("after_commit", lake.spark)
        nights.record(lake, note)
        return _decision(note | {"run_date": run_date, "delta_version": None}, json.loads(last["audit"]))


def _publish(lake: Lake, attempt: Attempt, staged: DataFrame, decision: dict[str, Any]) -> Decision:
    """One commit for one night, then its row."""
    run_date, list_name = attempt.night.run_date, attempt.list_name
    note = attempt.facts() | decision
    files = -(-decision["n_rows"] // ROWS_PER_FILE)
    rows = staged.repartitionByRange(files, "user_id").sortWithinPartitions("audience", "user_id", "rank")
    partition = f"{lake.path(RECOMMENDATIONS)}/run_date={run_date}/list_name={list_name}"
    with crash_on_new_file("during_commit", lake.spark, partition):
        lake.replace(rows, RECOMMENDATIONS, predicate(run_date=run_date, list_name=list_name), note)
    crash("after_commit", lake.spark)
    version = _version_of(lake, note)
    nights.record(lake, note, version)
    return _decision(note | {"run_date": run_date, "delta_version": version}, json.loads(decision["audit"]))


def _held(lake: Lake, attempt: Attempt, audited: Content, results: Results, reason: str) -> Decision:
    note = attempt.facts() | nights.decision("held", "audit", reason, **_seen(audited, results))
    nights.record(lake, note)
    return _decision(note | {"run_date": attempt.night.run_date, "delta_version": None}, results)


def _seen(audited: Content, results: Results) -> dict[str, Any]:
    """What the audit saw, as it goes into notes and rows."""
    return {
        "audit": json.dumps(results, sort_keys=True), "n_lists": audited.n_lists, "n_rows": audited.n_rows, "content_hash": audited.hash,
    }


def _changed_since(staged: DataFrame, audited: Content) -> str:
    """Why these rows must not be published; '' when they are what the audit saw."""
    now = content(staged)
    if now.n_rows == 0:
        return "no rows are staged"
    if now != audited:
        return f"staged rows hash to {now.hash[:12]}… ({now.n_rows} rows), the audit saw {audited.hash[:12]}… ({audited.n_rows} rows)"
    return ""


def _newest(lake: Lake, list_name: str, run_date: date, decisions: tuple[str, ...]) -> dict[str, Any] | None:
    """The newest of such decisions about a night; None when there is none."""
    return next((r for r in reversed(nights.rows_of(lake, list_name, run_date)) if r["decision"] in decisions), None)


def _attempt_of(row: dict[str, Any]) -> Attempt:
    """The attempt that a row of `nights` is about."""
    from recs.clock import Night, from_micros

    night = Night(row["run_date"], from_micros(row["as_of_us"]), from_micros(row["serve_at_us"]))
    return Attempt(
        night, row["list_name"], row["attempt"], row["max_batch"], row["decided_at_us"], row["config_hash"], row["code_version"],
        row["item_tables"], row["model_version"],
    )


def _version_of(lake: Lake, note: dict[str, Any]) -> int:
    """Version of the commit that carries this note."""
    return next(v for v, said in lake.commits(RECOMMENDATIONS) if said.get("decided_at_us") == note["decided_at_us"])


def _decision(row: dict[str, Any], results: Results) -> Decision:
    seen = Content(row["content_hash"], row["n_rows"], row["n_lists"])
    return Decision(
        row["run_date"], row["list_name"], row["attempt"], row["decision"], row["reason"], seen, results, row["delta_version"],
    )


__all__ = ["Decision", "PublishError", "decide", "hold", "release", "staged_rows", "staged_table"]
