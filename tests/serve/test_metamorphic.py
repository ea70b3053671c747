"""What must not change a list: order of rows, partitions, who else is in the batch, blocks of the catalogue, the machine's zone.

Every model, in Spark and in this process; users, ranks, items, scores and reasons have to be equal bit for bit.
"""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from serve_world import REQUEST_DDL, SERVE, model_folder, requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
from item_table_double import build  # noqa: E402

from recs.clock import DAY, HOUR, from_micros  # noqa: E402
from recs.config import ListConfig, RuleConfig, SeenPolicy  # noqa: E402
from recs.models import NAMES, make  # noqa: E402
from recs.serve import online  # noqa: E402
from recs.serve.artifacts import model_artifact, opened, tables_artifact  # noqa: E402
from recs.serve.rules import Rules  # noqa: E402
from recs.serve.score import Plan, batches, lists_of, recommend  # noqa: E402

CUT = SERVE - 7 * HOUR
RULES = Rules(hidden_us={1: 2 * DAY}, category_cap=6)
K = 8
COLUMNS = ["user_id", "rank", "item_id", "score", "source", "reason_code", "evidence_item_id"]


def random_events(n_users: int = 60, n_items: int = 40, n: int = 1200) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    # histories from no event (u060) to hundreds (u000), so that several buckets are used
    users = np.minimum(rng.geometric(0.08, n) - 1, n_users - 1)
    frame = pd.DataFrame({"user": users, "item": rng.zipf(1.4, n) % n_items, "ts": CUT - rng.integers(1, 60 * DAY, n)})
    return frame.sort_values(["user", "ts"], ignore_index=True)


def as_requests(events: pd.DataFrame) -> pd.DataFrame:
    histories = {f"u{u:03d}": list(zip(g.item, g.ts, strict=True)) for u, g in events.groupby("user")}
    return requests(histories | {"u060": []})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Requests, folder of item tables with all that the models need, folder per model."""
    folder = tmp_path_factory.mktemp("metamorphic")
    models = {name: make(name) for name in NAMES}
    kinds = sorted({k for m in models.values() for k in m.needs(m.params)})
    events = random_events()
    tables = build(folder / "tables", events, CUT, tuple(kinds))
    return as_requests(events), tables.path, {name: model_folder(folder / name, name) for name in NAMES}


def plan_for(model: Path, tables: Path, **changes) -> Plan:
    return Plan(**{"model": model_artifact(model), "tables": tables_artifact(tables), "k": K, "rules": RULES, **changes})


def lists(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    parts = [lists_of(b, plan, opened(plan.model, plan.tables)) for b in batches(iter([frame]), plan.batch_users)]
    return pd.concat(parts).sort_values(["user_id", "rank"], ignore_index=True)


def assert_same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a[COLUMNS], b[COLUMNS], check_exact=True)


@pytest.mark.parametrize("name", NAMES)
def test_order_company_and_batches_change_no_list(world, name):
    frame, tables, models = world
    plain = lists(frame, plan_for(models[name], tables))
    assert plain.groupby("user_id").size().eq(K).all()
    shuffled = frame.sample(frac=1, random_state=1, ignore_index=True)
    assert_same(plain, lists(shuffled, plan_for(models[name], tables)))
    assert_same(plain, lists(frame, plan_for(models[name], tables, batch_users=3)))
    assert_same(plain, lists(frame, plan_for(models[name], tables, block=7)))
    newcomers = requests({f"x{n}": [(n % 40, CUT - n - 1)] * n for n in range(30)})     # item tables as they were
    more = lists(pd.concat([newcomers, frame], ignore_index=True), plan_for(models[name], tables))
    assert_same(plain, more[~more.user_id.str.startswith("x")].reset_index(drop=True))


@pytest.mark.parametrize("name", ["blend", "als"] if {"blend", "als"} <= set(NAMES) else NAMES[-1:])
def test_partitions_and_a_rerun_change_no_list(spark, world, name):
    frame, tables, models = world
    plain = lists(frame, plan_for(models[name], tables))
    histories = spark.createDataFrame(frame, REQUEST_DDL)
    for parts in (1, 3):
        out = recommend(histories.repartition(parts), models[name], tables, K, RULES, batch_users=5).toPandas()
        assert_same(plain, out.sort_values(["user_id", "rank"], ignore_index=True))


@pytest.mark.parametrize("name", NAMES)
def test_one_request_gets_the_nights_list(world, name):
    frame, tables, models = world
    night = lists(frame, plan_for(models[name], tables))
    service = online.load(models[name], tables)
    service.plan = plan_for(models[name], tables)
    ids = {int(i): t for i, t in zip(service.tables.array("item_index"), service.tables.item_ids, strict=True)}
    for row in frame.iloc[::7].itertuples():
        history = [(ids[i], t) for i, t in zip(row.item_index, row.ts, strict=True)]
        one = service.recommend(history, as_of=CUT, serve_at=SERVE).assign(user_id=row.user_id)
        assert_same(night[night.user_id == row.user_id].reset_index(drop=True), one)
    again = service.score(history, one.item_id.tolist(), as_of=CUT, serve_at=SERVE)
    model_rows = (one.source == "model").to_numpy()
    assert again.score[model_rows].tolist() == one.score[model_rows].tolist()


def test_online_reads_frames_names_types_and_refuses_what_it_cannot_know(world):
    from recs.config import EventType
    from recs.evidence.item_tables import ArtifactError

    frame, tables, models = world
    service = online.load(models["personal"], tables)
    ids = service.tables.item_ids
    events = pd.DataFrame({"item_id": [ids[3], ids[5]], "ts": pd.to_datetime([from_micros(CUT - DAY), from_micros(CUT + 1)])})
    out = service.recommend(events, as_of=CUT, k=3)
    assert out.item_id[0] == ids[3]
    assert out.evidence_ts[0] == from_micros(CUT - DAY)
    assert ids[5] not in set(out[out.reason_code == "repeat"].item_id)       # it lies after as_of
    assert service.recommend([(ids[3], CUT - DAY)], as_of=CUT, k=3, blocked=[ids[3], "no such item"]).item_id[0] != ids[3]
    assert np.isnan(service.score([], ["no such item"], as_of=CUT).score[0])
    with pytest.raises(ArtifactError, match="know events after as_of"):
        service.recommend([], as_of=CUT - 1)
    with pytest.raises(ValueError, match="has no time zone"):
        service.recommend([(ids[3], from_micros(CUT).replace(tzinfo=None))], as_of=CUT)
    service.type_codes = {"view": EventType(code=1).code, "buy": 2}
    with pytest.raises(ValueError, match=r"none of the log's types \['buy', 'view'\]"):
        service.recommend([(ids[3], CUT - DAY)], as_of=CUT)


ZONE_PROBE = """
import sys, pandas as pd
sys.path[:0] = {path!r}
from test_metamorphic import as_requests, lists, plan_for, random_events
from pathlib import Path
out = lists(as_requests(random_events()), plan_for(Path({model!r}), Path({tables!r})))
print(pd.util.hash_pandas_object(out).sum())
"""


def test_the_machines_time_zone_changes_no_list(world):
    _, tables, models = world
    name = "blend" if "blend" in NAMES else NAMES[-1]
    probe = ZONE_PROBE.format(path=[str(Path(__file__).parent)], model=str(models[name]), tables=str(tables))
    sums = {}
    for zone in ("America/St_Johns", "Pacific/Auckland"):
        done = subprocess.run([sys.executable, "-c", probe], env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=True)
        sums[zone] = done.stdout
    assert len(set(sums.values())) == 1, sums


def test_a_configuration_gives_online_the_rules_of_the_night(world, tmp_path):
    from night_world import config

    _, tables, models = world
    settings = config(k=4, rules=RuleConfig(seen=SeenPolicy(by_type={"event": "never"})).model_dump())
    assert isinstance(settings.lists, ListConfig)
    service = online.load(models["personal"], tables, settings)
    ids = service.tables.item_ids
    out = service.recommend([(ids[3], CUT - DAY)], as_of=CUT)
    assert len(out) == 4
    assert ids[3] not in set(out.item_id)
