"""One Spark session for the whole run: local[2,4] (a failed task is tried again), four shuffle partitions, no UI."""
from __future__ import annotations

from pathlib import Path

import pytest

from recs.config import SparkConfig
from recs.tables import Lake

# files of a minute and more, the longest first: begun last, one of them would keep one core busy and the others idle
LONG = (
    "etl/test_incremental.py", "serve/test_night.py", "judge/test_again.py", "models/test_sequence.py", "etl/test_ingest.py",
    "judge/test_build_examples.py", "judge/test_champions.py", "models/test_sequence_text.py", "models/test_timeline_train.py",
    "models/test_timeline.py", "judge/test_compare.py", "models/test_sequence_tuning.py", "etl/test_item_tables.py", "test_schedules.py",
    "models/test_sequence_side.py", "nn/test_train_kill.py", "etl/test_catalogue.py", "etl/test_text_vectors.py",
)

# Hundreds of plans for a few rows each: to generate and compile code for every one takes a fifth of the time.  Jobs that the tests start
# as processes of their own, and the nights of `make nightly` and `make test-slow`, run compiled.
INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files go first (`make test` hands out files in this order, `--no-loadscope-reorder`); within a file nothing moves."""
    here = Path(__file__).parent
    place = {here / name: n for n, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.fixture(scope="session")
def spark():
    from recs.session import QUICK_JVM, start

    session = start("recs-tests", SparkConfig(
        master="local[2,4]", shuffle_partitions=4, driver_memory="2g", settings=INTERPRETED,
        java_options=QUICK_JVM,
    ))
    yield session
    session.stop()


@pytest.fixture
def lake(spark, tmp_path: Path) -> Lake:
    return Lake(spark, tmp_path / "lake")
