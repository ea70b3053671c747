"""SASRec sees the past of each position only, padding changes nothing, and it learns what popularity cannot know."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nn_made import settings, walks
from torch import Tensor

from recs.clock import DAY
from recs.judge.metrics import metrics_of_hits
from recs.nn.grow import warm_start
from recs.nn.staged import write_staged
from recs.nn.train import train
from recs.nn.zoo.sasrec import SASRec, SASRecConfig

SMALL = {"length": 16, "dim": 32, "blocks": 1, "heads": 2, "dropout": 0.1}


def network(n_items: int = 200, **other: object) -> SASRec:
    torch.manual_seed(0)
    return SASRec(n_items, SASRecConfig(**{**SMALL, **other})).eval()


def batch(rows: int = 6) -> dict[str, Tensor]:
    return {name: torch.from_numpy(a) for name, a in walks(rows, seed=5).items()}


def test_a_later_item_changes_no_earlier_state():
    model, h_item = network(blocks=2), batch()["h_item"]
    other = h_item.clone()
    other[:, -1] = 1 + other[:, -1] % 200
    a, b = model.encode({"h_item": h_item}), model.encode({"h_item": other})
    torch.testing.assert_close(a[:, :-1], b[:, :-1])
    assert not torch.allclose(a[:, -1], b[:, -1])


def test_padding_changes_nothing():
    model, b = network(), batch()
    short = b["h_len"].argmin()
    n = int(b["h_len"][short])
    alone = {"h_item": b["h_item"][short:short + 1, -n:]}
    torch.testing.assert_close(model.score(alone)[0], model.score(b)[short], rtol=1e-4, atol=1e-5)


def test_a_history_longer_than_the_window_counts_from_its_newest():
    model, b = network(length=4), batch()
    assert torch.equal(model.score(b), model.score({"h_item": b["h_item"][:, -4:]}))
    assert torch.isfinite(model.loss(b))


def test_an_empty_history_has_finite_scores():
    b = {"h_item": torch.zeros(2, 16, dtype=torch.int32)}
    assert torch.isfinite(network().score(b)).all()


def test_evaluate_is_the_judges_metric_of_its_scores():
    model, b = network(), batch(50)
    b["target"] = torch.from_numpy(np.random.default_rng(1).integers(0, 201, (50, 3)).astype(np.int32))     # 0: nothing
    b["target"][0] = 0
    scores = model.score(b).detach().numpy()
    top = np.argsort(-scores, axis=1, kind="stable")[:, :10] + 1
    wanted = [set(row[row > 0].tolist()) for row in b["target"].numpy()]
    b["target"] = torch.tensor([sorted(w) + [0] * (3 - len(w)) for w in wanted], dtype=torch.int32)          # each item once
    hits = np.array([[i in w for i in row] for row, w in zip(top, wanted, strict=True)])
    n = np.array([len(w) for w in wanted])
    sums = model.evaluate(b | {"n_truth": torch.from_numpy(n)})
    assert sums["n"].item() == (n > 0).sum()
    for name, values in metrics_of_hits(hits, n).items():
        assert sums[name].item() == pytest.approx(values[n > 0].sum(), abs=1e-5), name


def test_loss_counts_what_followed_each_item():
    model = network(n_items=9)
    b = {"h_item": torch.tensor([[0, 0, 3, 5]]), "h_len": torch.tensor([2]), "target": torch.tensor([[7, 0]])}
    b |= {"follow": torch.tensor([[0, 0, 1, 0]])}
    log_p = torch.log_softmax(model.encode(b)[0] @ model.item.weight[1:].T, dim=-1)
    assert model.loss(b).item() == pytest.approx(-(log_p[2, 5 - 1] + log_p[3, 7 - 1]).item() / 2, rel=1e-5)
    b["follow"] = torch.zeros(1, 4)
    assert model.loss(b).item() == pytest.approx(-log_p[3, 7 - 1].item(), rel=1e-5)


def test_of_what_came_true_a_half_life_ago_a_step_learns_half():
    n = 4_000
    model = network(n_items=9, half_life=10)
    ts = torch.tensor([[0, 0, 70 * DAY, 80 * DAY]]).expand(n, -1)       # asked on day 70, 80, and 90
    b = {"h_item": torch.tensor([[0, 3, 5, 4]]).expand(n, -1), "h_len": torch.full((n,), 3), "h_ts": ts,
         "follow": torch.tensor([[0, 1, 1, 0]]).expand(n, -1), "target": torch.tensor([[7]]).expand(n, -1)}
    b["request_us"] = torch.full((n,), 90 * DAY)
    model.prepare(b)
    learned = model._learned(b)
    shares = [learned["follow"][:, 1].float().mean(), learned["follow"][:, 2].float().mean(), (learned["target"] > 0).float().mean()]
    assert shares == pytest.approx([0.25, 0.5, 1.0], abs=0.03)
    assert network(n_items=9)._learned(b) is b
    model.newest_us = 10_000 * DAY
    nothing = model.train().loss(b)
    nothing.backward()
    assert nothing.item() == 0 and not model.item.weight.grad.any()


@pytest.mark.parametrize("loss", ["softmax", "sampled"])
def test_it_learns_what_popularity_cannot_know(tmp_path: Path, loss: str):
    """Six of ten items follow from the one before: 2,000 walks, four epochs; the best possible NDCG@10 is about .66."""
    columns, held_out = walks(2000, seed=1), walks(500, seed=2)
    training, validation = write_staged(tmp_path / "t", columns, 500), write_staged(tmp_path / "v", held_out, 500)
    counts = np.bincount(columns["h_item"].ravel(), minlength=201)[1:] + np.bincount(columns["target"].ravel(), minlength=201)[1:]
    popular = np.argsort(-counts, kind="stable")[:10] + 1
    popularity = metrics_of_hits(held_out["target"] == popular, np.ones(500, int))["ndcg@10"].mean()
    model = network(loss=loss, negatives=64)
    trained = train(model, training, validation, settings(metric="ndcg@10", epochs=4, batch_size=64, lr=0.005), tmp_path / "run")
    assert trained.metrics["ndcg@10"] > popularity + 0.25


def test_the_next_night_starts_from_the_last_ones_weights_with_new_items():
    old, new = network(n_items=5), network(n_items=6)
    fresh = new.item.weight.detach().clone()
    rows = np.array([0, 1, 3, -1, 4, 5, -1])        # item 2 has left, the third and the last are new
    assert warm_start(new, old.state_dict(), {"item.weight": rows}) == 2
    torch.testing.assert_close(new.item.weight[[0, 1, 2, 4, 5]], old.item.weight[[0, 1, 3, 4, 5]])
    torch.testing.assert_close(new.item.weight[[3, 6]], fresh[[3, 6]])
    torch.testing.assert_close(new.norm.weight, old.norm.weight)
    kept = {"h_item": torch.tensor([[0, 1, 2]])}
    then = {"h_item": torch.tensor([[0, 1, 3]])}
    torch.testing.assert_close(new.score(kept)[0, [0, 1, 3, 4]], old.score(then)[0, [0, 2, 3, 4]])


def test_weights_that_do_not_fit_are_refused_before_anything_changes():
    old, new = network(n_items=5), network(n_items=6)
    before = {k: v.clone() for k, v in new.state_dict().items()}
    with pytest.raises(ValueError, match=r"item.weight: \(6, 32\) before, \(7, 32\) now"):
        warm_start(new, old.state_dict())
    with pytest.raises(ValueError, match="item.weight: .* rows up to 6"):
        warm_start(new, old.state_dict(), {"item.weight": np.array([0, 1, 2, 3, 4, 5, 6])})
    with pytest.raises(ValueError, match="another network: blocks"):
        warm_start(new, network(n_items=6, blocks=2).state_dict())
    assert all(torch.equal(before[k], v) for k, v in new.state_dict().items())
