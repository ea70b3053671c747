"""Where the catalogue is new every day, what is popular tonight joins what a network says, and where habits decide, what is the user's own;
elsewhere they do no harm."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chained_nights import CUT, QUICK, chained_nights, ndcg
from item_table_double import build
from local_replay import LocalReplay, question

from recs.clock import DAY, HOUR
from recs.models import MODELS, load, make
from recs.models.base import Setting
from recs.models.sequence import SequenceModel
from recs.models.sequence_joined import LEAST, OWN, joined, log_popular
from recs.models.sequence_threshold import threshold

A_DAY, GROUPS, USERS, DAYS = 24, 3, 90, 16      # new items a day; every user reads those of his group, mostly new ones, else yesterday's


def fresh(seed: int = 0) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for day in range(DAYS):
        for user in range(USERS):
            for hour in range(3):
                born = max(day - int(rng.random() < 0.3), 0)
                item = born * A_DAY + int(rng.integers(A_DAY // GROUPS)) * GROUPS + user % GROUPS
                rows.append((user, item, CUT - (DAYS - 1 - day) * DAY + (hour * 3 + 1) * HOUR))
    return pd.DataFrame(rows, columns=["user", "item", "ts"]).sort_values(["user", "ts"], ignore_index=True)


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> LocalReplay:
    folder, log, cuts = tmp_path_factory.mktemp("news"), fresh(), tuple(CUT - n * DAY for n in range(6))
    return LocalReplay({n: question(log, c, folder / f"cut-{n}", ()) for n, c in enumerate(cuts)}, cuts)


@pytest.mark.parametrize("kind", ["popular", "own"])
def test_the_systems_ask_for_it_and_the_references_do_not(kind: str):
    family = {name: cls for name, cls in MODELS.items() if issubclass(cls, SequenceModel)}
    asked = {name for name, cls in family.items() if cls.grid(Setting())[0][kind]}
    assert asked == {"transformer_lstm", "lm_adapter", "lm_history", "lstm_attention", "interest_dynamics"}
    assert not any(cls.grid(Setting(repeats=False))[0]["own"] for cls in family.values())


def test_lists_of_a_fresh_catalogue_are_better_with_it(news: LocalReplay, tmp_path: Path):
    cls, q = MODELS["lstm_attention"], news.questions[0]
    fits = {on: cls.fit_with(Setting(), news.only([1, 2, 3, 4, 5]), {**QUICK, "popular": on}) for on in (False, True)}
    choice = fits[True].params["chosen"]["popular"]
    assert "popular" not in fits[False].params["chosen"] and fits[True].metrics["ndcg@10"] > fits[False].metrics["ndcg@10"] + 0.1
    models = {on: make("lstm_attention", fit.params, fit.weights) for on, fit in fits.items()}
    assert ndcg(models[True], q) > ndcg(models[False], q) + 0.1
    # to the same network's scores the logarithm of the statistic is added, for every user
    models[True].save(tmp_path)
    plain = make("lstm_attention", {**fits[True].params, "chosen": {"epochs": 1}}, fits[True].weights)
    said, alone = (m.scorer(q.histories, q.request_us, q.tables)(3, q.tables.n_items) for m in (load(tmp_path), plain))
    wanted = choice["weight"] * np.log(q.tables.stat(choice["stat"]) + LEAST)
    np.testing.assert_allclose(said - alone, np.broadcast_to(wanted[3:], said.shape), atol=1e-4)
    # a refit goes on with what was chosen
    again = cls.fit_with(Setting(), news.only([0, 1, 2, 3, 4]), {**QUICK, "chosen": fits[True].params["chosen"]})
    assert again.params["chosen"]["popular"] == choice


def test_it_does_no_harm_where_order_says_it_all(tmp_path: Path):
    nights = chained_nights(tmp_path)
    found = {}
    for on in (False, True):
        fit = MODELS["lstm_attention"].fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), {**QUICK, "popular": on, "own": on})
        found[on] = ndcg(make("lstm_attention", fit.params, fit.weights), nights.questions[0])
    assert found[True] > found[False] - 0.02


def test_a_list_made_as_a_whole_reads_it_too(news: LocalReplay):
    q, fixed = news.questions[0], {**QUICK, "epochs": 1, "decode": True, "network": {**QUICK["network"], "adapter": "transformer"}}
    fit = MODELS["lm_adapter"].fit_with(Setting(), news.only([1, 2, 3]), fixed)
    choice = {"stat": "decay_1d", "weight": 50.0}
    own = {"span": "all", "weight": 1e-9}       # nothing, but for every user his own
    model = make("lm_adapter", {**fit.params, "chosen": {"popular": choice, "own": own}}, fit.weights)
    columns = model.retrieve(q.histories, q.request_us, q.tables, 5)[0]
    best = np.argsort(-log_popular(q.tables, choice), kind="stable")[:5]
    assert (np.sort(columns, axis=1) == np.sort(best)).mean() > 0.9


def test_an_item_that_nobody_has_met_is_neither_pushed_nor_held_back(tmp_path: Path):
    tables, choice = build(tmp_path, fresh(), CUT, unmet=(9_999,)), {"stat": "decay_1d", "weight": 2.0}
    said = log_popular(tables, choice)
    assert said[-1] == pytest.approx(said[:-1].mean(), rel=1e-4)


def habits(seed: int = 0) -> pd.DataFrame:
    """Every user has four items of his own among five hundred, and takes mostly those."""
    rng, rows = np.random.default_rng(seed), []
    own = rng.integers(0, 500, (USERS, 4))
    for day in range(DAYS):
        for user in range(USERS):
            for hour in range(2):
                item = own[user, rng.integers(4)] if rng.random() < 0.7 else rng.integers(500)
                rows.append((user, int(item), CUT - (DAYS - 1 - day) * DAY + (hour * 3 + 1) * HOUR))
    return pd.DataFrame(rows, columns=["user", "item", "ts"]).sort_values(["user", "ts"], ignore_index=True)


def test_lists_of_habits_are_better_with_what_is_the_users_own(tmp_path: Path):
    log, cuts, cls = habits(), tuple(CUT - n * DAY for n in range(6)), MODELS["lstm_attention"]
    nights = LocalReplay({n: question(log, c, tmp_path / f"cut-{n}", ()) for n, c in enumerate(cuts)}, cuts)
    fits = {on: cls.fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), {**QUICK, "own": on}) for on in (False, True)}
    models, q = {on: make("lstm_attention", fit.params, fit.weights) for on, fit in fits.items()}, nights.questions[0]
    assert OWN not in fits[False].params["chosen"] and ndcg(models[True], q) > ndcg(models[False], q) + 0.1
    # what is added is a user's own: the same in any company
    added = [joined(fits[True].params["chosen"], some, request, q.tables)(0, q.tables.n_items)[-1]
             for some, request in ((q.histories, q.request_us), (q.histories.take(np.array([len(q.wanted) - 1])), q.request_us[-1:]))]
    assert (added[0] == added[1]).all() and (added[0] > added[0].min() + 1).sum() >= 4


def test_a_threshold_is_the_best_of_a_loop_over_what_is_served(news: LocalReplay):
    fit = MODELS["transformer_lstm"].fit_with(Setting(), news.only([1, 2, 3, 4, 5]), {**QUICK, "epochs": 1})
    held, model = news.only([1]), make("transformer_lstm", fit.params, fit.weights)
    found, q = threshold("transformer_lstm", fit.params, fit.weights, held), held.questions[1]
    said = np.where(q.forbidden(0, q.tables.n_items), -np.inf, model.scorer(q.histories, q.request_us, q.tables)(0, q.tables.n_items))
    came, best = np.zeros(said.size, bool), 0.0
    came[q.truth] = True
    for at in np.linspace(*np.quantile(said[np.isfinite(said)], [0.5, 1]), 400):
        hit = (came & (said.ravel() >= at)).sum()
        best = max(best, 2 * hit / ((said >= at).sum() + q.wanted.sum()))
    listed = said >= found.at
    assert found.precision == pytest.approx((came & listed.ravel()).sum() / listed.sum(), abs=1e-4)
    assert found.recall == pytest.approx((came & listed.ravel()).sum() / q.wanted.sum(), abs=1e-4)
    assert found.f1 > 0.95 * best > 0.03
    assert fit.params["chosen"]["threshold"]["f1"] == fit.metrics["f1"]
