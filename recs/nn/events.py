"""What an encoder reads of an event: item, type, gap before it, clock, dwell, value; what is missing has a vector of its own.

Shape suffixes: B histories, L positions, D dimensions, F numbers.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recs.nn.next_item import Batch
from recs.nn.time import AgeEncoding, ClockEncoding, SoftBuckets, clock, log_age

TYPES = 256     # event types are bytes
LONGEST_DWELL_S = 3_600.0
VALUE_KNOTS = 24


def gaps_before(batch: Batch) -> tuple[Tensor, Tensor]:
    """Microseconds since the event before [B, L], and whether there is one [B, L] bool."""
    there = batch["h_item"] > 0
    known = there & F.pad(there[:, :-1], (1, 0))
    gap = F.pad(batch["h_ts"][:, 1:] - batch["h_ts"][:, :-1], (1, 0))
    return torch.where(known, gap, torch.zeros_like(gap)), known


class EventInput(nn.Module):
    """Added up: vectors of the item and the type, learned curves over gap and clock, dwell and value on log scales."""

    def __init__(self, dim: int, time: bool = True, values: bool = False) -> None:
        super().__init__()
        self.dim, self.time = dim, time
        self.kind = nn.Embedding(TYPES, dim)
        self.dwell, self.no_dwell = nn.Linear(1, dim), nn.Parameter(torch.zeros(dim))
        if time:
            self.gap, self.clock, self.no_gap = AgeEncoding(dim), ClockEncoding(dim), nn.Parameter(torch.zeros(dim))

        if values:
            self.scaled, self.no_value = Scaled(1), nn.Parameter(torch.zeros(dim))
            self.value = SoftBuckets(VALUE_KNOTS, dim)      # over three spreads on either side of the mean

    def prepare(self, batch: Batch) -> None:
        """The values' mean and spread, on their scale."""
        values = batch["h_value"][(batch["h_item"] > 0) & ~batch["h_value"].isnan()]
        if len(values):
            self.scaled.fit(log_value(values).unsqueeze(1))

    def forward(self, item_BLD: Tensor, batch: Batch) -> Tensor:
        """[B, L, D]."""
        x = item_BLD * math.sqrt(self.dim) + self.kind(batch["h_type"].long())
        seconds = batch["h_dwell"].float().unsqueeze(-1)
        spent = self.dwell(torch.log1p(seconds.clamp(0, LONGEST_DWELL_S)) / math.log1p(LONGEST_DWELL_S))
        x = x + torch.where(seconds > 0, spent, self.no_dwell)
        if hasattr(self, "value"):
            value = batch["h_value"].unsqueeze(-1)
            scaled = self.scaled(log_value(value.nan_to_num())).squeeze(-1)
            x = x + torch.where(value.isnan(), self.no_value, self.value((scaled + 3) / 6))
        if self.time:
            gap, known = gaps_before(batch)
            x = x + torch.where(known.unsqueeze(-1), self.gap(gap), self.no_gap) + self.clock(batch["h_ts"])
        return x


def log_value(value: Tensor) -> Tensor:
    """sign(v) · log(1 + |v|): prices spread evenly, ratings keep their order, refunds are below 0."""
    return value.sign() * value.abs().log1p()


NUMBERS = (
    "events", "dwell", "gap", "gap_mean", "gap_spread", "age",
    "day_strength", "day_cos", "day_sin", "week_strength", "week_cos", "week_sin",
    "ask_day_cos", "ask_day_sin", "ask_week_cos", "ask_week_sin",
)


def user_numbers(batch: Batch) -> Tensor:
    """[B, L, F] float32: length, gaps and rhythm of each history up to each position (NUMBERS), from nothing later.

    Length: log1p of events and of seconds spent so far.  Gaps, and the age of the newest event when asked: on `log_age`'s scale, their
    mean and spread so far.  Rhythm: the mean of the unit vectors of the times of day (and of the week) so far: its length is the strength,
    its direction the phase (circular statistics, Mardia and Jupp 2000); and the same of the instant asked at.
    """
    there = (batch["h_item"] > 0).float()
    count = there.cumsum(1).clamp(min=1)
    gap, known = gaps_before(batch)
    known = known.float()
    pairs = known.cumsum(1).clamp(min=1)
    log_gap = log_age(gap) * known
    mean = log_gap.cumsum(1) / pairs
    spread = (log_gap.square().cumsum(1) / pairs - mean.square()).clamp(min=0).sqrt()
    seconds = batch["h_dwell"].float().clamp(0, LONGEST_DWELL_S) * there
    columns = [
        torch.log1p(there.cumsum(1)), torch.log1p(seconds.cumsum(1)), log_gap, mean, spread,
        log_age(batch["ask_us"] - batch["h_ts"]),
    ]
    day, week = clock(batch["h_ts"])
    for turn in (day, week / 7):
        angle = 2 * math.pi * turn
        cos, sin = ((f(angle) * there).cumsum(1) / count for f in (torch.cos, torch.sin))
        columns += [(cos.square() + sin.square()).sqrt(), cos, sin]
    day, week = clock(batch["ask_us"])
    for turn in (day, week / 7):
        columns += [torch.cos(2 * math.pi * turn), torch.sin(2 * math.pi * turn)]
    return torch.stack(columns, dim=-1)


class Scaled(nn.Module):
    """Numbers [..., F] less their mean over their spread in training; both are buffers, so that they travel with the weights."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("spread", torch.ones(n))

    def fit(self, rows: Tensor) -> None:
        """From [N, F] numbers of training; a number that never changes is left at 0."""
        self.mean.copy_(rows.mean(0))
        self.spread.copy_(rows.std(0, correction=0))

    def forward(self, x: Tensor) -> Tensor:
        """[..., F]."""
        return torch.where(self.spread > 1e-6, (x - self.mean) / self.spread.clamp(min=1e-6), torch.zeros_like(x)).clamp(-8, 8)
