"""Sequence models learn what they claim where it decides, on generated logs whose truth is known.

    order       half of the choices follow from the item before; the same without that, and without moods that last
    time        half of the choices follow from the item before and the time since it; the same without that, clock and rhythm
    rhythm      half of the choices are items that are due, each after a period of its own; the same without time
    place       half of the choices are near the home, or near the item before; the same without that
    text        news, half of which are read for what their words say; the same where words mean nothing
    closed      share of the way from recent popularity to the oracle
    shuffled    what lists lose when each user's items change places, at the same times (order), or the gaps between them do, with the items
                in their order (time, rhythm), or where events were is mixed (place), or items that came after training say what another
                of them does (text): where it decides more than the interval, where it does not a third of that at most

`python -m pytest tests/models/test_claims.py -m slow -s` prints the figures of docs/sequence_models.md.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from chained_nights import NETWORK_ALONE
from generated_nights import LOG, Made, interval, made, of, other_places, other_times, other_words

from recs.models import MODELS, make
from recs.models.base import Model, Setting
from recs.models.fitting import Question

QUICK = {
    "length": 32, "windows": 4, "epochs": 10, "network": {"dim": 64, "dropout": 0.2, "half_life": None},
    "train": {"precision": "fp32", "threads": 1}, **NETWORK_ALONE,
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


@pytest.fixture(scope="module")
def fading(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("on"), (), emphasis="gap", **LOG)


@pytest.fixture(scope="module")
def timeless(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("off"), (), without=("gap", "clock", "rhythm"), **LOG)


@pytest.fixture(scope="module")
def rhythmic(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("on"), (), emphasis="rhythm", **LOG)


def fitted(name: str, world: Made, setting: Setting = Setting(), **more) -> Model:
    """Fitted before the judged nights."""
    found = MODELS[name].fit_with(setting, world.earlier, QUICK | more)
    return make(name, found.params, found.weights)


def lost(model: Model, world: Made, questions: dict[int, Question], spoilt: Callable[[Question], Question]) -> tuple[float, float, float]:
    """What a model's lists lose with spoilt histories."""
    mine, users = world.judged(of(model), questions)
    return interval(mine - world.judged(lambda n, q: spoilt(q).lists(model), questions)[0], users)


def shown(name: str, world: Made, model: Model, *losses: tuple[float, float, float]) -> float:
    """The share of the way that is closed; figures are printed."""
    mine, (popular, best) = world.judged(of(model))[0], world.way
    closed, spoilt = world.closed(mine), "; ".join("{:.4f} [{:.4f}, {:.4f}]".format(*some) for some in losses)
    print(f"{name}: popular {popular:.3f}, model {mine.mean():.3f}, oracle {best:.3f}, closed {closed:.2f}; lost here, and there: {spoilt}")
    return closed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "tisasrec", "hstu", "lstm_attention"])
def test_a_sequence_model_learns_order_where_it_decides(name: str, ordered: Made, unordered: Made):
    model = fitted(name, ordered)
    here = lost(model, ordered, ordered.questions, other_order)
    there = lost(fitted(name, unordered), unordered, unordered.questions, other_order)
    assert shown(name, ordered, model, here, there) > 0.4
    assert here[1] > 0
    assert there[0] < here[0] / 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chosen"), [
    ("hstu", {"epochs": 6}), ("lm_adapter", {"epochs": 6}), ("interest_dynamics", {"epochs": 4, "nights": 0}),
])
def test_a_time_aware_model_learns_time_where_it_decides(name: str, chosen: dict[str, int], fading: Made, timeless: Made):
    """Asked at the instants of first events; nothing is chosen on held-out nights, which are asked for a whole day."""
    model = fitted(name, fading, chosen=chosen)
    here = lost(model, fading, fading.first_events, other_times)
    there = lost(fitted(name, timeless, chosen=chosen), timeless, timeless.first_events, other_times)
    assert shown(name, fading, model, here, there) > 0.4
    assert here[1] > 0
    assert there[0] < here[0] / 3


@pytest.mark.slow
def test_transformer_lstm_learns_what_is_due_where_it_decides(rhythmic: Made, timeless: Made):
    chosen = {"epochs": 12}
    model = fitted("transformer_lstm", rhythmic, chosen=chosen)
    here = lost(model, rhythmic, rhythmic.questions, other_times)
    there = lost(fitted("transformer_lstm", timeless, chosen=chosen), timeless, timeless.questions, other_times)
    assert shown("transformer_lstm", rhythmic, model, here, there) > 0.5
    assert here[1] > 0
    assert there[0] < here[0] / 3


@pytest.mark.slow
def test_interest_dynamics_learns_places_where_they_decide(tmp_path: Path):
    log = LOG | {"preset": "checkins"}
    near, anywhere = made(tmp_path / "on", (), emphasis="place", **log), made(tmp_path / "off", (), without=("place",), **log)
    more = {"chosen": {"epochs": 4, "nights": 0}, "places": True, "network": QUICK["network"] | {"places": True}}
    model = fitted("interest_dynamics", near, **more)
    here = lost(model, near, near.questions, other_places)
    there = lost(fitted("interest_dynamics", anywhere, **more), anywhere, anywhere.questions, other_places)
    assert shown("interest_dynamics", near, model, here, there) > 0.2
    assert here[1] > 0
    assert there[0] < here[0] / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lm_adapter", "lm_history"])
def test_a_reader_of_texts_learns_what_words_say_where_they_decide(name: str, tmp_path: Path):
    """News of the judged days, none of which was trained on: what is popular tells which of them are read, words to whom they speak."""
    log, effects, losses, models = LOG | {"preset": "news"}, ({"emphasis": "text"}, {"without": ("text",)}), [], []
    worlds = [made(tmp_path / str(n), ("text",), True, **log | effect) for n, effect in enumerate(effects)]
    for world in worlds:
        model = fitted(name, world, setting=Setting(texts=True, repeats=False), popular=True)
        models.append(model)
        losses.append(lost(model, world, world.questions, partial(other_words, model=model)))
    assert shown(name, worlds[0], models[0], *losses) > 0.15
    assert losses[0][1] > 0
    assert losses[1][0] < losses[0][0] / 3
