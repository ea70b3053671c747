"""The end of a night at a terminal: what the audit said, three users' lists, where the tables are."""
from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table as Grid

from .show import ShowError, list_grid, list_of, rows
from .views import connect

SAMPLE = """
    SELECT user_id FROM recommendations
    WHERE run_date = $run_date AND list_name = $list_name AND audience = 'user' AND rank = 1
    ORDER BY md5(user_id) LIMIT $n"""
# somebody the night made no list for: the segment's list is what this user gets
DORMANT = """
    SELECT user_id FROM user_segments
    WHERE segment_until IS NULL AND NOT opt_out AND user_id NOT IN (
        SELECT user_id FROM recommendations WHERE run_date = $run_date AND list_name = $list_name AND audience = 'user')
    ORDER BY md5(user_id) LIMIT 1"""


def audit_grid(checks: dict[str, dict[str, Any]]) -> Grid:
    """The audit's checks: passed or not, what was seen, what is allowed."""
    grid = Grid(title="audit", title_justify="left", header_style="bold")
    for column in ("check", "", "seen", "allowed"):
        grid.add_column(column)
    for name, c in checks.items():
        mark = "[green]ok[/]" if c["ok"] else "[red]FAILED[/]"
        grid.add_row(name.replace("_", " "), mark, _short(c.get("value")), _short(c.get("limit")))
    return grid


def sample_lists(root: str | Path, run_date: date, list_name: str, n_own: int = 2, limit: int = 5) -> list[Grid]:
    """Lists of `n_own` active users and of one dormant one, picked by a hash so that the same users show up every night."""
    con, night = connect(root), {"run_date": run_date, "list_name": list_name}
    users = [r["user_id"] for r in rows(con, SAMPLE, n=n_own, **night) + rows(con, DORMANT, **night)]
    grids = []
    for user in users:
        try:
            listed, whose = list_of(con, user, list_name, run_date)
        except ShowError:       # no segment's list either: nothing to show of this user
            continue
        own = "own list" if whose == "user" else f"dormant: list of {whose}"
        grids.append(list_grid(listed, f"{user} ({own})", limit))
    return grids


def summary(console: Console, root: str, run_date: date, list_name: str, checks: dict[str, dict[str, Any]], published: bool) -> None:
    """Print the end of a night."""
    local = "://" not in root
    parts: list[Any] = [audit_grid(checks)]
    if published and local:
        parts += sample_lists(root, run_date, list_name)
    console.print(Group(*parts))
    console.print(f"tables: {Path(root).resolve() if local else root}   lists: recommendations   decisions: nights", highlight=False)
    if local:
        console.print(f"look:   recs show USER --root {root}   ·   recs nights --root {root}", highlight=False)


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
