"""Staged lists: one Delta folder per attempt, beside the published table and read by nobody but audit and publish.

    root/_staging/<run_date>/<list>/<attempt>     the rows of `recommendations`, nothing checked yet, and in the note of the commit
                                                  the tuple they were made from

Staging is one commit, so a killed run leaves the folder without rows or whole.  Folders stay for a while after the night, so that
a held night can be released and a withdrawn one published again.
"""
from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from recs.clock import ClockError, parse_date
from recs.schemas import RECOMMENDATIONS, Table
from recs.tables import Lake

from .faults import crash

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

KEEP = timedelta(days=14)   # staged folders of older run dates, written longer ago, are removed when a night is published


@dataclass(frozen=True)
class Content:
    """What a set of list rows amounts to."""

    hash: str       # order-free over all columns of `recommendations`, 128 bits, hex
    n_rows: int
    n_lists: int


def staged_table(run_date: date, list_name: str, attempt: int) -> Table:
    """The contract of one attempt's staged rows: that of `recommendations` without its promises, which the audit looks after."""
    return replace(
        RECOMMENDATIONS, name=f"_staging/{run_date.isoformat()}/{list_name}/{attempt}", partitions=(), checks=(),
        doc="Staged rows of one attempt", columns=tuple(replace(c, nullable=True) for c in RECOMMENDATIONS.columns),
    )


def stage(lake: Lake, rows: DataFrame, table: Table, note: dict[str, Any]) -> None:
    """Write the rows of an attempt in one commit, over whatever an earlier try left there."""
    lake.overwrite(rows, table, note)
    crash("after_staging", lake.spark)


def content(rows: DataFrame) -> Content:
    """Hash, rows and lists of a frame with the columns of `recommendations`.

    The sum of two 64-bit hashes per row: independent of order and partitioning, and unlike an exclusive or it sees rows that
    come twice.
    """
    from pyspark.sql import functions as F

    columns = [F.col(c) for c in RECOMMENDATIONS.column_names]
    found = rows.agg(
        F.count(F.lit(1)).alias("n"), F.count_distinct("run_date", "list_name", "audience", "user_id").alias("lists"),
        F.sum(_hash(columns)).alias("a"), F.sum(_hash([F.lit("salt"), *reversed(columns)])).alias("b"),
    ).collect()[0]
    text = f"{found['n']}:{found['a'] or 0}:{found['b'] or 0}"
    return Content(hashlib.sha256(text.encode()).hexdigest()[:32], found["n"], found["lists"])


def _hash(columns: list[Column]) -> Column:
    """64-bit hash of a row as a decimal; xxhash64 skips NULLs, so that what is NULL is hashed as well."""
    from pyspark.sql import functions as F

    nulls = F.concat(*(F.when(c.isNull(), "1").otherwise("0") for c in columns))
    return F.xxhash64(*columns, nulls).cast("decimal(20,0)")


def remove_old(lake: Lake, run_date: date) -> None:
    """Remove the staged folders of run dates more than KEEP before this one that nobody wrote into for as long.

    A backfill stages a night of last month, and tonight may be published before that one is.
    """
    files, root = _hadoop(lake, f"{lake.root}/_staging")
    if not files.exists(root):
        return
    for entry in files.listStatus(root):
        try:
            old = parse_date(entry.getPath().getName()) < run_date - KEEP
        except ClockError:      # not a folder of ours
            continue
        if old and time.time() - _written_s(files, entry.getPath()) > KEEP.total_seconds():
            files.delete(entry.getPath(), True)


def _written_s(files: Any, folder: Any) -> float:
    """When the newest file below a folder was written, seconds since 1970; folders have no such time on object stores."""
    newest, found = 0, files.listFiles(folder, True)
    while found.hasNext():
        newest = max(newest, found.next().getModificationTime())
    return newest / 1_000


def _hadoop(lake: Lake, path: str) -> tuple[Any, Any]:
    """Hadoop's file system of a path, and the path: works wherever Spark reads and writes."""
    jvm = lake.spark._jvm
    hadoop_path = jvm.org.apache.hadoop.fs.Path(path)
    return hadoop_path.getFileSystem(lake.spark._jsc.hadoopConfiguration()), hadoop_path
