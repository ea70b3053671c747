"""A contest of models as people read it (recs compare): one table of quality and cost, then what a comparison tells beside.

    compare.md              the table; places by the first seed, spread over seeds; differences to the first, slices
    compare.png, .svg       quality with 95 % intervals, and what it costs, model by model
    nights.png, .svg        NDCG night by night
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Table as Grid

from recs.judge.comparison import ALL, Figure

from .comparison import Page, axes_of, details, in_markdown, plot_nights, save, style_of, text_of, whisker

SEED, SEEDS = "seed=", "seeds="     # slices: one repetition; mean of several, the least and the greatest
COSTS = {
    "parameters": "parameters", "fit_s": "fitted in", "users_per_s": "users/s", "memory_mb": "memory",
}
LOGARITHMIC = ("parameters", "fit_s")
OVER = 1.1                          # of the budget: a fit that took longer is marked
NOTES = (
    "Places are by NDCG of the first seed; *over seeds* is mean ± standard deviation where several were trained, *the same* where a model "
    "has no seed.  Parameters are numbers learned from examples.  *Fitted in* counts the fit with its examples, not item tables, "
    "which all models share; † took longer than the budget: such a model looks at the clock seldom or never.  Users/s is of making "
    "lists, Spark's work included, on the machine above.  Memory is the most beside what was there before, of fitting and of making "
    "lists, without libraries and the JVM."
)


def with_seeds(figures: Sequence[Figure], repeated: Mapping[str, Sequence[str]], name: str) -> list[Figure]:
    """Figures of repetitions told as slices of their model: `seed=2`, and `seeds=3`, the mean of the figure `name` with its extremes.

    `repeated`: by model the labels it was judged under, the first seed's first.
    """
    first = {labels[0]: model for model, labels in repeated.items()}
    out = [f for f in figures if f.model in first]
    mine = {}       # by label: its figures of all lists
    for f in figures:
        if f.slice == ALL and not f.versus:
            mine.setdefault(f.model, []).append(f)
    for model, labels in repeated.items():
        if len(labels) > 1:
            for seed, label in enumerate(labels, start=1):
                out += [replace(f, model=model, slice=f"{SEED}{seed}") for f in mine[label]]
            found = [f for label in labels for f in mine[label] if f.name == name]
            values = [f.value for f in found]
            out.append(replace(found[0], slice=f"{SEEDS}{len(labels)}", value=float(np.mean(values)), low=min(values), high=max(values)))
    return out


def write(page: Page, failed: Mapping[str, str], budget_s: float, folder: Path) -> Path:
    """The page and its plots; `failed`: why, by model.  Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = []
    if page.models:
        plots = [_plot(page, folder / "compare")] + ([plot_nights(page, folder / "nights")] if len(page.nights) > 1 else [])
    path = folder / "compare.md"
    path.write_text(markdown(page, failed, budget_s, [p.name for p in plots]), encoding="utf-8")
    return path


def markdown(page: Page, failed: Mapping[str, str], budget_s: float, plots: Sequence[str] = ()) -> str:
    """The page as Markdown."""
    names, rows = table(page, failed, budget_s)
    lines = [f"# {page.title}", "", *(f"- {name}: {text}" for name, text in page.facts.items()), ""]
    lines += [f"| {' | '.join(names)} |", "|---|---|" + "---:|" * (len(names) - 2)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", NOTES, "", *(f"![{name.split('.')[0]}]({name})\n" for name in plots)]
    return "\n".join([*lines, *(in_markdown(t) for t in (details(page, _quality(page.k)) if page.models else []))])


def table(page: Page, failed: Mapping[str, str], budget_s: float) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and a row per model: the best first, those that failed last."""
    k, ranked = page.k, page.ranked
    first = next((f.versus for f in page.figures if f.versus), None)
    like = [f"coverage@{k}", next((n for n in _diversity(k) if any(f.name == n for f in page.figures)), _diversity(k)[0])]
    quality = (*_quality(k), *like)
    names = ["#", "model", *quality[:1], "less the first's", "over seeds", *quality[1:], *COSTS.values()]
    rows = []
    for place, m in enumerate(ranked, start=1):
        head = [text_of(page.figure(m, quality[0]), False, True), text_of(page.figure(m, quality[0], versus=first or "-"), True, True)]
        rows.append([
            str(place), m, *head, _over_seeds(page, m, quality[0]), *(text_of(page.figure(m, n), False, False) for n in quality[1:]),
            *(_cost(page.figure(m, n), n, budget_s) for n in COSTS)])
    rows += [["", m, f"failed: {why.replace('|', '/')}", *[""] * (len(names) - 3)] for m, why in failed.items()]
    return names, rows


def grid(page: Page, failed: Mapping[str, str], budget_s: float) -> Grid:
    """The table for a terminal of 80 columns: places, NDCG, time; the rest stands in the page."""
    names, rows = table(page, failed, budget_s)
    shown = [n for n, name in enumerate(names) if name.startswith(("#", "model", "ndcg", "over", COSTS["fit_s"], COSTS["users_per_s"]))]
    out = Grid(title=page.title, title_justify="left", header_style="bold")
    for n in shown:
        out.add_column(names[n], justify="right" if n > 1 else "left", no_wrap=names[n] == "model")
    for row in rows:
        out.add_row(*(row[n] for n in shown))
    return out


def _quality(k: int) -> tuple[str, ...]:
    return tuple(f"{name}@{k}" for name in ("ndcg", "recall", "mrr", "precision", "f1"))


def _diversity(k: int) -> tuple[str, str]:
    return f"diversity_category@{k}", f"diversity_cooccurrence@{k}"


def _over_seeds(page: Page, model: str, name: str) -> str:
    values = [f.value for f in page.figures if f.model == model and f.name == name and f.slice.startswith(SEED)]
    if values:
        return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} ({len(values)})"
    seeded = page.figure(model, "seeded")
    return "the same" if seeded and not seeded.value else ""


def _cost(f: Figure | None, name: str, budget_s: float) -> str:
    if f is None:
        return ""
    if name == "fit_s":
        return f"{_duration(f.value)}{' †' if f.value > OVER * budget_s else ''}"
    if name == "users_per_s":
        return f"{f.value:,.0f}" if f.value >= 10 else f"{f.value:.1f}"
    return f"{f.value:,.0f}" + (" MB" if name == "memory_mb" else "")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _plot(page: Page, path: Path) -> Path:
    """A row per model, the best on top: quality with whiskers, costs as bars (parameters and seconds on a logarithmic scale)."""
    ranked, quality = page.ranked[::-1], _quality(page.k)[:2]
    figure, axes = axes_of(1, len(quality) + len(COSTS), width=15.0, height=1.5 + 0.42 * len(ranked), share_y=True)
    for axis, name in zip(axes, (*quality, *COSTS), strict=True):
        found = [(y, m, f) for y, m in enumerate(ranked) if (f := page.figure(m, name)) is not None]
        for y, m, f in found:
            if name in quality:
                whisker(axis, f, y, style_of(page, m)[0])
            else:
                axis.barh(y, f.value, color=style_of(page, m)[0], height=0.6, alpha=0.8)
                at = (max(f.value, 1) if name == "parameters" else f.value, y)
                axis.annotate(_cost(f, name, math.inf), at, xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
        title = name.replace("ndcg", "NDCG") if name in quality else COSTS[name] + (" (log scale)" if name in LOGARITHMIC else "")
        axis.set(title=title, yticks=range(len(ranked)), yticklabels=ranked, ylim=(-0.6, len(ranked) - 0.4))
        if name in quality:
            axis.set_xlim(left=0)
            axis.grid(axis="x", alpha=0.3)
            continue
        if name in LOGARITHMIC:
            axis.set_xscale("symlog" if name == "parameters" else "log")
        least, most = (pick([f.value for *_, f in found if f.value] or [1]) for pick in (min, max))
        axis.set_xlim(min(0.1, least) if name == "fit_s" else 0, _room(name, most))
        axis.tick_params(axis="x", which="both", bottom=False, labelbottom=False)     # each bar says its number
    figure.suptitle(f"{page.title}: quality with 95 % intervals, and what it costs")
    return save(figure, path)


def _room(name: str, most: float) -> float:
    """The end of an axis of bars: their numbers stand beside them."""
    return max(most, 1) ** 1.5 * 3 if name in LOGARITHMIC else max(most, 1e-9) * 1.6
