"""Evidence: what each number says, and what it must not depend on."""
from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
from item_table_double import build  # noqa: E402

from recs.clock import DAY, HOUR  # noqa: E402
from recs.evidence import crowd, own, person, place  # noqa: E402
from recs.evidence.candidates import Pairs, candidates  # noqa: E402
from recs.evidence.features import FAMILIES, TIME, Recipe, gather  # noqa: E402
from recs.evidence.histories import Histories  # noqa: E402
from recs.evidence.own import Own  # noqa: E402
from recs.evidence.spoken import VOICES, Spoken  # noqa: E402

CUT = 20_000 * DAY      # a Friday, 2024-10-04
KINDS = tuple(sorted({voice.partition("@")[0] for voice in VOICES}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    rng = np.random.default_rng(3)
    n = 1500
    events = pd.DataFrame({
        "user": rng.integers(0, 50, n), "item": rng.zipf(1.3, n) % 120, "ts": CUT - rng.integers(1, 90 * DAY, n),
    }).sort_values(["user", "ts"], ignore_index=True)
    tables = build(tmp_path_factory.mktemp("tables") / "cut", events, CUT, KINDS)
    histories = Histories.of(**{f"u{u:03d}": list(zip(g.item, g.ts, strict=True)) for u, g in events.groupby("user")}, nobody=[])
    return histories, np.full(len(histories), CUT + 7 * HOUR), tables


def of_ann(tables, events: list[tuple[int, int]], request_us: int = CUT) -> dict[str, dict[int, float]]:
    """Feature -> item column -> value, for one user with these events."""
    mine = Own(Histories.of(ann=events), np.array([request_us]), tables, DAY)
    return {name: dict(zip(mine.column.tolist(), values.tolist(), strict=True)) for name, values in mine.features.items()}


def test_own_history_by_hand(world):
    tables = world[2]
    tea, mug = (int(np.asarray(tables.array("item_index"))[c]) for c in (3, 5))
    found = of_ann(tables, [(tea, CUT - 4 * DAY), (mug, CUT - 4 * DAY + HOUR), (tea, CUT - 3 * DAY + HOUR), (tea, CUT - DAY)])
    assert found["count"] == {3: np.log1p(3), 5: np.log1p(1)} and found["share"] == {3: 0.75, 5: 0.25}
    assert found["age"][3] == pytest.approx(np.log1p(1)) and found["first_age"][3] == pytest.approx(np.log1p(4))
    # windows of 24 hours back from the request: tea in 4, 2 and 1, mug in 3; the latest active day is 0 back
    assert found["count_days"][3] == pytest.approx(np.log1p(3)) and found["days_back"] == {3: 0.0, 5: pytest.approx(np.log1p(2))}
    assert found["decay_1d"][3] == pytest.approx(2**-4 + 2 ** -(3 - 1 / 24) + 2**-1)
    assert found["days_mid"][3] == pytest.approx(0.9**0 + 0.9**1 + 0.9**3)
    assert found["days_share_mid"][3] == pytest.approx((1 + 0.9 + 0.9**3) / (1 + 0.9 + 0.81 + 0.729))
    assert found["gap"][3] == pytest.approx(np.log1p(1.5)) and found["gap"][5] == pytest.approx(np.log1p(own.NEVER_D))
    assert found["due"][3] == pytest.approx(np.log1p(1 / 1.6)) and found["due"][5] == 0
    assert found["events_back"] == {3: 0.0, 5: pytest.approx(np.log1p(2))}
    assert found["rank_decay"] == {3: 0.0, 5: pytest.approx(np.log1p(1))}
    # now: tea. Earlier teas: mug 1, tea 1/2 + 1/3; tea 1.  One before: tea, half as much: mug 1/2, tea 1/4 + 1/6.  Two before: a first mug
    mug_after, tea_after = 1 + 1 / 2, 1 / 2 + 1 / 3 + 1 + 1 / 4 + 1 / 6
    assert found["after"] == {3: pytest.approx(np.log1p(tea_after)), 5: pytest.approx(np.log1p(mug_after))}
    assert found["after_share"][5] == pytest.approx(mug_after / (mug_after + tea_after))


def test_what_followed_is_asked_of_a_users_own_events_only():
    """A short history beside another's: nothing before its first event is looked at."""
    events = {"ann": [(0, CUT - 9), (1, CUT - 8), (0, CUT - 7)], "bob": [(0, CUT - 6)], "cat": [], "dan": [(1, CUT - 5), (2, CUT - 4)]}

    class Tables:
        n_items = 3

        def columns(self, item: np.ndarray) -> np.ndarray:
            return item

    mine = Own(Histories.of(**events), np.full(4, CUT), Tables(), DAY)
    after = mine.features["after"]
    of = {(int(u), int(c)): float(v) for u, c, v in zip(mine.user, mine.column, np.expm1(after), strict=True)}
    assert of == pytest.approx({(0, 0): 0.5, (0, 1): 1.0, (1, 0): 0, (3, 1): 0, (3, 2): 0})


def test_own_clock_by_hand(world):
    tables = world[2]
    item = int(np.asarray(tables.array("item_index"))[3])
    friday = of_ann(tables, [(item, CUT - 7 * DAY + 3 * HOUR)])       # inside the coming day of the week, a workday as tomorrow is
    sunday = of_ann(tables, [(item, CUT - 5 * DAY)])                  # a weekend, at the very hour of the request
    fade = lambda days, h: 2 ** (-days / h)     # noqa: E731
    assert friday["same_week_time"][3] == pytest.approx(fade(7 - 3 / 24, 28)) and sunday["same_week_time"][3] == 0
    assert friday["same_day_kind"][3] == pytest.approx(fade(7 - 3 / 24, 60)) and sunday["same_day_kind"][3] == 0
    assert friday["same_hour"][3] == pytest.approx(fade(7 - 3 / 24, 60) * np.exp(-9 / 8))
    assert sunday["same_hour"][3] == pytest.approx(fade(5, 60))


def test_distances_by_hand(world):
    tables = world[2]
    index = np.asarray(tables.array("item_index"))      # column c lies at 50 + c / 100 north, every seventh nowhere
    mine = Own(Histories.of(ann=[(int(index[c]), CUT - ago * DAY) for c, ago in ((3, 5), (3, 4), (3, 3), (9, 1))], nobody=[]),
               np.array([CUT, CUT]), tables, DAY)
    found = place.of_pairs(mine, Pairs(np.array([0, 3, 4]), np.array([9, 13, 14, 9])))
    degree = np.pi / 180 * place.EARTH_KM
    far = np.log1p(place.FAR_KM)
    assert found["km_last"] == pytest.approx([0, np.log1p(0.04 * degree), far, far], abs=1e-3)
    assert found["km_home"] == pytest.approx([np.log1p(0.06 * degree), np.log1p(0.1 * degree), far, far], abs=1e-3)
    assert found["km_nearest"] == pytest.approx([0, np.log1p(0.04 * degree), far, far], abs=1e-3)
    assert found["nearby"][0] == pytest.approx((1 + np.exp(-0.06 * degree)) / 2, abs=1e-3) and found["nearby"][3] == 0
    # Paris to London, 344 km
    assert place.distance_km(*np.radians([48.8566, 2.3522, 51.5074, -0.1278])) == pytest.approx(343.6, abs=1)


def test_crowd_and_person_give_what_they_name(world):
    histories, request, tables = world
    items = crowd.of_items(tables)
    assert set(items) == set(crowd.NAMES) and all(v.shape == (tables.n_items,) and np.isfinite(v).all() for v in items.values())
    assert items["relative_7d"].max() == 1 and items["rank_all"].min() == 0
    users = person.of_users(Own(histories, request, tables, DAY))
    assert set(users) == set(person.NAMES) and all(v.shape == (len(histories),) and np.isfinite(v).all() for v in users.values())
    assert users["user_events"][-1] == 0 and users["user_last"][-1] == np.float32(np.log1p(own.NEVER_D))
    assert users["weekend"].max() == 0 and users["lag"][0] == np.float32(np.log1p(7))


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(repeats=False), Recipe(frozenset(FAMILIES) - TIME), Recipe(frozenset({"own"}))])
def test_a_users_evidence_has_the_same_bits_in_any_batch(world, recipe):
    histories, request, tables = world
    whole = gather(recipe, histories, request, tables)
    assert whole.values.shape == (len(whole.pairs.column), len(recipe.names)) and np.isfinite(whole.values).all()
    rng = np.random.default_rng(0)
    for users in ([7], [len(histories) - 1], rng.permutation(len(histories))[:20], [3, 3, 4]):
        users = np.asarray(users)
        part = gather(recipe, histories.take(users), request[users], tables)
        for n, u in enumerate(users):
            mine, there = slice(*part.pairs.offsets[n : n + 2]), slice(*whole.pairs.offsets[u : u + 2])
            assert np.array_equal(part.pairs.column[mine], whole.pairs.column[there])
            assert part.values[mine].tobytes() == whole.values[there].tobytes()


def test_the_past_alone_speaks(world):
    """Events after the request's own history change nothing, one before it does."""
    histories, request, tables = world
    plain = gather(Recipe(), histories, request, tables)
    more = {str(u): [*zip(histories.item[a:b], histories.ts[a:b], strict=True)] for u, a, b in _spans(histories)}
    later = Histories.of(**{u: [*events, (1, CUT + HOUR)] for u, events in more.items()}).before(CUT)
    assert gather(Recipe(), later, request, tables).values.tobytes() == plain.values.tobytes()
    earlier = Histories.of(**{u: [*events, (1, CUT - 1)] for u, events in more.items()})
    assert gather(Recipe(), earlier, request, tables).values.tobytes() != plain.values.tobytes()


def _spans(histories: Histories):
    return zip(histories.user_ids, histories.offsets[:-1], histories.offsets[1:], strict=True)


def test_candidates_may_be_listed_and_come_from_every_source(world):
    histories, request, tables = world
    rng = np.random.default_rng(5)
    shut = rng.random((len(histories), tables.n_items)) < 0.3
    mine, said = Own(histories, request, tables, DAY), Spoken(histories, request, tables, VOICES)
    found = candidates(histories, tables, mine, said, lambda lo, hi: shut[:, lo:hi], each=5)
    assert not shut[found.user, found.column].any()
    assert all((np.diff(found.column[a:b]) > 0).all() for a, b in zip(found.offsets, found.offsets[1:], strict=False))
    own_cells = set(zip(mine.user.tolist(), mine.column.tolist(), strict=True)) - set(zip(*np.nonzero(shut), strict=True))
    assert own_cells <= set(zip(found.user.tolist(), found.column.tolist(), strict=True))
    fresh = candidates(histories, tables, mine, said, None, each=5, repeats=False)
    assert (mine.find(fresh.user, fresh.column) < 0).all()
    newcomer = slice(*fresh.offsets[-2:])
    best = np.argsort(-np.asarray(tables.stat("users_all")), kind="stable")[:5]
    assert set(best) <= set(fresh.column[newcomer])     # a user without a history is offered what is popular


def test_candidates_in_blocks_of_users_are_the_same(world, monkeypatch: pytest.MonkeyPatch):
    histories, request, tables = world
    whole = gather(Recipe(), histories, request, tables, lambda lo, hi: np.zeros((len(histories), hi - lo), bool))
    monkeypatch.setattr("recs.evidence.candidates.CELLS", tables.n_items * 3)
    parts = gather(Recipe(), histories, request, tables, lambda lo, hi: np.zeros((len(histories), hi - lo), bool))
    assert np.array_equal(whole.pairs.column, parts.pairs.column) and whole.values.tobytes() == parts.values.tobytes()


def test_given_pairs_get_the_evidence_of_the_same_candidates(world):
    histories, request, tables = world
    recipe = replace(Recipe(), families=frozenset({"own", "repeat", "due", "clock", "static", "trend"}))    # nothing relative to the list
    proposed = gather(recipe, histories, request, tables)
    columns = np.full((len(histories), 4), -1)
    for u in range(len(histories)):
        first = proposed.pairs.column[proposed.pairs.offsets[u] : proposed.pairs.offsets[u + 1]][:3]
        columns[u, : len(first)] = first[::-1]
    pairs, place = Pairs.of_padded(columns)
    assert np.array_equal(columns.ravel()[place], pairs.column)
    keep = np.concatenate([np.arange(a, min(a + 3, b)) for a, b in zip(proposed.pairs.offsets, proposed.pairs.offsets[1:], strict=False)])
    not_of_list = [i for i, name in enumerate(recipe.names) if "in_list" not in name]
    given = gather(recipe, histories, request, tables, pairs=pairs)
    assert np.array_equal(given.values[:, not_of_list], proposed.values[keep][:, not_of_list])
