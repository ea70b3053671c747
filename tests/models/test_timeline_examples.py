"""Examples of earlier nights: found again, weighted, and gone on from."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from local_replay import LocalReplay, question
from test_timeline import CUT, QUICK, ndcg, rhythmic_log

from recs.clock import DAY
from recs.models import make
from recs.models.base import Setting
from recs.models.blend_fit import fit_weights
from recs.models.examples import Shape, examples
from recs.models.timeline import Timeline, recipe_of
from recs.models.timeline_examples import examples_of
from recs.models.timeline_train import Frame, replayed_again
from recs.models.trees import Trees, train_trees
from recs.nn.staged import Staged, link_together, open_staged

ALIKE = {**QUICK, "ranker": "network"}
FREE = {**ALIKE, "prior": None, "epochs": 2}


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> LocalReplay:
    log, folder = rhythmic_log(), tmp_path_factory.mktemp("nights")
    kinds = tuple(sorted(Timeline.needs(Timeline.grid(Setting())[0])))
    cuts = tuple(CUT - n * DAY for n in range(6))
    return LocalReplay({n: question(log, c, folder / f"cut-{n}", kinds) for n, c in enumerate(cuts)}, cuts, rows_per_file=20)


def test_a_fit_finds_what_was_staged_and_writes_nothing_anew(nights: LocalReplay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    some = replace(nights.only([3, 4, 5]), scratch=tmp_path / "kept", cuts_us=nights.cuts_us)
    grid = Timeline.grid(Setting())[0] | FREE
    monkeypatch.setattr("recs.models.timeline_examples.components", lambda setting: ("popular@users_all", "own@30d"))
    monkeypatch.setattr(Timeline, "grid", classmethod(lambda cls, setting: [dict(grid)]))
    book = Timeline.stage(Setting(), some, dict(grid))
    staged = [open_staged(some.scratch / name) for name in [*book["drawn"].values(), *book["whole"].values()]]
    assert (book["rows"], len(book["drawn"])) == (sum(s.rows for s in staged), 3)
    assert book["params"]["prior"] and all((some.scratch / name).exists() for name in book["names"])
    before = {p: p.stat().st_mtime_ns for p in some.scratch.rglob("part-*.parquet")}
    monkeypatch.setattr("recs.models.timeline_examples.fit_weights", None)      # the prior is there
    fitted = Timeline.fit_with(Setting(), some, {})
    assert {p: p.stat().st_mtime_ns for p in some.scratch.rglob("part-*.parquet")} == before
    monkeypatch.setattr("recs.models.timeline_examples.fit_weights", fit_weights)
    alone = Timeline.fit_with(Setting(), replace(some, scratch=None), {})
    assert alone.params == fitted.params
    assert {n: w.tobytes() for n, w in alone.weights.items()} == {n: w.tobytes() for n, w in fitted.weights.items()}


def test_the_next_night_writes_its_own_examples_only(nights: LocalReplay, tmp_path: Path):
    params = Timeline.grid(Setting())[0] | ALIKE | {"chosen": {"epochs": 1}}
    first = examples_of(params, Setting(), nights.only([3, 4, 5]), tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    second = examples_of(params, Setting(), nights.only([2, 3, 4]), tmp_path)
    new = {p.parent for p in tmp_path.rglob("*.parquet")} - {p.parent for p in before}
    assert new == {second.drawn[2].folder} and second.drawn[3].folder == first.drawn[3].folder
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert not second.whole     # the choice is kept: nothing is held out


def test_labels_are_what_is_worth_to_come_true(nights: LocalReplay):
    q = nights.questions[1]
    gain = np.where(np.arange(len(q.truth)) % 2, 1.0, 2.5).astype(np.float32)
    shape = Shape(recipe_of(Timeline.grid(Setting())[0] | QUICK), {}, 96, 8, training=False)
    plain, weighted = examples(shape, q), examples(shape, replace(q, gain=gain))
    assert set(np.unique(weighted["label"])) == {0, 1, 2.5} and set(np.unique(plain["label"])) == {0, 1}
    assert np.array_equal(weighted["label"] > 0, plain["label"] > 0)
    for name in set(plain) - {"label"}:
        assert np.array_equal(plain[name], weighted[name]), name
    column = np.searchsorted(np.asarray(q.tables.array("item_index")), weighted["item"])
    cells = np.arange(len(column))[:, None] * q.tables.n_items + column
    assert np.array_equal(q.truth[gain > 2], np.sort(cells[weighted["label"] > 2]))


def test_trees_gain_what_an_item_is_worth():
    """Of every list one item is worth 2.5 and one 1; each has a column of its own that says so."""
    rng = np.random.default_rng(0)
    label = np.tile([2.5, 1, 0, 0, 0, 0], 400).astype(np.float16)
    x = np.stack([label > 1, label == 1, rng.random(len(label))], axis=1).astype(np.float32)
    arrays = train_trees(x[:, :2], x[:, 2], label, np.full(400, 6), rounds=20, seed=1, start=0)
    heavy, light, nothing = Trees(arrays).scores(np.eye(3, 2, dtype=np.float32), np.full(3, 0.5, np.float32))
    assert heavy > light > nothing
    assert b"[label_gain: 0,1,2.5]" in arrays["trees"].tobytes()
    alike = train_trees(x[:, :2], x[:, 2], (label > 0).astype(np.float16), np.full(400, 6), rounds=20, seed=1, start=0)
    assert b"[label_gain: ]" in alike["trees"].tobytes()       # one kind of target: as ever


def test_trees_may_begin_at_the_prior():
    """Where nothing is to be learned, trees that begin at the prior keep its order; the others have none."""
    rng = np.random.default_rng(0)
    evidence, prior = np.zeros((600, 2), np.float16), np.tile(np.arange(6, dtype=np.float32), 100)
    label = (rng.random(600) < 0.3).astype(np.float16)
    begun = train_trees(evidence, prior, label, np.full(100, 6), rounds=1, seed=1, start=100.0)
    assert (np.diff(Trees(begun).scores(evidence[:6], prior[:6])) > 0).all()
    older = {name: values for name, values in begun.items() if name == "trees"}      # a model of before there was a beginning
    assert abs(Trees(older).scores(evidence[:6], prior[:6])).max() < 1


@pytest.fixture(scope="module")
def before(nights: LocalReplay):
    """The model of the night before last."""
    found = Timeline.fit_with(Setting(), nights.only([2, 3, 4, 5]), {**ALIKE, "epochs": 6, "chosen": {"epochs": 6}})
    return make("timeline", found.params, found.weights)


def test_a_warm_start_keeps_the_choice_and_reads_less(nights: LocalReplay, before, monkeypatch: pytest.MonkeyPatch):
    from recs.models import timeline_fit

    seen = []

    def watched(frame, data, validation, epochs, folder, before=None, **settings):
        seen.append((data.rows, epochs, before is not None))
        return train(frame, data, validation, epochs, folder, before, **settings)

    train = timeline_fit.train_network
    monkeypatch.setattr(timeline_fit, "train_network", watched)
    fixed = {**ALIKE, "warm_nights": 1, "warm_older": 0.5, "warm_epochs": 1}
    again = Timeline.fit_on(Setting(), nights.only([1, 2, 3, 4]), fixed, before)
    rows, epochs, warm = seen[0]
    assert len(seen) == 1 and warm and epochs == 1
    assert rows < 0.75 * again.metrics["training_lists"]
    assert (again.params["prior"], again.params["chosen"]) == (before.params["prior"], before.params["chosen"])
    tonight = nights.questions[0]
    yesterdays, mine = ndcg(before, tonight), ndcg(make("timeline", again.params, again.weights), tonight)
    assert mine > yesterdays - 0.02
    cold = Timeline.fit_with(Setting(), nights.only([1, 2, 3, 4]), {**ALIKE, "epochs": 1, "chosen": {"epochs": 1}})
    assert mine > ndcg(make("timeline", cold.params, cold.weights), tonight)       # one epoch from nowhere is less


@pytest.fixture(scope="module")
def every(nights: LocalReplay, tmp_path_factory: pytest.TempPathFactory) -> Staged:
    folder = tmp_path_factory.mktemp("every")
    params = Timeline.grid(Setting())[0] | ALIKE | {"chosen": {"epochs": 1}}
    return link_together(folder / "all", examples_of(params, Setting(), nights.only([1, 2]), folder).drawn.values())


def test_items_keep_their_rows_under_new_numbers(before, every: Staged):
    frame = Frame.of(before.params, every)
    old_number = before.weights["network.number"]
    both = np.flatnonzero((frame.number[: len(old_number)] > 0) & (old_number[: len(frame.number)] > 0))
    shifted = replace(frame, number=np.where(np.arange(len(frame.number)) == both[0], 0, frame.number))     # an item has left
    shifted.number[shifted.number > 0] = np.arange(1, (shifted.number > 0).sum() + 1)
    net = shifted.going_on(before.weights)
    table, old = net.history.item.weight.detach().numpy(), before.weights["network.history.item.weight"]
    for item in both[1:]:
        assert np.array_equal(table[shifted.number[item]], old[old_number[item]])
    assert np.array_equal(net.number.numpy(), shifted.number)
    assert np.array_equal(net.quantiles.edges.numpy(), before.weights["network.quantiles.edges"])       # what the layers learned to read
    new = np.append(frame.number, [0, frame.number.max() + 1]).astype(np.int32)     # an item that the vocabulary did not have
    grown = replace(frame, number=new)
    going_on, untrained = (net.history.item.weight[-1].detach().numpy() for net in (grown.going_on(before.weights), grown.untrained()))
    assert np.array_equal(going_on, untrained)


def test_other_layers_are_trained_from_scratch(before, every: Staged, caplog: pytest.LogCaptureFixture):
    frame = Frame.of(before.params, every)
    assert frame.fits(before.weights)
    wider = replace(frame, params=before.params | {"network": {"layers": (8, 4)}})
    assert not wider.fits(before.weights) and "from scratch" in caplog.text


def test_older_nights_are_drawn_from_and_the_newest_are_whole(nights: LocalReplay, tmp_path: Path):
    params = Timeline.grid(Setting())[0] | ALIKE | {"chosen": {"epochs": 1}, "warm_nights": 2, "warm_older": 0.4}
    drawn = list(examples_of(params, Setting(), nights.only([1, 2, 3, 4, 5]), tmp_path).drawn.values())
    parts = replayed_again(params, drawn)
    assert parts[:2] == drawn[:2]
    older = sum(len(night.files) for night in drawn[2:])
    assert len(parts) - 2 == round(0.4 * older) > 2
    names = [(p.folder, p.files[0].name) for p in parts[2:]]
    assert len(set(names)) == len(names) and {p for p, _ in names} <= {night.folder for night in drawn[2:]}
    assert replayed_again(params, drawn) == parts                               # seeded
    tomorrow = [replace(drawn[0], facts={"cut_us": CUT + DAY}), *drawn[1:]]
    assert replayed_again(params, tomorrow)[2:] != parts[2:]                    # other ones tomorrow
    assert link_together(tmp_path / "again", parts).rows == sum(p.rows for p in parts)
