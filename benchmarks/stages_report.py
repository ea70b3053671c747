"""The table of benchmarks/README.md and the plot beside it, from the CSV of stages.py.

    python benchmarks/stages_report.py benchmarks/stages.csv

Writes the tables between the marks `<!-- stages -->` and `<!-- /stages -->` of benchmarks/README.md, and benchmarks/stages.svg: CPU
time per event by the number of events, and what the small night costs of a full build.
"""
from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

from put_into import put_into

HERE = Path(__file__).parent
PER_EVENT = ("ingest", "sessionize", "item_hours", "sequences")     # what is done to every event
ORDER = ("start", "ingest", "sessionize", "item_hours", "sequences", "item_tables", "recommend", "publish")
COLOURS = {"ingest": "#4e79a7", "sessionize": "#f28e2b", "item_hours": "#59a14f", "sequences": "#b07aa1"}

Rows = dict[tuple[int, str, str], dict[str, str]]


def read(path: Path) -> Rows:
    """(events, stage, mode) -> row."""
    with path.open(newline="") as f:
        return {(int(r["events"]), r["stage"], r["mode"]): r for r in csv.DictReader(f)}


def table(rows: Rows) -> str:
    """Markdown: a line per stage and size, the full build and the night beside it."""
    lines = [
        "| stage | events | full: CPU s | wall s | per CPU second | peak MB | night: CPU s | wall s | of the full CPU |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for stage in ORDER:
        for n in sizes(rows):
            if full := rows.get((n, stage, "full")):
                lines.append(_line(stage, n, full, rows.get((n, stage, "night"))))
    for n in sizes(rows):
        lines.append(_sum(rows, n))
    return "\n".join(lines)


def _line(stage: str, n: int, full: dict[str, str], night: dict[str, str] | None) -> str:
    cpu, amount = float(full["cpu_s"]), int(full["amount"])
    rate = f"{amount / cpu:,.0f} {full['unit']}" if amount and cpu else ""
    small = ("", "", "")
    if night:
        small = (f"{float(night['cpu_s']):.1f}", f"{float(night['seconds']):.1f}", f"{float(night['cpu_s']) / cpu:.0%}")
    cells = [stage, f"{n:,}", f"{cpu:.1f}", f"{float(full['seconds']):.1f}", rate, f"{int(full['peak_mb']):,}", *small]
    return f"| {' | '.join(cells)} |"


def _sum(rows: Rows, n: int) -> str:
    """Ingest to sequences together: what a full rebuild costs, and the night."""
    full, night = (cpu_of(rows, n, PER_EVENT, mode) for mode in ("full", "night"))
    return f"| **ingest to sequences** | {n:,} | **{full:.0f}** | | | | **{night:.0f}** | | **{night / full:.0%}** |"


def cpu_of(rows: Rows, n: int, stages: Iterable[str], mode: str) -> float:
    """CPU seconds of these stages together."""
    return sum(float(rows[n, s, mode]["cpu_s"]) for s in stages if (n, s, mode) in rows)


def sizes(rows: Rows) -> list[int]:
    """Numbers of events, ascending."""
    return sorted({n for n, _, _ in rows})


def inference(rows: Rows) -> str:
    """Users per second beside the plain matrix product of the same run."""
    lines = ["| events | users | users/s | users per CPU s | plain product, users/s | share |", "|--:|--:|--:|--:|--:|--:|"]
    for n in sizes(rows):
        if (full := rows.get((n, "recommend", "full"))) and (plain := rows.get((n, "matrix_product", "full"))):
            users = int(full["amount"])
            per_s, per_cpu = users / float(full["seconds"]), users / float(full["cpu_s"])
            share = f"{per_s / int(plain['amount']):.2%}"
            lines.append(f"| {n:,} | {users:,} | {per_s:,.0f} | {per_cpu:,.0f} | {int(plain['amount']):,} | {share} |")
    return "\n".join(lines)


def plot(rows: Rows, path: Path) -> None:
    """Two panels: CPU microseconds per event by size; CPU seconds of the night as a share of the full build."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.7), layout="constrained")
    ns = sizes(rows)
    for stage in PER_EVENT:
        here = [n for n in ns if (n, stage, "full") in rows]
        cost = [1e6 * float(rows[n, stage, "full"]["cpu_s"]) / int(rows[n, stage, "full"]["amount"]) for n in here]
        left.plot(here, cost, "o-", color=COLOURS[stage], label=stage)
        both = [n for n in here if (n, stage, "night") in rows]
        share = [100 * float(rows[n, stage, "night"]["cpu_s"]) / float(rows[n, stage, "full"]["cpu_s"]) for n in both]
        right.plot(both, share, "o-", color=COLOURS[stage], label=stage)
    together = [100 * cpu_of(rows, n, PER_EVENT, "night") / cpu_of(rows, n, PER_EVENT, "full") for n in ns]
    right.plot(ns, together, "--", color="black", label="together")
    left.set(title="Full build", ylabel="CPU µs per event", yscale="log")
    right.set(title="Night with 1 % of the users active", ylabel="CPU, % of the full build", ylim=(0, None))
    for axes in (left, right):
        axes.set(xlabel="events in the log", xscale="log")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    fig.savefig(path, metadata={"Date": None})


def main() -> int:
    """Table and plot."""
    rows = read(Path(sys.argv[1]))
    put_into(HERE / "README.md", "stages", f"{table(rows)}\n\n{inference(rows)}")
    plot(rows, HERE / "stages.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
