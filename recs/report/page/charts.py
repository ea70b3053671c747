"""Small charts as SVG: coordinates in CSS pixels, colours by class, so that a page's light, dark and printed look apply.

A chart is scaled to its column; texts are HTML-escaped here.  Every mark carries its number as a tooltip (`<title>`).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Number = float | None


@dataclass(frozen=True)
class Series:
    """One value per place on the x axis (None: nothing there), and the interval around it."""

    label: str
    values: Sequence[Number]
    lows: Sequence[Number] = ()
    highs: Sequence[Number] = ()
    colour: int = 1                 # 1..7: a class of style.css
    line: bool = True
    dots: bool = True
    band: bool = False              # interval as a band; else as whiskers
    hollow: Collection[int] = field(default_factory=frozenset)      # places whose dot is not filled

    def interval(self, n: int) -> tuple[float, float] | None:
        """Low and high at a place, where both are known."""
        if n >= len(self.lows) or self.lows[n] is None or self.highs[n] is None:
            return None
        return self.lows[n], self.highs[n]

    def numbers(self) -> list[float]:
        """Everything that must fit on the y axis."""
        return [v for some in (self.values, self.lows, self.highs) for v in some if v is not None]


def share(value: float) -> str:
    """0.125 -> 12.5 %, without a digit that says nothing."""
    return f"{100 * value:.3g} %"


def figure3(value: float) -> str:
    """Three decimals."""
    return f"{value:.3f}"


def ticks(low: float, high: float, n: int = 4) -> list[float]:
    """Round numbers from `low` to `high`, about `n` steps.

    >>> ticks(0, 0.43)
    [0.0, 0.1, 0.2, 0.3, 0.4]
    """
    if not high > low:
        return [low]
    rough = (high - low) / n
    unit = 10 ** math.floor(math.log10(rough))
    step = min((m * unit for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Plane:
    """Where values lie on the picture."""

    width: float
    height: float
    n: int                      # places on the x axis
    low: float
    high: float
    left: float = 46
    right: float = 12
    top: float = 10
    bottom: float = 34

    def x(self, place: float) -> float:
        """Middle of a place."""
        return self.left + (place + 0.5) * (self.width - self.left - self.right) / max(self.n, 1)

    def y(self, value: float) -> float:
        """Height of a value."""
        reach = (self.high - self.low) or 1.0
        return self.height - self.bottom - (value - self.low) / reach * (self.height - self.top - self.bottom)

    @property
    def step(self) -> float:
        """Width of a place."""
        return self.x(1) - self.x(0)


def svg(width: float, height: float, title: str, parts: Sequence[str], kind: str = "") -> Markup:
    """A picture with a name for those who hear the page; `parts` are SVG already."""
    return Markup(
        f'<svg class="chart {kind}" viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>')


def text(x: float, y: float, said: object, anchor: str = "middle", kind: str = "") -> str:
    """A text at a point."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(said)}</text>'


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """What the colours mean, in HTML, so that it wraps; (class of the mark, label)."""
    return Markup('<p class="legend">{}</p>').format(Markup("").join(
        Markup('<span><i class="key {}"></i>{}</span> ').format(kind, label) for kind, label in entries))


def over_places(
    title: str, labels: Sequence[str], series: Sequence[Series], *, width: float = 520, height: float = 210,
    say: Callable[[float], str] = figure3, zero: bool = True, shaded: Collection[int] = (), counts: Sequence[str] = (), note: str = "",
    legended: bool = True,
) -> Markup:
    """Values over places (nights, mostly): lines, dots, whiskers, bands.

    `counts` stand in a second row under `labels`; `shaded` places have a grey ground, explained by `note`.
    """
    known = [v for s in series for v in s.numbers()]
    low, high = min([*known, *([0.0] if zero else [])], default=0.0), max([*known, *([0.0] if zero else [])], default=1.0)
    if high == low:
        high = low + 1.0
    room = 0.06 * (high - low)
    plane = Plane(width, height, len(labels), low - (room if low < 0 or not zero else 0), high + room, bottom=44 if counts else 30)
    parts = _ground(plane, labels, counts, shaded, say)
    for s in series:
        parts += _drawn(plane, s, labels, say)
    picture = svg(width, height, title, parts)
    if not legended:
        return picture
    entries = [(f"s{s.colour} {'band' if s.band else 'line' if s.line and not s.dots else 'dot'}", s.label) for s in series]
    return legend(entries + ([("shade", note)] if shaded and note else [])) + picture


def _ground(plane: Plane, labels: Sequence[str], counts: Sequence[str], shaded: Collection[int], say: Callable[[float], str]) -> list[str]:
    """Grid, axis texts, shaded places."""
    parts = []
    for n in shaded:
        x, wide = plane.x(n) - plane.step / 2, plane.step
        parts.append(f'<rect class="shade" x="{x:.1f}" y="{plane.top}" width="{wide:.1f}" height="{plane.y(plane.low) - plane.top:.1f}"/>')
    for value in ticks(plane.low, plane.high):
        y = plane.y(value)
        kind = "axis" if value == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{plane.left}" x2="{plane.width - plane.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(plane.left - 6, y + 3.5, say(value), "end"))
    every = max(1, math.ceil(len(labels) * 46 / (plane.width - plane.left - plane.right)))
    for n in range((len(labels) - 1) % every, len(labels), every):      # the newest always has its label
        parts.append(text(plane.x(n), plane.height - (28 if counts else 12), labels[n]))
        if counts:
            parts.append(text(plane.x(n), plane.height - 12, counts[n], kind="faint"))
    return parts


def _runs(places: Sequence[int]) -> list[list[int]]:
    """Places without a gap between them: a line breaks where nothing is known."""
    out: list[list[int]] = []
    for n in places:
        if out and out[-1][-1] == n - 1:
            out[-1].append(n)
        else:
            out.append([n])
    return out


def _drawn(plane: Plane, s: Series, labels: Sequence[str], say: Callable[[float], str]) -> list[str]:
    parts, there = [], [n for n, v in enumerate(s.values) if v is not None]
    if s.band:
        ends = {n: s.interval(n) for n in there if s.interval(n)}
        upper = [f"{plane.x(n):.1f},{plane.y(hi):.1f}" for n, (_, hi) in ends.items()]
        lower = [f"{plane.x(n):.1f},{plane.y(max(lo, plane.low)):.1f}" for n, (lo, _) in ends.items()]
        parts.append(f'<polygon class="band s{s.colour}" points="{" ".join(upper + lower[::-1])}"/>')
    if s.line:
        for run in _runs(there):
            points = " ".join(f"{plane.x(n):.1f},{plane.y(s.values[n]):.1f}" for n in run)
            parts.append(f'<polyline class="line s{s.colour}" points="{points}"/>')
    for n in there if s.dots else ():
        x, y, ends = plane.x(n), plane.y(s.values[n]), s.interval(n)
        said = f"{labels[n]}, {s.label}: {say(s.values[n])}"
        if ends and not s.band:
            lo, hi = (plane.y(e) for e in ends)
            said += f" [{say(ends[0])}, {say(ends[1])}]"
            shape = f"M{x:.1f} {lo:.1f}V{hi:.1f}M{x - 3:.1f} {lo:.1f}h6M{x - 3:.1f} {hi:.1f}h6"
            parts.append(f'<path class="whisker s{s.colour}" d="{shape}"/>')
        kind = "hollow" if n in s.hollow else "dot"
        parts.append(f'<circle class="{kind} s{s.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.6"><title>{escape(said)}</title></circle>')
    return parts


@dataclass(frozen=True)
class Dot:
    """A value with its interval, for `whiskers`."""

    label: str
    value: float
    low: Number = None
    high: Number = None
    note: str = ""
    colour: int = 1


def whiskers(title: str, dots: Sequence[Dot], *, width: float = 740, say: Callable[[float], str] = figure3) -> Markup:
    """One row per value, its interval as a line; 0 is always on the axis."""
    said = [f"{say(d.value)} {d.note}".strip() for d in dots]
    left, right = (16 + 8.4 * max(map(len, words), default=0) for words in ([_cut(d.label) for d in dots], said))
    high_enough = 26 + 24 * len(dots)
    known = [v for d in dots for v in (d.value, d.low, d.high) if v is not None]
    low, high = min(known + [0.0]), max(known + [0.0])
    reach = (high - low) or 1.0

    def x(value: float) -> float:
        return left + (value - low) / reach * (width - left - right)

    parts = []
    for value in ticks(low, high, max(1, min(5, int((width - left - right) / 90)))):
        kind = "axis" if value == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="4" y2="{high_enough - 20}"/>')
        parts.append(text(x(value), high_enough - 6, say(value)))
    for n, d in enumerate(dots):
        y = 17 + 24 * n
        parts.append(text(left - 10, y + 4, _cut(d.label), "end", "strong"))
        if d.low is not None and d.high is not None:
            a, b = x(d.low), x(d.high)
            ends = f"M{a:.1f} {y}H{b:.1f}M{a:.1f} {y - 4}v8M{b:.1f} {y - 4}v8"
            parts.append(f'<path class="whisker s{d.colour}" d="{ends}"/>')
        parts.append(f'<circle class="dot s{d.colour}" cx="{x(d.value):.1f}" cy="{y}" r="4.2"/>')
        parts.append(text(width - right + 10, y + 4, said[n], "start"))
    return svg(width, high_enough, title, parts)


def _cut(label: str, longest: int = 32) -> str:
    """A label that leaves room for its picture."""
    return label if len(label) <= longest else label[: longest - 1] + "…"


def stacked(title: str, labels: Sequence[str], layers: Sequence[tuple[str, int, Sequence[Number]]], *, width: float = 520,
            height: float = 210, shaded: Collection[int] = (), note: str = "") -> Markup:
    """Shares of a whole, a column per place; layers from below: (label, colour, share per place)."""
    plane = Plane(width, height, len(labels), 0, 1, bottom=30)
    parts, bottom = _ground(plane, labels, (), shaded, share), [0.0] * len(labels)
    wide = min(0.72 * plane.step, 42)
    for label, colour, values in layers:
        for n, v in enumerate(values):
            if v:
                top = plane.y(bottom[n] + v)
                parts.append(
                    f'<rect class="fill s{colour}" x="{plane.x(n) - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                    f'height="{plane.y(bottom[n]) - top:.2f}"><title>{escape(f"{labels[n]}, {label}: {share(v)}")}</title></rect>')
                bottom[n] += v
    entries = [(f"s{colour} dot", label) for label, colour, _ in layers]
    return legend(entries + ([("shade", note)] if shaded and note else [])) + svg(width, height, title, parts)


def curve(title: str, points: Sequence[tuple[float, float]], x_title: str, *, width: float = 340, height: float = 210) -> Markup:
    """A curve through shares, 0 to 1 on both axes, with the diagonal of a perfectly even spread."""
    plane = Plane(width, height, 1, 0, 1, bottom=44, right=22)
    inner = plane.width - plane.left - plane.right

    def at(p: tuple[float, float]) -> str:
        return f"{plane.left + p[0] * inner:.1f},{plane.y(p[1]):.1f}"

    parts = _ground(plane, [], (), (), share)
    parts += [text(plane.left + v * inner, plane.height - 28, share(v)) for v in (0.25, 0.5, 0.75, 1.0)]
    parts.append(text(plane.left + inner / 2, plane.height - 10, x_title, kind="faint"))
    parts.append(f'<polyline class="dashed" points="{at((0, 0))} {at((1, 1))}"/>')
    parts.append(f'<polyline class="line s1" points="{" ".join(map(at, points))}"/>')
    return svg(width, height, title, parts)
