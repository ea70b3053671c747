"""How networks see places.  A place is latitude and longitude in degrees, NaN where there is none.

Shape suffixes: B histories, L positions, D dimensions, M states, W items.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recs.nn.time import SoftBuckets

EARTH_KM = 6371.0
FARTHEST_KM = 20_020.0      # half way round
CELLS_PER_DEGREE = (10, 100)    # regions of 11 km and 1.1 km
REGIONS = 1 << 12


def kilometres(a: Tensor, b: Tensor) -> Tensor:
    """Great-circle distance [...] of places [..., 2], by the haversine formula; NaN where either is missing."""
    (lat_a, lon_a), (lat_b, lon_b) = (torch.deg2rad(x).unbind(-1) for x in (a, b))
    h = torch.sin((lat_a - lat_b) / 2).square() + lat_a.cos() * lat_b.cos() * torch.sin((lon_a - lon_b) / 2).square()
    return 2 * EARTH_KM * torch.asin(h.clamp(0, 1).sqrt())


def log_distance(km: Tensor) -> Tensor:
    """log(1 + 10 km) / log(1 + 10 · half way round): 0 here, .2 a kilometre, .57 a hundred, 1 the farthest place there is."""
    return torch.log1p(10 * km.clamp(0, FARTHEST_KM)) / math.log1p(10 * FARTHEST_KM)


class DistanceCurve(nn.Module):
    """Distances [...] km -> [..., dim]: a learned curve over `log_distance`, 0 where there is none.  It starts as no opinion."""

    def __init__(self, dim: int = 1, knots: int = 24) -> None:
        super().__init__()
        self.curve = SoftBuckets(knots, dim)

    def start(self) -> None:
        """To be called after other first weights."""
        nn.init.zeros_(self.curve.table.weight)

    def forward(self, km: Tensor) -> Tensor:
        """[…] -> […, dim]."""
        return torch.where(km.isnan().unsqueeze(-1), 0.0, self.curve(log_distance(km.nan_to_num())))


class Regions(nn.Module):
    """Places [..., 2] -> [..., dim]: vectors of the cells around them at two widths (hashed), one of its own for "no place"."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cell, self.nowhere = nn.Embedding(REGIONS * len(CELLS_PER_DEGREE), dim), nn.Parameter(torch.zeros(dim))

    def forward(self, place: Tensor) -> Tensor:
        """[…, 2] -> […, dim]."""
        missing = place.isnan().any(-1)
        found = []
        for level, per_degree in enumerate(CELLS_PER_DEGREE):
            lat, lon = (place.nan_to_num() * per_degree).floor().long().unbind(-1)
            found.append(self.cell((lat * 92_821 + lon * 68_917) % REGIONS + level * REGIONS))
        return torch.where(missing.unsqueeze(-1), self.nowhere, sum(found))
