"""Pictures for notebooks: how the nights went, and one user's timeline with the list that came of it.

Each takes a connection of `views.connect` and gives a matplotlib figure, which a notebook shows and `savefig` writes.
"""
from __future__ import annotations

import textwrap
from datetime import date, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from recs.clock import parse_zone
from recs.models.base import REASONS

from .comparison import COLOURS
from .phrases import phrases_of
from .sentences import names_of, reason_sentence
from .show import Row, newest_run_date, rows
from .told import told_rows

if TYPE_CHECKING:
    import duckdb

COVERAGE = """
    SELECT * FROM coverage_by_day WHERE list_name = $list_name AND scope = 'everybody' ORDER BY run_date DESC LIMIT $n"""
MIX = """
    SELECT run_date, reason_code, count(*) AS n FROM recommendations
    WHERE list_name = $list_name AND audience = 'user' AND run_date >= $since GROUP BY ALL ORDER BY ALL"""
NOT_SERVED = """
    SELECT run_date, decision FROM nights_and_holds
    WHERE list_name = $list_name AND is_last_word AND rows_now = 0 AND run_date >= $since"""
HISTORY = """
    SELECT ts, item_id, event_type FROM events
    WHERE user_id = $user_id AND ts < $as_of ORDER BY ts DESC, source_seq DESC, event_id DESC"""
LINES = {
    "n_user_lists": "users with a list of their own", "catalogue_share": "share of the catalogue in somebody's list",
    "fallback_share": "share of places filled without the model",
}
COLOUR_OF = dict(zip((*REASONS, "model_error"), COLOURS, strict=False))
GREY, PALE = "#767676", "#ececec"


class Picture(Figure):
    """A figure without pyplot, so that nothing stays open; a notebook shows it by its PNG."""

    def _repr_png_(self) -> bytes:
        out = BytesIO()
        self.savefig(out, format="png", dpi=100, bbox_inches="tight")
        return out.getvalue()


def nights_picture(con: duckdb.DuckDBPyConnection, list_name: str = "main", nights: int = 14) -> Picture:
    """Lists, coverage, fallback and reasons of the newest published nights, oldest at the left; nights that were not served are grey."""
    covered = rows(con, COVERAGE, list_name=list_name, n=nights)[::-1]
    since = covered[0]["run_date"] if covered else date.min
    gaps = rows(con, NOT_SERVED, list_name=list_name, since=since)
    days = sorted({r["run_date"] for r in (*covered, *gaps)})
    place = {d: n for n, d in enumerate(days)}
    figure, axes = _axes(4, (9, 8))
    at = [place[r["run_date"]] for r in covered]
    for axis, (column, title) in zip(axes, LINES.items(), strict=False):
        values = [r[column] for r in covered]
        axis.plot(at, values, marker="o", color=COLOURS[0])
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_ylim(0, 1.15 * max([v for v in values if v] or [1]))
        if column.endswith("share"):
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _mix(axes[3], rows(con, MIX, list_name=list_name, since=since), place)
    for axis in axes:
        for gap in gaps:
            axis.axvspan(place[gap["run_date"]] - 0.5, place[gap["run_date"]] + 0.5, color=PALE, zorder=0)
    for gap in gaps:
        axes[0].text(place[gap["run_date"]], 0, f" {gap['decision']}", rotation=90, ha="center", va="bottom", color=GREY, fontsize=9)
    axes[3].set_xticks(range(len(days)), [f"{d:%a %d %b}" for d in days], rotation=30 if len(days) > 7 else 0)
    axes[3].set_xlim(-0.5, len(days) - 0.5)
    return figure


def _mix(axis: Axes, found: list[Row], place: dict[date, int]) -> None:
    """Stacked bars: of which reasons the users' lists are made."""
    total: dict[date, int] = {}
    for r in found:
        total[r["run_date"]] = total.get(r["run_date"], 0) + r["n"]
    bottom = dict.fromkeys(total, 0.0)
    for code in sorted({r["reason_code"] for r in found}):
        share = {r["run_date"]: r["n"] / total[r["run_date"]] for r in found if r["reason_code"] == code}
        axis.bar([place[d] for d in share], [*share.values()], 0.6, [bottom[d] for d in share], label=code, color=COLOUR_OF.get(code, GREY))
        for d, s in share.items():
            bottom[d] += s
    axis.set_title("why items stand in users' lists", loc="left", fontsize=10)
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)


def user_picture(
    con: duckdb.DuckDBPyConnection, user_id: str, list_name: str = "main", run_date: date | None = None, language: str = "en",
    zone: str = "UTC", items: int = 8, events: int = 60,
) -> Picture:
    """What a user did lately, in the user's own time, and the list that came of it; a line joins an item and the event behind it.

    The newest `events` events are shown, and those behind the items however old they are.
    Raises ShowError when there is no list for the user.
    """
    listed = told_rows(con, user_id, list_name, run_date or newest_run_date(con, list_name))[:items]
    local = parse_zone(listed[0]["zone"] or zone)
    speak = {(r["evidence_item_id"], r["evidence_ts"]) for r in listed}
    past = rows(con, HISTORY, user_id=user_id, as_of=listed[0]["scored_as_of"])
    done = [e for n, e in enumerate(past) if n < events or (e["item_id"], e["ts"]) in speak]
    figure, (axis,) = _axes(1, (12, 0.62 * len(listed) + 2.2))
    kinds = sorted({e["event_type"] for e in done})
    lane = {kind: (n + 0.5) * len(listed) / max(len(kinds), 1) for n, kind in enumerate(kinds)}
    for kind, colour in zip(kinds, COLOURS, strict=False):
        mine = [e for e in done if e["event_type"] == kind]
        axis.scatter([_wall(e["ts"], local) for e in mine], [lane[kind]] * len(mine), s=36, color=colour, zorder=3)
    _list_beside(axis, listed, {(e["item_id"], e["ts"]): lane[e["event_type"]] for e in reversed(done)}, local, language, zone)
    axis.set_yticks([*lane.values()], [*lane])
    axis.set_ylim(len(listed), -0.6)
    axis.xaxis.set_major_formatter(DateFormatter("%d %b %Y" if done and (done[0]["ts"] - done[-1]["ts"]).days > 300 else "%d %b"))
    axis.tick_params(axis="x", rotation=30)
    first = listed[0]
    whose = "" if first["audience"] == "user" else f": the list shared by {first['user_id']}"
    axis.set_title(f"{user_id}{whose}, {first['run_date']:%A %d %B %Y} ({local.key} time)", loc="left", fontsize=11)
    if not done:
        axis.text(0.02, 0.5, "no event before the night", transform=axis.transAxes, color=GREY)
    return figure


def _list_beside(
    axis: Axes, listed: list[Row], lane: dict[tuple[str, datetime], float], local: ZoneInfo, language: str, zone: str,
) -> None:
    """The list at the right, from the instant it is used on, and lines to the events behind it."""
    phrases = phrases_of(language)
    used = _wall(listed[0]["serve_at"], local)
    axis.set_xlim(axis.get_xlim()[0] if lane else used - timedelta(days=7), used)
    axis.axvline(used, color=GREY, linewidth=1, clip_on=False)
    axis.text(used, -0.45, "list is used ", ha="right", color=GREY, fontsize=9)
    for n, row in enumerate(listed):
        y, event = n + 0.5, (row["evidence_item_id"], row["evidence_ts"])
        if event in lane:
            axis.plot([_wall(event[1], local), used], [lane[event], y], color=GREY, linewidth=0.8, alpha=0.7, zorder=2)
        said = textwrap.shorten(reason_sentence(row, phrases, zone), 90, placeholder=" …")
        text = f"{row['rank']}  {names_of([row], phrases)[0]}\n     {said}"
        axis.annotate(text, (used, y), (8, 0), textcoords="offset points", va="center", fontsize=9, annotation_clip=False)


def _wall(instant: datetime, local: ZoneInfo) -> datetime:
    """What the user's clock showed; without an offset, so that matplotlib does not turn it back to UTC."""
    return instant.astimezone(local).replace(tzinfo=None)


def read_titles() -> None:
    """Have matplotlib use fonts in which titles can be written that are in Chinese."""
    chinese = [f for f in font_manager.get_font_names() if "CJK SC" in f or f in ("WenQuanYi Micro Hei", "SimHei")]
    rcParams["font.family"] = ["DejaVu Sans", *sorted(chinese)]


def _axes(n: int, size: tuple[float, float]) -> tuple[Picture, list[Axes]]:
    """A picture with `n` axes one below the other."""
    read_titles()
    figure = Picture(figsize=size, layout="constrained")
    axes = list(figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
