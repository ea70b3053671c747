"""Where a test may kill the night.  `RECS_FAULT` names one point; unset (always, outside tests) nothing here does anything.

    after_staging    the staged lists are committed, nothing is decided
    during_commit    new Parquet files lie in the night's partition, the log does not name them yet
    after_commit     the night is published, `nights` does not know it yet

Killed is the whole run: the JVM first, then this process; a JVM left alive could still finish its commit.
"""
from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def crash(point: str, spark: SparkSession) -> None:
    """Kill the run if `RECS_FAULT` names this point."""
    if os.environ.get("RECS_FAULT") == point:
        _kill(_jvm_pid(spark))


@contextmanager
def crash_on_new_file(point: str, spark: SparkSession, folder: str) -> Iterator[None]:
    """Kill the run as soon as a new Parquet file appears below `folder` (a local one) while the body runs."""
    if os.environ.get("RECS_FAULT") == point:
        known = _parquet(folder)
        watcher = threading.Thread(target=_watch, args=(folder, known, _jvm_pid(spark)), daemon=True)
        watcher.start()
    yield


def _parquet(folder: str) -> set[Path]:
    return set(Path(folder).rglob("*.parquet")) if Path(folder).is_dir() else set()


def _watch(folder: str, known: set[Path], jvm: int) -> None:
    while not _parquet(folder) - known:
        time.sleep(0.002)
    _kill(jvm)


def _jvm_pid(spark: SparkSession) -> int:
    return int(spark._jvm.java.lang.ProcessHandle.current().pid())


def _kill(jvm: int) -> None:
    os.kill(jvm, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
