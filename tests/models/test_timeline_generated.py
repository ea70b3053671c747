"""timeline on generated logs, whose truth is known: what seeing time is worth where time matters, and where it does not.

    closed(model) = (NDCG of the model - of recent popularity) / (of the oracle - of recent popularity)

A log is made and asked without Spark: events of the last days of what recs.generate would write, item tables in plain pandas.  Every
night is asked at its cut; the oracle's lists are of the same cuts.  Differences are paired, intervals are over users.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from local_replay import LocalReplay, question

from recs.clock import micros
from recs.generate import make_config
from recs.generating import log, oracle
from recs.generating.world import build
from recs.judge.metrics import ndcg_of_hits
from recs.models import make
from recs.models.base import Model, Setting
from recs.models.fitting import Question
from recs.models.timeline import Timeline

TIME_EFFECTS = ("gap", "clock", "rhythm", "trend")
NIGHTS, JUDGED = 14, 4          # the last JUDGED are judged, the others trained on
# of a prior that knows no clock, so that the twin has the same one; trees learn in seconds
QUICK = {
    "ranker": "trees", "chosen": {"epochs": 1}, "trees": 100, "each": 20, "candidates": 64, "all_candidates": 128, "length": 20,
    "prior": {"popular@users_all": 0.3, "own@all": 1.0, "cooc@10e": 0.5},
}


@dataclass
class Made:
    """A generated log as questions about its last nights, the latest first; `oracle`: lists of the judged ones, [U, 10] columns."""

    replay: LocalReplay
    oracle: dict[int, np.ndarray]

    def fitted(self, **fixed) -> Model:
        """On the nights before the judged ones."""
        found = Timeline.fit_with(Setting(), self.replay.only(range(JUDGED, NIGHTS)), QUICK | fixed)
        return make("timeline", found.params, found.weights)

    def judged(self, lists) -> tuple[np.ndarray, np.ndarray]:
        """NDCG@10 of every judged list, and its user."""
        found = [ndcg_of_hits(q.hits(lists(n, q)), q.wanted) for n, q in self.replay.only(range(JUDGED)).questions.items()]
        users = [q.histories.user_ids for q in self.replay.only(range(JUDGED)).questions.values()]
        return np.concatenate(found), np.concatenate(users)


def made(folder: Path, **settings) -> Made:
    plain = make_config(**settings)
    cuts = [plain.stop - timedelta(days=n + 1) for n in range(NIGHTS)]
    config = make_config(**settings, cuts=tuple(cuts[:JUDGED]), rollouts=64)
    world = build(config)
    rows = pd.concat([log.block_rows(world, b) for b in range(log.user_blocks(config))], ignore_index=True)
    frame = pd.DataFrame({
        "user": rows.user_id.str[1:].astype(int), "item": rows.item_id.str[1:].astype(int), "ts": rows.ts_ms.to_numpy(np.int64) * 1000,
    }).sort_values(["user", "ts"], ignore_index=True, kind="stable")
    kinds = tuple(sorted(Timeline.needs(Timeline.grid(Setting())[0])))
    asked = {n: question(frame, micros(cut), folder / f"cut-{n}", kinds) for n, cut in enumerate(cuts)}
    lists = pd.concat([oracle.block_lists(world, log.users_of(config, b)) for b in range(log.user_blocks(config))])
    lists = lists[lists["rank"] <= 10]
    best = {}
    for n in range(JUDGED):
        q = asked[n]
        mine = lists[lists.cut_us == q.tables.cut_us]
        table = np.full((len(q.histories), 10), -1)
        place = {f"u{int(u[1:]):03d}": mine_ for u, mine_ in mine.groupby("user_id")}
        for row, name in enumerate(q.histories.user_ids):
            if (one := place.get(name)) is None:    # no visit before the cut, by the oracle's reckoning
                continue
            table[row, one["rank"].to_numpy() - 1] = q.tables.columns(one.item_id.str[1:].astype(int).to_numpy())
        best[n] = table
    return Made(LocalReplay(asked, tuple(micros(c) for c in cuts)), best)


def shuffled(q: Question, seed: int = 0) -> Question:
    """The same items in the same order, but the gaps between a user's events change places: whatever tells when is wrong."""
    h, rng = q.histories, np.random.default_rng(seed)
    ts = h.ts.copy()
    for a, b in zip(h.offsets[:-1], h.offsets[1:], strict=True):
        gaps = np.diff(np.append(ts[a:b], q.tables.cut_us))
        ts[a:b] = q.tables.cut_us - np.cumsum(rng.permutation(gaps)[::-1])[::-1]
    return replace(q, histories=replace(h, ts=ts))


def of(model: Model):
    return lambda n, q: q.lists(model)


def interval(difference: np.ndarray, users: np.ndarray, draws: int = 500) -> tuple[float, float, float]:
    """Mean and 95 % interval, drawn over users."""
    _, user = np.unique(users, return_inverse=True)
    total, count = np.bincount(user, difference), np.bincount(user)
    weights = np.random.default_rng(1).multinomial(len(total), np.full(len(total), 1 / len(total)), draws)
    means = weights @ total / (weights @ count)
    return float(difference.mean()), *np.quantile(means, [0.025, 0.975])


@dataclass
class Found:
    closed: float
    closed_twin: float
    gain: tuple[float, float, float]
    shuffled: tuple[float, float, float]


def measured(world: Made) -> Found:
    model, twin = world.fitted(), world.fitted(time=False)
    recent = make("recent_popularity", {"stat": "decay_3d"})
    mine, users = world.judged(of(model))
    plain, popular = world.judged(of(twin))[0], world.judged(of(recent))[0]
    best = world.judged(lambda n, q: world.oracle[n])[0]
    confused = world.judged(lambda n, q: shuffled(q).lists(model))[0]
    way = best.mean() - popular.mean()
    print(f"{len(users)} lists: popular {popular.mean():.4f} twin {plain.mean():.4f} timeline {mine.mean():.4f} oracle {best.mean():.4f}")
    return Found(
        (mine.mean() - popular.mean()) / way, (plain.mean() - popular.mean()) / way, interval(mine - plain, users),
        interval(mine - confused, users),
    )


LOG = {"preset": "shop", "n_events": 60_000, "days": 90, "seed": 7}


@pytest.fixture(scope="module")
def with_time(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return measured(made(tmp_path_factory.mktemp("on"), emphasis="rhythm", **LOG))


@pytest.fixture(scope="module")
def without_time(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return measured(made(tmp_path_factory.mktemp("off"), without=TIME_EFFECTS, **LOG))


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
