"""Several models' lists against a truth made by hand: the same figures as an independent reading in plain Python and numpy."""
from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse as sp

from recs.judge.beyond import Shelf, described
from recs.judge.comparison import compare, coverage, listed, metric_names

K, NIGHTS, MODELS = 10, 3, ("near", "far")
ITEMS = np.array([f"i{n:02d}" for n in range(40)], object)


def shelf(neighbours: bool = False) -> Shelf:
    cosine = sp.csr_matrix((np.array([0.5, 0.25]), (np.array([0, 1]), np.array([1, 2]))), shape=(40, 40)) if neighbours else None
    return Shelf(ITEMS, np.arange(40, 0, -1).astype(float), 50, np.array([n % 4 for n in range(40)]), cosine)


def split(seed: int = 7):
    """Truth: (night, user, item, slices); lists: model -> (night, user) -> items.  u23 has no list, u24 has no truth."""
    rng = np.random.default_rng(seed)
    truth, lists = [], {m: {} for m in MODELS}
    for night in range(NIGHTS):
        for u in range(25):
            user = f"u{u:02d}"
            met = rng.choice(40, rng.integers(1, 14), replace=False)
            if u != 24:
                truth += [(night, user, ITEMS[i], ["", f"night={night}", "age=new" if i < 20 else "age=old"]) for i in met]
            for model, pull in zip(MODELS, (0.6, 0.1), strict=True):
                if u != 23:
                    order = sorted(range(40), key=lambda i, met=met, pull=pull: -(rng.random() + pull * (i in met)))
                    lists[model][night, user] = [str(ITEMS[i]) for i in order[: 20 if u % 5 else 6]]     # some lists are short
    return truth, lists


def frames(spark, truth, lists):
    asked = spark.createDataFrame(truth, "night int, user_id string, item_id string, slices array<string>")
    out = None
    for model, by_list in lists.items():
        for night in range(NIGHTS):
            rows = [(u, "all", i, r) for (n, u), items in by_list.items() if n == night for r, i in enumerate(items, start=1)]
            df = spark.createDataFrame(rows, "user_id string, segment string, item_id string, rank int")
            more = listed(df, model, night, shelf(), K)
            out = more if out is None else out.unionByName(more)
    return out, asked


def by_definition(truth, items_of, part: str) -> dict[str, float]:
    """Means over lists with a truth in the slice, read rank by rank; nothing of the product is used."""
    wanted = defaultdict(set)
    for night, user, item, slices in truth:
        if part in slices:
            wanted[night, user].add(item)
    total = defaultdict(float)
    for key, good in wanted.items():
        items = items_of.get(key, [])[:K]
        ranks = [r for r, i in enumerate(items, start=1) if i in good]
        ideal = sum(1 / math.log2(r + 1) for r in range(1, min(len(good), K) + 1))
        precision, recall = len(ranks) / K, len(ranks) / len(good)
        total["ndcg@10"] += sum(1 / math.log2(r + 1) for r in ranks) / ideal
        total["recall@10"] += recall
        total["hr@10"] += bool(ranks)
        total["mrr@10"] += 1 / ranks[0] if ranks else 0
        total["precision@10"] += precision
        total["f1@10"] += 2 * precision * recall / (precision + recall) if ranks else 0
        total["accuracy@1"] += bool(ranks) and ranks[0] == 1
    return {name: v / len(wanted) for name, v in total.items()} | {"n": len(wanted)}


@pytest.fixture(scope="module")
def world(spark):
    truth, lists = split()
    listed_, asked = frames(spark, truth, lists)
    figures = compare(listed_.persist(), asked, MODELS, K, versus=["far"], replicates=200)
    return truth, lists, {(f.model, f.versus, f.name, f.slice): f for f in figures}, listed_


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("part", ["", "night=1", "age=new"])
def test_every_metric_is_its_definition_to_six_decimals(world, model: str, part: str):
    truth, lists, figures, _ = world
    expected = by_definition(truth, lists[model], part)
    assert set(metric_names(K)) == set(expected) - {"n"}
    for name in metric_names(K):
        found = figures[model, "", name, part]
        assert found.value == pytest.approx(expected[name], abs=5e-7), name
        assert found.n == expected["n"]
        assert found.low <= found.value <= found.high


def test_differences_are_paired_and_of_the_headline_only(world):
    truth, lists, figures, _ = world
    gain = figures["near", "far", "ndcg@10", ""]
    near, far = (by_definition(truth, lists[m], "")["ndcg@10"] for m in MODELS)
    assert gain.value == pytest.approx(near - far, abs=5e-7)
    assert 0 < gain.low < gain.value < gain.high
    assert gain.p is not None and gain.p <= 0.05
    assert {(m, v, s) for m, v, _, s in figures if v} == {("near", "far", "")}


def test_what_lists_are_like(world):
    _, lists, figures, listed_ = world
    known, users = dict(zip(ITEMS, np.arange(40, 0, -1), strict=True)), 50
    for model in MODELS:
        tops = [items[:K] for items in lists[model].values()]
        surprise = [-math.log2((known[i] + 1) / (users + 1)) for items in tops for i in items]
        assert figures[model, "", "novelty@10", ""].value == pytest.approx(np.mean(surprise), abs=5e-7)
        unlike = []
        for items in tops:
            pairs = [(a, b) for x, a in enumerate(items) for b in items[x + 1 :]]
            unlike.append(np.mean([int(a[1:]) % 4 != int(b[1:]) % 4 for a, b in pairs]))
        assert figures[model, "", "diversity_category@10", ""].value == pytest.approx(np.mean(unlike), abs=5e-7)
        assert (model, "", "diversity_cooccurrence@10", "") not in figures      # these tables hold none
        shown = [figures[model, "", f"exposure_{t}@10", ""].value for t in ("head", "middle", "tail")]
        assert sum(shown) == pytest.approx(1)
        assert figures[model, "", "length@10", ""].value == pytest.approx(np.mean([len(t) for t in tops]))
        assert figures[model, "", "length@10", "segment=all"].value == figures[model, "", "length@10", ""].value
    shares = {f.model: f.value for f in coverage(listed_, MODELS, K, 80)}
    assert shares == {m: len({i for items in lists[m].values() for i in items[:K]}) / 80 for m in MODELS}


def test_head_and_tail_by_hand():
    four = Shelf(np.array(["a", "b", "c", "d"], object), np.array([50.0, 30.0, 15.0, 5.0]), 100, np.array([0, 0, -1, 1]))
    assert four.tier.tolist() == [0, 1, 1, 2]       # a makes the first half; up to 90 %: b and c, who crosses; the rest
    found = described([np.array(["a", "d"], object), np.array(["x"], object)], four)
    assert found["exposure"][0].tolist() == pytest.approx([1, 0, 1 / math.log2(3)])
    assert found["exposure"][1].tolist() == [0, 0, 1]       # an item nobody knows
    assert found["novelty"].tolist() == pytest.approx([-math.log2(51 / 101) - math.log2(6 / 101), math.log2(101)])
    assert (found["categories"].tolist(), found["has_categories"].tolist()) == ([1, 0], [1, 0])


def test_cooccurrence_is_seen_from_either_side():
    found = described([np.array(["i00", "i01", "i02"], object), np.array(["i02", "i01"], object)], shelf(neighbours=True))
    assert found["cooccurrence"].tolist() == pytest.approx([(0.5 + 0.75 + 1.0) / 3, 0.75])


def test_an_empty_shelf_and_no_lists_are_harmless():
    empty = Shelf(np.empty(0, object), np.empty(0), 0, np.empty(0, int))
    assert described([np.array(["a"], object)], empty)["novelty"].tolist() == [0]
    assert described([], shelf())["items"].tolist() == []
