"""What a person at a terminal wants to see of the tables, read without a JVM (deltalake's SQL).

Ids are shown because the person asked for them by name; nothing here is logged.
"""
from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
from rich.table import Table as Grid

CURRENT = """
    SELECT r.*, i.title, e.title AS evidence_title
    FROM recommendations r
    LEFT JOIN items i ON i.item_id = r.item_id AND i.valid_to IS NULL
    LEFT JOIN items e ON e.item_id = r.evidence_item_id AND e.valid_to IS NULL
    WHERE r.run_date = DATE '{run_date}' AND r.list_name = '{list_name}'"""


class ShowError(ValueError):
    """There is nothing to show; the message says what to run first."""


def query(root: str | Path, sql: str, *tables: str) -> pa.Table:
    """Run SQL (DataFusion's dialect) over the newest versions of the named tables."""
    from deltalake import DeltaTable, QueryBuilder

    builder = QueryBuilder()
    for name in tables:
        path = Path(root) / name
        if not (path / "_delta_log").is_dir():
            raise ShowError(f"{path} is not there: run `recs night --root {root}` first")
        builder = builder.register(name, DeltaTable(str(path)))
    return pa.table(builder.execute(sql).read_all())


def newest_run_date(root: str | Path, list_name: str) -> date:
    """The run_date that is current: the newest one in `recommendations`."""
    sql = f"SELECT max(run_date) AS d FROM recommendations WHERE list_name = '{list_name}'"
    found = query(root, sql, "recommendations")["d"][0].as_py()
    if found is None:
        raise ShowError(f"{root} holds no published list {list_name!r}: run `recs night --root {root}` first")
    return found


def list_of(root: str | Path, user_id: str, list_name: str = "main", run_date: date | None = None) -> tuple[pa.Table, str]:
    """The rows of one user's list, by rank, and whose list it is: the user's own, or the segment's he falls back to.

    Raises ShowError when the user is opted out and has none.
    """
    day = run_date or newest_run_date(root, list_name)
    base = CURRENT.format(run_date=day.isoformat(), list_name=list_name)
    # ids are compared as values, not pasted into SQL
    every = query(root, base, "recommendations", "items")
    own = every.filter(pa.compute.and_(pa.compute.equal(every["audience"], "user"), pa.compute.equal(every["user_id"], user_id)))
    if own.num_rows:
        return own.sort_by("rank"), "user"
    users = query(root, "SELECT user_id, segment, opt_out FROM users WHERE valid_to IS NULL", "users")
    me = users.filter(pa.compute.equal(users["user_id"], user_id)).to_pylist()
    if me and me[0]["opt_out"]:
        raise ShowError("this user has opted out: no list is made")
    segment = (me[0]["segment"] if me else None) or "all"
    shared = every.filter(pa.compute.equal(every["audience"], "segment"))
    mine = shared.filter(pa.compute.equal(shared["user_id"], segment))
    mine = mine if mine.num_rows else shared.filter(pa.compute.equal(shared["user_id"], "all"))
    if not mine.num_rows:
        raise ShowError(f"no list for this user on {day} and none for the segment {segment!r}")
    return mine.sort_by("rank"), f"segment {segment}"


def list_grid(rows: pa.Table, title: str, limit: int = 10) -> Grid:
    """One list as a table for a terminal."""
    grid = Grid(title=title, title_justify="left", header_style="bold")
    for column in ("#", "item", "title", "score", "why", "because of"):
        grid.add_column(column, justify="right" if column in ("#", "score") else "left")
    for r in rows.slice(0, limit).to_pylist():
        since = f", {r['evidence_ts']:%a %d %b %H:%M}" if r["evidence_ts"] else ""
        because = (r["evidence_title"] or r["evidence_item_id"] or "") + since
        grid.add_row(str(r["rank"]), r["item_id"], r["title"] or "", f"{r['score']:.4g}", r["reason_code"], because)
    return grid


def nights_grid(root: str | Path, limit: int = 20) -> Grid:
    """The newest attempts and what was decided."""
    rows = query(root, f"SELECT * FROM nights ORDER BY decided_at DESC LIMIT {int(limit)}", "nights").to_pylist()
    if not rows:
        raise ShowError(f"{root} has no night yet: run `recs night --root {root}`")
    grid = Grid(title="nights, newest first", title_justify="left", header_style="bold")
    for column in ("run date", "list", "attempt", "decision", "by", "as of (UTC)", "lists", "model", "content", "reason"):
        grid.add_column(column)
    for r in rows:
        style = {"held": "red", "withdrawn": "yellow"}.get(r["decision"], "green")
        grid.add_row(
            str(r["run_date"]), r["list_name"], str(r["attempt"]), f"[{style}]{r['decision']}[/]", r["decided_by"],
            f"{r['as_of']:%Y-%m-%d %H:%M}", f"{r['n_lists']:,}", r["model_version"], r["content_hash"][:10], r["reason"],
        )
    return grid
