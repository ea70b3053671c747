"""One user's events as a strip: time from left to right in the user's own zone, a lane per event type, the list's instant at the end."""
from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from markupsafe import Markup, escape

from ..sentences import NO_CLOCK
from .charts import svg, text
from .people import Person

LANES = 5       # event types with a lane of their own; the rarer ones share the last


def strip(person: Person, width: float = 1000) -> Markup:
    """The picture; events behind listed items are ringed, a tooltip says what each was.  '' without events."""
    if not person.past:
        return Markup("")
    behind = {p.event for p in person.listed}
    lanes = _lanes([e["event_type"] for e in person.past])
    left, right, tall = 12 + 7.0 * max(len(k) for k in lanes), 14.0, 20
    height = 12 + tall * len(lanes) + 22
    first, last = min(e["ts"] for e in person.past), max(person.serve_at, max(e["ts"] for e in person.past))
    reach = (last - first) or timedelta(hours=1)
    first -= 0.02 * reach

    def x(at: datetime) -> float:
        return left + (at - first) / (last - first) * (width - left - right)

    parts = [text(left - 10, 16 + tall * n + 4, kind, "end") for n, kind in enumerate(lanes)]
    parts += [f'<line class="grid" x1="{left}" x2="{width - right}" y1="{16 + tall * n}" y2="{16 + tall * n}"/>' for n in range(len(lanes))]
    for at, said in _dates(person, first, last):
        parts.append(f'<line class="grid" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="6" y2="{height - 18}"/>')
        parts.append(text(x(at), height - 5, said))
    parts.append(f'<line class="now" x1="{x(last):.1f}" x2="{x(last):.1f}" y1="2" y2="{height - 18}"/>')
    for e in reversed(person.past):
        lane = lanes.index(e["event_type"]) if e["event_type"] in lanes else len(lanes) - 1
        said = f"{e['event_type']} {e['name']}, {clock(person, e['ts'])}"
        point = f'cx="{x(e["ts"]):.1f}" cy="{16 + tall * lane}"'
        if (e["item_id"], e["ts"]) in behind:
            parts.append(f'<circle class="ring" {point} r="7"/>')
        parts.append(f'<circle class="dot s{lane + 1}" {point} r="3.8"><title>{escape(said)}</title></circle>')
    return svg(width, height, f"what {person.user_id} did before the list", parts, "strip")


def clock(person: Person, at: datetime) -> str:
    """An instant as the user's clock showed it; of a log without a clock its position in days."""
    if at < NO_CLOCK:
        return f"step {(at - datetime(1970, 1, 1, tzinfo=at.tzinfo)).days}"
    return f"{at.astimezone(person.zone):%a %d %b %H:%M}"


def _lanes(types: Sequence[str]) -> list[str]:
    """Lane names, the most frequent type at the top."""
    ranked = sorted(set(types), key=lambda t: (-types.count(t), t))
    return ranked if len(ranked) <= LANES else [*ranked[: LANES - 1], "other"]


def _dates(person: Person, first: datetime, last: datetime, n: int = 7) -> list[tuple[datetime, str]]:
    """Local midnights (of a log without a clock: steps), about `n` of them."""
    days = (last - first).total_seconds() / 86400
    every = next((d for d in (1, 2, 3, 7, 14, 28, 56, 91, 182, 365, 730, 1825) if days / d <= n), 3650)
    local = last.astimezone(person.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    out = []
    while local > first:
        if (last - local) > 0.03 * (last - first):
            at = local.astimezone(first.tzinfo)
            out.append((at, clock(person, at) if at < NO_CLOCK else f"{local:%d %b %Y}" if every > 90 else f"{local:%d %b}"))
        local -= timedelta(days=every)
    return out
