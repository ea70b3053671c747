"""Pictures of what a trained model of `models` has learned (recs picture): drawn from its weights, see recs/models/insight.py.

    attention       which events of one user's timeline the newest state attends to, by layer and head
    decay           how what is past loses weight: half-lives, biases by age, curves of time encodings
    items           a map of the items: the two directions in which their vectors differ most, coloured by category; names stand in
                    the middle of theirs, unless another stands there

Each takes a connection of `views.connect`, and gives a figure.
"""
from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from recs.evidence.histories import SEQUENCE_COLUMNS, Histories
from recs.models import Model, load
from recs.models.insight import AGES_D, BIAS, LIKENESS, WEIGHT, Fading, attention_of, fading_of, items_of

from .comparison import COLOURS
from .pictures import GREY, PALE, Picture, read_titles
from .show import Row, ShowError, rows

if TYPE_CHECKING:
    import duckdb

KINDS = ("attention", "decay", "items")
MODEL = """
    SELECT * FROM models WHERE $version = '' OR model_version = $version
    ORDER BY status = 'champion' DESC, trained_through DESC, model_version LIMIT 1"""
ITEMS = """
    SELECT v.item_index, v.item_id, t.title, c.category FROM item_vocabulary v
    LEFT JOIN item_titles t ON t.item_id = v.item_id AND t.title_until IS NULL
    LEFT JOIN (SELECT item_id, max_by(category, valid_from) AS category FROM items GROUP BY item_id) c ON c.item_id = v.item_id"""
HISTORY = f"SELECT {', '.join(SEQUENCE_COLUMNS)} FROM sequences WHERE user_id = $user_id"
EVENTS, CATEGORIES = 30, len(COLOURS) - 1
TITLES = {
    WEIGHT: "weight of what is so old (now: 1)", BIAS: "bias by age, added to attention's logits",
    LIKENESS: "likeness of an age to now (cosine of their vectors)",
}
TICKS = {"1 min": 1 / 1440, "1 h": 1 / 24, "6 h": 0.25, "1 d": 1.0, "1 week": 7.0, "1 month": 30.0, "1 year": 365.0}


def model_row(con: duckdb.DuckDBPyConnection, version: str = "") -> Row:
    """A row of `models` by its version; default: the champion, else the newest."""
    found = rows(con, MODEL, version=version)
    if not found:
        raise ShowError(f"no model {version}: recs promote --why names the champion" if version else "no model is trained yet: recs train")
    return found[0]


def picture(con: duckdb.DuckDBPyConnection, root: str | Path, kind: str, user_id: str = "", version: str = "") -> Picture:
    """One of KINDS.  Raises ShowError, or InsightError where the model has nothing of the kind."""
    if kind not in KINDS:
        raise ShowError(f"no picture {kind!r}: there are {', '.join(KINDS)}")
    row = model_row(con, version)
    model = load(Path(root) / row["path"])
    read_titles()
    figure = {"attention": _attention, "decay": _decay, "items": _items}[kind](con, model, user_id)
    figure.suptitle(f"{figure.get_suptitle()}\n{row['model_version']}", fontsize=10, x=0.01, ha="left")
    return figure


def _attention(con: duckdb.DuckDBPyConnection, model: Model, user_id: str) -> Picture:
    """A row per layer and head, a column per event, oldest at the left; above the mean of all."""
    if not user_id:
        raise ShowError("attention is of one user's timeline: name the user with --user")
    frame = con.execute(HISTORY, {"user_id": user_id}).df()
    if frame.empty:
        raise ShowError("this user has no history")
    history = Histories.from_frame(frame)
    asked = rows(con, "SELECT epoch_us(max(serve_at)) AS us FROM nights")[0]["us"]
    request_us = max(int(history.ts[-1]), asked or 0)
    found = attention_of(model, history, request_us)
    event, share = found.event[-EVENTS:], found.share[:, -EVENTS:]
    named = {r["item_index"]: r["title"] or r["item_id"] for r in rows(con, ITEMS)}
    figure = Picture(figsize=(max(8.0, 2.6 + 0.36 * len(event)), 3.6 + 0.28 * len(share)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 0.6 * len(share)])
    above.bar(range(len(event)), share.mean(axis=0), color=COLOURS[0])
    above.set_ylabel("mean")
    _plain(above)
    image = below.imshow(share, aspect="auto", cmap="Blues", vmin=min(0.0, float(share.min())))
    below.set_yticks(range(len(share)), found.names, fontsize=8)
    ago = [_ago((request_us - int(history.ts[e])) / 86_400e6) for e in event]
    titles = [textwrap.shorten(str(named.get(int(history.item[e]), history.item[e])), 24, placeholder="…") for e in event]
    labels = [f"{t}, {a}" for t, a in zip(titles, ago, strict=True)]
    below.set_xticks(range(len(event)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    figure.colorbar(image, ax=below, shrink=0.9, label="share")
    rest = 1 - float(share.sum(axis=1).mean())
    said = f"; {rest:.0%} of it goes to the request itself or to older events" if found.of_one and rest > 0.005 else ""
    figure.suptitle(f"what {user_id}'s newest state attends to, among the newest {len(event)} events that the model knows{said}")
    return figure


def _ago(days: float) -> str:
    if days < 1:
        return f"{days * 24:.0f} h ago" if days >= 1 / 24 else f"{days * 1440:.0f} min ago"
    return f"{days:.0f} d ago"


def _decay(con: duckdb.DuckDBPyConnection, model: Model, user_id: str) -> Picture:
    """A panel per kind of curve."""
    found = fading_of(model)
    kinds = [kind for kind in TITLES if any(f.kind == kind for f in found)]
    figure = Picture(figsize=(9.5, 0.6 + 3.1 * len(kinds)), layout="constrained")
    axes = list(figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0])
    for axis, kind in zip(axes, kinds, strict=True):
        _curves(axis, [f for f in found if f.kind == kind])
        axis.set_title(TITLES[kind], loc="left", fontsize=10)
    axes[-1].set_xscale("log")
    axes[-1].set_xticks([*TICKS.values()], [*TICKS])
    axes[-1].minorticks_off()
    axes[-1].set_xlim(AGES_D[0], AGES_D[-1])
    axes[-1].set_xlabel("how long ago")
    figure.suptitle("how what is past fades")
    return figure


def _curves(axis: Axes, found: list[Fading]) -> None:
    for n, f in enumerate(found):
        colour, dashes = COLOURS[n % len(COLOURS)], ["-", "--", ":", "-."][n // len(COLOURS) % 4]
        axis.plot(AGES_D, f.value, color=colour, linestyle=dashes, label=f.name + _half_life(f.half_life_d))
        if f.half_life_d is not None and AGES_D[0] < f.half_life_d < AGES_D[-1]:
            axis.plot([f.half_life_d], [0.5], "o", color=colour, markersize=4)
    axis.grid(color=PALE)
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _plain(axis)


def _half_life(days: float | None) -> str:
    if days is None:
        return ""
    return f": half-life {days:.3g} d" if days >= 1 else f": half-life {24 * days:.3g} h"


def _items(con: duckdb.DuckDBPyConnection, model: Model, user_id: str) -> Picture:
    """A dot per item; the largest top-level categories have a colour."""
    found = items_of(model)
    category = {r["item_index"]: (r["category"] or "").split("/")[0] for r in rows(con, ITEMS)}
    mine = np.array([category.get(int(i), "") for i in found.index], object)
    names, counts = np.unique(mine[mine != ""].astype(str), return_counts=True)
    largest = [str(n) for n in names[np.argsort(-counts, kind="stable")][:CATEGORIES]]
    figure = Picture(figsize=(8.5, 7.0), layout="constrained")
    axis = figure.subplots()
    other = ~np.isin(mine, largest)
    rest = f"other ({other.sum():,})" if other.any() else None
    axis.scatter(*found.place[other].T, s=9, color=GREY, alpha=0.35, linewidths=0, label=rest)
    for colour, name in zip(COLOURS, largest, strict=False):
        here = found.place[mine == name]
        axis.scatter(*here.T, s=14, color=colour, alpha=0.7, linewidths=0, label=f"{name} ({len(here):,})")
    written: list[np.ndarray] = []
    span = np.ptp(found.place, axis=0)
    for colour, name in zip(COLOURS, largest, strict=False):
        middle = np.median(found.place[mine == name], axis=0)
        if any((np.abs(middle - one) < (0.12, 0.04) * span).all() for one in written):     # it would hide another name
            continue
        written.append(middle)
        box: dict[str, Any] = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "alpha": 0.85}
        axis.annotate(name, middle, ha="center", va="center", fontsize=9, bbox=box)
    for axis_name, told in zip(("x", "y"), found.told, strict=True):
        getattr(axis, f"set_{axis_name}label")(f"{told:.0%} of how the vectors differ")
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=2)
    _plain(axis)
    figure.suptitle(f"a map of {len(found.index):,} items, near is alike")
    return figure


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
