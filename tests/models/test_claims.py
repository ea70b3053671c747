"""Sequence models learn order where order decides, on generated logs whose truth is known.

    the log     half of the choices follow from the item before; the same without that, and without moods that last
    closed      share of the way from recent popularity to the oracle
    shuffled    what lists lose when each user's items change places, at the same times: where order decides more than the interval,
                where it does not a third of that at most

`python -m pytest tests/models/test_claims.py -m slow -s` prints the figures of docs/sequence_models.md.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from generated_nights import LOG, Made, interval, made, of

from recs.models import MODELS, make
from recs.models.base import Setting
from recs.models.fitting import Question

QUICK = {
    "length": 32, "windows": 4, "epochs": 10, "network": {"dim": 64, "dropout": 0.2},
    "train": {"precision": "fp32", "threads": 1},
}


def other_order(q: Question, seed: int = 0) -> Question:
    """The same items at the same times, but each user's change places."""
    h, rng = q.histories, np.random.default_rng(seed)
    at = np.concatenate([a + rng.permutation(b - a) for a, b in zip(h.offsets[:-1], h.offsets[1:], strict=True)])
    return replace(q, histories=replace(h, item=h.item[at], type_code=h.type_code[at]))


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("on"), (), emphasis="order", **LOG)


@pytest.fixture(scope="module")
def unordered(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("off"), (), without=("order", "gap"), **LOG)


def asked(name: str, world: Made) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Of a model fitted before the judged nights: NDCG@10 of their lists, and what it loses with shuffled histories."""
    found = MODELS[name].fit_with(Setting(), world.earlier, dict(QUICK))
    model = make(name, found.params, found.weights)
    mine, users = world.judged(of(model))
    return mine, interval(mine - world.judged(lambda n, q: other_order(q).lists(model))[0], users)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "tisasrec", "hstu", "lstm_attention"])
def test_a_sequence_model_learns_order_where_it_decides(name: str, ordered: Made, unordered: Made):
    (mine, lost), (_, lost_there) = asked(name, ordered), asked(name, unordered)
    (popular, best), closed = ordered.way, ordered.closed(mine)
    said = "; ".join("{:.3f} [{:.3f}, {:.3f}]".format(*some) for some in (lost, lost_there))
    print(f"{name}: popular {popular:.3f}, model {mine.mean():.3f}, oracle {best:.3f}, closed {closed:.2f}; shuffled {said}")
    assert closed > 0.4
    assert lost[1] > 0
    assert lost_there[0] < lost[0] / 3
