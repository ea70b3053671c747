"""Staged Parquet written by executors: a file per batch of rows there, one manifest per folder here.

    worker      part(folder, number, columns)      writes a file, gives back the row that says what is in it
    driver      finished(folder, rows)             the manifest over all rows of a folder, written last
"""
from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pyspark.sql import Row

    from recs.nn.staged import Staged

DDL = "night int, name string, rows bigint, bytes bigint, sha256 string, fields string"
FILES_OF_A_TASK = 100_000


def part(folder: str, number: int, columns: dict[str, np.ndarray], night: int = 0) -> pd.DataFrame:
    """Write a task's file `number`, and its row (DDL); the name is the same when the task is tried again."""
    from pyspark import TaskContext

    from recs.nn.staged import fields_of, write_part

    fields = fields_of(columns)
    file = write_part(folder, TaskContext.get().partitionId() * FILES_OF_A_TASK + number, columns, fields)
    plain = json.dumps({name: (f.dtype, f.shape) for name, f in fields.items()})
    row = {"night": night, "name": file.name, "rows": file.rows, "bytes": file.bytes, "sha256": file.sha256, "fields": plain}
    return pd.DataFrame([row])


def finished(folder: Path, rows: Collection[Row], facts: dict[str, Any] | None = None) -> Staged:
    """The folder with its manifest; `rows`: of all its files, at least one."""
    from recs.nn.staged import Field, StagedFile, write_manifest

    fields = {name: Field(dtype, tuple(shape)) for name, (dtype, shape) in json.loads(next(iter(rows))["fields"]).items()}
    return write_manifest(folder, fields, [StagedFile(r["name"], r["rows"], r["bytes"], r["sha256"]) for r in rows], facts)
