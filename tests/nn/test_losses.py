"""Every loss against a loop that says the same in plain Python, and the metrics against those of recs.judge."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from recs.judge.metrics import metrics_of_hits
from recs.nn.losses import catalogue_softmax, gbce, lambda_rank, lift, listwise_softmax, ranks_of, sampled_softmax
from recs.nn.metrics import ranking_sums

rng = np.random.default_rng(0)


def lists(n: int = 7, c: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, graded labels, mask: some lists are short, one has no label."""
    scores, labels = rng.standard_normal((n, c)), rng.choice([0, 0, 0, 1, 2], (n, c))
    labels[0] = 0
    labels[1, 0] = 2
    mask = np.arange(c) < rng.integers(3, c + 1, n)[:, None]
    return torch.tensor(scores, dtype=torch.float32, requires_grad=True), torch.tensor(labels), torch.tensor(mask)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_catalogue_softmax_whole_and_in_pieces():
    """Ten states with a target each, two of them with another beside it, and one with the same twice."""
    states = torch.randn(10, 4, requires_grad=True)
    table = torch.randn(6, 4, requires_grad=True)
    row = torch.tensor([3, *range(10), 8, 5])
    wanted = torch.tensor([5, *(torch.arange(10) % 6), 0, 5])
    naive = 0.0
    for r, w in zip(row.tolist(), wanted.tolist(), strict=True):
        logits = [sum(a * b for a, b in zip(states[r].tolist(), vector, strict=True)) for vector in table.tolist()]
        naive += math.log(sum(math.exp(x) for x in logits)) - logits[w]
    whole = catalogue_softmax(states, table, row, wanted)
    assert whole.item() == pytest.approx(naive / 13, rel=1e-5)
    pieces = catalogue_softmax(states, table, row, wanted, rows_at_once=3)
    assert pieces.item() == pytest.approx(whole.item(), rel=1e-6)
    of_torch = torch.nn.functional.cross_entropy(states[row] @ table.T, wanted)
    wanted_gradients = torch.autograd.grad(3 * of_torch, (states, table))
    for loss in (whole, pieces):
        for a, b in zip(torch.autograd.grad(3 * loss, (states, table)), wanted_gradients, strict=True):
            torch.testing.assert_close(a, b)


def test_sampled_softmax_is_its_formula():
    positive, negatives = torch.randn(5), torch.randn(5, 8)
    q = torch.rand(8) * 0.2 + 0.01
    hit = torch.rand(5, 8) < 0.2
    naive = 0.0
    for p, row, hits in zip(positive.tolist(), negatives.tolist(), hit.tolist(), strict=True):
        drawn = 8 - sum(hits)
        others = sum(math.exp(s) / x / drawn for s, x, h in zip(row, q.tolist(), hits, strict=True) if not h)
        naive += math.log(math.exp(p) + others) - p
    assert sampled_softmax(positive, negatives, q.log(), hit).item() == pytest.approx(naive / 5, rel=1e-5)


@pytest.mark.parametrize("uniform", [True, False])
def test_sampled_softmax_estimates_the_full_one(uniform: bool):
    """2,000 draws from 12 items: the estimate of -log p of each item is within .05, without the correction it is off by more."""
    logits = torch.linspace(-2, 2, 12)
    q = torch.full((12,), 1 / 12) if uniform else torch.linspace(1, 9, 12).pow(2) / torch.linspace(1, 9, 12).pow(2).sum()
    drawn = torch.multinomial(q, 2000, replacement=True, generator=torch.Generator().manual_seed(1))
    wrong = []
    for target in range(12):
        full = -torch.log_softmax(logits, 0)[target].item()
        positive, negatives, hit = logits[target:target + 1], logits[drawn].unsqueeze(0), (drawn == target).unsqueeze(0)
        estimate = sampled_softmax(positive, negatives, q[drawn].log(), hit, q[target:target + 1].log()).item()
        assert estimate == pytest.approx(full, abs=0.05)
        wrong.append(abs(sampled_softmax(positive, negatives, torch.zeros(2000), hit).item() - full))
    assert min(wrong) > 0.2


def test_lift_is_its_formula_and_learns_a_ratio():
    positive, negatives = torch.tensor([1.0, -0.5]), torch.tensor([[0.3, 2.0], [0.1, 0.2]])
    left_out = torch.tensor([[False, True], [False, False]])
    wanted = [-math.log(math.exp(s) / (math.exp(s) + sum(map(math.exp, others)))) for s, others in ((1.0, [0.3]), (-0.5, [0.1, 0.2]))]
    assert lift(positive, negatives, left_out).item() == pytest.approx(np.mean(wanted), rel=1e-6)
    # what is drawn for a positive is drawn as often as it is for a negative: nothing is left to learn of how popular it is
    torch.manual_seed(0)
    p, q = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    score = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.02)
    for _ in range(600):
        item, drawn = torch.multinomial(p, 256, True), torch.multinomial(q, 256 * 16, True).view(256, 16)
        optimizer.zero_grad()
        lift(score[item], score[drawn], torch.zeros_like(drawn, dtype=torch.bool)).backward()
        optimizer.step()
    found = (score - score.mean()).detach()
    wanted = (p / q).log() - (p / q).log().mean()
    assert (found - wanted).abs().max() < 0.1


def test_gbce_is_its_formula_and_bce_without_calibration():
    positive, negatives, t = torch.randn(5), torch.randn(5, 3), 0.75
    a = 3 / 99
    beta = a * (t * (1 - 1 / a) + 1 / a)
    naive = [
        -(beta * math.log(sigmoid(p)) + sum(math.log(1 - sigmoid(s)) for s in row)) / 4
        for p, row in zip(positive.tolist(), negatives.tolist(), strict=True)
    ]
    assert gbce(positive, negatives, 100, t).item() == pytest.approx(np.mean(naive), rel=1e-5)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.cat([positive.unsqueeze(1), negatives], 1), torch.tensor([[1.0, 0, 0, 0]]).expand(5, -1),
    )
    assert gbce(positive, negatives, 100, t=0.0).item() == pytest.approx(bce.item(), rel=1e-5)


def test_listwise_softmax_against_a_loop():
    scores, labels, mask = lists()
    naive = []
    for s, y, m in zip(scores.tolist(), labels.tolist(), mask.tolist(), strict=True):
        here = [(a, b) for a, b, there in zip(s, y, m, strict=True) if there]
        total = sum(b for _, b in here)
        if total:
            z = math.log(sum(math.exp(a) for a, _ in here))
            naive.append(sum(b / total * (z - a) for a, b in here))
    loss = listwise_softmax(scores, labels, mask)
    assert loss.item() == pytest.approx(np.mean(naive), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.isfinite(gradient).all()
    assert (gradient[~mask] == 0).all()
    assert (gradient[0] == 0).all()         # nothing came true


@pytest.mark.parametrize("k", [2, 5, 100])
def test_lambda_rank_against_a_loop(k: int):
    scores, labels, mask = lists()
    naive = []
    for s, y, m in zip(scores.tolist(), labels.tolist(), mask.tolist(), strict=True):
        here = [(a, b) for a, b, there in zip(s, y, m, strict=True) if there]
        order = sorted(range(len(here)), key=lambda i, here=here: -here[i][0])
        d = [0.0] * len(here)
        for rank, i in enumerate(order[:k]):
            d[i] = 1 / math.log2(rank + 2)
        ideal = sum(b / math.log2(r + 2) for r, b in enumerate(sorted((b for _, b in here), reverse=True)[:k]))
        if ideal:
            naive.append(sum(
                abs((here[i][1] - here[j][1]) * (d[i] - d[j])) / ideal * math.log(1 + math.exp(here[j][0] - here[i][0]))
                for i in range(len(here)) for j in range(len(here)) if here[i][1] > here[j][1]
            ))
    loss = lambda_rank(scores, labels, mask, k)
    assert loss.item() == pytest.approx(np.mean(naive), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.isfinite(gradient).all()
    assert (gradient[~mask] == 0).all()


@pytest.mark.parametrize("loss", [listwise_softmax, lambda_rank])
def test_descending_a_list_loss_raises_ndcg(loss):
    torch.manual_seed(0)
    labels, mask = (torch.rand(20, 30) < 0.1).int(), torch.ones(20, 30, dtype=torch.bool)
    scores = torch.randn(20, 30, requires_grad=True)
    wanted = labels.sum(1)

    def ndcg() -> float:
        sums = ranking_sums(scores.detach(), labels, mask, wanted)
        return (sums["ndcg@10"] / sums["n"]).item()

    before = ndcg()
    optimizer = torch.optim.SGD([scores], lr=3.0)
    for _ in range(100):
        optimizer.zero_grad()
        loss(scores, labels, mask).backward()
        optimizer.step()
    assert ndcg() > before + 0.3


def test_ranks_put_what_is_masked_or_no_number_last_and_ties_in_order():
    scores = torch.tensor([[1.0, math.nan, 3.0, 1.0, math.inf, 2.0]])
    mask = torch.tensor([[True, True, True, True, True, False]])
    assert ranks_of(scores, mask).tolist() == [[1, 3, 0, 2, 4, 5]]


@pytest.mark.parametrize("k", [1, 5, 10])
def test_metrics_agree_with_the_judge(k: int):
    n, c = 40, 15
    scores, hits = rng.standard_normal((n, c)).round(1), rng.random((n, c)) < 0.2
    mask = np.arange(c) < rng.integers(10, c + 1, n)[:, None]
    scores[3, 2] = np.nan
    missed = rng.integers(0, 3, n)      # came true, but recall did not propose it
    wanted = (hits & mask).sum(1) + missed
    order = np.argsort(np.where(mask & np.isfinite(scores), -scores, np.inf), axis=1, kind="stable")[:, :k]
    listed = np.take_along_axis(hits & mask & np.isfinite(scores), order, axis=1)
    there = wanted > 0
    judged = {name: values[there].sum() for name, values in metrics_of_hits(listed, wanted).items()}
    sums = ranking_sums(torch.tensor(scores), torch.tensor(hits), torch.tensor(mask), torch.tensor(wanted), k)
    assert sums["n"].item() == there.sum()
    for name, total in judged.items():
        assert sums[name].item() == pytest.approx(total, abs=1e-6), name
