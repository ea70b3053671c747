"""timeline on generated logs, whose truth is known: what seeing time is worth where time matters, and where it does not."""
from __future__ import annotations

from dataclasses import dataclass

import pytest
from generated_nights import LOG, Made, interval, made, of, other_times

from recs.models import make
from recs.models.base import Model, Setting
from recs.models.timeline import Timeline

TIME_EFFECTS = ("gap", "clock", "rhythm", "trend")
# of a prior that knows no clock, so that the twin has the same one; trees learn in seconds
QUICK = {
    "ranker": "trees", "chosen": {"epochs": 1}, "trees": 100, "each": 20, "candidates": 64, "all_candidates": 128, "length": 20,
    "prior": {"popular@users_all": 0.3, "own@all": 1.0, "cooc@10e": 0.5},
}
KINDS = tuple(sorted(Timeline.needs(Timeline.grid(Setting())[0])))


def fitted(world: Made, **fixed) -> Model:
    """On the nights before the judged ones."""
    found = Timeline.fit_with(Setting(), world.earlier, QUICK | fixed)
    return make("timeline", found.params, found.weights)


@dataclass
class Found:
    closed: float
    closed_twin: float
    gain: tuple[float, float, float]
    shuffled: tuple[float, float, float]


def measured(world: Made) -> Found:
    model, twin = fitted(world), fitted(world, time=False)
    mine, users = world.judged(of(model))
    plain, (popular, best) = world.judged(of(twin))[0], world.way
    confused = world.judged(lambda n, q: other_times(q).lists(model))[0]
    print(f"{len(users)} lists: popular {popular:.4f} twin {plain.mean():.4f} timeline {mine.mean():.4f} oracle {best:.4f}")
    return Found(
        world.closed(mine), world.closed(plain), interval(mine - plain, users),
        interval(mine - confused, users),
    )


@pytest.fixture(scope="module")
def with_time(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return measured(made(tmp_path_factory.mktemp("on"), KINDS, emphasis="rhythm", **LOG))


@pytest.fixture(scope="module")
def without_time(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return measured(made(tmp_path_factory.mktemp("off"), KINDS, without=TIME_EFFECTS, **LOG))


@pytest.mark.slow
def test_where_time_matters_timeline_closes_more_of_the_way_to_the_oracle_than_its_twin(with_time: Found):
    assert with_time.closed > with_time.closed_twin + 0.1, with_time
    assert with_time.gain[1] > 0, with_time


@pytest.mark.slow
def test_where_it_does_not_the_gain_vanishes(with_time: Found, without_time: Found):
    assert without_time.gain[1] < 0.003 and without_time.gain[0] < with_time.gain[0] / 3, (with_time, without_time)


@pytest.mark.slow
def test_wrong_times_cost_what_time_is_worth(with_time: Found, without_time: Found):
    assert with_time.shuffled[1] > 0 and with_time.shuffled[0] > 2 * abs(without_time.shuffled[0]), (with_time, without_time)
