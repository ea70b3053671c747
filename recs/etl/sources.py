"""Raw files -> raw rows, each with its text, its file and its place.

The rows in order: the paths are listed (folders and globs opened, hidden files left out) and sorted; every file is counted;
lines are parsed by the format's own parser, and one it cannot parse keeps its text and is marked.

A row's place must not depend on how Spark cuts the files, so it is counted, not guessed.  For lines: one pass counts the lines
of every block that Spark cuts out of a file; the place is the lines of the earlier blocks of the file plus the rows before it
in its own block.  Parquet stores the row's number.  A Delta table has no order of rows: there the place is a hash of the row.

Added columns: `_raw` the text (for Parquet and Delta the columns), `_malformed`, `_file` its path, `_place` its number in
the file (from 0, the header not counted), `_seq` its number in all input, counted on from the earlier batches.
"""
from __future__ import annotations

import csv
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recs.config import SourceFormat
from recs.local_frame import local_frame

ADDED = ("_raw", "_malformed", "_file", "_place", "_seq")
_BAD = "_malformed_text"
# Options about files, not about one line: the line parsers must not see them.
_FILE_OPTIONS = {"header", "multiLine", "encoding", "lineSep", "enforceSchema", "samplingRatio", "primitivesAsString", "mode"}


class SourceError(ValueError):
    """The input cannot be read; the message names the path and what to do."""


@dataclass(frozen=True, order=True)
class InputFile:
    """One file, and what tells a changed file from an unchanged one."""

    path: str
    fingerprint: str


class RawRows(NamedTuple):
    """`frame`: the raw columns and ADDED; `n_rows`: how many rows there are, counted apart from the parsing."""

    frame: DataFrame
    n_rows: int


class Block(NamedTuple):
    """Lines that Spark reads as one piece: `n` of them, numbered from `first`; `head` is the first line of a file."""

    file: str
    start: int
    n: int
    first: int
    head: str | None


@contextmanager
def fixed_splits(spark: SparkSession) -> Iterator[None]:
    """While the body runs, two reads of one file are cut alike even if executors come and go between them."""
    key = "spark.sql.files.minPartitionNum"
    if spark.conf.get(key, None) is not None:
        yield
        return
    spark.conf.set(key, str(spark.sparkContext.defaultParallelism))
    try:
        yield
    finally:
        spark.conf.unset(key)


def list_files(spark: SparkSession, paths: Iterable[str], source: SourceFormat) -> list[InputFile]:
    """The input files behind paths, folders and globs, in the order of their paths.

    For Delta a path is a table, `PATH@v7` one version of it (default: the newest).  SourceError when a path holds nothing.
    """
    if source.format == "delta":
        return sorted({file for path in paths for file in _delta_version(spark, path)})
    return sorted(set(_files(spark, list(paths))))


def _files(spark: SparkSession, paths: list[str]) -> list[InputFile]:
    """All paths in one listing: a job for each would take longer than reading them."""
    try:
        listing = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(paths)
        rows = listing.select("path", "length", F.unix_millis("modificationTime").alias("changed")).collect()
    except AnalysisException as e:
        if len(paths) > 1:      # one of them: listed alone, it is named
            return [file for path in paths for file in _files(spark, [path])]
        raise SourceError(f"input {paths[0]}: cannot be listed ({e.getCondition()}); give an existing file, folder or glob") from None
    if empty := _without_files(spark, paths, [r.path for r in rows]):
        raise SourceError(f"input {empty}: no files there; give a file, a folder with files or a glob that matches some")
    return [InputFile(r.path, f"{r.length}-{r.changed}") for r in rows]


def _without_files(spark: SparkSession, paths: list[str], found: list[str]) -> str | None:
    """The first path below which none of the found files lies."""
    found = sorted(found)

    def first_from(text: str) -> str:
        at = bisect_left(found, text)
        return found[at] if at < len(found) else ""

    for path in paths:
        given = spark._jvm.org.apache.hadoop.fs.Path(path)
        matches = given.getFileSystem(spark._jsc.hadoopConfiguration()).globStatus(given) or ()
        roots = [m.getPath().toString() for m in matches]
        if not any(first_from(root) == root or first_from(f"{root}/").startswith(f"{root}/") for root in roots):
            return path
    return None


def _delta_version(spark: SparkSession, path: str) -> list[InputFile]:
    table, version = re.fullmatch(r"(.*?)(?:@v(\d+))?", path).groups()
    try:
        if version is None:
            history = spark.sql(f"DESCRIBE HISTORY delta.`{table.replace('`', '``')}` LIMIT 1")
            version = history.collect()[0]["version"]
    except AnalysisException as e:
        raise SourceError(f"input {table}: not a Delta table ({e.getCondition()})") from None
    return [InputFile(f"{table}@v{version}", "delta")]


def read_raw(spark: SparkSession, files: list[InputFile], source: SourceFormat, base: int = 0) -> RawRows:
    """The rows of `files`, at least one; `base` is the number of rows read before (`_seq` counts on from there)."""
    paths = [_unglobbed(f.path) for f in files]
    if source.format == "delta":
        return _read_delta(spark, files, source)
    if source.format == "parquet":
        return _read_parquet(spark, paths, source, base)
    if _flag(source, "multiLine"):
        return _read_multiline(spark, paths, source, base)
    return _read_lines(spark, paths, source, base)


# ---- lines: CSV, JSON lines, text -----------------------------------------------------------------------------------

def _read_lines(spark: SparkSession, paths: list[str], source: SourceFormat, base: int) -> RawRows:
    lines = _lines(spark, paths, source)
    blocks = _count_blocks(lines)
    header = source.format == "csv" and _flag(source, "header")
    placed = _placed(lines, blocks, header, base)
    n_rows = sum(b.n for b in blocks) - (len({b.file for b in blocks}) if header else 0)
    return RawRows(_parsed(placed, paths, source, _header_names(blocks, source) if header else None), n_rows)


def _lines(spark: SparkSession, paths: list[str], source: SourceFormat) -> DataFrame:
    """value, _file, _block (where Spark cut the file), _id (grows by one from line to line of a block)."""
    zst = [p for p in paths if p.endswith(".zst")]
    parts = [_zstd_lines(spark, zst)] if zst else []
    if rest := [p for p in paths if not p.endswith(".zst")]:
        reader = spark.read.options(ignoreCorruptFiles="false", ignoreMissingFiles="false")
        if separator := source.options.get("lineSep"):
            reader = reader.option("lineSep", separator)
        parts.insert(0, reader.text(rest).select(
            "value", F.col("_metadata.file_path").alias("_file"), F.col("_metadata.file_block_start").alias("_block"),
            F.monotonically_increasing_id().alias("_id"),
        ))
    lines = parts[0] if len(parts) == 1 else parts[0].unionByName(parts[1])
    return lines.withColumn("value", _decoded(F.col("value"), source))


def _zstd_lines(spark: SparkSession, paths: list[str]) -> DataFrame:
    """Hadoop's zstd needs a native library that the wheel of pyspark lacks; Arrow brings its own.

    A file is one task and its compressed bytes are in memory, the lines are not: they leave a megabyte at a time.
    """
    def unpack(batches: Iterator) -> Iterator:
        import pyarrow as pa

        for batch in batches:
            for path, content in zip(batch["path"], batch["content"], strict=True):
                at, rest = 0, b""
                with pa.CompressedInputStream(pa.BufferReader(content.as_buffer()), "zstd") as stream:
                    while chunk := stream.read(1 << 20):
                        *whole, rest = (rest + chunk).split(b"\n")
                        if whole:
                            yield _batch(pa, whole, path.as_py(), at)
                            at += len(whole)
                if rest:
                    yield _batch(pa, [rest], path.as_py(), at)

    files = spark.read.format("binaryFile").load(paths).select("path", "content").repartition(len(paths))
    binary = files.mapInArrow(unpack, "value binary, _file string, _block bigint, _id bigint")
    return binary.withColumn("value", F.col("value").cast("string"))


def _batch(pa, lines: list[bytes], path: str, at: int):
    n = len(lines)
    values = pa.array([line.removesuffix(b"\r") for line in lines], pa.binary())
    columns = [values, pa.array([path] * n), pa.array([0] * n, pa.int64()), pa.array(range(at, at + n), pa.int64())]
    return pa.RecordBatch.from_arrays(columns, ["value", "_file", "_block", "_id"])


def _decoded(value: Column, source: SourceFormat) -> Column:
    """Text files are bytes that Spark takes for UTF-8; other encodings that keep ASCII as it is are decoded here."""
    encoding = source.options.get("encoding", "UTF-8").upper()
    if encoding == "UTF-8":
        return value
    if encoding not in ("ISO-8859-1", "US-ASCII"):
        raise SourceError(f"encoding {encoding}: lines can be read as UTF-8 or ISO-8859-1; convert the file with iconv")
    return F.decode(value.cast("binary"), encoding)


def _count_blocks(rows: DataFrame) -> list[Block]:
    """A row per block of up to 128 MB: small enough for the driver."""
    head = F.when(F.col("_block") == 0, F.min_by("value", "_id")) if "value" in rows.columns else F.lit(None)
    counted = rows.groupBy("_file", "_block").agg(F.count("*").alias("n"), F.min("_id").alias("first"), head.cast("string").alias("head"))
    return sorted((Block(*row) for row in counted.collect()), key=lambda b: (b.file, b.start))


def place_blocks(blocks: list[Block], header: bool, base: int) -> list[tuple[str, int, int, int, int, int]]:
    """Per block: file, start, n, first, and place and `_seq` of its first line.  The header's place is -1."""
    placed, seq, in_file, file = [], base, 0, None
    for b in blocks:
        if b.file != file:
            file, in_file = b.file, -1 if header else 0
            seq += in_file
        placed.append((b.file, b.start, b.n, b.first, in_file, seq))
        in_file, seq = in_file + b.n, seq + b.n
    return placed


def _placed(rows: DataFrame, blocks: list[Block], header: bool, base: int) -> DataFrame:
    """`_file`, `_place` and `_seq` instead of `_file`, `_block` and `_id`; header lines go."""
    ddl = "_file string, _block bigint, n bigint, first bigint, place bigint, seq bigint, path string"
    starts = [(*b, unquote(b[0])) for b in place_blocks(blocks, header, base)]     # Spark writes ' ' in a path as %20
    joined = rows.join(F.broadcast(local_frame(rows.sparkSession, starts, ddl)), ["_file", "_block"], "left")
    row = F.col("_id") - F.col("first")
    changed = F.raise_error(F.concat(F.lit("the file changed while it was read: "), F.col("_file"))).cast("bigint")
    joined = joined.withColumn("_row", F.when((row >= 0) & (row < F.col("n")), row).otherwise(changed))
    added = {"_file": F.col("path"), "_place": F.col("place") + F.col("_row"), "_seq": F.col("seq") + F.col("_row")}
    kept = [c for c in rows.columns if c not in ("_file", "_block", "_id")]
    return joined.withColumns(added).where("_place >= 0").select(*(F.col(f"`{c}`") for c in kept), "_file", "_place", "_seq")


def _parsed(lines: DataFrame, paths: list[str], source: SourceFormat, names: list[str] | None) -> DataFrame:
    """The raw columns.  What is not valid UTF-8 is kept byte by byte, read as ISO-8859-1, and is malformed."""
    valid = F.is_valid_utf8("value")
    kept = F.when(valid, F.col("value")).otherwise(F.decode(F.col("value").cast("binary"), "ISO-8859-1"))
    lines = lines.withColumns({"_raw": kept, "_valid": valid})
    if source.format == "text":
        return lines.select("value", "_raw", (~F.col("_valid")).alias("_malformed"), "_file", "_place", "_seq")
    row, malformed = _csv_row(source, names) if source.format == "csv" else _json_row(lines.sparkSession, paths, source)
    parsed = lines.withColumn("_row", row).withColumn("_malformed", ~F.col("_valid") | (F.trim("value") == "") | malformed)
    columns = [c for c in parsed.schema["_row"].dataType.names if c != _BAD]
    _refuse_added(columns)
    return parsed.select(*(F.col("_row").getField(c).alias(c) for c in columns), *ADDED)


def _csv_row(source: SourceFormat, names: list[str] | None) -> tuple[Column, Column]:
    ddl = source.schema_ddl or ", ".join(f"`{n}` string" for n in names or [])
    if not ddl:
        raise SourceError("source.format csv: give `options: {header: 'true'}` or the columns in `schema_ddl`")
    options = {k: v for k, v in source.options.items() if k not in _FILE_OPTIONS}
    row = F.from_csv("value", f"{ddl}, `{_BAD}` string", {**options, "columnNameOfCorruptRecord": _BAD})
    return row, F.col(f"_row.{_BAD}").isNotNull()


def _json_row(spark: SparkSession, paths: list[str], source: SourceFormat) -> tuple[Column, Column]:
    """A field of the wrong type makes the line malformed; so does anything behind the object, which the parser would ignore."""
    schema = _json_schema(spark, paths, source).add(_BAD, StringType())
    options = {k: v for k, v in source.options.items() if k not in _FILE_OPTIONS}
    row = F.from_json("value", schema, {**options, "columnNameOfCorruptRecord": _BAD})
    alone = F.json_array_length(F.concat(F.lit("["), "value", F.lit("]"))) == 1
    return row, F.col(f"_row.{_BAD}").isNotNull() | ~F.coalesce(alone, F.lit(False))


def _json_schema(spark: SparkSession, paths: list[str], source: SourceFormat) -> StructType:
    """Without schema_ddl the files are read to find their fields, and values stay text: types would change from batch to batch."""
    if source.schema_ddl:
        return StructType.fromDDL(source.schema_ddl)
    found = spark.read.options(**{"primitivesAsString": "true", **source.options}).json(paths).schema
    return StructType([f for f in found if f.name != "_corrupt_record"])


def _header_names(blocks: list[Block], source: SourceFormat) -> list[str]:
    """The names in the header, which all files must share: a file with other columns would be read shifted."""
    headers = {b.head: b.file for b in blocks if b.start == 0}
    separator = source.options.get("sep", source.options.get("delimiter", ","))
    read = {tuple(_split_header(head, separator, source.options.get("quote", '"'))): file for head, file in headers.items()}
    if not read:
        raise SourceError("the CSV files are empty: not even a header")
    (names, file), *others = read.items()
    if others:
        raise SourceError(f"{others[0][1]}: its header differs from that of {file}; ingest them with a mapping each")
    if len(set(names)) != len(names):
        raise SourceError(f"{file}: a column name stands twice in the header")
    declared = [f.name for f in StructType.fromDDL(source.schema_ddl)] if source.schema_ddl else list(names)
    if declared != list(names):
        odd = sorted(set(declared) ^ set(names)) or list(names)
        raise SourceError(f"{file}: the header and schema_ddl differ in {', '.join(odd)}; correct schema_ddl")
    return list(names)


def _split_header(line: str, separator: str, quote: str) -> list[str]:
    quoted = quote and len(separator) == 1      # Spark's quote "" means that nothing is quoted
    names = next(csv.reader([line], delimiter=separator, quotechar=quote)) if quoted else line.split(separator)
    return [name.strip() or f"_c{i}" for i, name in enumerate(names)]


# ---- columns: Parquet, Delta, records over several lines ---------------------------------------------------------------

def _read_parquet(spark: SparkSession, paths: list[str], source: SourceFormat, base: int) -> RawRows:
    """A file cut off in the middle fails the run: Spark names it, nothing is read in part."""
    reader = spark.read.options(**{**source.options, "ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"})
    stored = reader.parquet(*paths)
    _refuse_added(stored.columns)
    rows = stored.select("*", F.col("_metadata.file_path").alias("_file"), F.lit(0).cast("bigint").alias("_block"),
                         F.col("_metadata.row_index").alias("_id"))
    blocks = _count_blocks(rows)
    return RawRows(_with_row(_placed(rows, blocks, False, base), stored.columns), sum(b.n for b in blocks))


def _read_delta(spark: SparkSession, files: list[InputFile], source: SourceFormat) -> RawRows:
    parts = []
    for table, version in (f.path.rsplit("@v", 1) for f in files):
        stored = spark.read.format("delta").options(**source.options).option("versionAsOf", version).load(table)
        _refuse_added(stored.columns)
        place = F.xxhash64(F.to_json(F.struct(*stored.columns))).bitwiseAND(F.lit(2**63 - 1))
        rows = stored.withColumns({"_file": F.lit(table), "_place": place, "_seq": place})
        parts.append(_with_row(rows, stored.columns))
    frame = parts[0]
    for part in parts[1:]:
        frame = frame.unionByName(part)
    return RawRows(frame, frame.count())


def _read_multiline(spark: SparkSession, paths: list[str], source: SourceFormat, base: int) -> RawRows:
    """CSV with line breaks inside quotes, JSON documents: a file is one task, and well-formed rows lose their raw text."""
    options = {"enforceSchema": "false", **source.options}
    if source.format == "json":
        schema = _json_schema(spark, paths, source)
    else:
        schema = StructType.fromDDL(source.schema_ddl) if source.schema_ddl else spark.read.options(**options).csv(paths).schema
    _refuse_added(schema.names)
    reader = spark.read.schema(StructType([*schema, StructField(_BAD, StringType())])).options(**options, columnNameOfCorruptRecord=_BAD)
    stored = reader.json(paths) if source.format == "json" else reader.csv(paths)
    rows = stored.select("*", F.col("_metadata.file_path").alias("_file"), F.lit(0).cast("bigint").alias("_block"),
                         F.monotonically_increasing_id().alias("_id"))
    blocks = _count_blocks(rows)
    placed = _placed(rows, blocks, False, base)
    return RawRows(_with_row(placed, schema.names, F.col(_BAD)), sum(b.n for b in blocks))


def _with_row(rows: DataFrame, columns: list[str], text: Column | None = None) -> DataFrame:
    """`_raw` is the row itself, made text where it is wanted (recs/etl/mapping.py); `text`: what could not be read as a row."""
    row = F.struct(*(F.col(f"`{c}`") for c in columns))
    raw, malformed = (row, F.lit(False)) if text is None else (F.coalesce(text, F.to_json(row)), text.isNotNull())
    return rows.withColumns({"_raw": raw, "_malformed": malformed}).select(*(F.col(f"`{c}`") for c in columns), *ADDED)


# ---- small things ----------------------------------------------------------------------------------------------------

def _flag(source: SourceFormat, name: str) -> bool:
    return source.options.get(name, "false").lower() == "true"


def _refuse_added(columns: Iterable[str]) -> None:
    if taken := [c for c in columns if c in ADDED or c == _BAD]:
        raise SourceError(f"the input has columns named {', '.join(taken)}; these names are added by ingest, rename them")


def _unglobbed(path: str) -> str:
    """A listed path is one file, even with glob characters in its name."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)
