"""Steps of a long run as a person wants to see them: what runs now, then one line with seconds and counts."""
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console


def figures(counts: dict[str, Any]) -> str:
    """`{"rows_in": 1234, "skipped": True}` -> `1,234 rows in · skipped`; keys that start with _ are not shown."""
    words = []
    for key, value in counts.items():
        name = key.replace("_", " ").strip()
        if key.startswith("_") or value is None or value is False:
            continue
        if value is True:
            words.append(name)
        elif isinstance(value, int):
            words.append(f"{value:,} {name}")
        elif isinstance(value, float):
            words.append(f"{name} {value:.4g}")
        else:
            words.append(f"{name} {value}")
    return " · ".join(words)


class Steps:
    """Times the steps of a run, shows them, and keeps them for the run record."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, dict[str, Any]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, Any]]:
        """`with steps("ingest") as counts: counts.update(rows_in=…)`"""
        counts: dict[str, Any] = {}
        started = time.monotonic()
        with self.console.status(f"{name} …"):
            yield counts
        self.seconds[name] = time.monotonic() - started
        self.counts[name] = counts
        self.console.print(f"[bold]{name:<13}[/] {self.seconds[name]:6.1f} s  {figures(counts)}", highlight=False)
