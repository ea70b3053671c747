"""Examples of a small lake: staged before the fit, found by it and by the next night's, gone on from."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serve"))
from night_world import attempt_at, config, lake_at, night  # noqa: E402

from recs.config import FitConfig  # noqa: E402
from recs.jobs import _champion, train  # noqa: E402
from recs.judge import champions  # noqa: E402
from recs.models import load as load_model  # noqa: E402
from recs.models.sequence import SequenceModel  # noqa: E402
from recs.models.sequence_joined import WAYS  # noqa: E402
from recs.models.timeline import Timeline  # noqa: E402
from recs.nn.staged import open_staged  # noqa: E402
from recs.tables import Lake  # noqa: E402

QUICK = {
    "epochs": 1, "warm_epochs": 1, "warm_nights": 2, "trees": 10, "candidates": 24, "all_candidates": 60, "length": 8, "each": 8,
    "prior": {"popular@users_all": 1.0}, "ranker": "network", "train": {"precision": "fp32"}, "chosen": {"epochs": 1},
}


def settings(**fit):
    return config().model_copy(update={"models": ["timeline"], "fit": FitConfig(nights=1, train_nights=7, max_train_nights=7, **fit)})


@pytest.fixture(scope="module")
def lake(spark, tmp_path_factory) -> Lake:
    return lake_at(spark, tmp_path_factory.mktemp("examples"), 2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    plain = Timeline.grid.__func__
    monkeypatch.setattr(Timeline, "grid", classmethod(lambda cls, setting: [plain(cls, setting)[0] | QUICK]))


def parts(lake: Lake) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in train.examples_folder(lake).rglob("part-*.parquet")}


def test_staged_examples_are_those_of_the_fit_and_of_the_next_nights(lake: Lake):
    book = train.stage_examples(lake, settings(), lake, attempt_at(1), "timeline")
    first = parts(lake)
    assert book["tables"] == {"as_of_us": night(1).as_of_us, "max_batch": 1, "versions": {}}
    assert (book["as_of_us"], len(book["drawn"]), book["rows"] > 100) == (night(1).as_of_us, 7, True)
    one = open_staged(train.examples_folder(lake) / book["drawn"]["0"])
    assert one.facts["max_batch"] == 1 and one.facts["cut_us"] == night(0).as_of_us
    assert book["bytes"] == sum(p.stat().st_size for p in first)
    fitted = train.fit_models(lake, settings(), lake, attempt_at(1), ["timeline"])[0]
    assert parts(lake) == first
    assert json.loads(fitted.row["metrics"])["training_lists"] == book["rows"]
    # a night later the item tables of the earlier cuts are built again, from another state: the same bytes, so only one night is new
    again = train.stage_examples(lake, settings(), lake, attempt_at(2), "timeline")
    new = {p.parent.name for p in parts(lake)} - {p.parent.name for p in first}
    assert new == {Path(again["drawn"]["0"]).name} and again["drawn"]["1"] == book["drawn"]["0"]
    assert first.items() <= parts(lake).items()


@pytest.mark.slow
def test_a_refit_goes_on_from_the_reigning_weights_so_many_times(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    assert train.goes_on_from(lake, settings(warm_starts=1), night(1).as_of_us) is None      # nobody reigns
    first = _champion.of_the_night(lake, settings(), lake, attempt_at(1))
    assert champions.champion(lake)["model_version"] == first.version
    assert train.goes_on_from(lake, settings(), night(2).as_of_us) is None
    assert train.goes_on_from(lake, settings(warm_starts=1, train_lists=200), night(2).as_of_us) is None      # another recipe
    reigning, seen = train.goes_on_from(lake, settings(warm_starts=1), night(2).as_of_us), []
    fit_on = Timeline.fit_on.__func__
    monkeypatch.setattr(
        Timeline, "fit_on", classmethod(lambda cls, s, r, fixed, before: seen.append(before.weights) or fit_on(cls, s, r, fixed, before)))
    warm = train.fit_models(lake, settings(warm_starts=1), lake, attempt_at(2), ["timeline"], reigning)[0]
    assert json.loads(warm.row["metrics"])["warm_starts"] == 1
    before = load_model(first.path).weights
    assert len(seen) == 1 and all((seen[0][name] == array).all() for name, array in before.items())
    row = reigning | {"metrics": warm.row["metrics"]}
    monkeypatch.setattr(champions, "champion", lambda lake, as_of_us=None: row)
    assert train.goes_on_from(lake, settings(warm_starts=1), night(2).as_of_us) is None      # the next one is from scratch
    assert train.goes_on_from(lake, settings(warm_starts=2), night(2).as_of_us) == row


def test_a_sequence_model_is_fitted_and_asked_on_the_executors(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    """What joins its scores is chosen by the held-out nights' lists, which Spark makes; then it makes the night's."""
    plain = SequenceModel.grid.__func__
    quick = {"length": 8, "epochs": 2, "network": {"dim": 8}, "train": {"precision": "fp32"}}
    monkeypatch.setattr(SequenceModel, "grid", classmethod(lambda cls, setting: [plain(cls, setting)[0] | quick]))
    fitted = train.fit_models(lake, settings(), lake, attempt_at(1), ["transformer_lstm"])[0]
    metrics, model = json.loads(fitted.row["metrics"]), load_model(fitted.path)
    assert model.weights and all(model.params["chosen"][kind] in ways for kind, ways in WAYS.items())
    assert 0 < metrics["ndcg@10"] < 1
    assert _champion.smoke(lake, settings(), lake, attempt_at(1), fitted.row) == ""


def test_twins_of_one_night_are_not_played_against_each_other(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    reigning = train.fit_models(lake, settings(), lake, attempt_at(1), ["personal"])[0].row
    monkeypatch.setattr(_champion, "gains_on", None)
    challenger = reigning | {"model_version": "tonights", "trained_through_us": night(2).as_of_us}
    monkeypatch.setattr(_champion, "smoke", lambda *args: "")
    wider = settings(every="nightly").model_copy(update={"promotion": config().promotion.model_copy(update={"nights": 2, "min_nights": 2})})
    decided = _champion.judge(lake, wider, lake, attempt_at(2), challenger, reigning, "night", _champion.quietly)
    assert (decided.decision, decided.kind, decided.judged) == ("promoted", "refit", "recipes")
    assert decided.evidence["gains"]["over_champion"]["value"] == 0
