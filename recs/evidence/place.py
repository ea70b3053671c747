"""How far a candidate is from where the user has been: from the item met last, from the one met most, from the nearest of his own.

Places are the items' own (`lat`, `lon` of the catalogue); an item without one is as far as can be.

Shapes: U users, P pairs, T places of a user.
"""
from __future__ import annotations

import numpy as np

from .candidates import Pairs
from .own import Own, rank_within

EARTH_KM = 6371.0088
FAR_KM = 20_037.5       # half around the earth: where a place is missing
OWN_PLACES = 15         # of a user, by active days
NAMES = dict.fromkeys(("km_last", "km_home", "km_nearest", "nearby"), "place")


def of_pairs(own: Own, pairs: Pairs) -> dict[str, np.ndarray]:
    """[P] float64 each, by NAMES: distances as log1p of km, `nearby` the mean of exp(-km) over the user's places."""
    lat, lon = (np.radians(np.asarray(own.tables.stat(name), np.float64)) for name in ("lat", "lon"))
    out = {name: np.full(len(pairs.column), np.log1p(FAR_KM)) for name in NAMES}
    out["nearby"][:] = 0.0
    there = np.isfinite(lat[own.column]) & np.isfinite(lon[own.column]) if len(own.column) else np.zeros(0, bool)
    user, column = own.user[there], own.column[there]
    last = own.features["events_back"][there]
    by_days = rank_within(user, -own.features["days_mid"][there])
    starts = np.searchsorted(user, np.arange(len(own.histories) + 1))
    for u in np.flatnonzero(np.diff(starts)):
        mine, asked = slice(starts[u], starts[u + 1]), slice(pairs.offsets[u], pairs.offsets[u + 1])
        home = np.argsort(by_days[mine], kind="stable")[:OWN_PLACES]
        latest = column[mine][np.argmin(last[mine])]
        places = np.concatenate([[latest], column[mine][home]])
        km = distance_km(lat[pairs.column[asked], None], lon[pairs.column[asked], None], lat[places], lon[places])
        km = np.where(np.isfinite(km), km, FAR_KM)
        out["km_last"][asked], out["km_home"][asked] = np.log1p(km[:, 0]), np.log1p(km[:, 1])
        out["km_nearest"][asked], out["nearby"][asked] = np.log1p(km[:, 1:].min(axis=1)), np.exp(-km[:, 1:]).mean(axis=1)
    return out



def distance_km(lat_a: np.ndarray, lon_a: np.ndarray, lat_b: np.ndarray, lon_b: np.ndarray) -> np.ndarray:
    """Great-circle distance of points in radians, km (haversine formula)."""
    h = np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(h, 0, 1)))
