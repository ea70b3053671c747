"""What everybody's events say about an item: how popular in which window, rising or falling, how old, how often repeated.

All from the statistics of the item tables (recs/evidence/item_tables.py): the same for all users, computed once per folder.

Shapes: I items.
"""
from __future__ import annotations

from functools import lru_cache

import numpy as np

from .item_tables import HALF_LIVES, ItemTables

WINDOWS_USED = ("6h", "1d", "2d", "3d", "7d", "14d", "28d", "90d")
RANKED = ("1d", "3d", "7d", "28d")
# rates per day in a short and a long window, and what is added to each so that few events say little
TRENDS = {"1d_7d": (1, 7, 0.5), "3d_14d": (3, 14, 0.2), "7d_28d": (7, 28, 0.1), "28d_90d": (28, 90, 0.05)}
NAMES = {
    **{f"users_{w}": "popularity" for w in WINDOWS_USED}, **{f"relative_{w}": "popularity" for w in WINDOWS_USED},
    **{f"decay_{h}": "popularity" for h in HALF_LIVES}, **{f"rank_{w}": "popularity" for w in RANKED},
    "users_all": "static", "relative_all": "static", "rank_all": "static", "repeat_share": "static", "days_per_user": "static",
    "value": "static", "activity": "static", "main_type": "static",
    **{f"trend_{t}": "trend" for t in TRENDS}, "item_age": "trend", "item_last": "trend", "item_life": "trend", "velocity": "trend",
}


@lru_cache(maxsize=4)   # the workers of a night ask for one folder, a fit for some
def of_items(tables: ItemTables) -> dict[str, np.ndarray]:
    """[I] float32 each, by NAMES; counts as log1p, ages as log1p of days."""
    stat = {name: np.asarray(tables.stat(name), np.float64) for name in (
        *(f"users_{w}" for w in (*WINDOWS_USED, "all")), *(f"decay_{h}" for h in HALF_LIVES),
        "events_all", "first_h", "last_h", "users_met", "value_log", "activity",
    )}
    out = {}
    for w in (*WINDOWS_USED, "all"):
        users = stat[f"users_{w}"]
        out[f"users_{w}"] = np.log1p(users)
        out[f"relative_{w}"] = users / max(users.max(initial=0), 1.0)
    for w in (*RANKED, "all"):
        out[f"rank_{w}"] = np.log1p(_rank(stat[f"users_{w}"]))
    for h in HALF_LIVES:
        decayed = stat[f"decay_{h}"]
        out[f"decay_{h}"] = np.log1p(100 * decayed / max(decayed.max(initial=0), 1e-9))
    for name, (short, long, add) in TRENDS.items():
        out[f"trend_{name}"] = np.log((stat[f"users_{short}d"] / short + add) / (stat[f"users_{long}d"] / long + add))
    first_d, last_d = np.maximum(stat["first_h"], 0) / 24, np.maximum(stat["last_h"], 0) / 24
    out |= {
        "item_age": np.log1p(first_d * 24), "item_last": np.log1p(last_d * 24), "item_life": np.log1p((first_d - last_d) * 24),
        "velocity": np.log1p(stat["events_all"] / (first_d + 0.25)),
        "repeat_share": 1 - np.minimum(stat["users_met"] / np.maximum(stat["events_all"], 1), 1),
        "days_per_user": stat["users_all"] / np.maximum(stat["users_met"], 1),
        "value": stat["value_log"], "activity": stat["activity"], "main_type": _share_of_main_type(tables, len(first_d)),
    }
    return {name: out[name].astype(np.float32) for name in NAMES}


def _rank(users: np.ndarray) -> np.ndarray:
    """How many items have more; items with as many share the rank."""
    return np.searchsorted(np.sort(-users), -users)


def _share_of_main_type(tables: ItemTables, n: int) -> np.ndarray:
    codes = list(tables.manifest["event_types"].values())
    if not codes:
        return np.ones(n)
    shares = [np.asarray(tables.stat(f"type_{code}"), np.float64) for code in sorted(codes)]
    totals = np.asarray(tables.stat("events_all"), np.float64)
    return shares[int(np.argmax([(s * totals).sum() for s in shares]))]
