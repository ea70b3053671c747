"""The six logs of the benchmark folder: exactly its events, row by row.  Skipped where the folder is absent."""
from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from recs.config import load
from recs.jobs import ingest
from recs.schemas import EVENTS

FOLDER = Path(os.environ.get("RECS_BENCHMARK_DATA", Path(__file__).resolve().parents[3] / "shared" / "benchmarks"))
KEY = ["user_id", "item_id", "ts", "event_type", "value"]
LOGS = {    # events, items, users
    "deskdrop": ("users_interactions.parquet", None, None),
    "online_retail": ("online_retail.parquet", "online_retail.parquet", None),
    "nyc_checkins": ("nyc_checkins.parquet", "nyc_checkins.parquet", None),
    "ml_100k": ("ml-100k.inter", "ml-100k.item", "ml-100k.user"),
    "ml1m": ("ml1m_reconstructed.parquet", "ml1m_reconstructed.parquet", None),
    "beauty": ("Beauty.txt", None, None),
}


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.skipif(not (FOLDER / "datasets.py").exists(), reason="the benchmark folder is not here")
@pytest.mark.parametrize("name", LOGS)
def test_events_equal_the_folders(lake, name):
    spec = importlib.util.spec_from_file_location("benchmark_datasets", FOLDER / "datasets.py")
    datasets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(datasets)
    expected = datasets.load(name)[0][KEY].sort_values(KEY).reset_index(drop=True)
    paths = [[str(FOLDER / "data" / name / f)] if f else [] for f in LOGS[name]]
    result = ingest.run(lake.spark, lake, load(name), *paths)
    got = lake.read(EVENTS).selectExpr("user_id", "item_id", "unix_seconds(ts) AS ts", "event_type", "value").toPandas()
    assert result.tally.accepted == len(got) == len(expected)
    assert got.sort_values(KEY).reset_index(drop=True).astype(str).equals(expected.astype(str))
    assert ingest.run(lake.spark, lake, load(name), *paths).batch_id is None
