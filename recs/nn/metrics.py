"""Ranking metrics of candidate lists in torch: what recs.judge.metrics says in numpy, over [N, C] scores of candidates.

The ideal counts all that came true (`n_truth`), also what recall missed: so metrics here are those of the lists that would be
served.  As sums over lists, for `evaluate`; a list for which nothing came true does not count.
"""
from __future__ import annotations

import torch
from torch import Tensor

from recs.nn.losses import ranks_of


def ranking_sums(scores: Tensor, hits: Tensor, mask: Tensor, n_truth: Tensor, k: int = 10) -> dict[str, Tensor]:
    """Sums over lists of ndcg@k, recall@k, hr@k, mrr@k, and the number `n` of lists that count.

    scores, hits (came true), mask (is a candidate) [N, C]; n_truth [N].
    """
    wide = ranks_of(scores, mask)
    # ranks of what may not be listed do not count, as a score that is no number never ranks
    hit = hits.bool() & mask & torch.isfinite(scores) & (wide < k)
    return sums_of_ranks(wide, hit, n_truth, k)


def sums_of_ranks(ranks: Tensor, hit: Tensor, n_truth: Tensor, k: int = 10) -> dict[str, Tensor]:
    """The same from ranks [N, T] (from 0) of things and whether each is a hit inside the first k."""
    counted = (n_truth > 0).double()
    hit = hit.double()
    ideals = torch.cumsum(1 / torch.log2(torch.arange(k, device=ranks.device, dtype=torch.float64) + 2), 0)
    ideal = torch.cat([ideals.new_ones(1), ideals])[n_truth.clamp(0, k).long()]
    found = {
        "ndcg": (hit / torch.log2(ranks + 2.0)).sum(1) / ideal,
        "recall": hit.sum(1) / n_truth.clamp(min=1),
        "hr": hit.any(1).double(),
        "mrr": (hit / (ranks + 1.0)).amax(1),
    }
    return {f"{name}@{k}": (each * counted).sum() for name, each in found.items()} | {"n": counted.sum()}
