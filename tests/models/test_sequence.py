"""Sequence models: trained on earlier nights, served with the same numbers in any batch, and what they make of the unknown."""
from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from chained_nights import CUT, ITEMS, QUICK, SUCCESSOR, chained_nights, ndcg
from local_replay import LocalReplay

from recs.clock import DAY, HOUR
from recs.evidence.histories import Histories
from recs.judge.metrics import ndcg_of_hits
from recs.models import MODELS, ModelError, load, make, sequence_fit
from recs.models.base import REASONS, Setting
from recs.models.examples import newest_events
from recs.models.fitting import Fit
from recs.models.sequence import SequenceModel
from recs.models.sequence_examples import Numbers, Shape, examples, first_meetings, held, read_history, training, validation
from recs.models.sequence_joined import joined
from recs.models.sequence_network import make_network, numbered
from recs.nn.next_item import newest
from recs.nn.staged import read_columns, write_staged
from recs.nn.zoo import network_class

EVERY = [name for name, cls in MODELS.items() if issubclass(cls, SequenceModel)]
IN_ORDER = [name for name in EVERY if name != "lm_history"]     # a bag of hashed words does not know what came first


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> LocalReplay:
    return chained_nights(tmp_path_factory.mktemp("nights"))


@pytest.fixture(scope="module", params=EVERY)
def fitted(request: pytest.FixtureRequest, nights: LocalReplay) -> tuple[str, Fit]:
    return request.param, MODELS[request.param].fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), dict(QUICK))


def test_it_learns_what_follows_what(nights, fitted):
    name, fit = fitted
    if name not in IN_ORDER:
        pytest.skip("reads a bag of words")
    tonight, model = nights.questions[0], make(name, fit.params, fit.weights)
    popular = ndcg(make("popularity"), tonight)
    assert ndcg(model, tonight) > popular + 0.4
    assert fit.metrics["ndcg@10"] > popular + 0.4 and 1 <= fit.params["chosen"]["epochs"] <= QUICK["epochs"]
    # in another order the same items say something else
    backwards = Histories.of(**{u: list(zip(
        tonight.histories.item[a:b][::-1], tonight.histories.ts[a:b], strict=True)) for u, a, b in zip(
        tonight.histories.user_ids, tonight.histories.offsets[:-1], tonight.histories.offsets[1:], strict=True)})
    turned = type(tonight)(backwards, tonight.request_us, tonight.tables, tonight.forbidden, tonight.truth, tonight.wanted, 10)
    assert ndcg(model, turned) < ndcg(model, tonight) - 0.2


def test_a_users_scores_have_the_same_bits_in_any_batch(nights, fitted):
    name, fit = fitted
    q, model = nights.questions[0], make(name, fit.params, fit.weights)
    full, n = model.scorer(q.histories, q.request_us, q.tables)(0, q.tables.n_items), len(q.histories)
    rng = np.random.default_rng(1)
    for users in ([5], np.arange(n)[::-1], rng.permutation(n)[:33], [4, 4, 9]):
        part = model.scorer(q.histories.take(np.asarray(users)), q.request_us[users], q.tables)(0, q.tables.n_items)
        assert part.tobytes() == full[users].tobytes()


def test_a_saved_model_is_the_same_model(nights, fitted, tmp_path: Path):
    (name, fit), q = fitted, nights.questions[0]
    model = make(name, fit.params, fit.weights)
    model.save(tmp_path / "m")
    for a, b in zip(model.retrieve(q.histories, q.request_us, q.tables, 10), load(tmp_path / "m").retrieve(
            q.histories, q.request_us, q.tables, 10), strict=True):
        assert np.array_equal(a, b)


def test_weights_of_an_earlier_form_of_the_network_are_refused(nights, fitted, tmp_path: Path, monkeypatch):
    name, fit = fitted
    make(name, fit.params, fit.weights).save(tmp_path)
    assert load(tmp_path).name == name
    cls = network_class(name)
    monkeypatch.setattr(cls, "version", cls.version + 1)
    with pytest.raises(ModelError, match="for what another version of recs reads: train it again"):
        load(tmp_path)
    make(name, fit.params, fit.weights).save(tmp_path)
    assert load(tmp_path).name == name


def test_staged_and_served_histories_have_the_same_scores(nights, fitted):
    (name, fit), q = fitted, nights.questions[0]
    import torch

    model = make(name, fit.params, fit.weights)
    network = model._network(q.tables)
    events = numbered(newest_events(q.histories, q.request_us, QUICK["length"]), network.number, network.segments)
    if written := fit.params.get("written"):
        events["h_text"] = read_history(written, q.histories, q.request_us, q.tables)
    with torch.inference_mode():
        trained = network.net.score({name: torch.from_numpy(values) for name, values in events.items()}).numpy()
    asked = q.histories, q.request_us, q.tables
    served = model.scorer(*asked)(0, q.tables.n_items) - joined(model.params["chosen"], *asked)(0, q.tables.n_items)
    number = network.number[np.asarray(q.tables.array("item_index"))]
    assert (number > 0).all()
    np.testing.assert_allclose(served, trained[:, number - 1], rtol=1e-4, atol=1e-4)


def test_reasons_name_events_of_that_user(nights, fitted):
    (name, fit), q = fitted, nights.questions[0]
    model = make(name, fit.params, fit.weights)
    columns, _ = model.retrieve(q.histories, q.request_us, q.tables, 10)
    why = model.explain(q.histories, q.request_us, q.tables, columns)
    has, user = why.event >= 0, np.broadcast_to(np.arange(len(columns))[:, None], columns.shape)
    assert (q.histories.user[why.event[has]] == user[has]).all()
    repeat, neighbour = (why.code == REASONS.index(code) for code in ("repeat", "neighbour"))
    assert repeat.any() and neighbour.any()
    assert (q.tables.columns(q.histories.item)[why.event[repeat]] == columns[repeat]).all()


def test_the_same_seed_gives_the_same_weights(nights):
    some = nights.only([1, 2, 3])
    a, b = (MODELS["sasrec"].fit_with(Setting(), some, {**QUICK, "epochs": 1}) for _ in range(2))
    assert {n: w.tobytes() for n, w in a.weights.items()} == {n: w.tobytes() for n, w in b.weights.items()}


@pytest.fixture(scope="module")
def sasrec(nights: LocalReplay) -> Fit:
    return MODELS["sasrec"].fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), {**QUICK, "epochs": 2})


def test_an_item_never_met_is_as_unknown_as_those_met_least(nights, sasrec):
    q, rows = nights.questions[0], np.arange(20)
    model = make("sasrec", sasrec.params, sasrec.weights)
    few = make("sasrec", sasrec.params, {**sasrec.weights, "rarest": sasrec.weights["rarest"][:3]})
    numbers = sasrec.weights["number"].copy()
    forgotten = int(np.asarray(q.tables.array("item_index"))[7])
    numbers[forgotten] = 0
    few.weights["number"] = numbers
    histories = q.histories.take(rows).where(q.histories.take(rows).item != forgotten)
    known, unknown = (m.scorer(histories, q.request_us[rows], q.tables)(0, q.tables.n_items) for m in (model, few))
    index = np.asarray(q.tables.array("item_index"))
    rare = np.isin(sasrec.weights["number"][index], sasrec.weights["rarest"][:3])
    np.testing.assert_allclose(unknown[:, 7], known[:, rare].mean(axis=1), rtol=1e-5, atol=1e-5)
    others = np.arange(q.tables.n_items) != 7
    np.testing.assert_array_equal(known[:, others], unknown[:, others])


def test_events_of_items_never_met_are_not_there(nights, sasrec):
    q, model = nights.questions[0], make("sasrec", sasrec.params, sasrec.weights)
    stranger = 10_000
    plain = Histories.of(ann=[(3, CUT - 3 * DAY), (5, CUT - DAY)], bob=[], cat=[])
    mixed = Histories.of(ann=[(3, CUT - 3 * DAY), (stranger, CUT - 2 * DAY), (5, CUT - DAY)], bob=[(stranger, CUT - DAY)], cat=[])
    a, b = (model.scorer(h, np.full(3, CUT), q.tables)(0, q.tables.n_items) for h in (plain, mixed))
    assert a.tobytes() == b.tobytes()
    popular = make("popularity", {"stat": "users_all"}).scorer(plain, np.full(3, CUT), q.tables)(0, q.tables.n_items)
    np.testing.assert_array_equal(a[1:], popular[1:])       # without an event it can read: what is popular
    why = model.explain(mixed, np.full(3, CUT), q.tables, np.tile([0, 1], (3, 1)))
    assert (why.code[1:] == REASONS.index("popular")).all()


def test_a_fit_is_judged_by_nights_of_the_age_it_serves(monkeypatch: pytest.MonkeyPatch):
    lists = {0: 60, 1: 60, 2: 60, 3: 60, 4: 0, 5: 900, 6: 60}       # of the latest night, the one before it, …
    monkeypatch.setattr(sequence_fit, "read_columns", lambda night, names: {"window": np.array([0] * lists[night] + [1] * 99)})
    held_of = partial(sequence_fit._latest, range(40), range(40), CUT - np.arange(40) * DAY)
    assert held_of(None) == [0, 1, 2, 3, 4, 5]      # until there are enough
    assert held_of(3 * DAY) == [0, 1, 2, 3]
    assert held_of(0) == [0, 1]                     # one night has too few lists
    assert sequence_fit._latest(range(10), range(40), CUT - np.arange(40) * DAY, None) == [0, 1]


def test_one_night_holds_users_out(nights):
    fit = MODELS["sasrec"].fit_with(Setting(), nights.only([1]), {**QUICK, "held_out": 0.2})
    assert 5 < fit.metrics["lists"] < 40 and fit.metrics["ndcg@10"] > 0.3


def test_where_no_user_is_held_out_all_epochs_are_trained(nights):
    fit = MODELS["sasrec"].fit_with(Setting(), nights.only([1]), {**QUICK, "epochs": 1, "held_out": 0.0})
    assert set(fit.metrics) == {"training_lists"} and fit.weights


def test_a_refit_keeps_the_epochs_and_asks_nothing(nights, sasrec):
    kept = MODELS["sasrec"].kept({**sasrec.params, "chosen": {"epochs": 1}})
    fit = MODELS["sasrec"].fit_with(Setting(), nights.only([1, 2]), {**QUICK, **kept})
    assert fit.params["chosen"] == {"epochs": 1} and set(fit.metrics) == {"training_lists"} and fit.weights


def test_too_few_lists_leave_what_is_popular(nights):
    q = nights.questions[1]
    few = LocalReplay({0: type(q)(q.histories.take(np.arange(9)), q.request_us[:9], q.tables, q.forbidden,
                                  q.truth[q.truth < 9 * q.tables.n_items], q.wanted[:9], 10)}, nights.cuts_us)
    fit = MODELS["sasrec"].fit_with(Setting(), few, dict(QUICK, windows=1))
    assert not fit.weights and fit.metrics == {"training_lists": 9.0}


def test_it_keeps_to_the_time(nights):
    some = nights.only([1, 2, 3, 4, 5])
    some.until = time.monotonic() + 6
    began = time.monotonic()
    fit = MODELS["sasrec"].fit_with(Setting(), some, {**QUICK, "epochs": 10_000})
    assert time.monotonic() - began < 12 and fit.weights and fit.params["chosen"]["epochs"] < 1_000


def test_a_position_is_trained_once_and_only_on_what_may_be_listed(nights, tmp_path: Path):
    shape = Shape(length=6, windows=50, targets=10)
    newest_first = [write_staged(tmp_path / str(n), examples(shape, nights.questions[n])) for n in (1, 2)]
    numbers = Numbers.of(newest_first, 1)
    data = training(tmp_path / "t", newest_first, numbers, repeats=True)
    found = read_columns(data, ["follow", "target"])
    users: dict[str, int] = {}
    for n in (2, 1):        # the newest history of each user
        h = nights.questions[n].histories
        users |= dict(zip(h.user_ids, np.diff(h.offsets), strict=True))
    older = sum(-(-length // shape.length) - 1 for length in users.values())        # windows: each ends with the event after it
    every = [read_columns(night, ["target", "window"]) for night in newest_first]
    asked = sum((night["target"][night["window"] == 0] >= 0).sum() for night in every)
    assert older > 0 and found["follow"].sum() + older == sum(length - 1 for length in users.values())
    assert (found["target"] > 0).sum() == older + asked
    once = read_columns(training(tmp_path / "o", newest_first, numbers, repeats=False), ["follow", "h_item"])
    row, place = np.nonzero(once["follow"])
    assert 0 < len(row) < found["follow"].sum()
    assert all(once["h_item"][r, p + 1] not in once["h_item"][r, : p + 1] for r, p in zip(row, place, strict=True))


def test_targets_of_held_out_users_are_asked_and_not_trained(nights, tmp_path: Path):
    night = write_staged(tmp_path / "n", examples(Shape(8, 2, 10), nights.questions[1]))
    numbers, share = Numbers.of([night], 1), 0.3
    asked = read_columns(validation(tmp_path / "v", [night], numbers, share), ["target", "n_truth"])
    every = read_columns(night, ["who", "window", "target"])
    chosen = held(every["who"], share) & (every["window"] == 0)
    assert 0 < len(asked["target"]) == chosen.sum() < (every["window"] == 0).sum()
    trained = read_columns(training(tmp_path / "t", [night], numbers, True, share), ["target"])["target"]
    of_others = (every["target"][~chosen] >= 0).sum()
    assert (trained > 0).sum() == of_others


def test_held_out_figures_see_more_of_what_came_true_than_is_trained(nights, tmp_path: Path):
    q, met = nights.questions[1], 30
    users = len(q.wanted)
    truth = (np.arange(users)[:, None] * q.tables.n_items + np.arange(met)).ravel()
    q = replace(q, truth=truth, wanted=np.full(users, met))
    night = write_staged(tmp_path / "n", examples(Shape(8, 1, 3), q))
    numbers = Numbers.of([night], 1)
    trained = read_columns(training(tmp_path / "t", [night], numbers, repeats=True, targets=3), ["target"])["target"]
    assert trained.shape == (users, 3) and (trained > 0).all()
    asked = validation(tmp_path / "v", [night], numbers)
    batch = {name: torch.from_numpy(values) for name, values in read_columns(asked, asked.fields).items()}
    assert batch["target"].shape == (users, met)
    net = make_network("sasrec", MODELS["sasrec"].grid(Setting())[0] | QUICK | {"length": 8}, len(numbers.met)).eval()
    ten = net.score(newest(batch, 8) | {"request_us": batch["request_us"]}).topk(10).indices + 1
    hits = np.array([np.isin(mine, true) for mine, true in zip(ten, batch["target"], strict=True)])
    assert float(net.evaluate(batch)["ndcg@10"]) == pytest.approx(ndcg_of_hits(hits, q.wanted).sum())


def test_what_happened_since_the_last_question_is_learned(nights):
    """A stranger among the items is met on the last day only, always after the same other: no earlier night asks for it."""
    tonight, new, before = nights.questions[0], 77, 5
    h = tonight.histories
    late = Histories.of(**{u: [(before, CUT - 2 * HOUR), (new, CUT - HOUR)] for u in h.user_ids})
    asked = Histories.of(ann=[(3, CUT - 2 * HOUR), (before, CUT - HOUR)])
    some = nights.only([1, 2, 3, 4, 5])
    for histories, learned in ((None, False), (late, True)):
        some.histories = histories
        fit = MODELS["sasrec"].fit_with(Setting(), some, dict(QUICK))
        network = make("sasrec", fit.params, fit.weights)._network(tonight.tables)
        known = new < len(network.number) and network.number[new] > 0
        assert bool(known) is learned
    said = network.scores(network.read(newest_events(asked, np.array([CUT]), QUICK["length"])), np.arange(ITEMS))
    its = network.scores(network.read(newest_events(asked, np.array([CUT]), QUICK["length"])), np.array([new]))
    assert its[0, 0] > np.median(said)


@pytest.mark.parametrize(("worth", "best", "chosen"), [
    ([0.3, 0.2, 0.1, 0.2, 0.1], None, {"epochs": 1, "nights": 0}),                      # from all that is in the histories
    ([0.2, 0.1, 0.4, 0.3, 0.1], 3, {"epochs": 3, "nights": 0, "half_life": 3}),         # from the newest of it
    ([0.2, 0.2, 0.2, 0.2, 0.3], None, {"epochs": 5}),                                   # with the questions of earlier nights
    ([0.2, 0.3, 0.2, 0.1, 0.4], 14, {"epochs": 5, "half_life": 14}),                    # with the newest of them
])
def test_the_way_to_learn_is_that_of_the_best_lists_of_the_latest_nights(nights, monkeypatch, worth, best, chosen):
    rows, plans = [], []

    def network(bench, data, asked, numbers, planned, until):
        rows.append(data.rows)
        plans.append(planned)
        return {}, {"ndcg@10": 0.9, "steady_ndcg@10": worth[len(rows) - 1]} if asked else {}, {"epochs": len(rows)} if asked else {}

    monkeypatch.setattr(sequence_fit._Bench, "_network", network)
    h, some = nights.questions[0].histories, nights.only([1, 2, 3, 4, 5])
    some.histories = h.before(nights.cuts_us[0])
    fit = MODELS["sasrec"].fit_with(Setting(), some, {**QUICK, "windows": 1})
    *alone, every, last = rows
    assert set(alone) == {alone[0]} and alone[0] < every and fit.metrics["steady_ndcg@10"] == max(worth)
    assert [plan.get("half_life") for plan in plans[:-1]] == [None, 14, 3, 0.75, best]
    assert fit.params["chosen"] == plans[-1] == chosen
    again = MODELS["sasrec"].fit_with(Setting(), some, {**QUICK, "windows": 1, "chosen": fit.params["chosen"]})
    assert again.metrics["training_lists"] == last == rows[-1]
    assert last <= len(h) if "nights" in chosen else last > every
    some.histories = None       # nothing but the questions to learn from: they are all needed
    rows.clear()
    MODELS["sasrec"].fit_with(Setting(), some, {**QUICK, "windows": 1})
    assert len(rows) == 2


def test_half_lives_are_not_tried_where_an_epoch_takes_too_long(nights, monkeypatch):
    plans = []

    def network(bench, data, asked, numbers, planned, until):
        plans.append(planned)
        return {}, {}, {}

    monkeypatch.setattr(sequence_fit._Bench, "_network", network)
    some = nights.only([1, 2, 3, 4, 5])
    some.histories, some.until = nights.questions[0].histories.before(nights.cuts_us[0]), time.monotonic()
    MODELS["sasrec"].fit_with(Setting(), some, {**QUICK, "windows": 1})
    assert len(plans) == 3      # from histories alone, with questions, on all


def test_first_meetings():
    assert first_meetings(np.array([[0, 3, 5, 3, 5, 9]])).tolist() == [[True, True, True, False, False, True]]


def test_places_are_read_where_the_catalogue_has_them(nights):
    """Items lie along a line, 1 km apart; whoever is near an item is told so by the distance alone."""
    cls, q = MODELS["interest_dynamics"], nights.questions[0]
    assert not cls.grid(Setting())[0]["places"] and cls.grid(Setting(places=True))[0]["places"]
    some = nights.only([1, 2, 3, 4, 5])
    for n, question in some.questions.items():
        some.questions[n] = replace(question, histories=placed(question.histories, question.tables))
    fit = cls.fit_with(Setting(places=True), some, {**QUICK, "epochs": 2})
    model, index = make("interest_dynamics", fit.params, fit.weights), np.asarray(q.tables.array("item_index"))
    own = fit.weights["network.item_place"][fit.weights["number"][index]]
    np.testing.assert_allclose(own[:, 0], q.tables.stat("lat"), rtol=1e-6)
    here, far = (placed(q.histories, q.tables, shift) for shift in (0.0, 30.0))
    a, b = (model.scorer(h, q.request_us, q.tables)(0, q.tables.n_items) for h in (here, far))
    assert np.isfinite(a).all() and np.isfinite(b).all() and not np.array_equal(a, b)
    nowhere = model.scorer(q.histories, q.request_us, q.tables)(0, q.tables.n_items)
    assert np.isfinite(nowhere).all()


def placed(histories: Histories, tables, shift: float = 0.0) -> Histories:
    column = np.maximum(tables.columns(histories.item), 0)
    lat = np.asarray(tables.stat("lat"))[column] + np.float32(shift)
    return replace(histories, lat=lat, lon=np.full(histories.n_events, 5, np.float32))


def test_a_list_that_is_decoded_goes_on_where_it_stands(nights):
    """After an item comes its successor: a list made as a whole walks along the chain, one made at once holds other first steps."""
    q, fixed = nights.questions[0], {**QUICK, "epochs": 8, "network": {**QUICK["network"], "adapter": "transformer"}}
    fit = MODELS["lm_adapter"].fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), fixed)
    walked = {}
    for decode in (False, True):
        model = make("lm_adapter", {**fit.params, "decode": decode}, fit.weights)
        columns, scores = model.retrieve(q.histories, q.request_us, q.tables, 5, q.forbidden)
        item = np.asarray(q.tables.array("item_index"))[columns]
        walked[decode] = (item[:, 1:4] == SUCCESSOR[item[:, :3]]).mean()
        assert (np.diff(scores, axis=1) <= 0).all() and all(len(set(row)) == 5 for row in columns.tolist())
        part = model.retrieve(q.histories.take(np.array([7, 3])), q.request_us[[7, 3]], q.tables, 5)[0]
        assert np.array_equal(part, columns[[7, 3]])
    assert walked[True] > walked[False] + 0.3
    closed = np.zeros((len(q.histories), q.tables.n_items), bool)
    closed[:, 3:] = True
    few = model.retrieve(q.histories, q.request_us, q.tables, 5, lambda lo, hi: closed[:, lo:hi])[0]
    assert (np.sort(few, axis=1)[:, 2:] == [0, 1, 2]).all() and (few[:, 3:] == -1).all()


def test_removing_the_event_that_is_named_costs_more_than_removing_another(nights, fitted):
    (name, fit), q = fitted, nights.questions[0]
    model, users = make(name, fit.params, fit.weights), np.arange(60)
    h, request = q.histories.take(users), q.request_us[users]
    columns = model.retrieve(h, request, q.tables, 5)[0]
    named = model.explain(h, request, q.tables, columns).event
    rng, newest = np.random.default_rng(0), h.offsets[1:] - np.minimum(np.diff(h.offsets), QUICK["length"])

    def lost(event: np.ndarray) -> np.ndarray:
        """[U] of the first item's score, when one event of each user is not there."""
        keep = np.ones(h.n_events, bool)
        keep[event] = False
        with_all, without = (model.scorer(x, request, q.tables)(0, q.tables.n_items) for x in (h, h.where(keep)))
        return (with_all - without)[users, columns[:, 0]]

    some = np.flatnonzero((named[:, 0] >= 0) & (np.diff(h.offsets) > 4))
    drawn = rng.integers(newest, h.offsets[1:])
    of_named, of_drawn = (lost(np.where(np.isin(users, some), e, h.offsets[1:] - 1))[some] for e in (named[:, 0], drawn))
    assert len(some) > 20 and of_named.mean() > of_drawn.mean()
