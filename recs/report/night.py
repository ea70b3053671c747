"""The end of a night at a terminal: what the audit said, three users' lists, where the tables are."""
from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table as Grid

from .show import ShowError, list_grid, list_of, query

SAMPLE = """
    SELECT user_id FROM recommendations
    WHERE run_date = DATE '{run_date}' AND list_name = '{list_name}' AND audience = 'user' AND rank = 1
    ORDER BY sha256(user_id) LIMIT {n}"""
# somebody the night made no list for: the segment's list is what this user gets
DORMANT = """
    SELECT u.user_id FROM users u
    LEFT JOIN recommendations r ON r.user_id = u.user_id AND r.audience = 'user' AND r.run_date = DATE '{run_date}'
    WHERE u.valid_to IS NULL AND NOT u.opt_out AND r.user_id IS NULL
    ORDER BY sha256(u.user_id) LIMIT 1"""


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
    where = {"run_date": run_date.isoformat(), "list_name": list_name}
    users = query(root, SAMPLE.format(n=n_own, **where), "recommendations")["user_id"].to_pylist()
    users += query(root, DORMANT.format(**where), "recommendations", "users")["user_id"].to_pylist()
    grids = []
    for user in users:
        try:
            rows, whose = list_of(root, user, list_name, run_date)
        except ShowError:       # no segment's list either: nothing to show of this user
            continue
        own = "own list" if whose == "user" else f"dormant, list of {whose}"
        grids.append(list_grid(rows, f"{user} ({own})", limit))
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
