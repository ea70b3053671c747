"""What a person at a terminal wants to see of the tables, read without a JVM (DuckDB over the files of the newest versions).

Ids are shown because the person asked for them by name; nothing here is logged.
"""
from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table as Grid

from .views import connect

if TYPE_CHECKING:
    import duckdb

LISTED = """
    SELECT r.*, t.title, e.title AS evidence_title
    FROM recommendations r
    LEFT JOIN item_titles t ON t.item_id = r.item_id
        AND (t.title_from IS NULL OR t.title_from <= r.serve_at) AND (t.title_until IS NULL OR r.serve_at < t.title_until)
    LEFT JOIN item_titles e ON e.item_id = r.evidence_item_id
        AND (e.title_from IS NULL OR e.title_from <= r.evidence_ts) AND (e.title_until IS NULL OR r.evidence_ts < e.title_until)
    WHERE r.run_date = $run_date AND r.list_name = $list_name AND r.audience = $audience AND r.user_id = $user_id
    ORDER BY r.rank"""
# the user's newest row; a user that the table does not know belongs to 'all'
SEGMENT = "SELECT segment, opt_out FROM user_segments WHERE user_id = $user_id AND segment_until IS NULL"
Row = dict[str, Any]


class ShowError(ValueError):
    """There is nothing to show; the message says what to run first."""


def rows(con: duckdb.DuckDBPyConnection, sql: str, **values: Any) -> list[Row]:
    """The rows of a query; `$name` in the text stands for a value."""
    found = con.execute(sql, values) if values else con.execute(sql)
    names = [c[0] for c in found.description]
    return [dict(zip(names, r, strict=True)) for r in found.fetchall()]


def newest_run_date(con: duckdb.DuckDBPyConnection, list_name: str) -> date:
    """The run_date that is current: the newest one in `recommendations`."""
    found = rows(con, "SELECT max(run_date) AS d FROM recommendations WHERE list_name = $list_name", list_name=list_name)[0]["d"]
    if found is None:
        raise ShowError(f"no list {list_name!r} was published yet: run `recs night` first")
    return found


def list_of(con: duckdb.DuckDBPyConnection, user_id: str, list_name: str, run_date: date) -> tuple[list[Row], str]:
    """The rows of one user's list, by rank, and whose list it is: `user`, or the segment whose list stands in for it.

    Raises ShowError when the user has opted out, or when there is no list.
    """
    night = {"run_date": run_date, "list_name": list_name}
    if own := rows(con, LISTED, audience="user", user_id=user_id, **night):
        return own, "user"
    known = rows(con, SEGMENT, user_id=user_id)
    if known and known[0]["opt_out"]:
        raise ShowError("this user has opted out: no list is made")
    segment = known[0]["segment"] if known else "all"
    for name in dict.fromkeys((segment, "all")):
        if shared := rows(con, LISTED, audience="segment", user_id=name, **night):
            return shared, f"segment {name}"
    raise ShowError(f"no list for this user on {run_date}, and none for the segment {segment!r}")


def list_grid(listed: list[Row], title: str, limit: int = 10) -> Grid:
    """One list as a table for a terminal."""
    grid = Grid(title=title, title_justify="left", header_style="bold")
    for column in ("#", "item", "title", "score", "why", "because of"):
        grid.add_column(column, justify="right" if column in ("#", "score") else "left")
    for r in listed[:limit]:
        since = f", {r['evidence_ts']:%a %d %b %H:%M}" if r["evidence_ts"] else ""
        because = (r["evidence_title"] or r["evidence_item_id"] or "") + since
        grid.add_row(str(r["rank"]), r["item_id"], r["title"] or "", f"{r['score']:.4g}", r["reason_code"], because)
    return grid


def user_grid(root: str | Path, user_id: str, list_name: str, run_date: date | None, limit: int) -> Grid:
    """The list of one user on a night (default: the current one)."""
    con = connect(root)
    listed, whose = list_of(con, user_id, list_name, run_date or newest_run_date(con, list_name))
    first = listed[0]
    as_of = f"{first['scored_as_of']:%Y-%m-%d %H:%M} UTC"
    return list_grid(listed, f"{whose}, {first['run_date']}, as of {as_of}, {first['model_version']}", limit)


def nights_grid(root: str | Path, limit: int = 20) -> Grid:
    """The newest attempts and what was decided; an attempt that was only begun shows as started."""
    decided_or_open = """SELECT * FROM nights QUALIFY decision <> 'started' OR count(*) OVER (PARTITION BY run_date, list_name, attempt) = 1
                         ORDER BY decided_at DESC LIMIT $n"""
    booked = rows(connect(root), decided_or_open, n=limit)
    if not booked:
        raise ShowError(f"{root} has no night yet: run `recs night --root {root}`")
    grid = Grid(title="nights, newest first", title_justify="left", header_style="bold")
    for column in ("run date", "list", "#", "decision", "lists", "content"):   # whole, also where the terminal is narrow
        grid.add_column(column, no_wrap=True, justify="right" if column in ("#", "lists") else "left")
    grid.add_column("by, why; model, as of", overflow="fold")
    for r in booked:
        style = {"published": "green", "released": "green", "held": "red", "withdrawn": "yellow"}.get(r["decision"], "dim")
        grid.add_row(
            str(r["run_date"]), r["list_name"], str(r["attempt"]), f"[{style}]{r['decision']}[/]", f"{r['n_lists']:,}",
            r["content_hash"][:8], f"{r['decided_by']}: {r['reason']}; {r['model_version']}, {r['as_of']:%Y-%m-%d %H:%M} UTC",
        )
    return grid
