"""timeline: trained on earlier nights; the same numbers where examples are staged and where lists are made."""
from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from local_replay import LocalReplay, question

from recs.clock import DAY, HOUR
from recs.evidence.histories import Histories
from recs.models import MODELS, load, make
from recs.models.base import REASONS, Setting
from recs.models.examples import Shape, examples, half
from recs.models.fitting import Fit, SettingError
from recs.models.sequence import SequenceModel
from recs.models.timeline import Timeline, recipe_of
from recs.models.timeline_network import make_network
from recs.nn.zoo import network_class

CUT = 20_000 * DAY
QUICK = {
    "epochs": 3, "trees": 20, "candidates": 32, "all_candidates": 96, "length": 16, "each": 10, "prior": {"popular@users_all": 1.0},
    "train": {"precision": "fp32"},     # the same on every machine
}
USERS = 120


def rhythmic_log(seed: int = 0) -> pd.DataFrame:
    """Every user repeats some items, each every so many days: what is due tomorrow is known from the gaps alone."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        for item in rng.choice(60, 8, replace=False):
            period, phase = int(rng.integers(2, 9)), int(rng.integers(0, 9))
            days = np.arange(phase, 60, period)
            rows += [(user, int(item), CUT - (50 - int(d)) * DAY + int(rng.integers(0, 20)) * HOUR) for d in days]
    return pd.DataFrame(rows, columns=["user", "item", "ts"]).sort_values(["user", "ts"], ignore_index=True)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> LocalReplay:
    log, folder = rhythmic_log(), tmp_path_factory.mktemp("nights")
    kinds = tuple(sorted(Timeline.needs(Timeline.grid(Setting())[0])))
    cuts = tuple(CUT - n * DAY for n in range(6))
    return LocalReplay({n: question(log, c, folder / f"cut-{n}", kinds) for n, c in enumerate(cuts)}, cuts)


@pytest.fixture(scope="module")
def fitted(nights: LocalReplay) -> Fit:
    return Timeline.fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), {**QUICK, "ranker": "both"})


def ndcg(model, q) -> float:
    from recs.judge.metrics import ndcg_of_hits

    return float(ndcg_of_hits(q.hits(q.lists(model)), q.wanted).mean())


def test_it_learns_what_is_due_beyond_its_prior_and_its_plain_twin(nights, fitted):
    tonight, prior = nights.questions[0], make("blend", {"weights": QUICK["prior"]})
    model = make("timeline", fitted.params, fitted.weights)
    twin = Timeline.fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), {**QUICK, "ranker": "both", "time": False})
    without_time = make("timeline", twin.params, twin.weights)
    assert fitted.params["ranker"] == "both" and fitted.metrics["ceiling"] > 0.9
    assert ndcg(model, tonight) > ndcg(without_time, tonight) + 0.05 > ndcg(prior, tonight) + 0.05


@pytest.mark.parametrize("ranker", ["network", "trees", "both"])
def test_a_trained_models_scores_have_the_same_bits_in_any_batch(nights, fitted, ranker):
    q, model = nights.questions[0], make("timeline", fitted.params | {"ranker": ranker}, fitted.weights)
    columns, scores = model.retrieve(q.histories, q.request_us, q.tables, 10)
    rng = np.random.default_rng(1)
    for users in ([5], rng.permutation(len(q.histories))[:33], [4, 4, 9]):
        part = model.retrieve(q.histories.take(np.asarray(users)), q.request_us[users], q.tables, 10)
        assert part[0].tobytes() == columns[users].tobytes() and part[1].tobytes() == scores[users].tobytes()


def test_staged_examples_and_served_lists_have_the_same_numbers(nights, fitted):
    q, model = nights.questions[0], make("timeline", fitted.params | {"ranker": "network"}, fitted.weights)
    shape = Shape(recipe_of(fitted.params), fitted.params["prior"], 96, fitted.params["length"], training=False)
    staged = examples(shape, q)
    import torch

    with torch.inference_mode():
        scored = model._network.net.score({name: torch.from_numpy(values) for name, values in staged.items()}).numpy()
    served = model.scorer(q.histories, q.request_us, q.tables)(0, q.tables.n_items)
    index = np.asarray(q.tables.array("item_index"))
    row, place = np.nonzero(staged["there"])
    column = np.searchsorted(index, staged["item"][row, place])
    assert len(row) == np.isfinite(served).sum()
    np.testing.assert_allclose(scored[row, place], served[row, column], rtol=1e-5, atol=1e-5)
    assert np.array_equal(staged["label"][row, place] > 0, np.isin(row * q.tables.n_items + column, q.truth))


def test_a_saved_model_is_the_same_model(nights, fitted, tmp_path: Path):
    q, model = nights.questions[0], make("timeline", fitted.params, fitted.weights)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    for a, b in zip(model.retrieve(q.histories, q.request_us, q.tables, 10), again.retrieve(q.histories, q.request_us, q.tables, 10),
                    strict=True):
        assert np.array_equal(a, b)


def test_the_same_seed_gives_the_same_weights(nights, fitted):
    again = Timeline.fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), {**QUICK, "ranker": "both"})
    assert {n: w.tobytes() for n, w in again.weights.items()} == {n: w.tobytes() for n, w in fitted.weights.items()}


def test_training_draws_others_alike_and_keeps_what_came_true(nights):
    q, recipe = nights.questions[1], recipe_of(Timeline.grid(Setting())[0] | QUICK)
    drawn, whole = (examples(Shape(recipe, {}, width, 8, training), q) for width, training in ((20, True), (96, False)))
    assert (drawn["label"].sum(axis=1) == np.minimum(whole["label"].sum(axis=1), 20)[whole["label"].any(axis=1)]).all()
    met = recipe.names.index("met")
    share = lambda e: (e["evidence"][..., met] * (e["label"] == 0) * e["there"]).sum() / ((e["label"] == 0) * e["there"]).sum()    # noqa: E731
    assert share(drawn) == pytest.approx(share(whole), abs=0.03)     # own items are not preferred among the others


def test_too_few_lists_leave_the_prior_alone(nights):
    q = nights.questions[1]
    few = LocalReplay({0: q}, (nights.cuts_us[1],))
    few.questions[0] = type(q)(q.histories.take(np.arange(30)), q.request_us[:30], q.tables, lambda lo, hi: np.zeros((30, hi - lo), bool),
                               q.truth[q.truth < 30 * q.tables.n_items], q.wanted[:30], 10)
    found = Timeline.fit_with(Setting(), few, dict(QUICK))
    assert found.params["ranker"] == "none" and not found.weights
    model, prior = make("timeline", found.params), make("blend", {"weights": QUICK["prior"]})
    ours = model.score_candidates(q.histories, q.request_us, q.tables, np.tile([3, 7, 1, -1], (len(q.histories), 1)))
    theirs = prior.score_candidates(q.histories, q.request_us, q.tables, np.tile([3, 7, 1, -1], (len(q.histories), 1)))
    np.testing.assert_array_equal(ours, theirs)


def test_candidates_may_be_scored_and_reasons_name_events(nights, fitted):
    q, model = nights.questions[0], make("timeline", fitted.params, fitted.weights)
    columns, scores = model.retrieve(q.histories, q.request_us, q.tables, 10)
    why = model.explain(q.histories, q.request_us, q.tables, columns)
    user = np.broadcast_to(np.arange(len(q.histories))[:, None], columns.shape)
    has = why.event >= 0
    assert (q.histories.user[why.event[has]] == user[has]).all()
    repeat = why.code == REASONS.index("repeat")
    assert repeat.any() and (q.tables.columns(q.histories.item)[why.event[repeat]] == columns[repeat]).all()


def test_without_a_history_what_is_popular_is_listed(nights, fitted):
    q, model = nights.questions[0], make("timeline", fitted.params, fitted.weights)
    columns, scores = model.retrieve(Histories.of(newcomer=[]), q.request_us[:1], q.tables, 10)
    assert (columns >= 0).all() and np.isfinite(scores).all()


def test_an_unknown_switch_is_named(nights):
    with pytest.raises(SettingError, match="no such parameter: familly_own"):
        Timeline.fit_with(Setting(), nights, {"familly_own": False})


def test_half_precision_clips():
    assert np.isfinite(half(np.array([1e9, -1e9, 1e-9]))).all()


BORROWED = [n for n, cls in MODELS.items() if issubclass(cls, SequenceModel) and not network_class(n).reads_text]


@pytest.mark.parametrize("name", BORROWED)
def test_any_sequence_network_may_read_the_history(nights, fitted, name):
    import torch

    q, params = nights.questions[0], fitted.params | {"encoder": name}
    staged = examples(Shape(recipe_of(params), params["prior"], 96, params["length"], training=False), q)
    net = make_network(params, params["sizes"]).train()
    net.number.copy_(torch.from_numpy(fitted.weights["network.number"]))
    batch = {n: torch.from_numpy(values[:16]) for n, values in staged.items()}
    torch.nn.init.normal_(net.last.weight)      # the first network says nothing beyond the prior
    net.loss(batch).backward()
    read = [p for n, p in net.history.named_parameters() if "weight" in n and p.grad is not None and p.grad.abs().sum() > 0]
    assert len(read) > 3
    with torch.inference_mode():
        whole, without = (net.eval().score(b) for b in (batch, batch | {"h_item": torch.full_like(batch["h_item"], -1)}))
    assert torch.isfinite(whole).all() and torch.isfinite(without).all() and not torch.equal(whole, without)


def test_an_encoder_that_does_not_help_on_the_held_out_nights_is_left_out(nights, monkeypatch):
    from recs.models import timeline_fit
    from recs.nn.staged import read_columns

    class Misled(timeline_fit.Network):
        def of_staged(self, lists):
            return -read_columns(lists, ["prior"])["prior"] if self.net.config.encoder else super().of_staged(lists)

    monkeypatch.setattr(timeline_fit, "Network", Misled)
    fit = Timeline.fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), {**QUICK, "ranker": "network", "epochs": 2})
    assert fit.params["encoder"] is False and fit.params["chosen"]["encoder"] is False
    assert not any(n.startswith("network.history.") for n in fit.weights)
    again = Timeline.fit_on(Setting(), nights.only([1, 2, 3]), QUICK, make("timeline", fit.params, fit.weights))
    assert again.params["encoder"] is False


def test_a_borrowed_reader_is_trained_and_served_with_the_same_bits(nights):
    fixed = {**QUICK, "ranker": "network", "encoder": "interest_dynamics", "epochs": 2}
    fit = Timeline.fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), fixed)
    q, model = nights.questions[0], make("timeline", fit.params, fit.weights)
    assert fit.params["ranker"] == "network" and any(n.startswith("network.history.net.") for n in fit.weights)
    columns, scores = model.retrieve(q.histories, q.request_us, q.tables, 10)
    for users in ([5], [4, 4, 9]):
        part = model.retrieve(q.histories.take(np.asarray(users)), q.request_us[users], q.tables, 10)
        assert part[0].tobytes() == columns[users].tobytes() and part[1].tobytes() == scores[users].tobytes()
    with pytest.raises(ValueError, match="lm_history reads histories as text"):
        make_network(fit.params | {"encoder": "lm_history"}, fit.params["sizes"])


def test_a_fit_that_has_an_end_trains_its_networks_within_shares_of_what_is_left(nights, monkeypatch: pytest.MonkeyPatch):
    from recs.models import timeline_fit

    limits, trained = [], timeline_fit.train_network

    def noted(*args, **settings):
        limits.append(settings.get("max_minutes"))
        return trained(*args, **settings)

    monkeypatch.setattr(timeline_fit, "train_network", noted)
    asked = QUICK | {"ranker": "network", "epochs": 1}
    Timeline.fit_with(Setting(), nights.only([1, 2, 3]), asked)
    assert limits == [None] * len(limits) and len(limits) >= 2      # with and without the encoder, and perhaps again
    limits.clear()
    some = replace(nights.only([1, 2, 3]), until=time.monotonic())
    Timeline.fit_with(Setting(), some, asked | {"epochs": 500})
    assert limits[0] == pytest.approx(1 / 60) and len(limits) <= 2       # the second is not asked
