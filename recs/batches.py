"""Batches: what has been read, and how a run that died leaves no trace.

A batch opens with its files in `input_files` and ends with its row in `batches`; everything between carries its number.  A number
in `input_files` that `batches` does not know is a run that did not end: the next run takes its rows back before it does anything
else, and reads the files again under the same number.

All of this is for one writer at a time: callers hold the lease on the root (recs.tables.lease).
"""
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from recs.clock import from_micros
from recs.local_frame import local_frame
from recs.schemas import BATCHES, EVENTS, INPUT_FILES, ITEM_VOCABULARY, ITEMS, QUARANTINE, USERS, Table
from recs.tables import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recs.etl.sources import InputFile

# Rows of these are only ever added: an unfinished batch is taken back by deleting its rows.
APPENDED = (EVENTS, QUARANTINE, ITEM_VOCABULARY)
# Rows of these are closed by later ones: an unfinished batch is taken back by writing the version before it again.
MERGED = (ITEMS, USERS)


@dataclass(frozen=True)
class Progress:
    """What the finished batches add up to: the number of the last one (0: none), rows read, the newest event."""

    last: int
    rows_in: int
    newest: datetime | None


def progress(lake: Lake) -> Progress:
    """Of the finished batches alone."""
    from pyspark.sql import functions as F

    last, rows_in, newest_us = lake.read(BATCHES).agg(F.max("batch_id"), F.sum("rows_in"), F.max(F.unix_micros("max_ts"))).first()
    return Progress(last or 0, rows_in or 0, None if newest_us is None else from_micros(newest_us))


def take_back_unfinished(lake: Lake, last: int) -> bool:
    """Remove what a run that did not end left behind (batch numbers above `last`); true when there was something.

    `input_files` goes last: dying in here is harmless too.
    """
    above = f"batch_id > {int(last)}"
    if lake.read(INPUT_FILES).where(above).isEmpty():
        return False
    note = {"stage": "ingest", "batch_id": last, "taken_back": True}
    for table in MERGED:
        _write_version_before(lake, table, last, note)
    for table in (*APPENDED, INPUT_FILES):
        if lake.exists(table):
            lake.delete(table, above, note)
    return True


def _write_version_before(lake: Lake, table: Table, last: int, note: dict[str, Any]) -> None:
    """When somebody else has written since (a person was deleted, say), the rows stay: the retry compares with them and goes on."""
    unfinished = list(takewhile(lambda commit: commit[1].get("batch_id", last) > last, lake.commits(table)))
    if unfinished:
        lake.overwrite(lake.read(table, unfinished[-1][0] - 1), table, note)


def known_rows(rows: DataFrame, key: str, max_batch: int) -> DataFrame:
    """The rows of `items` or `users` that batches up to `max_batch` brought, open again where a later batch closed them.

        a  1 Jan – 1 Mar  batch 1                                a  1 Jan –        batch 1
        a  1 Mar –        batch 2        known to batch 1  ->

    A night that is run again must not see what came after it, and a late row may begin before the night's cut.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    following = Window.partitionBy(key).orderBy("valid_from")
    closed_later = (F.lead("valid_from").over(following) == F.col("valid_to")) & (F.lead("batch_id").over(following) > max_batch)
    as_it_was = rows.withColumn("valid_to", F.when(F.coalesce(closed_later, F.lit(False)), None).otherwise(F.col("valid_to")))
    return as_it_was.where(F.col("batch_id") <= max_batch)


class Unread(NamedTuple):
    """Files to read.  `read_before`: an earlier version of one of them was read, so that some of its rows are known."""

    files: list[InputFile]
    read_before: bool


def unread(lake: Lake, files: dict[str, list[InputFile]]) -> dict[str, Unread]:
    """By part (events, items, users): those of `files` that no finished batch has read, or that have changed since."""
    from pyspark.sql import functions as F

    if not any(files.values()):
        return {part: Unread([], False) for part in files}
    names = sorted({_name(f, part) for part, group in files.items() for f in group})
    known = lake.read(INPUT_FILES).where(F.split_part("source_file", F.lit("@v"), F.lit(1)).isin(names))
    read = {(r.source_file, r.fingerprint) for r in known.select("source_file", "fingerprint").collect()}
    names_read = {source.split("@v")[0] for source, _ in read}
    found = {}
    for part, group in files.items():
        new = [f for f in group if (_source(f, part), f.fingerprint) not in read]
        found[part] = Unread(new, any(_name(f, part) in names_read for f in new))
    return found


def open_batch(lake: Lake, batch_id: int, files: dict[str, Unread], note: dict[str, Any]) -> None:
    """The first write of a batch: the files it reads, by part."""
    rows = [(_source(f, part), f.fingerprint, batch_id) for part, group in files.items() for f in group.files]
    lake.append(local_frame(lake.spark, rows, INPUT_FILES.ddl).coalesce(1), INPUT_FILES, note)


def close_batch(lake: Lake, row: dict[str, Any], note: dict[str, Any]) -> None:
    """The last write of a batch: from here on it counts.  `row`: one row of `batches`."""
    values = tuple(row[c] for c in BATCHES.column_names)
    lake.append(local_frame(lake.spark, [values], BATCHES.ddl).coalesce(1), BATCHES, note)


def _name(file: InputFile, part: str) -> str:
    """Of all versions of a file; a version of a Delta table is its path and '@v12'."""
    return _source(file, part).split("@v")[0]


def _source(file: InputFile, part: str) -> str:
    """One file may be read twice: its events, and the items they name."""
    return file.path if part == "events" else f"{part}:{file.path}"
