"""Every model behind the one interface: independence of the batch, order of ties, reasons, saving; and what each formula says."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from item_table_double import build

from recs.clock import DAY
from recs.evidence.histories import Histories
from recs.evidence.profiles import event_weights
from recs.models import NAMES, ModelError, load, make, model_class
from recs.models.base import REASONS, Setting

CUT = 1000 * DAY
SETTINGS = (Setting(), Setting(repeats=False), Setting(clock=False))


def random_events(n_users: int = 60, n_items: int = 40, n: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    return pd.DataFrame({
        "user": rng.integers(0, n_users, n), "item": rng.zipf(1.4, n) % n_items, "ts": CUT - rng.integers(1, 60 * DAY, n),
    }).sort_values(["user", "ts"], ignore_index=True)


def as_histories(events: pd.DataFrame) -> Histories:
    users = {f"u{u:03d}": list(zip(g.item, g.ts, strict=True)) for u, g in events.groupby("user")}
    return Histories.of(**users, newcomer=[])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    events = random_events()
    kinds = {k for p in every_model() for k in model_class(p.values[0]).needs(p.values[1])}
    tables = build(tmp_path_factory.mktemp("tables") / "cut", events, CUT, tuple(sorted(kinds)))
    histories = as_histories(events)
    return histories, np.full(len(histories), CUT + 7 * 3_600_000_000), tables


def pick(histories: Histories, users: list[int]) -> Histories:
    """These users, in this order."""
    parts = [histories.users(u, u + 1) for u in users]
    names = ("item", "type_code", "ts", "value", "dwell_s", "lat", "lon", "segment")
    fields = {f: np.concatenate([getattr(p, f) for p in parts]) for f in names}
    offsets = np.concatenate([[0], np.cumsum([p.n_events for p in parts])])
    return replace(histories, user_ids=histories.user_ids[users], offsets=offsets, **fields)


def every_model():
    for name in NAMES:
        seen = []
        for setting in SETTINGS:
            for params in model_class(name).grid(setting):
                if params not in seen:
                    seen.append(params)
                    yield pytest.param(name, params, id=f"{name}-{len(seen)}")


@pytest.mark.parametrize(("name", "params"), every_model())
def test_a_users_scores_have_the_same_bits_in_any_batch(world, name, params):
    histories, request, tables = world
    model = make(name, params)
    n, full = len(histories), model.scorer(histories, request, tables)(0, tables.n_items)
    rng = np.random.default_rng(1)
    for users in ([5], [n - 1], list(range(n))[::-1], list(rng.permutation(n)[:33]), [5, 5, 5, 7]):
        part = model.scorer(pick(histories, users), request[users], tables)(0, tables.n_items)
        assert np.asarray(part).astype(np.float32).tobytes() == np.asarray(full)[users].astype(np.float32).tobytes()


@pytest.mark.parametrize(("name", "params"), every_model())
def test_blocks_of_columns_give_the_same_lists_as_one_block(world, name, params):
    histories, request, tables = world
    model = make(name, params)
    whole = model.retrieve(histories, request, tables, 10)
    blocks = model.retrieve(histories, request, tables, 10, block=7)
    assert np.array_equal(whole[0], blocks[0])
    np.testing.assert_allclose(whole[1], blocks[1], rtol=1e-5)
    assert np.isfinite(whole[1]).all()


@pytest.mark.parametrize(("name", "params"), every_model())
def test_reasons_name_an_event_of_that_very_user(world, name, params):
    histories, request, tables = world
    model = make(name, params)
    columns, _ = model.retrieve(histories, request, tables, 10)
    columns[3, 8:] = -1                                                 # a short list
    why = model.explain(histories, request, tables, columns)
    assert why.code.shape == why.event.shape == columns.shape
    assert ((why.code >= 0) & (why.code < len(REASONS))).all()
    user = np.broadcast_to(np.arange(len(histories))[:, None], columns.shape)
    has = why.event >= 0
    assert (histories.user[why.event[has]] == user[has]).all()
    assert not has[-1].any() and not has[3, 8:].any()                   # the newcomer has no events; an empty place no reason
    repeat = why.code == REASONS.index("repeat")
    assert (tables.columns(histories.item)[why.event[repeat]] == columns[repeat]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_is_the_same_model(world, name, tmp_path: Path):
    histories, request, tables = world
    model = make(name, model_class(name).grid(Setting())[-1])
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert (again.name, again.params) == (name, model.params)
    for a, b in zip(model.retrieve(histories, request, tables, 5), again.retrieve(histories, request, tables, 5), strict=True):
        assert np.array_equal(a, b)


def test_weights_come_back_whatever_their_layout(tmp_path: Path):
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    make("popularity", {}, {"rows": rows, "turned": rows.T, "every_second": rows[:, ::2], "one": np.float32(7)}).save(tmp_path / "m")
    again = load(tmp_path / "m").weights
    assert np.array_equal(again["turned"], rows.T) and np.array_equal(again["every_second"], rows[:, ::2])
    assert np.array_equal(again["rows"], rows) and again["one"] == 7


def test_a_missing_model_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match="choose one of popularity"):
        make("oracle")
    with pytest.raises(ModelError, match="model.json: missing"):
        load(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ModelError, match="not a model description"):
        load(tmp_path)


def test_popularity_counts_people_and_recent_popularity_forgets(tmp_path: Path):
    rows = [
        *[(u, 0, CUT - 50 * DAY) for u in range(5)],    # item 0: five people, long ago
        *[(u, 1, CUT - DAY // 2) for u in range(2)],    # item 1: two people yesterday
        *[(0, 2, CUT - DAY // 2 - k) for k in range(9)],    # item 2: one person nine times yesterday
    ]
    tables = build(tmp_path / "t", pd.DataFrame(rows, columns=["user", "item", "ts"]), CUT)
    nobody, now = Histories.of(cat=[]), np.array([CUT])
    assert make("popularity").retrieve(nobody, now, tables, 3)[0].tolist() == [[0, 1, 2]]
    assert make("recent_popularity", {"stat": "decay_1d"}).retrieve(nobody, now, tables, 3)[0].tolist() == [[1, 2, 0]]


def test_of_events_that_speak_alike_the_newest_is_named(tmp_path: Path):
    ann = [(0, CUT - 3 * DAY), (1, CUT - 2 * DAY), (0, CUT - DAY)]
    tables = build(tmp_path / "t", pd.DataFrame([(0, i, t) for i, t in ann], columns=["user", "item", "ts"]), CUT)
    why = make("personal", {"span": "all", "lift": 0.0, "stat": "users_all"}).explain(
        Histories.of(ann=ann), np.array([CUT]), tables, np.array([[0, 1, -1]]))
    assert why.event.tolist() == [[2, 1, -1]]


def test_a_span_that_is_none_is_named():
    with pytest.raises(ValueError, match="'7w' is not a span"):
        event_weights(Histories.of(ann=[(0, 1)]), np.array([CUT]), "7w")


def test_personal_by_days_and_by_active_days(tmp_path: Path):
    ann = [
        (0, CUT - 100 * DAY), (0, CUT - 99 * DAY),      # item 0 on two active days, the second and third last
        (1, CUT - DAY // 2), (1, CUT - DAY // 2 + 1),   # item 1 twice on the last active day
    ]
    events = pd.DataFrame([(0, i, t) for i, t in ann] + [(1, 2, CUT - DAY)], columns=["user", "item", "ts"])
    tables = build(tmp_path / "t", events, CUT)
    history, now = Histories.of(ann=ann), np.array([CUT])
    by_days = make("personal", {"span": "10d", "lift": 0.0, "stat": "users_all"})
    assert by_days.retrieve(history, now, tables, 3)[0].tolist() == [[1, 0, 2]]
    by_active_days = make("personal", {"span": "20a", "lift": 0.0, "stat": "users_all"})
    assert by_active_days.retrieve(history, now, tables, 3)[0].tolist() == [[0, 1, 2]]    # 2^-1/20 + 2^-2/20 > 1
    score = by_active_days.scorer(history, now, tables)(0, 3)[0]
    assert score[0] == pytest.approx(22 + np.log2(2**-0.05 + 2**-0.1), abs=1e-5)
    assert score[2] < 2 <= score[1]
    why = by_days.explain(history, now, tables, np.array([[1, 0, 2]]))
    assert why.event.tolist() == [[3, 1, -1]]           # the newest event speaks most
    assert [REASONS[c] for c in why.code[0]] == ["repeat", "repeat", "popular"]
