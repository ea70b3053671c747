"""The same figures as the outside judge's score.py, on real lists.

RECS_JUDGE names the folder with score.py and recs_scored/; RECS_JUDGE_SPLIT a split that its splits.py wrote, in a folder called
<dataset>-<protocol>; without them the test is skipped.

    RECS_JUDGE=…/benchmarks RECS_JUDGE_SPLIT=/tmp/deskdrop-nightly pytest tests/judge/test_score_agreement.py -m slow
"""
from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recs.judge.beyond import Shelf
from recs.judge.comparison import compare, coverage, listed

pytestmark = pytest.mark.slow
K = 10


@pytest.fixture(scope="module")
def score():
    folder = os.environ.get("RECS_JUDGE")
    if not folder:
        pytest.skip("RECS_JUDGE is not set")
    spec = importlib.util.spec_from_file_location("outside_score", Path(folder) / "score.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def shelf_of(fit: pd.DataFrame, catalogue: list[str]) -> Shelf:
    """Who knew what in the fit events, as score.py counts it."""
    ids = np.array(sorted(set(catalogue)), object)
    known = fit.drop_duplicates(["user_id", "item_id"]).item_id.value_counts()
    return Shelf(ids, known.reindex(ids).fillna(0).to_numpy(float), fit.user_id.nunique(), np.full(len(ids), -1))


def test_the_figures_are_score_pys_to_six_decimals(spark, score):
    split = Path(os.environ["RECS_JUDGE_SPLIT"])
    prefix = split.name.replace("-", "__")
    files = sorted((Path(os.environ["RECS_JUDGE"]) / "recs_scored").glob(f"{prefix}__*.parquet"))[:4]
    assert files, f"no lists of {prefix}"
    truth, requests = pd.read_parquet(split / "truth.parquet"), pd.read_parquet(split / "requests.parquet")
    fit = pd.read_parquet(split / "fit_events.parquet")
    last = pd.read_parquet(sorted((split / "history_events").glob("*.parquet"))[-1])
    scored = truth[(truth.group == "warm") & truth.scored]
    warm = requests.loc[requests.group == "warm", ["user_id", "night"]]
    shelf = shelf_of(fit, [*fit.item_id, *last.item_id])

    asked = spark.createDataFrame(scored[["night", "user_id", "item_id"]].astype({"night": int}).assign(slices=[[""]] * len(scored)),
                                  "night int, user_id string, item_id string, slices array<string>")
    models, parts, lists = [f.stem.split("__")[-1] for f in files], [], {}
    for model, file in zip(models, files, strict=True):
        lists[model] = pd.read_parquet(file).astype({"user_id": str, "item_id": str})
        for night, rows in lists[model].merge(warm).groupby("night"):
            columns = ["user_id", "segment", "item_id", "rank"]
            frame = spark.createDataFrame(rows.assign(segment="all")[columns], "user_id string, segment string, item_id string, rank int")
            parts.append(listed(frame, model, int(night), shelf, K))
    made = parts[0]
    for part in parts[1:]:
        made = made.unionByName(part)
    made = made.persist()
    figures = {(f.model, f.versus, f.name): f for f in compare(made, asked, models, K, versus=models[:1])}
    shares = {f.model: f.value for f in coverage(made, models, K, len(shelf.ids))}

    per_list = {m: score.per_list(lists[m], scored) for m in models}
    for m in models:
        mine = figures[m, "", "ndcg@10"]
        assert mine.n == len(per_list[m])
        user, users = pd.factorize(per_list[m].user_id)
        drawn = score.boot_means(user, per_list[m][score.METRICS].to_numpy(float), score.weights(len(users), 1000, 0))
        for j, name in enumerate(score.METRICS):
            found = figures[m, "", name]
            assert found.value == pytest.approx(float(per_list[m][name].mean()), abs=5e-7), (m, name)
            low, high = np.quantile(drawn[:, j], [0.025, 0.975])
            assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low)), (m, name)
        theirs = score.diversity(lists[m], requests, fit, len(shelf.ids), 10, 0)
        assert round(figures[m, "", "novelty@10"].value, 5) == theirs["novelty@10"]
        assert round(shares[m], 5) == theirs["coverage@10"]
        print(m, mine, theirs["novelty@10"], theirs["coverage@10"])
    for m in models[1:]:
        theirs = score.compare(per_list[m], per_list[models[0]])["ndcg@10"]
        found = figures[m, models[0], "ndcg@10"]
        assert round(found.value, 5) == theirs["diff"]
        assert (found.low, found.high) == pytest.approx(tuple(theirs["ci"]), abs=0.2 * (found.high - found.low))
        print(m, "-", models[0], found, theirs)
