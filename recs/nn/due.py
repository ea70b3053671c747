"""What is due: every item has a learned curve of its own over the time since it was met.

Shape suffixes: B histories, L positions, D dimensions, K knots.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recs.nn.attention import tell
from recs.nn.time import log_age

KNOTS = 64      # each a factor of 1.36 in time


class Due(nn.Module):
    """m_t = Σ_i share_ti V x_i,   share = softmax over the items met by t, and "none", of c_i(asked at t − newest meeting t_i) + b log n_i.

    c_i is a piecewise-linear curve over `log_age` whose knots are W x_i + a; n_i is how often the item was met.  What was met comes
    again around a period of its own (repeat consumption by purchase intervals: Anderson et al., WWW 2014; Bhagat et al., KDD 2018):
    logits that are items times ages, which no sum of the two can say.
    """

    def __init__(self, dim: int, knots: int = KNOTS) -> None:
        super().__init__()
        self.at_knots, self.value = nn.Linear(dim, knots), nn.Linear(dim, dim, bias=False)
        self.often, self.none = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def start(self) -> None:
        """After other first weights: what was met is told as it is, however long ago."""
        nn.init.zeros_(self.at_knots.weight)
        nn.init.eye_(self.value.weight)

    def forward(self, x_BLD: Tensor, h_item: Tensor, h_ts: Tensor, ask_us: Tensor) -> Tensor:
        """Vectors of the events' items, their numbers, when they were met and when each position is asked [B, L] -> [B, L, D]."""
        here, often = newest_meetings(h_item)
        logits = self.curve(x_BLD, ask_us.unsqueeze(2) - h_ts.unsqueeze(1)) + self.often * often.log()
        logits = logits.masked_fill(~here, -math.inf)
        share = torch.cat([logits, self.none.expand(*logits.shape[:2], 1)], dim=-1).softmax(dim=-1)[..., :-1]
        tell(share.unsqueeze(1), of_one=False)
        return share @ self.value(x_BLD)

    def curve(self, x_BLD: Tensor, age_us: Tensor) -> Tensor:
        """[B, L, D] items and [B, A, L] ages of each -> c [B, A, L]."""
        knots_BKL = self.at_knots(x_BLD).transpose(1, 2)
        last = knots_BKL.shape[1] - 1
        at = log_age(age_us).clamp(max=1) * last
        low = at.floor().long().clamp(max=last - 1)
        further = at - low
        return knots_BKL.gather(1, low) * (1 - further) + knots_BKL.gather(1, low + 1) * further


def newest_meetings(h_item: Tensor) -> tuple[Tensor, Tensor]:
    """[B, L, L] for positions t and events i: whether i is the newest with its item by t, and how often that was met by t (at least 1)."""
    n = h_item.shape[1]
    there = (h_item > 0).unsqueeze(1)
    often = ((h_item.unsqueeze(1) == h_item.unsqueeze(2)) & there).float().cumsum(1)    # of the item of i, up to t
    up_to_i = often.diagonal(dim1=1, dim2=2).unsqueeze(1)
    past = torch.ones(n, n, dtype=torch.bool, device=h_item.device).tril()
    return past & there & (often == up_to_i), often.clamp(min=1)
