"""Rules and lists over a handful of items, without Spark."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from serve_world import CUT, SERVE, item_tables, model_folder, requests

from recs.clock import DAY
from recs.config import EventType, RuleConfig
from recs.models import load
from recs.models.base import Model, Reasons
from recs.serve.artifacts import Opened, model_artifact, tables_artifact
from recs.serve.rules import Rules, arrange
from recs.serve.score import MODEL_ERROR, NO_EVENT_US, Plan, batches, lists_of

# columns in the order of ids: a b c d e f g h; vocabulary integers in another order, so that a mix-up shows
ITEMS = {
    "a": {"index": 7, "users": 80, "category": 0},
    "b": {"index": 3, "users": 70, "category": 0},
    "c": {"index": 5, "users": 60, "category": 0},
    "d": {"index": 0, "users": 50, "category": 1},
    "e": {"index": 1, "users": 50, "category": 1},      # ties with d: d stands first
    "f": {"index": 2, "users": 40, "category": -1},     # no category: never capped
    "g": {"index": 6, "users": 30, "category": -1},
    "h": {"index": 4, "users": 20, "category": 2},
}
TYPES = {"view": EventType(code=1), "buy": EventType(code=2)}


@pytest.fixture
def make_lists(tmp_path: Path):
    """`lists(histories, rules, k, …)` -> {user: [item ids]} with the popularity model."""
    def lists(histories, rules=None, k=4, items=ITEMS, cooc=None, name="popularity", params=None, frame=False, **request):
        tables = item_tables(tmp_path / "tables", items, cooc)
        folder = model_folder(tmp_path / "model", name, params)
        plan = Plan(model_artifact(folder), tables_artifact(tables.path), k, rules or Rules())
        out = lists_of(requests(histories, **request), plan, Opened(load(folder), tables))
        return out if frame else {u: g.sort_values("rank").item_id.tolist() for u, g in out.groupby("user_id")}

    return lists


def test_ranks_follow_the_score_and_ties_the_item_id(make_lists):
    out = make_lists({"ann": []}, k=8, frame=True)
    assert out.item_id.tolist() == list("abcdefgh")
    assert out["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert set(out.source) == {"model"}


@pytest.mark.parametrize(
    ("policy", "first"),
    [
        ({"default": "always"}, "a"),
        ({"default": "never"}, "d"),                                     # a, b and c were met
        ({"default": "always", "by_type": {"buy": "never"}}, "a"),       # a was only viewed
        ({"default": "never", "by_type": {"view": "always"}}, "a"),
        ({"default": "always", "by_type": {"view": 10}}, "b"),           # a hides for 10 days, b was viewed 10 days ago to the microsecond
        ({"default": "always", "by_type": {"view": 11}}, "c"),           # c was bought: no rule for buying
    ],
)
def test_seen_items_follow_the_policy_of_the_event_type(make_lists, policy, first):
    history = [(5, SERVE - 300 * DAY, 2), (3, SERVE - 10 * DAY, 1), (7, SERVE - 1, 1)]      # c bought, b and a viewed
    rules = Rules.of(RuleConfig.model_validate({"seen": policy}), TYPES)
    assert make_lists({"ann": history}, rules)["ann"][0] == first


def test_a_policy_for_an_event_type_that_the_log_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"by_type: unknown event types \['bye'\]"):
        Rules.of(RuleConfig.model_validate({"seen": {"by_type": {"bye": "never"}}}), TYPES)


def test_availability_is_asked_at_the_request_not_at_the_cut(make_lists):
    items = {
        **ITEMS,
        "a": {**ITEMS["a"], "available_until": SERVE},          # ends at the very instant: gone
        "b": {**ITEMS["b"], "available_until": SERVE + 1},      # a microsecond longer: still there
        "c": {**ITEMS["c"], "available_from": SERVE},           # starts at the very instant: there
        "d": {**ITEMS["d"], "available_from": SERVE + 1},       # not yet
    }
    assert make_lists({"ann": []}, k=3, items=items)["ann"] == ["b", "c", "e"]


def test_requests_of_one_batch_may_ask_for_different_instants(make_lists, tmp_path):
    items = {**ITEMS, "a": {**ITEMS["a"], "available_until": SERVE}, "b": {**ITEMS["b"], "available_from": SERVE}}
    tables, folder = item_tables(tmp_path / "t2", items), model_folder(tmp_path / "m2")
    plan = Plan(model_artifact(folder), tables_artifact(tables.path), 2)
    batch = pd.concat([requests({"early": []}, SERVE - 1), requests({"late": []}, SERVE)], ignore_index=True)
    assert lists_of(batch, plan, Opened(load(folder), tables)).item_id.tolist() == ["a", "c", "b", "c"]


def test_blocks_for_everybody_and_for_one_user(make_lists):
    out = make_lists({"ann": [], "bob": []}, Rules(blocked=(7, 99)), k=2, blocked={"bob": [3, 98]})      # 98 and 99 are unknown items
    assert out == {"ann": ["b", "c"], "bob": ["c", "d"]}


def test_nobody_is_recommended_to_themself(make_lists):
    assert make_lists({"a": [], "zz": []}, Rules(exclude_self=True), k=2) == {"a": ["b", "c"], "zz": ["a", "b"]}


def test_a_category_cap_goes_on_outside_the_full_categories(make_lists):
    assert make_lists({"ann": []}, Rules(category_cap=1), k=5)["ann"] == ["a", "d", "f", "g", "h"]


def test_a_cap_looks_beyond_the_first_candidates(make_lists):
    # 60 items of one category lead: with k = 3 the candidates hold none of another one
    items = {f"a{i:03d}": {"index": i, "users": 1000 - i, "category": 0} for i in range(60)}
    items |= {"x": {"index": 60, "users": 3, "category": 1}, "y": {"index": 61, "users": 2, "category": 1}, "z": {"index": 62, "users": 1}}
    out = make_lists({"ann": [], "bob": [(0, CUT - 1)]}, Rules(category_cap=1, hidden_default_us=DAY), k=3, items=items, frame=True)
    assert out.groupby("user_id").item_id.apply(list).to_dict() == {"ann": ["a000", "x", "z"], "bob": ["a001", "x", "z"]}
    assert set(out.source) == {"model"}     # the model went on by itself: nothing was filled in


def test_mmr_pushes_similar_items_apart(make_lists):
    cooc = {("a", "b"): 1.0, ("a", "c"): 1.0}
    assert make_lists({"ann": []}, Rules(mmr_lambda=0.5), k=3, cooc=cooc)["ann"] == ["a", "d", "f"]


def test_mmr_counts_what_is_bought_together():
    # one category for all; i2 goes with i0, i1 does not: lambda .6 turns their order
    ids = {f"i{i}": {"index": i, "category": 0} for i in range(3)}
    from tempfile import TemporaryDirectory
    with TemporaryDirectory() as folder:
        tables = item_tables(Path(folder) / "t", ids, {("i0", "i1"): 1.0})
        columns, scores = np.array([[0, 1, 2]], np.int32), np.array([[1.0, 0.55, 0.5]], np.float32)
        assert arrange(columns, scores, 3, Rules(mmr_lambda=0.6), tables)[0].tolist() == [[0, 2, 1]]
        assert arrange(columns, scores, 3, Rules(mmr_lambda=1.0), tables)[0].tolist() == [[0, 1, 2]]


class Broken(Model):
    """Scores by column; raises when a user of the batch has an item 0 in the history."""

    name = "broken"

    @classmethod
    def grid(cls, setting):
        return [{}]

    @classmethod
    def needs(cls, params):
        return frozenset()

    def scorer(self, histories, request_us, tables):
        if (histories.item == 0).any():
            raise FloatingPointError("poison")
        scores = np.full((len(histories), tables.n_items), -np.inf, np.float32)
        scores[:, :3] = [[3.0, np.nan, 1.0]]
        return lambda lo, hi: scores[:, lo:hi]

    def explain(self, histories, request_us, tables, columns):
        return Reasons(np.zeros(columns.shape, np.int8), np.where(columns == 2, histories.offsets[:-1, None], -1))


@pytest.fixture
def broken(tmp_path: Path):
    tables = item_tables(tmp_path / "tables", ITEMS)

    def lists(frame: pd.DataFrame, rules: Rules | None = None, k: int = 4) -> pd.DataFrame:
        plan = Plan(model_artifact(model_folder(tmp_path / "m")), tables_artifact(tables.path), k, rules or Rules())
        return lists_of(frame, plan, Opened(Broken({}), tables))

    return lists


def test_a_short_list_is_filled_and_says_so(broken):
    out = broken(requests({"ann": [(5, CUT - 1)]}))
    assert out.item_id.tolist() == ["a", "c", "b", "d"]         # NaN never ranks: b comes by popularity
    assert out.source.tolist() == ["model", "model", "fallback", "fallback"]
    assert out["rank"].tolist() == [1, 2, 3, 4]
    assert out.evidence_item_id.tolist() == [None, "c", None, None]
    assert out.evidence_us.tolist() == [NO_EVENT_US, CUT - 1, NO_EVENT_US, NO_EVENT_US]


def test_filling_obeys_cap_seen_and_blocks(broken):
    frame = requests({"ann": [(5, CUT - 1, 1), (1, CUT - 1, 1)]}, blocked={"ann": [2]})     # c and e seen, f blocked
    out = broken(frame, Rules(hidden_default_us=DAY, category_cap=1), k=8)
    assert out.item_id.tolist() == ["a", "d", "g", "h"]         # short: nothing else may be shown


def test_one_bad_history_does_not_touch_the_others(broken):
    users = {f"u{i}": [(5, CUT - 1)] for i in range(7)} | {"bad": [(0, CUT - 1, 1)]}
    out = broken(requests(users), Rules(hidden_default_us=DAY))
    assert (out.user_id.value_counts() == 4).all()
    assert out.user_id.nunique() == 8
    bad = out[out.user_id == "bad"]
    assert bad.item_id.tolist() == ["a", "b", "c", "e"]         # d was seen
    assert set(bad.reason_code) == {MODEL_ERROR}
    assert set(bad.source) == {"fallback"}
    assert set(out[out.user_id != "bad"].groupby("user_id").item_id.apply("".join)) == {"abde"}


@pytest.mark.parametrize("column", ["item_index", "ts"])
def test_an_unreadable_history_gets_popular_items(broken, column):
    frame = requests({"ann": [(5, CUT - 1)], "bad": [(5, CUT - 1)]})
    frame.at[1, column] = None if column == "item_index" else [CUT, CUT]
    out = broken(frame)
    assert out.groupby("user_id").item_id.apply("".join).to_dict() == {"ann": "acbd", "bad": "abcd"}


def test_batches_hold_histories_of_like_length():
    frame = pd.DataFrame({"user_id": range(600), "item_index": [[1] * (i % 5) for i in range(600)]})
    seen, lengths = [], []
    for b in batches(iter([frame[:250], frame[250:]]), 100):
        n = b.item_index.map(len)
        assert len(b) <= 100
        assert n.map(lambda v: int(v).bit_length()).nunique() == 1
        seen += b.user_id.tolist()
        lengths.append(len(b))
    assert sorted(seen) == list(range(600))
    assert lengths.count(100) >= 5


def test_long_histories_travel_in_smaller_batches():
    frame = pd.DataFrame({"user_id": range(40), "item_index": [np.zeros(70_000, np.int32)] * 40})
    assert max(len(b) for b in batches(iter([frame]), 256)) == 8     # 8 x 2^17 events at most
