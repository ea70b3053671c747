"""What became of the lists, day by day: a line, a table for a terminal, a picture of the trend.

    trend.png, .svg     headline figure of the lists with 95 % intervals, its seven-day mean with a band, yesterday’s popularity beside it;
                        below, the share of served lists of which something came true, and days on which older lists were served again
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table as Grid

from .comparison import COLOURS, axes_of, save
from .show import Row, ShowError, rows
from .views import connect

if TYPE_CHECKING:
    from recs.judge.mornings import Day

OURS, POPULAR, AGAIN = COLOURS[0], COLOURS[1], COLOURS[5]
BY_DAY = "SELECT * FROM outcomes_by_day WHERE list_name = $list_name ORDER BY served_on DESC LIMIT $n"


def line(list_name: str, days: Sequence[Day]) -> str:
    """The newest day in one line; a whole one where there is any."""
    if not days:
        return f"list {list_name!r}: no served day to count yet"
    d = next((d for d in reversed(days) if d.is_whole), days[-1])
    again = f", the lists of {d.run_date} served again" if d.run_date < d.served_on else ""
    head = f"list {list_name!r} on {d.served_on}{'' if d.is_whole else ' (so far)'}{again}"
    if d.value is None:
        return f"{head}: {d.n_lists:,} lists served, nobody did anything that they could have held"
    beside = f", yesterday’s popularity {d.popularity:.4f}, difference {_signed(*d.gain)}" if d.gain else ""
    return f"{head}: {d.headline} {_interval(d.value, d.low, d.high)}{beside}; {d.n_judged:,} of {d.n_lists:,} lists had something to hit"


def by_day(root: str | Path, list_name: str, n: int) -> list[Row]:
    """The newest `n` days of the view `outcomes_by_day`, ascending.  ShowError when there are none."""
    found = rows(connect(root), BY_DAY, list_name=list_name, n=n)
    if not found:
        raise ShowError(f"no outcome of list {list_name!r} under {root} yet: run `recs score-outcomes`")
    return found[::-1]


def grid(days: Sequence[Row]) -> Grid:
    """The days for a terminal, newest first."""
    out = Grid(title=f"list {days[-1]['list_name']}, {days[-1]['headline']}", title_justify="left", header_style="bold")
    for column in ("day", "judged", "served", "figure", "popular", "gain", "trend", "came true", ""):
        out.add_column(column, no_wrap=True, justify="left" if column in ("day", "") else "right")
    for r in reversed(days):
        figure = popular = gain = ""
        if r["value"] is not None:
            figure = f"{r['value']:.3f}" + ("" if r["low"] is None else f" [{r['low']:.3f}, {r['high']:.3f}]")
            popular, gain = f"{r['popularity']:.3f}", f"{r['gain']:+.3f}"
        note = [] if r["is_whole"] else ["so far"]
        note += [f"lists of {r['run_date']:%d %b}"] if r["served_again"] else []
        out.add_row(
            f"{r['served_on']}", f"{r['n_judged']:,}", f"{r['n_lists']:,}", figure, popular, gain,
            "" if r["trend"] is None else f"{r['trend']:.3f}", "" if r["came_true"] is None else f"{r['came_true']:.1%}",
            f"[yellow]{', '.join(note)}[/]" if note else "",
        )
    return out


def plot(days: Sequence[Row], path: Path) -> Path:
    """The picture, as PNG and SVG beside each other; the path of the PNG."""
    figure, (upper, lower) = axes_of(2, 1, width=max(7.5, 2.5 + 0.3 * len(days)), height=5.2, heights=(3, 1))
    at = {r["served_on"]: x for x, r in enumerate(days)}
    told = [r for r in days if r["value"] is not None]
    trend = [r for r in told if r["trend"] is not None]
    banded = [r for r in trend if r["trend_low"] is not None]
    xs = [at[r["served_on"]] for r in banded]
    upper.fill_between(
        xs, [max(r["trend_low"], 0) for r in banded], [r["trend_high"] for r in banded], color=OURS, alpha=0.13, linewidth=0,
        label="its 95 % band")
    upper.plot([at[r["served_on"]] for r in trend], [r["trend"] for r in trend], color=OURS, linewidth=2, label="mean of seven days")
    known = [r for r in told if r["popularity"] is not None]
    upper.plot(
        [at[r["served_on"]] for r in known], [r["popularity"] for r in known], color=POPULAR, marker="D", markersize=4, linewidth=1,
        label="yesterday’s popularity")
    for label, some, face in (("lists as served", [r for r in told if r["is_whole"]], OURS),
                              ("day not over", [r for r in told if not r["is_whole"]], "white")):
        if some:
            reach = [[_reach(r["value"], r["low"]) for r in some], [_reach(r["high"], r["value"]) for r in some]]
            upper.errorbar(
                [at[r["served_on"]] for r in some], [r["value"] for r in some], yerr=reach, fmt="o", color=OURS, markerfacecolor=face,
                capsize=2, linewidth=1, label=label)
    _shade_again(upper, days)
    upper.set(ylabel=days[-1]["headline"].replace("ndcg", "NDCG"), xticks=[], xlim=(-0.6, len(days) - 0.4))
    upper.set_ylim(bottom=0)
    upper.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    lower.bar(range(len(days)), [100 * (r["came_true"] or 0) for r in days], color=OURS, alpha=0.6, width=0.7, zorder=2)
    _shade_again(lower, days)
    every = -(-len(days) // 12)
    labels = [f"{r['served_on']:%d %b}\n{r['n_judged']:,}" for r in days[::every]]
    lower.set(ylabel="came true, %", xlim=(-0.6, len(days) - 0.4))
    lower.set_xticks(range(0, len(days), every), labels, fontsize=8)
    lower.set_xlabel("day (lists with something to hit)")
    for axis in (upper, lower):
        axis.grid(axis="y", alpha=0.3)
    figure.suptitle(f"What became of list {days[-1]['list_name']}, {days[0]['served_on']} to {days[-1]['served_on']}")
    return save(figure, path)


def _shade_again(axis: Any, days: Sequence[Row]) -> None:
    """Days on which older lists were served again."""
    again = [x for x, r in enumerate(days) if r["served_again"]]
    for n, x in enumerate(again):
        axis.axvspan(x - 0.5, x + 0.5, color=AGAIN, alpha=0.25, linewidth=0, zorder=0, label="older lists again" if n == 0 else None)


def _reach(high: float | None, low: float | None) -> float:
    return 0.0 if high is None or low is None else max(high - low, 0.0)


def _interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4f}" + ("" if low is None else f" [{low:.4f}, {high:.4f}]")


def _signed(value: float, low: float | None, high: float | None) -> str:
    return f"{value:+.4f}" + ("" if low is None else f" [{low:+.4f}, {high:+.4f}]")
