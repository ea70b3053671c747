"""The page of an evaluation: headline figures with their intervals, paired differences, nights, slices; beside its report.md.

    ROOT/_runs/<run>/report.html
"""
from __future__ import annotations

from datetime import date
from pathlib import Path

from markupsafe import Markup

from ..comparison import NIGHT, Page, tables
from . import html
from .charts import Dot, Series, legend, over_places, whiskers

MOST_LINES = 7      # models drawn over the nights: as many as there are colours


def write(page: Page, folder: Path) -> Path:
    """The page beside the others of the run; its path."""
    path = folder / "report.html"
    path.write_text(rendered(page), encoding="utf-8")
    return path


def rendered(page: Page) -> str:
    """The page as text."""
    every, name = tables(page), f"ndcg@{page.k}"
    best = page.figure(page.ranked[0], name) if page.models else None
    others = list(dict.fromkeys(f.versus for f in page.figures if f.versus))
    return html.page(
        "evaluation.html.j2", title=page.title, language="en", parts=(), page=page, name=name, best=best, quality=every[0],
        tables=every[1:], models={n: _models(page, n) for n in (name, f"recall@{page.k}")},
        differences={o: _differences(page, name, o) for o in others}, nights=_nights(page, name),
    )


def _models(page: Page, name: str) -> Markup:
    """Every model's figure with its interval, the best on top."""
    found = [(m, page.figure(m, name)) for m in page.ranked]
    return whiskers(f"{name} by model", [Dot(m, f.value, f.low, f.high, colour=_colour(page, m)) for m, f in found if f])


def _differences(page: Page, name: str, other: str) -> Markup | None:
    """Paired differences to one model; None where no other model has one."""
    found = [(m, page.figure(m, name, versus=other)) for m in page.ranked if m != other]
    dots = [Dot(m, f.value, f.low, f.high, "" if f.p is None else f"p {f.p:.3f}", _colour(page, m)) for m, f in found if f]
    return whiskers(f"{name} less that of {other}", dots, say=lambda v: f"{v:+.3f}") if dots else None


def _nights(page: Page, name: str) -> Markup | None:
    """The figure night by night; None for a single night."""
    if len(page.nights) < 2:
        return None
    series, drawn = [], page.ranked[:MOST_LINES]
    for m in drawn:
        found = [page.figure(m, name, f"{NIGHT}{d}") for d in page.nights]
        values, lows, highs = ([getattr(f, part) if f else None for f in found] for part in ("value", "low", "high"))
        series += [
            Series(f"{m}, 95 %", values, lows, highs, _colour(page, m), line=False, dots=False, band=True),
            Series(m, values, colour=_colour(page, m)),
        ]
    labels = [f"{day.day} {day:%b}" for day in map(date.fromisoformat, page.nights)]
    counts = [f"{next(f.n for f in page.figures if f.slice == f'{NIGHT}{d}'):,}" for d in page.nights]
    picture = over_places(f"{name} by night", labels, series, width=1040, height=300, counts=counts, legended=False)
    return legend([(f"s{_colour(page, m)} dot", m) for m in drawn]) + picture


def _colour(page: Page, model: str) -> int:
    return list(page.models).index(model) % MOST_LINES + 1
