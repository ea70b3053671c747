"""How networks see time.  Instants are int64 microseconds (UTC, or shifted by a local offset), ages and gaps their differences.

Every function is exact in int64 until it divides: a float32 of microseconds since 1970 is a minute off.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SECOND = 1_000_000      # microseconds
DAY = 86_400 * SECOND
DECADE_S = 10 * 365.25 * 86_400


def log_age(age_us: Tensor) -> Tensor:
    """log(1 + seconds) / log(1 + ten years): 0 now, .21 a minute, .58 a day, 1 ten years; negative ages count as now.

    The scale on which memory fades (Wixted and Ebbesen 1991: forgetting is a power of time) and gaps of human events spread evenly.
    """
    seconds = age_us.clamp(min=0).float() / SECOND
    return torch.log1p(seconds) / math.log1p(DECADE_S)


def clock(ts_us: Tensor, offset_us: Tensor | int = 0) -> tuple[Tensor, Tensor]:
    """(time of day in [0, 1), day of the week plus time of day in [0, 7), Monday 0), of local time ts + offset."""
    local = ts_us + offset_us
    of_day = (local % DAY).float() / DAY                    # `%` of torch is floored: instants before 1970 are right too
    weekday = ((torch.div(local, DAY, rounding_mode="floor") + 3) % 7).float()      # 1970-01-01 was a Thursday
    return of_day.clamp(max=1 - 1e-7), weekday + of_day.clamp(max=1 - 1e-6)


class SoftBuckets(nn.Module):
    """A learned curve: `knots` vectors, linear in between.  x in [0, 1] -> [..., dim]; outside, the end's vector.

    Piecewise-linear encoding of numbers (Gorishniy, Rubachev, Babenko, NeurIPS 2022).  Unlike hard buckets it has no steps.  With
    `circular` the last knot is the first again (clocks).
    """

    def __init__(self, knots: int, dim: int, circular: bool = False) -> None:
        super().__init__()
        self.knots, self.circular = knots, circular
        self.table = nn.Embedding(knots, dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """[…] -> […, dim]."""
        at = (x % 1) * self.knots if self.circular else x.clamp(0, 1) * (self.knots - 1)
        low = at.floor().long().clamp(max=self.knots - 1)
        high = (low + 1) % self.knots if self.circular else (low + 1).clamp(max=self.knots - 1)
        share = (at - low).unsqueeze(-1)
        return self.table(low) * (1 - share) + self.table(high) * share


class AgeEncoding(nn.Module):
    """Ages or gaps [...] int64 -> [..., dim]: a learned curve over `log_age` (32 knots: each a factor of 1.9 in time)."""

    def __init__(self, dim: int, knots: int = 32) -> None:
        super().__init__()
        self.curve = SoftBuckets(knots, dim)

    def forward(self, age_us: Tensor) -> Tensor:
        """[…] int64 microseconds -> […, dim]."""
        return self.curve(log_age(age_us))


class ClockEncoding(nn.Module):
    """Instants [...] int64 -> [..., dim]: time of day and of the week.

    `learned`: a circular curve over 24 hours plus one over 7 x 4 quarter days.  Else sines and cosines of both, `harmonics` each
    (a Fourier series on the circle; Kazemi et al., Time2Vec, 2019, learn the frequencies, which a calendar already knows),
    through one linear layer.
    """

    def __init__(self, dim: int, learned: bool = False, harmonics: int = 3) -> None:
        super().__init__()
        self.learned = learned
        if learned:
            self.of_day, self.of_week = SoftBuckets(24, dim, circular=True), SoftBuckets(28, dim, circular=True)
        else:
            self.harmonics = harmonics
            self.mix = nn.Linear(4 * harmonics, dim)

    def forward(self, ts_us: Tensor, offset_us: Tensor | int = 0) -> Tensor:
        """[…] int64 microseconds, shifted by `offset_us` -> […, dim]."""
        day, week = clock(ts_us, offset_us)
        if self.learned:
            return self.of_day(day) + self.of_week(week / 7)
        return self.mix(torch.cat([fourier(day, self.harmonics), fourier(week / 7, self.harmonics)], dim=-1))


def fourier(turn: Tensor, harmonics: int) -> Tensor:
    """[...] in turns of a circle -> [..., 2 · harmonics]: sin and cos of 2 pi h turn, h = 1 … harmonics."""
    angle = 2 * math.pi * turn.unsqueeze(-1) * torch.arange(1, harmonics + 1, device=turn.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class RelativeTimeBias(nn.Module):
    """Added to attention logits: one learned number per head and bucket of the time between query and key.

    Buckets of equal width in log time, as in HSTU (Zhai et al., ICML 2024, bucket = floor(log(max(1, |dt|)) / .301)); intervals in
    attention are from TiSASRec (Li, Wang, McAuley, WSDM 2020).  Bucket 0 is under a second; each next one is twice as long in
    time; 30 reach 17 years.
    """

    def __init__(self, heads: int, buckets: int = 30) -> None:
        super().__init__()
        self.buckets = buckets
        self.bias = nn.Embedding(buckets, heads)
        nn.init.zeros_(self.bias.weight)        # starts as attention without time

    def forward(self, query_us: Tensor, key_us: Tensor) -> Tensor:
        """query_us [B, Q], key_us [B, K] -> [B, heads, Q, K]."""
        return self.bias(self.bucket(query_us.unsqueeze(2) - key_us.unsqueeze(1))).permute(0, 3, 1, 2)

    def bucket(self, apart_us: Tensor) -> Tensor:
        """floor(log2(1 + seconds)), at most the last bucket; the direction does not count."""
        return torch.log2(1 + apart_us.abs().float() / SECOND).floor().long().clamp(max=self.buckets - 1)
