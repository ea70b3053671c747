"""A comparison of models as people read it: a Markdown page with plots, and a few lines at a terminal.

    report.md            headline figures, differences, nights, slices, what the lists are like
    models.png, .svg     NDCG and recall of every model with 95 % intervals
    nights.png, .svg     NDCG of every model night by night
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table as Grid

from recs.judge.comparison import ALL, Figure

NIGHT, OTHERS = "night=", ("history", "age", "hour", "segment", "truth")
LIKE = (
    "coverage", "novelty", "diversity_category", "diversity_cooccurrence", "exposure_head", "exposure_middle", "exposure_tail", "length",
)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")     # told apart by colour-blind readers too
MARKS = "osD^vPX"
MOST_WITH_INTERVALS = 6     # models in a table of slices: with more, intervals (which are in `metrics`) would make it too wide to read


@dataclass(frozen=True)
class Table:
    """Figures in words, as every form of the report shows them; `counts`: lists behind each row, () where all rows have the same."""

    title: str
    first: str                      # what the rows are
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Page:
    """Figures of one run, ready to be shown; `models` in the order in which they are shown, `facts` what was asked (name -> text)."""

    title: str
    figures: Sequence[Figure]
    models: Sequence[str]
    k: int
    facts: dict[str, str]

    def figure(self, model: str, name: str, part: str = ALL, versus: str = "") -> Figure | None:
        """One figure by its key."""
        key = (model, versus, name, part)
        return next((f for f in self.figures if (f.model, f.versus, f.name, f.slice) == key), None)

    @property
    def ranked(self) -> list[str]:
        """Models, the best NDCG first."""
        def ndcg(model: str) -> float:
            found = self.figure(model, f"ndcg@{self.k}")
            return found.value if found else -1.0

        return sorted(self.models, key=lambda m: -ndcg(m))

    @property
    def nights(self) -> list[str]:
        """Run dates with something to hit, ascending."""
        return sorted({f.slice.removeprefix(NIGHT) for f in self.figures if f.slice.startswith(NIGHT)})


def write(page: Page, folder: Path) -> Path:
    """The page and its plots; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = [_plot_models(page, folder / "models")] + ([plot_nights(page, folder / "nights")] if len(page.nights) > 1 else [])
    path = folder / "report.md"
    path.write_text(markdown(page, [p.name for p in plots]), encoding="utf-8")
    return path


def markdown(page: Page, plots: Sequence[str] = ()) -> str:
    """The page as Markdown."""
    head = [f"# {page.title}", "", *(f"- {name}: {text}" for name, text in page.facts.items()), ""]
    first, *others = (in_markdown(t) for t in tables(page))
    return "\n".join([*head, first, *(f"![{name.split('.')[0]}]({name})\n" for name in plots), *others])


def tables(page: Page) -> list[Table]:
    """All tables of the report, the headline figures first."""
    k, ranked = page.k, page.ranked
    quality = (f"ndcg@{k}", f"recall@{k}", f"hr@{k}", f"mrr@{k}", f"precision@{k}", f"f1@{k}", "accuracy@1")
    parts = [_table("Quality", "model", ranked, quality, lambda m, name: page.figure(m, name), interval_of={quality[0]})]
    return [*parts, *details(page, quality)]


def details(page: Page, quality: Sequence[str]) -> list[Table]:
    """Differences in the first four of these figures, what the lists are like, and the first figure in every slice."""
    ranked, k, parts = page.ranked, page.k, []
    for other in dict.fromkeys(f.versus for f in page.figures if f.versus):
        rows = [m for m in ranked if m != other]
        parts.append(_table(
            f"Difference to {other} on the same lists", "model", rows, quality[:4],
            lambda m, name, other=other: page.figure(m, name, versus=other), signed=True,
        ))
    like = tuple(f"{name}@{k}" for name in LIKE)
    parts.append(_table("What the lists are like", "model", ranked, like, lambda m, name: page.figure(m, name)))
    for prefix in (NIGHT.rstrip("="), *OTHERS):
        parts += _slices(page, prefix, quality[0])
    return parts


def _slices(page: Page, prefix: str, name: str) -> list[Table]:
    """NDCG of every model in the slices of one kind."""
    found = {f.slice: f.n for f in page.figures if f.slice.startswith(f"{prefix}=") and f.name == name}
    if not found:
        return []
    rows = sorted(found, key=in_order)
    title = {"truth": "Every item that came true, also those no list could hold"}.get(prefix, f"{name} by {prefix}")
    every = page.ranked
    narrow = set(every) if len(every) <= MOST_WITH_INTERVALS else set()
    return [_table(title, prefix, rows, every, lambda part, m: page.figure(m, name, part), counts=found, interval_of=narrow)]


def in_order(part: str) -> tuple[float, str]:
    """Bands by where they begin, other slices by name."""
    value = part.split("=", 1)[1]
    digits = value.split("-")[0].rstrip("d+").rstrip("+")
    return (float(digits) if digits.isdigit() else -1.0, value)


def _table(title, first, rows, columns, of, *, signed=False, interval_of=frozenset(), counts=None) -> Table:
    """Columns in which no row has a figure are left out."""
    cells = {(r, c): of(r, c) for r in rows for c in columns}
    shown = [c for c in columns if any(cells[r, c] is not None for r in rows)]
    return Table(
        title, first, tuple(shown), tuple(r.split("=", 1)[1] if counts else r for r in rows),
        tuple(tuple(text_of(cells[r, c], signed, signed or c in interval_of) for c in shown) for r in rows),
        tuple(counts[r] for r in rows) if counts else (),
    )


def in_markdown(table: Table) -> str:
    """A table of a Markdown page, its heading above it."""
    head, texts = [table.first, *table.columns], [[label, *cells] for label, cells in zip(table.labels, table.cells, strict=True)]
    if table.counts:
        head.insert(1, "lists")
        for row, n in zip(texts, table.counts, strict=True):
            row.insert(1, f"{n:,}")
    lines = [f"| {' | '.join(row)} |" for row in (head, *texts)]
    return "\n".join([f"## {table.title}", "", lines[0], "|---|" + "---:|" * (len(head) - 1), *lines[1:], ""])


def text_of(f: Figure | None, signed: bool, interval: bool) -> str:
    """A figure as a cell says it; nothing where there is none."""
    if f is None:
        return ""
    value = f"{f.value:+.4f}" if signed else f"{f.value:.4f}"
    if interval and f.low is not None:
        value += f" [{f.low:+.4f}, {f.high:+.4f}]" if signed else f" [{f.low:.4f}, {f.high:.4f}]"
    return value + (f" p {f.p:.3f}" if f.p is not None else "")


def grid(page: Page) -> Grid:
    """Headline figures for a terminal."""
    versus = next((f.versus for f in page.figures if f.versus), None)
    lists = next((f.n for f in page.figures if f.name == f"ndcg@{page.k}" and f.slice == ALL and not f.versus), 0)
    out = Grid(title=f"{page.title}, {lists:,} lists", title_justify="left", header_style="bold")
    names = (f"ndcg@{page.k}", f"recall@{page.k}", f"hr@{page.k}", f"coverage@{page.k}", f"novelty@{page.k}")
    for column in ("model", *names, *([f"ndcg less {versus}'s"] if versus else [])):
        out.add_column(column)
    for model in page.ranked:
        cells = [text_of(page.figure(model, n), False, n == names[0]) for n in names]
        cells += [text_of(page.figure(model, names[0], versus=versus), True, True)] if versus else []
        out.add_row(model, *cells)
    return out


def _plot_models(page: Page, path: Path) -> Path:
    """Dots with whiskers, the best on top; NDCG and recall side by side."""
    names, ranked = (f"ndcg@{page.k}", f"recall@{page.k}"), page.ranked[::-1]
    figure, axes = axes_of(1, len(names), width=9.0, height=1.2 + 0.42 * len(ranked), share_y=True)
    for axis, name in zip(axes, names, strict=True):
        for y, model in enumerate(ranked):
            f = page.figure(model, name)
            if f is not None:
                whisker(axis, f, y, style_of(page, model)[0])
        axis.set(title=name.replace("ndcg", "NDCG"), yticks=range(len(ranked)), yticklabels=ranked, ylim=(-0.6, len(ranked) - 0.4))
        axis.set_xlim(left=0)
        axis.grid(axis="x", alpha=0.3)
    figure.suptitle(f"{page.title}: mean and 95 % interval")
    return save(figure, path)


def whisker(axis: Any, f: Figure, y: float, colour: str) -> None:
    """A dot with its interval and its value, at a height of the axis."""
    reach = None if f.low is None else [[max(f.value - f.low, 0)], [max(f.high - f.value, 0)]]
    axis.errorbar(f.value, y, xerr=reach, fmt="o", color=colour, capsize=3)
    axis.annotate(f"{f.value:.3f}", (f.value, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)


def plot_nights(page: Page, path: Path) -> Path:
    """A line per model over the nights, its interval as a band."""
    name, days = f"ndcg@{page.k}", page.nights
    figure, (axis,) = axes_of(1, 1, width=max(7.5, 2.5 + 0.55 * len(days)), height=3.8)
    for model in page.ranked:
        found = [page.figure(model, name, f"{NIGHT}{d}") for d in days]
        xs = [x for x, f in enumerate(found) if f is not None]
        there = [f for f in found if f is not None]
        colour, mark = style_of(page, model)
        axis.plot(xs, [f.value for f in there], marker=mark, color=colour, label=model, markersize=5)
        if all(f.low is not None for f in there):
            axis.fill_between(xs, [f.low for f in there], [f.high for f in there], color=colour, alpha=0.12, linewidth=0)
    lists = {d: next(f.n for f in page.figures if f.slice == f"{NIGHT}{d}") for d in days}
    every = max(1, len(days) // 14)
    axis.set_xticks(range(0, len(days), every), [f"{d[5:]}\n{lists[d]:,}" for d in days[::every]], fontsize=8)
    figure.suptitle(f"{page.title}: {name.replace('ndcg', 'NDCG')} by night, with 95 % intervals")
    axis.set_xlabel("night (lists with something to hit)")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return save(figure, path)


def style_of(page: Page, model: str) -> tuple[str, str]:
    """Colour and mark of a model, the same in all plots of a page."""
    at = list(page.models).index(model)
    return COLOURS[at % len(COLOURS)], MARKS[(at + at // len(COLOURS)) % len(MARKS)]


def axes_of(rows: int, columns: int, width: float, height: float, share_y: bool = False, heights: Sequence[float] | None = None):
    """A figure that needs no screen, and its axes row by row; `heights`: of the rows, relative to each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, sharey=share_y, squeeze=False, height_ratios=heights).ravel())


def save(figure: Any, path: Path) -> Path:
    """The figure as SVG and PNG; the path of the PNG."""
    for suffix in ("svg", "png"):
        figure.savefig(path.with_suffix(f".{suffix}"), dpi=130, metadata={"Date": None} if suffix == "svg" else None)
    return path.with_suffix(".png")
