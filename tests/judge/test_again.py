"""Past nights asked again on a small lake: evaluate, promote and the night's champion, from tables to decisions."""
from __future__ import annotations

import json
import sys
from argparse import Namespace
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serve"))
from night_world import attempt_at, config, events, lake_at, night  # noqa: E402
from pyspark.sql import functions as F  # noqa: E402

from recs.config import FitConfig, PromotionConfig  # noqa: E402
from recs.etl.news import State  # noqa: E402
from recs.jobs import _again, _champion, evaluate, promote, train  # noqa: E402
from recs.judge import champions  # noqa: E402
from recs.models import ModelError, load  # noqa: E402
from recs.report.progress import Steps  # noqa: E402
from recs.schemas import METRICS, MODELS, SEQUENCES  # noqa: E402
from recs.serve import nights  # noqa: E402
from recs.tables import Lake, TableError  # noqa: E402

DAYS = 2        # the tables stand at the cut of night 2


def settings(**more):
    own = {"models": ["recent_popularity", "personal"], "fit": FitConfig(nights=1, max_users=1000),
           "promotion": PromotionConfig(nights=2, min_nights=2, smoke_users=5), **more}
    return config().model_copy(update=own)


@pytest.fixture(scope="module")
def lake(spark, tmp_path_factory) -> Lake:
    return lake_at(spark, tmp_path_factory.mktemp("again"), DAYS)


def asked(lake: Lake, n: int = 2) -> list:
    return _again.past_nights(lake, settings(), State(night(DAYS).as_of_us, 1), n, timedelta(days=1))


def test_which_nights_can_be_asked_again(lake: Lake):
    assert [n.run_date for n in asked(lake)] == [night(0).run_date, night(1).run_date]      # night 2 has no horizon yet
    state = State(night(DAYS).as_of_us, 1)
    every_second = _again.past_nights(lake, settings(), state, 2, timedelta(days=2), night(0).run_date)
    assert [n.run_date for n in every_second] == [night(-2).run_date, night(0).run_date]
    # u38 and u39 have events sixty days before the others: the log begins some eighty days back
    assert 70 < len(_again.past_nights(lake, settings(), state, 500, timedelta(days=1))) < 82


def test_a_past_night_reads_nothing_after_its_cut(lake: Lake):
    from recs.schemas import ITEM_HOURS

    cut = F.timestamp_micros(F.lit(night(0).as_of_us))
    past = _again.inputs_at(lake, settings(), night(0), 1, lake.read(ITEM_HOURS))
    later = past.sequences.where(F.exists("ts", lambda t: t >= night(0).as_of_us))
    assert (later.count(), past.item_hours.where(F.col("hour") >= cut).count()) == (0, 0)
    now = {r["user_id"]: r["ts"] for r in lake.read(SEQUENCES).select("user_id", "ts").collect()}
    then = {r["user_id"]: r["ts"] for r in past.sequences.select("user_id", "ts").collect()}
    assert then == {u: kept for u, ts in now.items() if (kept := [t for t in ts if t < night(0).as_of_us])}
    past.sequences.unpersist()


def test_a_model_that_knows_the_truth_is_refused(lake: Lake, tmp_path: Path):
    row = {"model_version": "late", "name": "personal", "trained_through_us": night(1).as_of_us + 1}
    who = [_again.Contestant("late", "personal", row)]
    with pytest.raises(TableError, match="late was trained through .*, after the cut"), _again.replayed(
        lake, settings(), who, asked(lake), 1, 5, tmp_path / "run", None, _champion.quietly,
    ):
        pass


@pytest.mark.parametrize(("refit_us", "fits"), [(None, ["00"]), (0, ["00", "01"])])
def test_recipes_are_fitted_when_the_policy_says(lake: Lake, tmp_path: Path, monkeypatch, refit_us, fits):
    fitted = []

    def fit_models(work, config, derived, attempt, names):
        fitted.append(attempt.night.run_date)
        return [train.Trained({"name": n, "model_version": "m"}, tmp_path, True) for n in names]

    monkeypatch.setattr(train, "fit_models", fit_models)
    policy = _again.Fits(lake, lake, settings(), [_again.Contestant("personal", "personal")], refit_us)
    for at in asked(lake):
        from recs.serve.inputs import Inputs

        policy.at(Inputs(lake, lake, settings(), nights.Attempt(at, "main", 0, 1, at.as_of_us, "c", "v")))
    assert [(d - night(0).run_date).days for d in fitted] == [int(f) for f in fits]


@pytest.fixture(scope="module")
def evaluated(lake: Lake):
    """`recs evaluate` over two nights."""
    args = Namespace(models=["personal"], nights=2, every=1, until=None, refit="never", protocol="nightly", k=5)
    folder = Path(lake.root) / "_runs" / "test-evaluate"
    return evaluate.run(lake, settings(), args, folder, Steps()), folder


def test_evaluate_tells_quality_beside_the_baselines(lake: Lake, evaluated):
    page, folder = evaluated
    assert set(page.models) == {"personal", "recent_popularity", "popularity"}
    n = page.figure("personal", "ndcg@5").n
    assert n == sum(page.figure("personal", "ndcg@5", f"night={night(d).run_date}").n for d in (0, 1)) > 20
    for m in page.models:
        f = page.figure(m, "ndcg@5")
        assert 0 < f.low <= f.value <= f.high < 1
    assert page.figure("personal", "ndcg@5", versus="popularity").p is not None
    by_segment = {f.slice for f in page.figures if f.slice.startswith("segment=") and f.name == "ndcg@5"}
    assert by_segment == {"segment=gold", "segment=lead", "segment=all"}
    booked = lake.read(METRICS).where(F.col("run") == "test-evaluate")
    assert booked.count() == len(page.figures) == booked.select(*METRICS.key).distinct().count()
    assert sorted(p.name for p in folder.iterdir()) == ["models.png", "models.svg", "nights.png", "nights.svg", "report.html", "report.md"]
    text = (folder / "report.md").read_text()
    for part in ("## Quality", "## Difference to recent_popularity", "## What the lists are like", "ndcg@5 by history", "ndcg@5 by night"):
        assert part in text


def test_a_night_after_which_nothing_happened_is_said_so(lake: Lake):
    """As of a log that ended long ago."""
    quiet = night(-20).run_date
    args = Namespace(models=["personal"], nights=1, every=1, until=quiet, refit="never", protocol="nightly", k=5)
    with pytest.raises(TableError, match="nothing can be judged, say an earlier --until"):
        evaluate.run(lake, settings(), args, Path(lake.root) / "_runs" / "quiet", Steps())


def test_the_replay_is_the_truth_of_a_plain_reading(lake: Lake, evaluated):
    """What can be hit: known items, met by users with a list of their own, not hidden by the rule that keeps the last day's items out."""
    page, _ = evaluated
    every, wanted = events(), {}
    for day in (0, 1):
        cut, until, serve = night(day).as_of_us, night(day + 1).as_of_us, night(day).serve_at_us
        known = every[every.ts < cut]
        whole_hours = set(known.item)
        active = {u for u, t in known.groupby("user_id").ts.max().items() if t >= cut - 30 * 86_400_000_000 and u != "u37"}
        hidden = set(map(tuple, known[serve - known.ts < 86_400_000_000][["user_id", "item"]].to_numpy().tolist()))
        for e in every[(every.ts >= cut) & (every.ts < until)].itertuples():
            if e.user_id in active and e.item in whole_hours and (e.user_id, e.item) not in hidden:
                wanted.setdefault((day, e.user_id), set()).add(e.item)
    assert page.figure("personal", "ndcg@5").n == len(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["loo", "gts_last"])
def test_published_protocols_ask_by_both_rules(lake: Lake, protocol: str):
    args = Namespace(models=["personal"], nights=1, every=1, until=None, refit="never", protocol=protocol, k=5)
    page = evaluate.run(lake, settings(), args, Path(lake.root) / "_runs" / protocol, Steps())
    assert set(page.models) == {f"{m} @{rule}" for m in ("personal", "recent_popularity", "popularity") for rule in ("target", "night")}
    counts = {page.figure(m, "ndcg@5").n for m in page.models}
    every = events()
    if protocol == "loo":
        assert counts == {int((every.user_id.value_counts() >= 3).sum())}
    assert len(counts) == 1
    assert all(page.figure(m, "hr@5").value == page.figure(m, "recall@5").value for m in page.models)     # one target per list
    # popularity reads no history: the rules differ only by users without one before the night, and by what the last day hides
    assert page.figure("popularity @target", "ndcg@5").value > 0


def test_the_first_night_crowns_the_contests_winner_and_later_ones_judge_refits(lake: Lake):
    """Night 1 finds the champion; at night 2 a refit is forced, judged, and decided one way or the other; nothing else changes."""
    first = _champion.of_the_night(lake, settings(), _again.inputs_at(lake, settings(), night(1), 1, hours(lake)).derived, attempt_at(1))
    assert first.is_new
    assert champions.why(lake).startswith(f"champion {first.version} (first by night")
    assert {r["status"] for r in champions.models(lake)} == {"champion", "candidate"}
    again = _champion.of_the_night(lake, settings(), lake, attempt_at(2))
    assert (again.version, again.is_new) == (first.version, False)      # a day old: no refit is due
    fixed = _champion.of_the_night(lake, settings(), lake, attempt_at(2, model_version=first.version))
    assert fixed.version == first.version
    forced = _champion.of_the_night(lake, settings(), lake, attempt_at(2), anew=True)
    last = champions.decisions(lake)[-1]
    assert (last["kind"], last["decided_by"], last["before"], last["nights"]) == ("refit", "night", first.version, 2)
    assert last["judged"] == "recipes"      # fitted tonight: no night lies after it
    assert forced.version == (last["model_version"] if last["decision"] == "promoted" else first.version)
    assert champions.champion(lake)["model_version"] == forced.version
    assert champions.champion(lake, night(1).as_of_us)["model_version"] == first.version       # a past night asks for its own


def hours(lake: Lake):
    from recs.schemas import ITEM_HOURS

    return lake.read(ITEM_HOURS)


def test_promote_judges_new_recipes_by_hand_and_back(lake: Lake, capsys):
    """Runs after the test above: a champion reigns and the other model is a candidate."""
    reigning = champions.champion(lake)
    args = Namespace(model_version=None, rollback=False, reason=None, wait=0.0)
    decided = promote.run(lake, settings(), args, Steps())
    assert [(d.kind, d.before) for d in decided] == [("recipe", reigning["model_version"])]
    assert decided[0].decision in ("promoted", "refused")
    by_hand = next(r["model_version"] for r in champions.models(lake) if r["status"] != "champion")
    now = champions.champion(lake)["model_version"]
    done = promote.run(lake, settings(), Namespace(model_version=by_hand, rollback=False, reason="I say so", wait=0.0), Steps())
    assert done[0].kind == "by_hand"
    assert champions.champion(lake)["model_version"] == by_hand
    back = promote.run(lake, settings(), Namespace(model_version=None, rollback=True, reason="I was wrong", wait=0.0), Steps())
    assert (back[0].model_version, back[0].before) == (now, by_hand)
    assert "I was wrong" in champions.why(lake)
    assert sum(r["status"] == "champion" for r in champions.models(lake)) == 1
    assert lake.version(MODELS) > 0
    with pytest.raises(champions.PromotionError, match="no model none-such"):
        promote.run(lake, settings(), Namespace(model_version="none-such", rollback=False, reason="x", wait=0.0), Steps())


@pytest.mark.parametrize(("broken", "words"), [
    ("nan", "hold nothing by the model itself"), ("raises", "the model failed on 5 of 5 users"),
])
def test_a_model_that_makes_no_lists_does_not_pass_the_smoke_inference(lake: Lake, monkeypatch, broken: str, words: str):
    row = next(r for r in champions.models(lake) if r["name"] == "personal")
    assert _champion.smoke(lake, settings(), lake, attempt_at(2), row) == ""
    bad = broken_folder(lake, row, broken)
    assert words in _champion.smoke(lake, settings(), lake, attempt_at(2), bad)
    late = row | {"trained_through_us": night(3).as_of_us}
    assert "beyond the cut" in _champion.smoke(lake, settings(), lake, attempt_at(2), late)


def broken_folder(lake: Lake, row: dict, how: str) -> dict:
    """A model whose scores are all NaN, or that fails on every history."""
    from recs.models import make
    from recs.serve.artifacts import folder_hash

    path = Path(lake.root) / "_models" / f"{how}-x"
    nan = make("blend", {"weights": {"popular@users_all": float("nan")}})
    (nan if how == "nan" else make("personal", json.loads(row["params"]) | {"span": "no such span"})).save(path)
    return row | {"model_version": f"{how}-x", "content_hash": folder_hash(path)}


def test_a_champion_that_the_code_cannot_serve_is_succeeded_by_its_refit(lake: Lake):
    """As after an upgrade that reads other evidence: the night goes on, and says why the champion changed."""
    before = champions.champion(lake, night(2).as_of_us)
    file = Path(lake.root) / "_models" / before["model_version"] / "model.json"
    kept = file.read_text()
    file.write_text(json.dumps(json.loads(kept) | {"reads": "what an earlier version gathered"}))
    with pytest.raises(ModelError, match="trained for what another version"):
        load(file.parent)
    heir = _champion.of_the_night(lake, settings(), lake, attempt_at(3))
    last = champions.decisions(lake)[-1]
    assert heir.is_new and heir.row["name"] == before["name"] and champions.champion(lake)["model_version"] == heir.version
    assert (last["decision"], last["before"]) == ("promoted", before["model_version"])
    assert "trained for what another version" in last["reason"]
    again = _champion.of_the_night(lake, settings(), lake, attempt_at(3))
    assert (again.version, again.is_new) == (heir.version, False)
    file.write_text(kept)
