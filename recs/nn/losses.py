"""Losses, each with its source.  All work in float32 whatever comes in, and return the mean over examples.

Shapes: N examples (a position of a sequence, or a list), D dimensions, I items of the catalogue, S sampled negatives, C candidates
of a list.  `labels` are gains >= 0; `mask` is true where there is a candidate.
"""
from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS_AT_ONCE = 256          # on a CPU: with 12,000 items 12 MB of logits, which a cache can hold
LOGITS_AT_ONCE = 1 << 27    # on a GPU, where every launch costs: 512 MB


def catalogue_softmax(states: Tensor, table: Tensor, row: Tensor, target: Tensor, rows_at_once: int | None = None) -> Tensor:
    """Cross-entropy under softmax over all rows of `table` [I, D], logits `states` [M, D] · table; mean over the pairs (row, target) [N].

    The logits of `rows_at_once` states exist at a time (None: as the device likes it), once for all pairs of a state, and their gradients
    are taken while they do: on one core 2.4 times as fast as `F.cross_entropy` over all of them, which reads 12,000 numbers per state from
    memory ten times over.  Gradients are of the mean; a second derivative there is none.
    """
    return _CatalogueSoftmax.apply(states, table, row, target, rows_at_once or _rows_at_once(table))


def _rows_at_once(table: Tensor) -> int:
    return max(ROWS_AT_ONCE, LOGITS_AT_ONCE // len(table)) if table.is_cuda else ROWS_AT_ONCE


class _OverCatalogue(torch.autograd.Function):
    """A loss whose `forward` has taken the gradients of its sum already; the mean is over `ctx.n`."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        of_states, of_table = ctx.saved_tensors
        return of_states * (up / ctx.n), of_table * (up / ctx.n), None, None, None


class _CatalogueSoftmax(_OverCatalogue):
    """loss of a state = n · log sum exp z - sum of z[targets], n of them;  d loss / d z = n · softmax(z) - targets;  z = states · table."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, row: Tensor, target: Tensor, rows_at_once: int) -> Tensor:
        of_states, of_table, total = torch.empty_like(states, dtype=torch.float32), torch.zeros_like(table), states.new_zeros(())
        pairs = torch.bincount(row, minlength=len(states)).float().unsqueeze(1)
        for lo in range(0, len(states), rows_at_once):
            some, n = states[lo : lo + rows_at_once], pairs[lo : lo + rows_at_once]
            here = (row >= lo) & (row < lo + len(some))
            own, wanted = row[here] - lo, target[here]
            z = (some @ table.T).float()
            z -= z.amax(dim=1, keepdim=True)
            total = total - z[own, wanted].sum()
            z.exp_()
            norm = z.sum(dim=1, keepdim=True)
            total = total + (n * norm.log()).sum()
            of_some = (z @ table) * (n / norm)
            of_states[lo : lo + len(some)] = of_some.index_add_(0, own, table[wanted].to(of_some.dtype), alpha=-1)
            of_table += z.T @ (some * (n / norm))
            of_table.index_add_(0, wanted, some[own].to(of_table.dtype), alpha=-1)
        ctx.save_for_backward(of_states.to(states.dtype), of_table)
        ctx.n = max(len(row), 1)
        return total / ctx.n


def catalogue_bce(states: Tensor, table: Tensor, row: Tensor, target: Tensor, rows_at_once: int | None = None) -> Tensor:
    """Multi-label binary cross-entropy over all rows of `table` [I, D] for `states` [M, D]: y = 1 at the pairs (row, target) [N].

        - sum over items of  y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))  =  sum of softplus(z)  -  sum of z at the pairs

    Summed over items, mean over states: as a mean over items the few ones would drown.  Memory and gradients as in
    `catalogue_softmax`; a pair given twice counts once.
    """
    return _CatalogueBCE.apply(states, table, row, target, rows_at_once or _rows_at_once(table))


class _CatalogueBCE(_OverCatalogue):
    """d loss / d z = sigmoid(z) - y;  z = states · table."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, row: Tensor, target: Tensor, rows_at_once: int) -> Tensor:
        n = max(len(states), 1)
        row, target = torch.stack([row, target]).unique(dim=1) if len(row) else (row, target)
        of_states, of_table, total = torch.empty_like(states, dtype=torch.float32), torch.zeros_like(table), states.new_zeros(())
        for lo in range(0, len(states), rows_at_once):
            some = states[lo : lo + rows_at_once]
            here = (row >= lo) & (row < lo + len(some))
            z = (some @ table.T).float()
            total = total + F.softplus(z).sum() - z[row[here] - lo, target[here]].sum()
            z.sigmoid_()
            z[row[here] - lo, target[here]] -= 1
            of_states[lo : lo + len(some)] = z @ table
            of_table += z.T @ some
        ctx.save_for_backward(of_states.to(states.dtype), of_table)
        ctx.n = n
        return total / n


def catalogue_squares(states: Tensor, table: Tensor, row: Tensor, target: Tensor, unobserved: float) -> Tensor:
    """Squared error over all rows of `table` [I, D] for `states` [M, D]: 1 is wanted at the pairs (row, target) [N], 0 elsewhere.

        1/N · ( sum over pairs of (1 - z)^2  -  w z^2   +   w · sum over states of  state^T (table^T table) state ),   z = state · table

    Implicit feedback of Hu, Koren, Volinsky (ICDM 2008) with weight `unobserved` w on what did not come true; by the Gram matrix its
    cost does not grow with states x items (Krichene et al., ICLR 2019).
    """
    states, table = states.float(), table.float()
    z = (states[row] * table[target]).sum(-1)
    everywhere = ((states @ (table.T @ table)) * states).sum()
    return ((1 - z).square().sum() - unobserved * z.square().sum() + unobserved * everywhere) / max(len(row), 1)


def sampled_softmax(positive: Tensor, negatives: Tensor, log_q: Tensor, hit: Tensor, log_q_positive: Tensor | None = None) -> Tensor:
    """Cross-entropy under a softmax whose denominator is estimated from S negatives drawn with replacement from q.

    Bengio and Senécal, "Adaptive importance sampling" (2008); the correction by log q as in Yi et al., RecSys 2019.  With the
    target's own term exact and the others weighted by 1 / (S q'), q' = q without the target,

        -s+ + log( exp s+  +  1/S' · sum over negatives that are not the target of exp(s - log q') )

    so that the estimate of the denominator is unbiased, and S -> infinity gives the full softmax.

    positive [N]; negatives [N, S] logits; log_q [S] or [N, S] of the negatives; hit [N, S]: this negative is the target; log_q_positive
    [N] (default: log q is so small that q' = q).
    """
    positive, negatives = positive.float(), negatives.float()
    log_q = log_q.float().expand_as(negatives)
    if log_q_positive is not None:
        log_q = log_q - torch.log1p(-log_q_positive.float().exp()).unsqueeze(1)
    drawn = (~hit).sum(dim=1, keepdim=True).clamp(min=1)
    others = (negatives - log_q - drawn.log()).masked_fill(hit, -math.inf)
    return (torch.logsumexp(torch.cat([positive.unsqueeze(1), others], dim=1), dim=1) - positive).mean()


def lift(positive: Tensor, negatives: Tensor, left_out: Tensor) -> Tensor:
    """InfoNCE (van den Oord et al., arXiv 1807.03748): cross-entropy of the positive among itself and S negatives drawn from q.

        - log( exp s+ / (exp s+  +  sum over negatives that are not `left_out` of exp s-) )

    Without a correction by log q, and with the positive among the negatives as often as it is drawn, its best score is
    log P(i | history) / q(i) + c.  positive [N], negatives and left_out [N, S].
    """
    scores = torch.cat([positive.unsqueeze(1), negatives.masked_fill(left_out, -math.inf)], dim=1).float()
    return (scores.logsumexp(dim=1) - scores[:, 0]).mean()


def gbce(positive: Tensor, negatives: Tensor, n_items: int, t: float = 0.75) -> Tensor:
    """Generalised binary cross-entropy (Petrov and Macdonald, gSASRec, RecSys 2023): corrects the overconfidence of few negatives.

        -1/(S + 1) · ( beta · log sigmoid(s+)  +  sum log(1 - sigmoid(s-)) ),   beta = a (t (1 - 1/a) + 1/a),  a = S / (I - 1)

    t = 0 is plain BCE with negatives (beta 1); t = 1 is fully calibrated (beta = a).  positive [N], negatives [N, S].
    """
    s = negatives.shape[1]
    a = s / (n_items - 1)
    beta = a * (t * (1 - 1 / a) + 1 / a)
    each = beta * F.logsigmoid(positive.float()) + F.logsigmoid(-negatives.float()).sum(dim=1)
    return -(each / (s + 1)).mean()


def listwise_softmax(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """ListNet's top-one cross-entropy (Cao et al., ICML 2007) with the labels' shares as the wanted distribution.

        - sum over candidates of  label / (sum of labels) · log softmax(score)

    [N, C] each.  Mean over the lists that have a label; lists without one say nothing.
    """
    labels = labels.float().masked_fill(~mask, 0.0)
    total = labels.sum(dim=1, keepdim=True)
    log_p = F.log_softmax(scores.float().masked_fill(~mask, -1e9), dim=1)     # -1e9: a masked candidate has no share, and 0 · it is 0
    each = -(labels / total.clamp(min=1e-12) * log_p).sum(dim=1)
    return each.sum() / (total > 0).sum().clamp(min=1)


def lambda_rank(scores: Tensor, labels: Tensor, mask: Tensor, k: int = 10, sigma: float = 1.0) -> Tensor:
    """LambdaRank (Burges, "From RankNet to LambdaRank to LambdaMART", 2010): pairwise logistic loss, each pair weighted by what
    swapping it in the present order would change in NDCG@k.

        sum over pairs with label i > label j of  |dNDCG(i, j)| · log(1 + exp(-sigma (s_i - s_j)))

    [N, C] each; gains are the labels themselves; pairs with both ranks beyond k weigh nothing.  The weights carry no gradient.
    Needs N · C · C floats a few times (128 lists of 128: 8 MB each).  Mean over the lists that have a label.
    """
    scores = scores.float()
    labels = labels.float().masked_fill(~mask, 0.0)
    ranks = ranks_of(scores.detach(), mask)                                     # [N, C] from 0
    discount = torch.where(ranks < k, 1 / torch.log2(ranks + 2.0), 0.0)
    best = labels.sort(dim=1, descending=True).values[:, :k]
    ideal = (best / torch.log2(torch.arange(best.shape[1], device=best.device) + 2.0)).sum(dim=1)
    gain = labels.unsqueeze(2) - labels.unsqueeze(1)                            # [N, C, C] of i over j
    change = (gain * (discount.unsqueeze(2) - discount.unsqueeze(1))).abs() / ideal.clamp(min=1e-12).view(-1, 1, 1)
    pairs = (gain > 0) & mask.unsqueeze(1) & mask.unsqueeze(2)
    apart = scores.unsqueeze(2) - scores.unsqueeze(1)
    each = (F.softplus(-sigma * apart) * change * pairs).sum(dim=(1, 2))
    return each.sum() / (ideal > 0).sum().clamp(min=1)


def ranks_of(scores: Tensor, mask: Tensor) -> Tensor:
    """[N, C] rank of every candidate from 0, ties by position; what is masked or no number comes last."""
    clean = torch.where(mask & torch.isfinite(scores), scores, -math.inf)
    order = clean.sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
