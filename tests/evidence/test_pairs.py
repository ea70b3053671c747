"""Sums over pairs against plain loops over users and events."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from recs.clock import DAY, HOUR
from recs.evidence import pairs
from recs.evidence.pairs import QUANTUM, Meetings, PairRules

CUT = 100 * DAY
HALF_LIFE = 3.0
SUMS = ("cooc", "together", "transitions", "follows:2:72", "adopters:3.0")

# vocabulary integers: a = 4, b = 0, c = 2, x = 3 (an item without a column); columns a 0, b 1, c 2
A, B, C, X = 4, 0, 2, 3
COLUMNS = np.array([1, -1, 2, -1, 0], np.int32)

USERS = [
    [(A, CUT - 9 * DAY), (B, CUT - 9 * DAY + HOUR), (A, CUT - DAY), (C, CUT - DAY + HOUR)],     # ann: a twice
    [(B, CUT - 2 * DAY), (B, CUT - 2 * DAY + 60), (C, CUT - 2 * DAY + 90)],                     # bob: b -> b is none, b -> c is
    [],                                                                                         # cat: nothing
    [(C, CUT - 80 * DAY), (X, CUT - 5 * DAY), (B, CUT - 5 * DAY)],                              # dan: an unknown item; c too long ago for b
    [(A, CUT - 3 * DAY), (C, CUT - DAY)],                                                       # eve: a gap of exactly the limit
]


def meetings(users: list[list[tuple[int, int]]]) -> Meetings:
    events = [e for u in users for e in u]
    offsets = np.concatenate([[0], np.cumsum([len(u) for u in users])]).astype(np.int64)
    return Meetings(offsets, np.array([i for i, _ in events], np.int32), np.array([t for _, t in events], np.int64))


def rules(max_items: int = 10) -> PairRules:
    return PairRules(CUT, COLUMNS, pairs.inverse_frequency(np.array([2, 3, 4]), 5), max_items, 2 * DAY, 120.0)


def by_hand(users: list[list[tuple[int, int]]], r: PairRules) -> dict[str, np.ndarray]:
    """The definition, one user and one pair at a time, without rounding."""
    cooc, together, transitions, follows, adopters = np.zeros((5, 3, 3))
    for events in users:
        last = {}
        for item, ts in events:
            last.pop(item, None)
            last[item] = ts     # in the order of the latest meeting
        kept = {int(COLUMNS[i]): ts for i, ts in list(last.items())[-r.max_items :] if COLUMNS[i] >= 0}
        norm = math.sqrt(1 + sum(r.idf[j] ** 2 for j in kept))
        for j in kept:
            for i, ts in kept.items():
                cooc[j, i] += 1
                if i != j:
                    adopters[j, i] += 2 ** (-(CUT - ts) / DAY / HALF_LIFE) / norm
        for day in {ts // DAY for _, ts in events}:
            newest = list(dict.fromkeys(i for i, ts in reversed(events) if ts // DAY == day))[: r.max_items]
            met = [COLUMNS[i] for i in newest if COLUMNS[i] >= 0]
            for j in met:
                together[j, met] += 1
        for (j, t0), (i, t1) in zip(events, events[1:], strict=False):
            j, i = COLUMNS[j], COLUMNS[i]
            if j >= 0 and i >= 0 and i != j and t1 - t0 < r.transition_gap_us:
                transitions[j, i] += 2 ** (-(CUT - t1) / DAY / r.transition_half_life_d)
        for place, (i, t1) in enumerate(events):
            for apart, (j, t0) in enumerate(reversed(events[max(0, place - 2) : place]), start=1):
                if COLUMNS[j] >= 0 and COLUMNS[i] >= 0 and i != j and t1 - t0 < 3 * DAY:
                    follows[COLUMNS[j], COLUMNS[i]] += 2 ** (-(CUT - t1) / DAY / r.transition_half_life_d) / apart
    return {"cooc": cooc, "together": together, "transitions": transitions, "follows:2:72": follows, "adopters:3.0": adopters}


def test_sums_are_what_the_definition_says():
    got, want = pairs.pair_sums(meetings(USERS), rules(), SUMS), by_hand(USERS, rules())
    assert got["cooc"].toarray().tolist() == want["cooc"].tolist() == [[2, 1, 2], [1, 3, 3], [2, 3, 4]]
    for name in SUMS[1:]:
        assert got[name].dtype == np.int64
        unit = 1 if name == "together" else QUANTUM
        np.testing.assert_allclose(got[name].toarray() * unit, want[name], atol=5 * QUANTUM)
    assert got["transitions"].toarray()[0, 1] > 0 and got["transitions"].toarray()[1, 0] == 0   # a -> b; then a week until a


def test_sums_of_random_users_by_any_parts_and_order(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(1)
    users = [[(int(i), int(t)) for i, t in zip(rng.choice([A, B, C, X], n), np.sort(rng.integers(0, CUT, n)), strict=True)]
             for n in rng.integers(0, 30, 40)]
    whole = pairs.pair_sums(meetings(users), rules(), SUMS)
    for name, want in by_hand(users, rules()).items():
        np.testing.assert_allclose(whole[name].toarray() * (1 if name in ("cooc", "together") else QUANTUM), want, atol=40 * QUANTUM)

    monkeypatch.setattr(pairs, "PAIRS_PER_CHUNK", 30)
    shuffled = [users[k] for k in rng.permutation(len(users))]
    parts = [pairs.pair_sums(p, rules(), SUMS) for p in pairs.chunks(meetings(shuffled), 10)]
    assert len(parts) > 5
    for name in SUMS:
        total = sum(p[name].toarray() for p in parts)
        assert (total == whole[name].toarray()).all()   # equal bits, not nearly


def test_only_the_newest_distinct_items_of_a_user_form_pairs():
    user, item, ts = pairs.newest_items(meetings(USERS), 2)
    kept = {(int(u), int(i)): int(t) for u, i, t in zip(user, item, ts, strict=True)}
    assert kept == {
        (0, A): CUT - DAY, (0, C): CUT - DAY + HOUR,                # b is older than the second meeting of a
        (1, B): CUT - 2 * DAY + 60, (1, C): CUT - 2 * DAY + 90,     # latest meeting of b
        (3, X): CUT - 5 * DAY, (3, B): CUT - 5 * DAY,               # an item without a column takes its place; of a tie the later stays
        (4, A): CUT - 3 * DAY, (4, C): CUT - DAY,
    }
    np.testing.assert_allclose(pairs.pair_sums(meetings(USERS), rules(2), ["cooc"])["cooc"].toarray(), by_hand(USERS, rules(2))["cooc"])


def test_no_events_no_pairs():
    for users in ([], [[]], [[(X, 5)]]):
        assert [m.nnz for m in pairs.pair_sums(meetings(users), rules(), SUMS).values()] == [0, 0, 0, 0, 0]
    none = replace(rules(), columns=np.empty(0, np.int32), idf=np.empty(0))
    assert pairs.pair_sums(meetings(USERS), none, ["cooc"])["cooc"].shape == (0, 0)


def test_cosine_and_shares_and_votes_of_a_block_of_rows():
    sums, r = pairs.pair_sums(meetings(USERS), rules(), SUMS), rules()
    n = np.array([2, 3, 4])
    cosine = pairs.cosine(sums["cooc"][1:], 1, n, shrink=2.0).toarray()
    want = sums["cooc"].toarray() / (np.sqrt(np.outer(n, n)) + 2)
    np.fill_diagonal(want, 0)
    np.testing.assert_allclose(cosine, want[1:], rtol=1e-6)

    weight = sums["transitions"].toarray() * QUANTUM
    shares = pairs.next_item_shares(sums["transitions"]).toarray()
    np.testing.assert_allclose(shares, weight / (weight.sum(1, keepdims=True) + 5), rtol=1e-6)

    votes = sums["adopters:3.0"].toarray() * QUANTUM * (r.idf**2)[:, None]
    np.testing.assert_allclose(pairs.adopter_votes(sums["adopters:3.0"][2:], 2, r.idf).toarray(), votes[2:], rtol=1e-6)


def test_top_per_row_keeps_the_best_and_of_equals_the_lower_columns():
    m = sp.csr_matrix(np.array([[5, 1, 5, 5, 9, 5], [0, 0, 0, 0, 0, 0], [0, 0, 3, 0, 0, 2], [-1, 4, 4, 4, 4, 4]], np.float32))
    assert pairs.top_per_row(m, 3).toarray().tolist() == [
        [5, 0, 5, 0, 9, 0],     # three of the four fives do not fit
        [0, 0, 0, 0, 0, 0],
        [0, 0, 3, 0, 0, 2],     # fewer than three
        [0, 4, 4, 4, 0, 0],     # negative never stays
    ]
    assert pairs.top_per_row(m, 3).has_sorted_indices


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-5), (np.float32, 1e-3)])
@pytest.mark.parametrize("rows_at_a_time", [1, 5, 100])
def test_ease_is_the_textbook_formula(dtype: type, rtol: float, rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pairs, "EASE_BLOCK", rows_at_a_time * 17)
    x = (np.random.default_rng(2).random((60, 17)) < 0.3).astype(np.float64)
    p = np.linalg.inv(x.T @ x + 7.5 * np.eye(17))
    want = np.eye(17) - p / np.diag(p)      # Steck 2019, equation 8: I - P diag(1 / P)
    got = pairs.ease_weights((x.T @ x).astype(dtype), 7.5)
    assert got.dtype == np.float32 and (np.diag(got) == 0).all()
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def test_ease_of_nothing_and_of_a_matrix_that_has_no_inverse():
    assert pairs.ease_weights(np.zeros((0, 0)), 1.0).shape == (0, 0)
    with pytest.raises(np.linalg.LinAlgError):
        pairs.ease_weights(np.array([[1.0, 2.0], [2.0, 1.0]]), 0.5)
