"""What a history says about the user as such, and the request about the hour: how active, how faithful, how keen on what is new.

The same for all of his candidates: it only speaks together with what is said of the item (a keen explorer, a new item).

Shapes: U users, E events.
"""
from __future__ import annotations

import numpy as np

from recs.clock import DAY, HOUR

from .own import NEVER_D, Own, is_weekend, ranks_of_values

RECENT_D = (1, 7, 28, 90)
NAMES = {
    "user_events": "user", "user_items": "user", "user_repeat": "user", "user_explore": "user", "user_popular": "user",
    **{f"user_events_{d}d": "user_time" for d in RECENT_D}, **{f"user_days_{d}d": "user_time" for d in RECENT_D},
    "user_days": "user_time", "user_explore_28d": "user_time", "user_last": "user_time", "user_tenure": "user_time",
    "user_per_day": "user_time", "user_gap": "user_time", "user_fresh": "user_time", "lag": "user_time",
    "weekend": "clock", "hour_sin": "clock", "hour_cos": "clock", "weekday_sin": "clock", "weekday_cos": "clock",
}


def of_users(own: Own) -> dict[str, np.ndarray]:
    """[U] float32 each, by NAMES."""
    histories, tables = own.histories, own.tables
    n, known = len(histories), own.known
    user, age_d, cell = histories.user[known], own.age_d, own.event_cell
    request = np.asarray(own.request_us)

    def of_user(weights: np.ndarray | None = None, keep: np.ndarray | None = None) -> np.ndarray:
        if keep is not None:
            return np.bincount(user[keep], None if weights is None else weights[keep], minlength=n).astype(np.float64)
        return np.bincount(user, weights, minlength=n).astype(np.float64)

    window = np.floor(age_d).astype(np.int64)
    new_day = _first_of(user, ranks_of_values(user, window))
    first_meeting = _first_of(cell)     # events are oldest first
    fade_position = 0.95 ** np.minimum(histories.offsets[1:][user] - 1 - known, 200)
    fade_28 = np.exp2(-np.minimum(age_d / 28, 60))
    events, days = of_user(), of_user(keep=new_day)
    oldest, newest = np.zeros(n), np.full(n, NEVER_D)
    np.maximum.at(oldest, user, age_d)
    np.minimum.at(newest, user, age_d)
    column = own.event_column[known]
    born_us = tables.cut_us - np.asarray(tables.stat("first_h"), np.float64) * HOUR
    age_at_use = np.log1p(np.maximum(histories.ts[known] - born_us[column], 0) / DAY)
    popular = np.log1p(np.asarray(tables.stat("users_all"), np.float64))[column]
    faded = np.maximum(of_user(fade_position), 1e-12)
    out = {
        "user_events": np.log1p(events), "user_items": np.log1p(np.bincount(own.user, minlength=n)),
        "user_repeat": 1 - np.bincount(own.user, minlength=n) / np.maximum(events, 1),
        "user_explore": of_user(fade_position * first_meeting) / faded, "user_popular": of_user(fade_position * popular) / faded,
        "user_fresh": of_user(fade_position * age_at_use) / faded, "user_days": np.log1p(days),
        "user_explore_28d": of_user(fade_28 * first_meeting) / np.maximum(of_user(fade_28), 1e-12),
        "user_last": np.log1p(newest), "user_tenure": np.log1p(oldest), "user_per_day": np.log1p(events / np.maximum(days, 1)),
        "user_gap": np.log1p((oldest - np.minimum(newest, oldest)) / np.maximum(days - 1, 1)),
        "lag": np.log1p(np.maximum(request - tables.cut_us, 0) / HOUR),
        "weekend": is_weekend(request).astype(np.float64),
    }
    for d in RECENT_D:
        out[f"user_events_{d}d"] = np.log1p(of_user(keep=age_d < d))
        out[f"user_days_{d}d"] = np.log1p(of_user(keep=new_day & (age_d < d)))
    for name, turn in (("hour", request % DAY / DAY), ("weekday", (request // DAY + 3) % 7 / 7)):
        out[f"{name}_sin"], out[f"{name}_cos"] = np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn)
    return {name: out[name].astype(np.float32) for name in NAMES}


def _first_of(*keys: np.ndarray) -> np.ndarray:
    """[E] bool: the first event with its keys."""
    out = np.zeros(len(keys[0]), bool)
    stacked = np.stack(keys)
    out[np.unique(stacked, axis=1, return_index=True)[1]] = True
    return out
