"""Fitting on earlier nights: who is asked, what counts as come true, that the better parameters win, that the driver's search is sound."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
from item_table_double import build  # noqa: E402

from recs.clock import DAY  # noqa: E402
from recs.config import FitConfig, load  # noqa: E402
from recs.judge.exams import Cut, answerable, enough_cuts, exams_at_cuts, exams_sampled  # noqa: E402
from recs.judge.replay import Exams, fit, setting_of  # noqa: E402
from recs.models import ModelError, grid_of  # noqa: E402
from recs.models.base import Setting  # noqa: E402
from recs.models.blend_fit import components, search  # noqa: E402
from recs.models.fitting import SettingError, with_fixed  # noqa: E402
from recs.serve.rules import FOR_EVER, Rules  # noqa: E402

CUT = 1000 * DAY
REPEATS, NO_REPEATS = Rules(), Rules(hidden_default_us=FOR_EVER)
DDL = (
    "user_id string, item_index array<int>, type_code array<int>, ts array<bigint>, value array<float>, dwell_s array<float>, "
    "lat array<float>, lon array<float>, segment_code array<int>, last_ts timestamp"
)


def frame(spark, events: list[tuple[str, int, int, int]]):
    """A frame like `sequences` from (user, item, microseconds, type)."""
    rows = []
    for user, mine in pd.DataFrame(events, columns=["user", "item", "ts", "type"]).groupby("user", sort=False):
        mine = mine.sort_values("ts")
        nan = [float("nan")] * len(mine)
        last = pd.Timestamp(int(mine.ts.max()), unit="us", tz="UTC").to_pydatetime()
        rows.append((user, mine.item.tolist(), mine.type.tolist(), mine.ts.tolist(), nan, nan, nan, nan, [0] * len(mine), last))
    return spark.createDataFrame(rows, DDL)


def tables_of(folder: Path, events: list[tuple[str, int, int, int]], cut_us: int = CUT) -> Path:
    seen = pd.DataFrame(events, columns=["user", "item", "ts", "type"])
    kinds = ("cooc", "transitions", "follows:4:3", "adopters", "ease_near:300")
    return build(folder, seen.assign(user=pd.factorize(seen.user)[0]), cut_us, kinds).path


EVENTS = [
    ("ann", 0, CUT - 2 * DAY, 1), ("ann", 1, CUT - DAY, 1),
    ("ann", 0, CUT + 1, 1),                 # comes true, was seen
    ("ann", 2, CUT + 2, 1), ("ann", 2, CUT + 3, 1),     # comes true, twice, counts once
    ("ann", 1, CUT + 4, 2),                 # not a target type
    ("bob", 2, CUT - DAY, 1),
    ("bob", 1, CUT + DAY, 1),               # exactly at the horizon's end: outside
    ("cat", 9, CUT, 1),                     # at the cut: inside, but nobody knew item 9 before
]


def exams_of(spark, tables: Path):
    return exams_at_cuts(frame(spark, EVENTS), [Cut(tables, CUT, CUT, DAY)], {1: 1.0})


def test_what_counts_as_come_true(spark, tmp_path: Path):
    rows = {r["user_id"]: r for r in exams_of(spark, tables_of(tmp_path / "t", EVENTS)).collect()}
    assert sorted(rows["ann"]["truth"]) == [0, 2]
    assert rows["cat"]["truth"] == [9]
    assert set(rows) == {"ann", "cat"}


@pytest.mark.parametrize(("rules", "ndcg"), [(REPEATS, 1.0), (NO_REPEATS, 1.0)])
def test_only_what_could_be_listed_is_asked(spark, tmp_path: Path, rules: Rules, ndcg: float):
    tables = tables_of(tmp_path / "t", EVENTS)
    with Exams.open(exams_of(spark, tables), [tables], rules, k=2) as replay:
        assert replay.n_lists == 1          # cat's item has no column at the cut
        wanted = replay.mean(lambda question: np.array([question.wanted.sum(), question.histories.n_events, len(question.histories)]))
    assert wanted.tolist() == [2.0 if rules is REPEATS else 1.0, 2.0, 1.0]      # the history ends before the cut


def test_what_came_true_is_worth_its_best_event_type(spark, tmp_path: Path):
    more = [*EVENTS, ("ann", 0, CUT + 5, 3), ("ann", 0, CUT + 6, 1)]
    tables = tables_of(tmp_path / "t", EVENTS)
    exams = exams_at_cuts(frame(spark, more), [Cut(tables, CUT, CUT, DAY)], {1: 1.0, 3: 4.0})
    ann = next(r for r in exams.collect() if r["user_id"] == "ann")
    assert dict(zip(ann["truth"], ann["gain"], strict=True)) == {0: 4.0, 2: 1.0}
    with Exams.open(exams, [tables], REPEATS, k=2) as replay:
        total = replay.mean(lambda q: np.array([q.gain.sum(), q.gains(q.truth).sum(), q.gains(np.arange(3)).max(), q.wanted.sum()]))
    assert total.tolist() == [5.0, 5.0, 4.0, 2.0]       # counts are of items, whatever they are worth


@pytest.mark.parametrize(("lists", "most", "n"), [(100, 9, 2), (101, 9, 3), (150, 9, 3), (151, 9, 4), (10_000, 5, 5), (10_000, 9, 6)])
def test_more_nights_are_trained_on_where_they_have_few_lists(spark, lists, most, n):
    cuts = [CUT - night * DAY for night in range(6)]        # fifty users each, latest first
    events = [(f"u{u}", 1, cut + u, 1) for u in range(50) for cut in cuts] + [("old", 1, cuts[-1] - DAY, 1)]
    # thirty more each whom no list could have told anything: what they met had been met by nobody
    events += [(f"n{u}", 2 + night, cut + u, 1) for u in range(30) for night, cut in enumerate(cuts)]
    rule = FitConfig(train_nights=2, max_train_nights=most, train_lists=lists)
    assert enough_cuts(frame(spark, events), cuts, DAY, {1: 1.0}, rule) == cuts[:n]


def test_an_exam_teaches_where_something_was_there_to_be_listed(spark):
    cuts = [Cut("", CUT, CUT, DAY), Cut("", CUT - DAY, CUT - DAY, DAY)]
    events = [
        ("old", 1, CUT - 3 * DAY, 1), ("old", 2, CUT - 3 * DAY, 1),
        ("ann", 1, CUT + 5, 1), ("ann", 9, CUT + 6, 1),             # one of two was there
        ("bob", 9, CUT + 7, 1), ("bob", 1, CUT - DAY + 7, 1),       # new to everybody tonight; known the night before
        ("cat", 2, CUT - 2 * DAY, 1), ("cat", 2, CUT + 8, 1),       # again
        ("dan", 8, CUT - DAY + 1, 1),
    ]
    sequences = frame(spark, events)
    exams = exams_at_cuts(sequences, cuts, {1: 1.0})

    def left(**how) -> list[tuple[str, int]]:
        found = answerable(exams, sequences, **how)
        assert found.columns == exams.columns
        return sorted((r["user_id"], r["night"]) for r in found.collect())

    assert left(repeats=True) == [("ann", 0), ("bob", 1), ("cat", 0)]
    assert left(repeats=False) == [("ann", 0), ("bob", 1)]
    assert left(repeats=False, judged=1) == [("ann", 0), ("bob", 0), ("bob", 1), ("cat", 0)]     # models are judged by a whole night


def test_each_cut_may_draw_users_of_its_own(spark):
    cuts = [Cut("", CUT - night * DAY, CUT - night * DAY, DAY) for night in range(2)]
    events = [(f"u{u}", 1, cut.cut_us + u, 1) for u in range(200) for cut in cuts]
    exams = exams_at_cuts(frame(spark, events), cuts, {1: 1.0})
    for each_cut in (False, True):
        drawn = exams_sampled(exams, 2, 100, each_cut=each_cut).select("night", "user_id").toPandas()
        first, second = (set(drawn[drawn["night"] == night]["user_id"]) for night in range(2))
        assert 70 < len(first) < 130 and (first == second) == (not each_cut)
        assert not each_cut or 25 < len(first & second) < 75


def test_a_night_is_written_again_only_when_what_it_is_made_of_changes(spark, tmp_path: Path):
    tables = tables_of(tmp_path / "t", EVENTS)

    def arrays_of(question) -> dict[str, np.ndarray]:       # in here: the executors cannot import a test
        return {"wanted": question.wanted.astype(np.int32), "n_truth": question.wanted.astype(np.int32)}

    def written(events, rules=REPEATS, kinds=("cooc",)) -> dict[int, str]:
        exams = exams_at_cuts(frame(spark, events), [Cut(tables, CUT, CUT, DAY)], {1: 1.0})
        with Exams.open(exams, [tables], rules, k=2, facts={"max_batch": 7}) as replay:
            found = replay.write(arrays_of, tmp_path / "examples", kinds)
            assert replay.only([0]).contents(kinds) == replay.contents(kinds)
        return {n: staged.folder.name for n, staged in found.items()}

    first = written(EVENTS)
    assert first == written([*EVENTS, ("ann", 7, CUT + 2 * DAY, 1)])     # after the horizon: nothing to this night
    others = [
        written([*EVENTS, ("ann", 1, CUT + 5, 1)]), written([e for e in EVENTS if e[0] != "bob"] + [("ann", 1, CUT - 3 * DAY, 1)]),
        written(EVENTS, NO_REPEATS), written(EVENTS, kinds=("cooc", "transitions")),
    ]
    assert len({first[0], *(o[0] for o in others)}) == 5
    assert first[0].startswith("19720927T0000-")
    from recs.nn.staged import open_staged

    assert open_staged(tmp_path / "examples" / first[0]).facts["max_batch"] == 7


def test_users_are_chosen_by_hash_and_alike_at_every_cut(spark, tmp_path: Path):
    events = [(f"u{u}", 0, CUT - 5 * DAY, 1) for u in range(200)] + [(f"u{u}", 0, CUT - d * DAY + 1, 1) for u in range(200) for d in (1, 2)]
    cuts = [Cut(tmp_path, CUT - d * DAY, CUT - d * DAY, DAY) for d in (1, 2)]
    exams = exams_at_cuts(frame(spark, events), cuts, {1: 1.0})
    chosen = [(r["user_id"], r["night"]) for r in exams_sampled(exams, 2, 50).select("user_id", "night").collect()]
    by_night = [{u for u, n in chosen if n == night} for night in (0, 1)]
    assert by_night[0] == by_night[1]
    assert 25 <= len(by_night[0]) <= 85
    assert exams_sampled(exams, 2, 10_000).count() == 400


def fashion(n: int = 80) -> list[tuple[str, int, int, int]]:
    """Everybody met item 0 long ago and item 1 yesterday; tomorrow everybody who has not met it meets item 2, yesterday's second."""
    old = [(f"u{u}", 0, CUT - 40 * DAY + u, 1) for u in range(n)]
    new = [(f"u{u}", 2, CUT - DAY // 2 + u, 1) for u in range(n // 4)]
    return old + new + [(f"u{u}", 2, CUT + u, 1) for u in range(n // 4, n)]


def test_the_better_parameters_win_and_the_figures_are_right(spark, tmp_path: Path):
    tables = tables_of(tmp_path / "t", fashion())
    exams = exams_at_cuts(frame(spark, fashion()), [Cut(tables, CUT, CUT, DAY)], {1: 1.0})
    found = fit("recent_popularity", exams, [tables], Setting(), REPEATS, k=1)
    assert found.params["stat"] in ("decay_6h", "decay_12h", "decay_1d", "decay_3d")
    assert found.metrics == {"ndcg@1": 1.0, "recall@1": 1.0, "hr@1": 1.0, "mrr@1": 1.0, "lists": 60.0}
    assert {params["stat"]: score for params, score in found.tried}["users_all"] == 0.0
    held = fit("recent_popularity", exams, [tables], Setting(), REPEATS, k=1, fixed={"stat": "users_all"})
    assert (held.params, held.metrics["ndcg@1"]) == ({"stat": "users_all"}, 0.0)
    configured = Setting(fixed={"recent_popularity": {"stat": "users_all"}, "blend": {"weights": {"new": 1.0}}})
    assert fit("recent_popularity", exams, [tables], configured, REPEATS, k=1).params == {"stat": "users_all"}
    assert fit("blend", exams, [tables], configured, REPEATS, k=1).params == {"weights": {"new": 1.0}}


def test_the_blend_finds_the_weights(spark, tmp_path: Path):
    tables = tables_of(tmp_path / "t", fashion())
    exams = exams_at_cuts(frame(spark, fashion()), [Cut(tables, CUT, CUT, DAY)], {1: 1.0})
    found = fit("blend", exams, [tables], Setting(repeats=False, n_items=3), NO_REPEATS, k=1)
    assert found.metrics["ndcg@1"] == 1.0
    assert all(weight > 0 for weight in found.params["weights"].values())


def test_without_anything_that_followed_the_first_guess_stays(spark, tmp_path: Path):
    quiet = [e for e in EVENTS if e[2] < CUT]
    tables = tables_of(tmp_path / "t", quiet)
    exams = exams_at_cuts(frame(spark, quiet), [Cut(tables, CUT, CUT, DAY)], {1: 1.0})
    assert fit("recent_popularity", exams, [tables], Setting(), REPEATS).tried == []


def test_the_search_climbs_and_drops_what_is_idle():
    def mean_ndcg(mixtures):
        """Best at own@30d = 4 and new = 0; everything else is idle."""
        return np.array([0.5 - 0.02 * abs(m.get("own@30d", 0) - 4) - 0.05 * m.get("new", 0) for m in mixtures])

    best, tried = search(list(components(Setting())), Setting(), mean_ndcg, 10_000)
    assert best == {"own@30d": pytest.approx(4.0, abs=1)}
    assert len(tried) > 50
    stopped, _ = search(list(components(Setting())), Setting(), mean_ndcg, 10_000, enough=lambda: True)
    assert stopped


def test_a_fixed_parameter_must_exist():
    grid = [{"span": "7d", "own": 1.0}, {"span": "7d", "own": 0.0}]
    assert with_fixed(grid, {"own": 0.5}) == [{"span": "7d", "own": 0.5}]
    with pytest.raises(SettingError, match="no such parameter: spam; the model has span, own"):
        with_fixed(grid, {"spam": 1})


def test_configured_parameters_must_exist_of_models_that_do():
    config = load("default", parameters={"sasrec": {"network": {"dim": 8}}})
    assert grid_of("sasrec", setting_of(config, 5))[0]["network"] == {"dim": 8}
    with pytest.raises(SettingError, match="parameters of sasrec: no such parameter: dim; the model has length,"):
        setting_of(load("default", parameters={"sasrec": {"dim": 8}}), 5)
    with pytest.raises(ModelError, match="no model 'sasrek'"):
        setting_of(load("default", parameters={"sasrek": {}}), 5)
