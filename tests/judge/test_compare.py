"""A contest on a small lake: killed, gone on with, one model broken and tried again; the table, what it costs, seeds."""
from __future__ import annotations

import json
import sys
from argparse import Namespace
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serve"))
from night_world import config, lake_at  # noqa: E402
from pyspark.sql import functions as F  # noqa: E402

from recs.config import FitConfig  # noqa: E402
from recs.jobs import _contest, _grounds, compare, evaluate, train  # noqa: E402
from recs.models import ModelError, load, make  # noqa: E402
from recs.models.popularity import RecentPopularity  # noqa: E402
from recs.report.progress import Steps  # noqa: E402
from recs.schemas import METRICS  # noqa: E402
from recs.tables import Lake  # noqa: E402

MODELS = ["popularity", "sasrec", "recent_popularity"]      # three: each is within the first three places, whose seeds are asked
QUALITY = ("ndcg@5", "recall@5", "mrr@5", "precision@5", "f1@5", "coverage@5", "diversity_cooccurrence@5")


def settings():
    return config().model_copy(update={"fit": FitConfig(nights=1, train_nights=6, max_train_nights=6, max_users=1000)})


def asked(**more) -> Namespace:
    own = {"models": MODELS, "minutes": 0.05, "nights": 1, "every": 1, "until": None, "protocol": "nightly", "seeds": 2, "k": 5, **more}
    return Namespace(**own)


@pytest.fixture(scope="module")
def lake(spark, tmp_path_factory) -> Lake:
    return lake_at(spark, tmp_path_factory.mktemp("compare"), 2)


class Killed(BaseException):
    """What no handler of errors catches, as a kill."""


def broken(cls, setting, replay):
    raise MemoryError("no room for\nso much | more")


@pytest.fixture(scope="module")
def contest(lake: Lake):
    """Three times the same command: killed while the second model makes its lists; with a model that breaks; with it mended."""
    fits, lists, real_fit, real_lists = [], [], train.fit_asked, _grounds.Nights.lists

    def fit_asked(lake, config, derived, attempt, name, *rest, **more):
        fits.append((name, more["fixed"]))
        return real_fit(lake, config, derived, attempt, name, *rest, **more)

    def listed(self, fitted, label, k, out):
        lists.append(label)
        if lists == ["popularity", "sasrec"]:
            raise Killed
        return real_lists(self, fitted, label, k, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_contest, "warm", lambda spark: None)     # loading libraries into every worker takes longer than all the rest
        patch.setattr(train, "fit_asked", fit_asked)
        patch.setattr(_grounds.Nights, "lists", listed)
        with pytest.raises(Killed):
            compare.run(lake, settings(), asked(), Steps())
        at_kill = list(fits)
        with pytest.MonkeyPatch.context() as also:
            also.setattr(RecentPopularity, "fit", classmethod(broken))
            page, failed, folder = compare.run(lake, settings(), asked(), Steps())
            text = (folder / "compare.md").read_text()
        left = {p.name for p in folder.iterdir()}
        last = compare.run(lake, settings(), asked(), Steps())
    return Namespace(fits=fits, at_kill=at_kill, lists=lists, page=page, failed=failed, folder=folder, text=text, left=left, last=last)


def test_what_is_done_is_not_done_again(contest):
    assert contest.at_kill == [("popularity", {}), ("sasrec", {})]
    further = [("recent_popularity", {}), ("sasrec", {"seed": 2}), ("recent_popularity", {})]     # the others have no seed
    assert contest.fits[2:] == further
    assert contest.lists == ["popularity", "sasrec", "sasrec", "sasrec seed 2", "recent_popularity"]


def test_a_model_that_fails_is_a_row_and_is_tried_again(contest):
    assert (contest.page.models, contest.failed) == (MODELS[:2], {"recent_popularity": "MemoryError: no room for"})
    assert "recent_popularity | failed: MemoryError: no room for |" in contest.text
    page, failed, folder = contest.last
    assert (page.models, failed, folder) == (MODELS, {}, contest.folder)
    assert page.figure("sasrec", "ndcg@5") == contest.page.figure("sasrec", "ndcg@5")
    assert page.figure("recent_popularity", "ndcg@5").value > 0


def test_the_table_tells_quality_and_costs(lake: Lake, contest):
    page, _, folder = contest.last
    for m in MODELS:
        assert all(0 <= page.figure(m, name).value <= 1 for name in QUALITY)
        f = page.figure(m, "ndcg@5")
        assert f.low <= f.value <= f.high
        assert page.figure(m, "fit_s").value > 0 and page.figure(m, "users_per_s").value > 0
    best, *others = page.ranked
    assert all(page.figure(m, "ndcg@5", versus=best).p is not None for m in others)
    assert page.figure(best, "ndcg@5").value >= page.figure(others[0], "ndcg@5").value
    weights = load(next((folder / "_models").glob("sasrec-*"))).weights
    most = sum(w.size for n, w in weights.items() if n.startswith("network.") and w.dtype.kind == "f")
    assert 0.9 * most < page.figure("sasrec", "parameters").value <= most
    assert page.figure("popularity", "parameters").value == 0
    assert page.figure("sasrec", "memory_mb").value > 0

    one, two, both = (page.figure("sasrec", "ndcg@5", part) for part in ("seed=1", "seed=2", "seeds=2"))
    assert one == replace(page.figure("sasrec", "ndcg@5"), slice="seed=1") and one.value != two.value
    assert (both.value, both.low, both.high) == (pytest.approx((one.value + two.value) / 2), *sorted([one.value, two.value]))

    booked = lake.read(METRICS).where(F.col("run") == folder.name)      # of the last time only
    assert booked.count() == len(page.figures) == booked.select(*METRICS.key).distinct().count()
    assert {p.name for p in folder.iterdir()} == {"_models", "done", "compare.md", "compare.png", "compare.svg"}    # no lists are left
    assert {"nights", "lists"} < contest.left       # before, they were
    text = (folder / "compare.md").read_text()
    row = next(line for line in text.splitlines() if "| sasrec |" in line)
    assert f"{one.value:.4f} [" in row and "(2)" in row and f"{page.figure('sasrec', 'parameters').value:,.0f}" in row
    assert "0.05 min to fit each model" in text and "ndcg@5 by history" in text and f"Difference to {best}" in text


@pytest.mark.slow
def test_the_figures_are_those_of_evaluate(lake: Lake, contest):
    """The models fitted as of the same night, the same lists, judged by the other command.

    Of those that are asked in one round: what others have found by the end of the budget depends on the machine.
    """
    args = Namespace(models=["popularity"], nights=1, every=1, until=None, refit="never", protocol="nightly", k=5)
    other = evaluate.run(lake, settings(), args, Path(lake.root) / "_runs" / "beside", Steps())
    mine = {(f.model, f.name, f.slice): f for f in contest.last[0].figures if not f.versus}
    theirs = {(f.model, f.name, f.slice): f for f in other.figures if not f.versus}
    assert {model for model, *_ in theirs} == {"popularity", "recent_popularity"} and len(theirs) > 100
    assert {key: mine[key] for key in theirs} == theirs


def test_an_unknown_model_is_refused_before_anything_is_done(lake: Lake):
    with pytest.raises(ModelError, match="no model 'sasrek'"):
        compare.run(lake, settings(), asked(models=["popularity", "sasrek"]), Steps())


class Ground:
    """Fits a popularity at once; lists fail as often as they are told to."""

    def __init__(self, folder: Path, fail: int) -> None:
        self.folder, self.fail, self.fits = folder, fail, 0

    def fit(self, name, minutes, fixed, watch):
        self.fits += 1
        path = self.folder / "_models" / name
        make(name, {"stat": "users_all"}).save(path)
        return _grounds.Fitted(path, "hash", 1.5)

    def lists(self, fitted, label, k, out: Path) -> float:
        out.mkdir(parents=True)
        if self.fail:
            self.fail -= 1
            raise OSError("disk full")
        return 7.0


def test_a_model_whose_lists_failed_is_not_fitted_again(tmp_path: Path, monkeypatch):
    @contextmanager
    def step(name):
        yield {}

    session = Namespace(range=lambda n: Namespace(count=lambda: n))
    monkeypatch.setattr(_contest, "warm", lambda spark: None)
    ground = Ground(tmp_path, fail=1)
    contest = _contest.Contest(ground, tmp_path, 1.0, 5, session)
    first = contest.run("popularity", 1, step)
    assert (first.failed, first.fit_s, ground.fits) == ("OSError: disk full", 1.5, 1)
    again = contest.run("popularity", 1, step)
    assert (again.failed, again.users_per_s, ground.fits) == ("", 7.0, 1)
    assert json.loads((tmp_path / "done" / "popularity.1.json").read_text())["failed"] == ""
    assert (tmp_path / "lists" / "popularity.1").is_dir()


def test_without_a_session_a_failure_ends_the_contest(tmp_path: Path, monkeypatch):
    """Else every model after it would be a row that says the same."""
    @contextmanager
    def step(name):
        yield {}

    def gone(n):
        raise ConnectionError("the JVM is gone")

    monkeypatch.setattr(_contest, "warm", lambda spark: None)
    with pytest.raises(ConnectionError):
        _contest.Contest(Ground(tmp_path, fail=1), tmp_path, 1.0, 5, Namespace(range=gone)).run("popularity", 1, step)


@pytest.mark.slow
def test_published_protocols_are_asked_at_the_targets_instant(lake: Lake):
    """One target per user, and the same figures as those of evaluate by that rule."""
    page, failed, _ = compare.run(lake, settings(), asked(models=["recent_popularity", "popularity"], protocol="loo", seeds=1), Steps())
    args = Namespace(models=["popularity"], nights=1, every=1, until=None, refit="never", protocol="loo", k=5)
    other = evaluate.run(lake, settings(), args, Path(lake.root) / "_runs" / "loo", Steps())
    assert not failed
    for m in ("recent_popularity", "popularity"):
        assert page.figure(m, "ndcg@5").value == other.figure(f"{m} @target", "ndcg@5").value
