"""Ratings: each is asked of the history before it, errors are told by time, and lists are ordered by the rating expected."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from chained_nights import CUT, TRAIN
from local_replay import LocalReplay, question

from recs.clock import DAY, HOUR
from recs.evidence.histories import Histories
from recs.models import MODELS, make
from recs.models.base import Setting
from recs.models.fitting import Fit
from recs.models.sequence_examples import Numbers, Shape
from recs.models.sequence_graded import graded_examples, graded_training, graded_validation
from recs.models.written import TEMPLATES, written
from recs.nn.graded import errors_of, sums_of_errors
from recs.nn.staged import read_columns, write_staged

ITEMS, THEMES, USERS = 48, 6, 90
HASHED = {"model": "hashed", "language": "en", "events": 20, "max_tokens": 64, "offline": True}


def rated(histories: Histories) -> Histories:
    """Whoever meets theme t most gives its items 4 to 5 stars, and others 1 to 2; every fifth event has no rating."""
    user = np.array([int(u[1:]) for u in histories.user_ids])[histories.user]
    own = user % THEMES == histories.item % THEMES
    noise = 0.5 * ((histories.item * 7 + user * 13) % 10) / 10
    value = np.where(own, 4.5, 1.5) + noise
    return replace(histories, value=np.where((histories.item + user) % 5 == 0, np.nan, value).astype(np.float32))


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> LocalReplay:
    rng, rows = np.random.default_rng(1), []
    for user in range(USERS):
        for day in range(12):
            for hour in range(2):
                own = rng.random() < 0.6
                item = int(rng.integers(ITEMS // THEMES)) * THEMES + (user % THEMES if own else int(rng.integers(THEMES)))
                rows.append((user, item, CUT - (11 - day) * DAY + (hour * 3 + 1) * HOUR))
    log = pd.DataFrame(rows, columns=["user", "item", "ts"]).sort_values(["user", "ts"], ignore_index=True)
    folder, cuts = tmp_path_factory.mktemp("ratings"), tuple(CUT - n * DAY for n in range(5))
    found = {n: question(log, c, folder / f"cut-{n}", ("text",)) for n, c in enumerate(cuts)}
    return LocalReplay({n: replace(q, histories=rated(q.histories)) for n, q in found.items()}, cuts)


@pytest.fixture(scope="module")
def fit(nights: LocalReplay) -> Fit:
    return MODELS["lm_history"].fit_with(Setting(texts=True), nights.only([1, 2, 3, 4]), {
        "length": 8, "epochs": 12, "graded": 20, "network": {"dim": 16, "dropout": 0.0}, "train": {**TRAIN, "lr": 0.02}, "written": HASHED})


def test_every_rating_is_asked_once_of_what_was_before_it(nights, tmp_path: Path):
    shape = Shape(8, 1, 2, written=HASHED, also=("segments",), graded=6)
    newest_first = [write_staged(tmp_path / str(n), graded_examples(shape, nights.questions[n])) for n in (1, 2)]
    h = nights.questions[1].histories
    columns = read_columns(newest_first[0], ["h_ts", "h_item", "request_us", "rating", "who"])
    assert (columns["h_ts"] <= columns["request_us"][:, None]).all()
    assert ((columns["h_ts"] < columns["request_us"][:, None]) | (columns["h_item"] < 0)).all()
    assert np.isfinite(columns["rating"]).all() and np.unique(columns["who"], return_counts=True)[1].max() == 6
    newest = [v[~np.isnan(v)][-6:] for v in np.split(h.value, h.offsets[1:-1])]
    assert sorted(columns["rating"]) == sorted(np.concatenate(newest))
    numbers = Numbers.of(newest_first, 1)
    data = graded_training(tmp_path / "t", newest_first, numbers)
    of_others = ~np.isin(read_columns(newest_first[1], ["who"])["who"], columns["who"])
    assert "h_segment" in data.fields
    assert data.rows == len(columns["rating"]) + of_others.sum()        # the older night tells only of users the newer one lacks
    since = nights.cuts_us[2]
    asked = read_columns(graded_validation(tmp_path / "v", newest_first, numbers, since), ["request_us", "slice"])
    assert 0 < len(asked["slice"]) == (columns["request_us"] >= since).sum() and set(asked["slice"]) <= {0, 1, 2, 3}


def test_ratings_are_foretold_better_than_by_their_spread_and_errors_are_told_by_time(nights, fit):
    assert fit.metrics["rmse"] < 0.9 and fit.metrics["mae"] < fit.metrics["rmse"]       # the ratings' own spread is 1.5
    assert fit.metrics["mse"] == pytest.approx(fit.metrics["rmse"] ** 2, rel=1e-3)
    assert {f"{name}_{n}" for name in ("mse", "rmse", "mae") for n in (1, 4)} <= set(fit.metrics)
    assert "threshold" not in fit.params["chosen"]


def test_lists_are_in_the_order_of_the_ratings_expected(nights, fit):
    q, model = nights.questions[0], make("lm_history", fit.params, fit.weights)
    scores = model.scorer(q.histories, q.request_us, q.tables)(0, q.tables.n_items)
    theme = np.array([int(u[1:]) % THEMES for u in q.histories.user_ids])
    own = np.asarray(q.tables.array("item_index")) % THEMES == theme[:, None]
    assert scores[own].mean() > 3.8 and scores[~own].mean() < 2.8
    best = model.retrieve(q.histories, q.request_us, q.tables, 5)[0]
    assert np.take_along_axis(own, best, 1).mean() > 0.8


def test_errors_by_slice_are_those_of_a_loop():
    error, where = torch.tensor([1.0, -2.0, 0.5, 3.0]), torch.tensor([0, 0, 2, 3], dtype=torch.uint8)
    sums = {name: float(v) for name, v in sums_of_errors(error, where).items()}
    found = errors_of({name: v / sums["n"] for name, v in sums.items()})
    assert found["mse"] == pytest.approx((1 + 4 + 0.25 + 9) / 4) and found["mae"] == pytest.approx(6.5 / 4)
    assert found["mse_1"] == pytest.approx(2.5) and found["rmse_4"] == pytest.approx(3) and found["mae_3"] == pytest.approx(0.5)
    assert "mse_2" not in found or found["mse_2"] == 0
    assert errors_of({"ndcg@10": 0.5}) == {"ndcg@10": 0.5}


def test_ratings_are_written_and_texts_left_as_they_are_where_asked(nights):
    q = nights.questions[0]
    one = q.histories.take(np.array([1]))
    text = written(one, q.request_us[:1], q.tables, TEMPLATES["en"], 3, graded=True)[0]
    values = [f": {v:g}" for v in one.value[-3:] if np.isfinite(v)]
    assert values and all(v in text for v in values)
    assert ": " not in written(one, q.request_us[:1], q.tables, TEMPLATES["en"], 3)[0]
    q.tables.said = lambda columns: ["A mug, with the handle!"] * len(columns)
    try:
        assert "A mug, with the handle!" in written(one, q.request_us[:1], q.tables, TEMPLATES["en"], 1, cleaned=False)[0]
        assert " mug handle" in written(one, q.request_us[:1], q.tables, TEMPLATES["en"], 1)[0]
    finally:
        del q.tables.said
