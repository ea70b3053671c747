"""Every encoder of the zoo: it sees the past only, padding changes nothing, and time changes what it claims to read."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from nn_made import walks
from torch import Tensor

from recs.models import MODELS
from recs.models.sequence import SequenceModel
from recs.nn.next_item import EVENTS, NextItem
from recs.nn.zoo import network_class

EVERY = [name for name, cls in MODELS.items() if issubclass(cls, SequenceModel)]
NAMES = [name for name in EVERY if not network_class(name).reads_text]      # tests/models/test_written.py asks the others
ORDER_ONLY, GAPS_ONLY = {"gru4rec", "sasrec"}, {"tisasrec"}     # the others read when the list is used, too


def network(name: str, **other: object) -> NextItem:
    torch.manual_seed(0)
    cls = network_class(name)
    net = cls(200, cls.Config(**{"length": 16, "dim": 16, "dropout": 0.1, **other})).eval()
    with torch.no_grad():       # first weights are so small that nothing would be seen
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
        net.item.weight[0] = 0
    return net


def batch(rows: int = 6) -> dict[str, Tensor]:
    columns = walks(rows, seed=5)
    there = columns["h_item"] > 0
    columns["h_ts"] = np.where(there, columns["h_ts"], columns["request_us"][:, None])
    columns["h_type"] = (there * (1 + columns["h_item"] % 3)).astype(np.uint8)
    columns["h_dwell"] = (there * (columns["h_item"] % 5) * 20).astype(np.float16)
    return {name: torch.from_numpy(a) for name, a in columns.items()}


def events(b: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: b[n] for n in EVENTS if n in b} | {"ask_us": torch.cat([b["h_ts"][:, 1:], b["request_us"].unsqueeze(1)], 1)}


@pytest.mark.parametrize("name", NAMES)
def test_a_later_event_changes_no_earlier_state(name: str):
    model, b = network(name), batch()
    other = {n: v.clone() for n, v in events(b).items()}
    other["h_item"][:, -1] = 1 + other["h_item"][:, -1] % 200
    a, changed, real = model.encode(events(b)), model.encode(other), b["h_item"][:, :-1] > 0
    torch.testing.assert_close(a[:, :-1][real], changed[:, :-1][real])
    assert not torch.allclose(a[:, -1], changed[:, -1])


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name: str):
    model, b = network(name), batch()
    short = int(b["h_len"].argmin())
    n = int(b["h_len"][short])
    alone = {name: b[name][short:short + 1, -n:] for name in EVENTS if name in b} | {"request_us": b["request_us"][short:short + 1]}
    torch.testing.assert_close(model.score(alone)[0], model.score(b)[short], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_history_has_finite_scores_and_losses_are_finite(name: str):
    model, b = network(name), batch()
    b["h_item"][0], b["h_ts"][0], b["h_len"][0], b["follow"][0] = 0, b["request_us"][0], 0, 0
    assert torch.isfinite(model.score(b)).all()
    loss = model.train().loss(b)
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_lift_compares_with_what_others_met_at_that_time(name: str):
    """Items 101 … 150 were met in the first days of the log, 151 … 200 in the last."""
    model, b = network(name, loss="lift", repeats=False), batch()
    first, last = int(b["request_us"].min()), int(b["request_us"].max())
    with pytest.raises(ValueError, match="call `meet` before"):
        model.loss(b)
    grads = []
    for at in (first - 9 * 86_400_000_000, last + 9 * 86_400_000_000):      # every pair is asked long before, or long after
        item, moved = torch.arange(2000) // 20 + 101, at - b["request_us"][:, None]
        model.meet(item, torch.linspace(first, last, 2000).long())
        model.zero_grad()
        model.loss(b | {"request_us": b["request_us"] + moved[:, 0], "h_ts": b["h_ts"] + moved}).backward()
        known = torch.cat([b["h_item"].flatten(), b["target"].flatten()]).unique().long()
        grad = model.item.weight.grad.abs().sum(1)
        grad[known] = 0         # those learn as events, too
        grads.append((grad[101:151].sum().item(), grad[151:].sum().item()))
    assert grads[0][0] > 0 == grads[0][1] and grads[1][0] == 0 < grads[1][1]


@pytest.mark.parametrize("name", NAMES)
def test_time_says_something_where_it_is_read(name: str):
    model, b = network(name), batch()
    generator = torch.Generator().manual_seed(1)
    gaps = torch.randint(1, 10**12, b["h_ts"].shape, generator=generator) ** 2 % 10**11 + 1
    otherwise = b | {"h_ts": b["request_us"][:, None] - gaps.flip(1).cumsum(1).flip(1)}
    later = b | {"request_us": b["request_us"] + 30 * 86_400_000_000}
    plain = model.score(b)
    assert torch.equal(plain, model.score(otherwise)) is (name in ORDER_ONLY)
    assert torch.equal(plain, model.score(later)) is (name in ORDER_ONLY | GAPS_ONLY)


@pytest.mark.parametrize("loss", ["softmax", "sampled", "gbce"])
def test_a_temperature_compares_by_cosine(loss: str):
    model, b = network("sasrec", temperature=0.1, loss=loss), batch()
    assert model.score(b).abs().max() <= 10 + 1e-4
    assert torch.isfinite(model.loss(b))
    with torch.no_grad():
        model.item.weight[7] *= 3
    assert model.state(b).norm(dim=1).allclose(torch.full((6,), 10.0))
    assert model.vectors(torch.tensor([7])).norm().item() == pytest.approx(1)


def test_what_is_known_is_ranked_nowhere_where_it_may_not_be_listed():
    b = batch(40)
    b["target"] = b["h_item"][:, -1:].clone()
    listed, hidden = (network("sasrec", repeats=repeats).evaluate(b) for repeats in (True, False))
    assert hidden["hr@10"] == 0 and hidden["n"] == listed["n"] == 40
    with_target = batch(40)
    assert network("sasrec", repeats=False).evaluate(with_target)["n"] == 40
