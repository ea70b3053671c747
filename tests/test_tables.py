"""Delta under one root: notes, whole partitions, typed predicates, one writer at a time."""
from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from recs.schemas import METRICS, RECOMMENDATIONS, ContractError
from recs.tables import Lake, LeaseError, SideLake, TableError, lease, predicate

DAY1, DAY2 = date(2024, 3, 1), date(2024, 3, 2)
NOW = datetime(2024, 3, 1, 7, tzinfo=UTC)


def rows(spark, run_date: date, *items: str, score: float = 1.0):
    return spark.createDataFrame(
        [(run_date, "main", "user", "ann", r + 1, i, score, "model", "popular", None, None, "m", NOW, NOW) for r, i in enumerate(items)],
        RECOMMENDATIONS.ddl,
    )


def items_of(lake: Lake, run_date: date) -> list[str]:
    found = lake.read(RECOMMENDATIONS)
    return [r["item_id"] for r in found.filter(found.run_date == run_date).orderBy("rank").collect()]


def test_one_night_is_replaced_and_no_other(spark, lake: Lake):
    lake.replace(rows(spark, DAY1, "a", "b"), RECOMMENDATIONS, predicate(run_date=DAY1, list_name="main"), {"night": 1})
    lake.replace(rows(spark, DAY2, "c"), RECOMMENDATIONS, predicate(run_date=DAY2, list_name="main"), {"night": 2})
    lake.replace(rows(spark, DAY1, "d"), RECOMMENDATIONS, predicate(run_date=DAY1, list_name="main"), {"night": 1, "again": True})
    assert (items_of(lake, DAY1), items_of(lake, DAY2)) == (["d"], ["c"])
    assert lake.note(RECOMMENDATIONS) == {"night": 1, "again": True}
    # the state before is still there under its note
    version = lake.version_with(RECOMMENDATIONS, night=2)
    assert lake.read(RECOMMENDATIONS, version).count() == 3
    with pytest.raises(Exception, match="DELTA_REPLACE_WHERE_MISMATCH"):
        lake.replace(rows(spark, DAY2, "x"), RECOMMENDATIONS, predicate(run_date=DAY1, list_name="main"), {})


def test_a_score_that_is_not_a_number_is_refused_by_the_table(spark, lake: Lake):
    with pytest.raises(Exception, match="score_finite"):
        lake.append(rows(spark, DAY1, "a", score=float("nan")), RECOMMENDATIONS, {})
    assert lake.read(RECOMMENDATIONS).count() == 0


def test_a_frame_that_does_not_fit_is_refused_by_name(spark, lake: Lake):
    bad = rows(spark, DAY1, "a").drop("item_id").selectExpr("* except (score)", "cast(score as string) as score")
    with pytest.raises(ContractError, match="recommendations: item_id is missing; score is string"):
        lake.append(bad, RECOMMENDATIONS, {})


def test_merge_replaces_by_key_and_leaves_no_setting_behind(spark, lake: Lake):
    one = [("run", "m", "", "ndcg@10", "", 0.1, None, None, None, 5, NOW), ("run", "m", "", "hr@10", "", 0.2, None, None, None, 5, NOW)]
    lake.append(spark.createDataFrame(one, METRICS.ddl), METRICS, {})
    two = [("run", "m", "", "ndcg@10", "", 0.3, None, None, None, 6, NOW), ("run", "m", "", "mrr@10", "", 0.4, None, None, None, 6, NOW)]
    lake.merge(spark.createDataFrame(two, METRICS.ddl), METRICS, {"step": 2})
    assert {r["name"]: r["value"] for r in lake.read(METRICS).collect()} == {"ndcg@10": 0.3, "hr@10": 0.2, "mrr@10": 0.4}
    assert lake.note(METRICS) == {"step": 2}
    assert spark.conf.get("spark.databricks.delta.commitInfo.userMetadata", None) is None


def test_a_table_of_an_earlier_version_gets_its_new_column(spark, lake: Lake):
    """By the next write: rows from before are NULL there, and what the table stood at is still in its note."""
    earlier = replace(RECOMMENDATIONS, columns=tuple(c for c in RECOMMENDATIONS.columns if c.name != "source"), checks=())
    lake.append(rows(spark, DAY1, "a"), earlier, {"step": 1})
    later = Lake(spark, lake.root)
    later.ensure(RECOMMENDATIONS)
    assert later.note(RECOMMENDATIONS) == {"step": 1}
    later.append(rows(spark, DAY2, "b"), RECOMMENDATIONS, {"step": 2})
    assert [(r.item_id, r.source) for r in lake.read(RECOMMENDATIONS).orderBy("item_id").collect()] == [("a", None), ("b", "model")]
    comment = {f.name: f.metadata["comment"] for f in lake.read(RECOMMENDATIONS).schema.fields}["source"]
    assert comment == next(c.comment for c in RECOMMENDATIONS.columns if c.name == "source")


def test_a_side_lake_keeps_its_own_tables_apart(spark, lake: Lake, tmp_path: Path):
    side = SideLake(lake, tmp_path / "side", own=(METRICS,))
    side.append(spark.createDataFrame([("r", "m", "", "n", "", 1.0, None, None, None, 1, NOW)], METRICS.ddl), METRICS, {})
    side.append(rows(spark, DAY1, "a"), RECOMMENDATIONS, {})
    assert (lake.read(METRICS).count(), lake.read(RECOMMENDATIONS).count()) == (0, 1)


@pytest.mark.parametrize("value", ["main' OR '1'='1", "a b", "", "x'"])
def test_text_that_could_end_a_literal_never_reaches_a_predicate(value: str):
    with pytest.raises(TableError, match="cannot stand in a predicate"):
        predicate(list_name=value)


def test_the_second_comer_is_told_who_holds_the_lease(tmp_path: Path):
    with lease(tmp_path), pytest.raises(LeaseError, match=r"process \d+ .*--wait"), lease(tmp_path):
        raise AssertionError("two held it")
    with lease(tmp_path):   # given back
        pass


def test_the_second_comer_may_wait(tmp_path: Path):
    order: list[str] = []

    def first() -> None:
        with lease(tmp_path):
            order.append("first in")
            time.sleep(1.0)
            order.append("first out")

    thread = threading.Thread(target=first)
    thread.start()
    while not order:
        time.sleep(0.01)
    with lease(tmp_path, wait_s=20):
        order.append("second in")
    thread.join()
    assert order == ["first in", "first out", "second in"]


def test_the_lease_of_a_process_whose_number_is_another_s_now_is_taken_over(tmp_path: Path):
    with lease(tmp_path):
        file = tmp_path / "_leases" / "night.json"
        held = file.read_text()
    file.write_text(json.dumps(json.loads(held) | {"started": "1"}))      # of this process's number, begun at another instant
    with lease(tmp_path):
        taken = json.loads(file.read_text())
    assert taken["started"] == json.loads(held)["started"] and taken["token"] != json.loads(held)["token"]


def test_the_lease_of_a_killed_process_is_taken_over(tmp_path: Path):
    code = f"import os, signal\nfrom recs.tables import lease\nwith lease({str(tmp_path)!r}):\n    os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    left = tmp_path / "_leases" / "night.json"
    assert json.loads(left.read_text())["pid"] > 0
    with lease(tmp_path):
        pass
    assert not left.exists()
