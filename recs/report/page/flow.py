"""What became of a number of rows, as a flow: a Sankey picture with one source, split again and again, widths true to the numbers."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from .charts import svg, text

LEAST = 2.0      # pixels: what is there can be seen
GAP = 14.0       # pixels between neighbours


@dataclass(frozen=True)
class Stream:
    """A number of rows and into what it splits; parts may be fewer rows than the whole, never more."""

    label: str
    n: int
    colour: int = 1
    parts: tuple[Stream, ...] = ()

    @property
    def leaves(self) -> int:
        """Ends of the stream below this one."""
        return sum(p.leaves for p in self.parts) or 1

    @property
    def depth(self) -> int:
        """Columns from here on."""
        return 1 + max((p.depth for p in self.parts), default=0)


def flow(title: str, source: Stream, *, width: float = 1040, tall: float = 150) -> Markup:
    """The picture; `tall` pixels are the whole of the source.  Labels stand at the right of every bar."""
    scale = tall / max(source.n, 1)
    columns, room = source.depth, 215.0
    step = (width - room - 12) / max(columns - 1, 1)
    height = max(_need(source, scale), tall) + 12
    parts: list[str] = []
    _draw(parts, source, 0, 6.0, scale, step)
    return svg(width, height, title, parts, "flow")


def _thick(stream: Stream, scale: float) -> float:
    return max(stream.n * scale, LEAST)


def _need(stream: Stream, scale: float) -> float:
    """Pixels a stream and its parts take, labels of two lines included."""
    own = max(_thick(stream, scale), 30.0)
    return max(own, sum(_need(p, scale) for p in stream.parts) + GAP * max(len(stream.parts) - 1, 0))


def _draw(parts: list[str], stream: Stream, column: int, top: float, scale: float, step: float) -> None:
    """A bar, its label, ribbons to its parts, and these."""
    x, thick = 6 + column * step, _thick(stream, scale)
    y = at = top
    for part in stream.parts:
        wide = _thick(part, scale)
        parts.append(_ribbon(x + 10, y, x + step, at, wide, part))
        _draw(parts, part, column + 1, at, scale, step)
        y += part.n * scale
        at += _need(part, scale) + GAP
    said = f"{stream.label}: {stream.n:,}"
    parts.append(
        f'<rect class="fill s{stream.colour}" x="{x:.1f}" y="{top:.1f}" width="10" height="{thick:.1f}" rx="1.5">'
        f'<title>{escape(said)}</title></rect>')
    middle = top + max(min(thick, 40.0) / 2, 12.0)
    parts.append(text(x + 17, middle - 2, f"{stream.n:,}", "start", "strong halo"))
    parts.append(text(x + 17, middle + 12, stream.label, "start", "halo"))


def _ribbon(x0: float, y0: float, x1: float, y1: float, wide: float, part: Stream) -> str:
    half = (x0 + x1) / 2
    there = f"M{x0:.1f} {y0:.1f}C{half:.1f} {y0:.1f} {half:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    back = f"V{y1 + wide:.1f}C{half:.1f} {y1 + wide:.1f} {half:.1f} {y0 + wide:.1f} {x0:.1f} {y0 + wide:.1f}Z"
    return f'<path class="ribbon s{part.colour}" d="{there}{back}"><title>{escape(f"{part.label}: {part.n:,}")}</title></path>'


def split(label: str, whole: int, parts: Sequence[tuple[str, int]], colour: int, rest: str, most: int = 6) -> Stream:
    """A stream with named parts, the largest first; beyond `most`, and whatever the parts do not account for, is `rest`."""
    ranked = sorted((p for p in parts if p[1]), key=lambda p: -p[1])
    shown = ranked if len(ranked) <= most else ranked[: most - 1]
    left = whole - sum(n for _, n in shown)
    named = [Stream(name, n, colour) for name, n in shown] + ([Stream(rest, left, 7)] if left > 0 else [])
    return Stream(label, whole, colour, tuple(named))
