"""Item tables built by Spark against the definitions, dense and in numpy; and what must not change them."""
from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from recs.clock import DAY, HOUR, MICROS, from_micros, micros
from recs.config import Config, ItemTableConfig
from recs.etl import item_pairs, item_tables
from recs.etl.item_tables import build_item_tables
from recs.etl.news import State
from recs.evidence import pairs
from recs.evidence.item_kinds import KindError
from recs.evidence.item_tables import FOREVER_US, HALF_LIVES, WINDOWS, ArtifactError, ItemTables
from recs.jobs import item_tables as job
from recs.schemas import ITEM_HOURS, ITEM_VOCABULARY, SEQUENCES
from recs.tables import TableError

pytestmark = pytest.mark.spark

CUT = datetime(2024, 3, 31, tzinfo=UTC)
C = micros(CUT)
KINDS = ("cooc", "cooc:2", "together", "transitions", "follows:2:72", "adopters", "adopters:1", "ease:5", "ease_near:5")
CONFIG = ItemTableConfig(neighbours=4, max_items_per_user=6, als_iterations=2)
# item id -> vocabulary integer; "z" is not met before the cut
VOCABULARY = {"10": 3, "9": 0, "a": 6, "b": 1, "c": 2, "d": 4, "é": 5, "z": 7}

Event = tuple[str, int, str]    # item id, microseconds, event type


LOG = {
    "name": "tiny",
    "events": {
        "source": {"format": "csv"}, "user_id": "u", "item_id": "i", "time": {"kind": "epoch_s", "expr": "t"},
        "event_types": {"view": {"code": 1}, "buy": {"code": 2}},
    },
}


def as_contract(frame, table):
    """The frame with every other column of the table filled with something of its type."""
    fill = {"string": F.lit(""), "timestamp": F.timestamp_micros(F.lit(0)), "bigint": F.lit(0).cast("bigint"), "double": F.lit(0.0)}
    missing = {c.name: fill.get(c.type, F.array().cast(c.type) if c.type.startswith("array") else None)
               for c in table.columns if c.name not in frame.columns}
    return frame.withColumns(missing)


def random_users(n: int = 25, seed: int = 3) -> dict[str, list[Event]]:
    r, ids = random.Random(seed), sorted(set(VOCABULARY) - {"z"})
    users = {}
    for u in range(n):
        start = C - r.randint(1, 40) * DAY
        instants = sorted(r.randint(start, C - 1) for _ in range(r.randint(1, 25)))
        users[f"u{u:02d}"] = [(r.choice(ids), t, r.choice(["view", "buy"])) for t in instants]
    return users


def sequences(spark, users: dict[str, list[Event]]):
    rows = [(u, [VOCABULARY[i] for i, _, _ in events], [t for _, t, _ in events]) for u, events in users.items()]
    return spark.createDataFrame(rows, "user_id string, item_index array<int>, ts array<bigint>")


def item_hours(spark, users: dict[str, list[Event]]):
    """Counts per item and hour, in the columns that the builder reads."""
    rows: dict[tuple[str, int], dict[str, Any]] = defaultdict(lambda: {"users": set(), "types": defaultdict(int), "first": 0})
    for user, events in users.items():
        met = set()
        for item, t, kind in events:
            row = rows[item, t // HOUR]
            row["users"].add(user)
            row["types"][kind] += 1
            row["first"] += (item, t // DAY) not in met
            met.add((item, t // DAY))
    made = [
        (i, VOCABULARY[i], from_micros(h * HOUR), sum(x["types"].values()), dict(x["types"]), x["first"], len(x["users"]),
         2.0 * sum(x["types"].values()), from_micros(h * HOUR).date())
        for (i, h), x in rows.items()
    ]
    return spark.createDataFrame(made, "item_id string, item_index int, hour timestamp, n_events bigint, n_by_type map<string,bigint>, "
                                       "n_day_users bigint, n_sessions bigint, value double, event_date date")


def vocabulary(spark, tombstones: dict[str, Any] | None = None):
    rows = [(i, n, (tombstones or {}).get(i)) for i, n in VOCABULARY.items()]
    return spark.createDataFrame(rows, "item_id string, item_index int, tombstoned_on date")


def build(spark, out: Path, users: dict[str, list[Event]], kinds=KINDS, config=CONFIG, cut=CUT, **facts: Any) -> ItemTables:
    return build_item_tables(item_hours(spark, users), sequences(spark, users), vocabulary(spark), None, cut, kinds, config, out, **facts)


@pytest.fixture(scope="module")
def users() -> dict[str, list[Event]]:
    return random_users()


@pytest.fixture(scope="module")
def tables(spark, users, tmp_path_factory) -> ItemTables:
    return build(spark, tmp_path_factory.mktemp("tables") / "t", users)


def dense_by_hand(users: dict[str, list[Event]], ids: list[str], config: ItemTableConfig) -> dict[str, np.ndarray]:
    """Every kind by its formula, as dense matrices without a limit on neighbours."""
    n, column = len(ids), {i: k for k, i in enumerate(ids)}
    cooc, together, follows, near, votes, votes1 = np.zeros((6, n, n))
    newest, days = [], np.zeros(n)
    for events in users.values():
        last: dict[int, int] = {}
        for i, t, _ in events:
            last.pop(column[i], None)
            last[column[i]] = t
        newest.append(dict(list(last.items())[-config.max_items_per_user :]))
        for day in {t // DAY for _, t, _ in events}:
            here = list(dict.fromkeys(column[i] for i, t, _ in reversed(events) if t // DAY == day))
            days[here] += 1
            for j in here[: config.max_items_per_user]:
                together[j, here[: config.max_items_per_user]] += 1
        for apart in (1, 2):
            for (j, t0, _), (i, t1, _) in zip(events, events[apart:], strict=False):
                if i != j and t1 - t0 < 3 * DAY:
                    near[column[j], column[i]] += 2 ** (-(C - t1) / DAY / 120) / apart
        for (j, t0, _), (i, t1, _) in zip(events, events[1:], strict=False):
            if i != j and t1 - t0 < 2 * DAY:
                follows[column[j], column[i]] += 2 ** (-(C - t1) / DAY / 120)
    met = np.array([sum(k in last for last in newest) for k in range(n)])
    idf = np.log((len(users) + 1) / (met + 1))
    for last in newest:
        norm = np.sqrt(1 + sum(idf[k] ** 2 for k in last))
        for j in last:
            for i, t in last.items():
                cooc[j, i] += 1
                votes[j, i] += (i != j) * idf[j] ** 2 * 2 ** (-(C - t) / DAY / 3) / norm
                votes1[j, i] += (i != j) * idf[j] ** 2 * 2 ** (-(C - t) / DAY) / norm
    p = np.linalg.inv(cooc + 5 * np.eye(n))
    root, off = np.sqrt(np.outer(met, met)), 1 - np.eye(n)
    return {
        "cooc": off * cooc / root, "cooc:2": off * cooc / (root + 2), "together": off * together / np.sqrt(np.outer(days, days)),
        "follows:2:72": near / (near.sum(1, keepdims=True) + 5), "transitions": follows / (follows.sum(1, keepdims=True) + 5),
        "adopters": votes, "adopters:1": votes1, "ease:5": -off * p / np.diag(p),
    }


def test_every_kind_is_its_formula(tables: ItemTables, users):
    ids = sorted(set(VOCABULARY) - {"z"})
    assert tables.item_ids.tolist() == ids and tables.kinds == set(KINDS)
    assert tables.columns(np.array(list(VOCABULARY.values()))).tolist() == [ids.index(i) if i in ids else -1 for i in VOCABULARY]
    for kind, want in dense_by_hand(users, ids, CONFIG).items():
        if kind.startswith("ease"):
            np.testing.assert_allclose(tables.dense(kind), want, atol=1e-6)
            continue
        got = tables.neighbours(kind)
        assert got.has_canonical_format and np.diff(got.indptr).max() <= CONFIG.neighbours
        for row, have in enumerate(got.toarray()):
            best = np.argsort(-want[row], kind="stable")[: CONFIG.neighbours]
            best = best[want[row, best] > 1e-7]
            np.testing.assert_allclose(have[best], want[row, best], rtol=1e-5, err_msg=f"{kind}, row {row}")
            assert set(np.flatnonzero(have > 1e-7)) == set(best), f"{kind}, row {row}"


def test_statistics_are_those_of_the_hours_before_the_cut(spark, tmp_path: Path):
    h = lambda x: C - round(x * HOUR)   # noqa: E731
    users = {
        # ann meets a twice on the day before (one day-user, in the hour of the first), and once 30 days ago
        "ann": [("a", h(30 * 24), "buy"), ("a", h(5.5), "view"), ("a", h(0.5), "view")],
        # bob: a in the hour that begins exactly six hours before the cut; b only at the cut and later, so b is not known
        "bob": [("a", h(6), "view"), ("b", C, "view"), ("b", C + DAY, "view")],
        # cat: d in the last instant
        "cat": [("d", C - 1, "view")],
    }
    t = build(spark, tmp_path / "t", users, kinds=(), event_types={"view": 1, "buy": 7})
    assert t.item_ids.tolist() == ["a", "d"]
    expected = {
        "users_6h": [2, 1], "users_1d": [2, 1], "users_28d": [2, 1], "users_60d": [3, 1], "users_all": [3, 1], "events_all": [4, 1],
        "first_h": [30 * 24 - 0.5, 0.5], "last_h": [0.5, 0.5], "type_1": [0.75, 1], "type_7": [0.25, 0], "sessions_all": [4, 1],
        "value_log": [np.log(3), np.log(3)],    # every event is worth 2
        "decay_1d": [2 * 2 ** (-5.5 / 24) + 2 ** (-(30 * 24 - 0.5) / 24), 2 ** (-0.5 / 24)],
        "users_met": [2, 1], "activity": [(np.log(4) + np.log(2)) / 2, np.log(2)],   # ann has three events before the cut, bob one
        "lat": [np.nan, np.nan], "lon": [np.nan, np.nan],       # no catalogue says where they are
    }
    for name, want in expected.items():
        np.testing.assert_allclose(t.stat(name), want, rtol=1e-5, err_msg=name)
    assert {f"users_{w}" for w in WINDOWS} | {f"decay_{w}" for w in HALF_LIVES} | set(expected) == {
        f.name[5:-4] for f in t.path.glob("stat.*.npy")
    }
    assert t.manifest["n_users"] == 3 and t.category_names == [] and (t.array("category") == -1).all()


def test_a_cut_inside_an_hour_counts_whole_hours(spark, tmp_path: Path):
    users = {"ann": [("a", C - HOUR, "view"), ("a", C + 5 * MICROS, "view"), ("c", C + 9 * MICROS, "view"), ("a", C + HOUR, "view")]}
    t = build(spark, tmp_path / "t", users, kinds=("cooc",), cut=from_micros(C + HOUR // 2))
    assert t.item_ids.tolist() == ["a"] and t.stat("events_all").tolist() == [1] and t.stat("users_met").tolist() == [1]


def test_nothing_but_the_past_changes_a_bit(spark, tables: ItemTables, users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Order, partitions, parts, what comes after the cut, users without events: equal versions are equal bytes of every file."""
    future = {u: [*events, ("z", C, "buy"), ("a", C + 3 * DAY, "view"), ("b", C + 3 * DAY, "view")] for u, events in users.items()}
    future |= {"late": [("a", C + 5, "view"), ("z", C + 6, "view")], "empty": []}
    hours = item_hours(spark, future).repartition(5, "hour").orderBy("n_events")
    seen = sequences(spark, future).repartition(3, "user_id")
    monkeypatch.setattr(item_pairs, "PAIRS_PER_TASK", 150)      # several tasks
    monkeypatch.setattr(item_pairs, "PAIRS_PER_BLOCK", 100)     # several blocks of rows
    plans = []
    monkeypatch.setattr(item_pairs, "MAX_HELD", 20)
    real = item_pairs.Plan.of
    monkeypatch.setattr(item_pairs.Plan, "of", lambda *a: plans.append(real(*a)) or plans[-1])
    again = build_item_tables(hours, seen, vocabulary(spark), None, CUT, KINDS, CONFIG, tmp_path / "t")
    assert plans[0].tasks > 2 and plans[0].rows < 4
    assert again.manifest["files"] == tables.manifest["files"]
    assert again.version == tables.version
    past = {u: [("a", C - HOUR, "view"), *events] if u == "u00" else events for u, events in users.items()}
    changed = build(spark, tmp_path / "changed", {**past, "u00": sorted(past["u00"], key=lambda e: e[1])})
    assert changed.version != tables.version    # and one event before the cut does


@pytest.mark.slow
def test_many_cuts_at_once_are_the_cuts_one_by_one(spark, users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cuts = [from_micros(C - days * DAY) for days in (0, 9, 3, 500)]     # nothing happened before the last
    kinds = ("cooc", "transitions", "adopters:2", "ease:5", "ease_near:5", "als:4:0.1:3")
    sources = item_tables.Sources(item_hours(spark, users), sequences(spark, users), vocabulary(spark), None, {"view": 1})
    monkeypatch.setattr(item_tables, "PAIRS_AT_ONCE", 900)      # two rounds
    together = item_tables.build_at_cuts(sources, {c: tmp_path / f"many-{micros(c)}" for c in cuts}, kinds, CONFIG, max_batch=1)
    assert [t.cut_us for t in together] == [micros(c) for c in cuts] and [t.n_items for t in together] == [7, 7, 7, 0]
    for cut, many in zip(cuts, together, strict=True):
        one = build(spark, tmp_path / f"one-{micros(cut)}", users, kinds=kinds, cut=cut, event_types={"view": 1}, max_batch=1)
        assert one.manifest["files"] == many.manifest["files"]
    assert not list(tmp_path.glob(".*"))


def test_near_ease_is_the_best_of_ease(tables: ItemTables):
    dense, near = tables.dense("ease:5"), tables.neighbours("ease_near:5").toarray()
    for row in range(tables.n_items):
        best = np.argsort(-dense[row], kind="stable")[: CONFIG.neighbours]
        want = np.zeros(tables.n_items, np.float32)
        want[best] = np.maximum(dense[row, best], 0)
        np.testing.assert_array_equal(near[row], want)


def test_catalogue_and_tombstones_are_those_known_at_the_cut(spark, tmp_path: Path):
    day = lambda d: datetime(2024, d // 100, d % 100, tzinfo=UTC)   # noqa: E731
    end_of_time = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    rows = [
        ("a", day(101), day(301), "Old/x", None, None, 1.0, 2.0),                   # no longer valid
        ("a", day(301), None, "Shoes/Boots", day(301), end_of_time, 52.5, 4.75),
        ("b", day(101), None, "Hats", None, day(501), None, None),                    # may be recommended until May
        ("c", day(101), day(701), None, day(401), None, None, None),      # no category; from April on; leaves the catalogue in July
        ("d", day(331), None, "Shoes", None, None, None, None),                       # valid from the very cut on
        ("9", day(401), None, "Future", None, None, None, None),                      # not known yet
        ("unknown", day(101), None, "Hats", None, None, None, None),                  # never met
    ]
    items = spark.createDataFrame(rows, "item_id string, valid_from timestamp, valid_to timestamp, category string, "
                                        "available_from timestamp, available_until timestamp, lat double, lon double")
    gone = {"b": day(301).date(), "d": day(401).date()}     # b withdrawn in March; that d will be is not known at the cut
    users = {"ann": [(i, C - DAY, "view") for i in ("a", "b", "c", "d", "9")]}
    hours, seen = item_hours(spark, users), sequences(spark, users)
    t = build_item_tables(hours, seen, vocabulary(spark, gone), items, CUT, (), CONFIG, tmp_path / "t")
    assert t.item_ids.tolist() == ["9", "a", "b", "c", "d"]
    assert t.category_names == ["Hats", "Shoes"] and t.array("category").tolist() == [-1, 1, 0, -1, 1]
    assert np.nan_to_num(t.stat("lat"), nan=-1).tolist() == [-1, 52.5, -1, -1, -1] and t.stat("lon")[1] == 4.75
    last = micros(end_of_time)
    assert t.array("available_from").tolist() == [-FOREVER_US, micros(day(301)), -FOREVER_US, micros(day(401)), -FOREVER_US]
    assert t.array("available_until").tolist() == [FOREVER_US, last, micros(day(301)), micros(day(701)), FOREVER_US]


def test_als_factors_are_the_same_every_time_and_zero_without_history(spark, users, tmp_path: Path):
    kind = "als:4:0.1:10"
    hours = item_hours(spark, {**users, "gone": [("é", C - DAY, "view")]})
    without = {u: [e for e in events if e[0] != "é"] for u, events in users.items()}    # é is known from item_hours alone
    first, second = (
        build_item_tables(hours, s, vocabulary(spark), None, CUT, [kind], CONFIG, tmp_path / name)
        for name, s in (("1", sequences(spark, without)), ("2", sequences(spark, without).repartition(4).orderBy("ts")))
    )
    assert first.version == second.version
    factors = first.dense(kind)
    assert factors.shape == (7, 4) and factors.dtype == np.float32 and np.isfinite(factors).all()
    zero = (factors == 0).all(axis=1)
    assert first.item_ids[zero].tolist() == ["é"]


def test_a_folder_of_the_same_facts_is_taken_as_it_is(spark, users, tmp_path: Path):
    out = tmp_path / "t"
    first = build(spark, out, users, kinds=("cooc", "transitions"), max_batch=4)
    inode = out.stat().st_ino
    assert build(spark, out, {}, kinds=("cooc",), max_batch=4).version == first.version and out.stat().st_ino == inode
    more = build(spark, out, users, kinds=("adopters",), max_batch=4)
    assert more.kinds == {"cooc", "transitions", "adopters"} and out.stat().st_ino != inode
    assert first.neighbours("cooc").nnz == more.neighbours("cooc").nnz
    fewer = build(spark, out, dict(list(users.items())[:3]), kinds=("cooc",), max_batch=5)
    assert fewer.manifest["n_users"] == 3 and fewer.manifest["inputs"] == {"max_batch": 5}
    assert [f.name for f in tmp_path.iterdir()] == ["t"]


def test_a_failed_build_leaves_the_old_tables_and_no_rubbish(spark, users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "t"
    first = build(spark, out, users, kinds=())
    killed = tmp_path / item_tables._new_folder(out).name
    killed.rename(killed.with_suffix(".999999999"))     # of a process that no longer is
    monkeypatch.setattr(pairs, "inverse_frequency", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(spark, out, users, kinds=("cooc",))
    assert ItemTables(out, verify=True).version == first.version
    assert [f.name for f in tmp_path.iterdir()] == ["t"]


def test_too_many_items_for_ease_an_empty_log_and_an_unknown_kind(spark, users, tmp_path: Path):
    t = build(spark, tmp_path / "t", users, kinds=("ease:5", "cooc"), config=ItemTableConfig(ease_max_items=6))
    assert t.kinds == {"cooc"} and t.manifest["left_out"] == {"ease:5": "7 items, and ease_max_items is 6"}
    with pytest.raises(ArtifactError, match="holds no 'ease:5.dense'"):
        t.dense("ease:5")

    empty = build(spark, tmp_path / "empty", {}, kinds=(*KINDS, "als:4:0.1:10"))
    assert (empty.n_items, empty.manifest["n_users"]) == (0, 0)
    assert empty.neighbours("cooc").shape == empty.dense("ease:5").shape == (0, 0) and empty.dense("als:4:0.1:10").shape == (0, 4)
    ItemTables(tmp_path / "empty", verify=True)

    for kind in ("word2vec", "ease", "ease:x", "ease:0", "als:4:0.1", "cooc:1:2", "adopters:nan"):
        with pytest.raises(KindError, match=f"no item table is called '{kind}'"):
            build(spark, tmp_path / "t", users, kinds=[kind])


def test_the_job_builds_from_one_state_and_finds_what_it_built(spark, lake, users, tmp_path: Path):
    """Sequences and item_hours stand beyond the cut; their state goes into the manifest and the name of the folder."""
    hours = item_hours(spark, users).withColumns({"segment": F.lit(""), "n_users": F.col("n_sessions")})
    note = {"as_of_us": C + DAY, "max_batch": 3}
    lake.overwrite(hours, ITEM_HOURS, note)
    lake.overwrite(vocabulary(spark).withColumn("batch_id", F.lit(1).cast("bigint")), ITEM_VOCABULARY, {})
    config = Config.model_validate({"log": LOG, "item_tables": CONFIG.model_dump()})
    with pytest.raises(TableError, match="must stand at one state .*sequences: never built"):
        job.run(spark, lake, config, CUT, ["cooc"])
    lake.overwrite(as_contract(sequences(spark, users), SEQUENCES), SEQUENCES, note)

    made = job.run(spark, lake, config, CUT, ["cooc"])
    assert made.path == Path(lake.root) / "item_tables" / "20240331T000000Z-batch3-from20240401T000000Z"
    assert made.manifest["inputs"] == {"as_of_us": C + DAY, "max_batch": 3, "max_events": 500, "session_gap_s": 1800.0}
    assert made.n_items == 7 and set(made.manifest["event_types"]) == {"view", "buy"}
    inode = made.path.stat().st_ino
    assert job.run(spark, lake, config, CUT, []).version == made.version and made.path.stat().st_ino == inode
    with pytest.raises(TableError, match="before the cut 2024-04-03"):
        job.run(spark, lake, config, datetime(2024, 4, 3, tzinfo=UTC), [])
    with pytest.raises(TableError, match="say where with --out"):
        job.folder("s3://bucket/recs", CUT, State(C, 3))
