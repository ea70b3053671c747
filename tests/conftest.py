"""One Spark session for the whole run: local[2,4] (a failed task is tried again), four shuffle partitions, no UI."""
from __future__ import annotations

from pathlib import Path

import pytest

from recs.config import SparkConfig
from recs.tables import Lake


@pytest.fixture(scope="session")
def spark():
    from recs.session import start

    session = start("recs-tests", SparkConfig(
        master="local[2,4]", shuffle_partitions=4, driver_memory="2g",
        java_options="-XX:TieredStopAtLevel=1",     # many small frames: compiling more than once costs more than it brings
    ))
    yield session
    session.stop()


@pytest.fixture
def lake(spark, tmp_path: Path) -> Lake:
    return Lake(spark, tmp_path / "lake")
