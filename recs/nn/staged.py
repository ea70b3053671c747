"""A staged data set: a folder of plain Parquet files of fixed shapes, and a manifest that says what must be in them.

    train/
      part-00000.parquet      one row is one example; one column a field
      part-00001.parquet
      manifest.json           written last: without it the folder is unfinished and nobody reads it

A scalar field is an ordinary column.  An array field is one `binary` column with the bytes of the array (C order, little
endian); its dtype and shape stand in the manifest.  Lists would be the natural Parquet type, but readers rebuild every row of
them as a Python object; bytes of one length are joined and viewed, and half precision and uint8 stay what they are.

    >>> fields = {"user": Field("int64"), "h_item": Field("int32", (200,)), "evidence": Field("float16", (128, 40))}

Training trusts the manifest only: rows delivered must be its rows, files its files, schema its fields (petastorm loses rows
silently in some versions, and takes the schema from whichever file comes first).
"""
from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = 1
MANIFEST = "manifest.json"
SCALARS = ("int32", "int64", "float32")
ARRAYS = ("uint8", "int16", "int32", "int64", "float16", "float32")


class StagedError(ValueError):
    """The staged data set is not what its manifest says; the message names the file and both numbers."""


@dataclass(frozen=True)
class Field:
    """One column: `shape` () is a scalar, else the shape of one example's array."""

    dtype: str
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in (ARRAYS if self.shape else SCALARS):
            raise StagedError(f"{'array' if self.shape else 'scalar'} of {self.dtype}: not among {ARRAYS if self.shape else SCALARS}")

    @property
    def width(self) -> int:
        """Bytes of one example."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def arrow(self) -> pa.DataType:
        """Its type in Parquet."""
        return pa.binary() if self.shape else pa.from_numpy_dtype(np.dtype(self.dtype))


Fields = Mapping[str, Field]
Columns = Mapping[str, np.ndarray]      # field -> [rows, *shape]


@dataclass(frozen=True)
class StagedFile:
    """One file as the manifest knows it."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Staged:
    """An opened data set: its folder and its manifest."""

    folder: Path
    fields: dict[str, Field]
    files: tuple[StagedFile, ...]
    facts: dict[str, Any]       # table versions, cuts, whatever the writer wants to be known

    @property
    def rows(self) -> int:
        """Examples of all files."""
        return sum(f.rows for f in self.files)

    @cached_property
    def content_hash(self) -> str:
        """Of fields and files: equal hashes are equal data."""
        text = json.dumps({"fields": _plain(self.fields), "files": [asdict(f) for f in self.files]}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def row_bytes(self) -> int:
        """Bytes of one example in memory."""
        return sum(f.width for f in self.fields.values())


def fields_of(columns: Columns) -> dict[str, Field]:
    """The fields that hold these arrays."""
    return {name: Field(str(a.dtype), tuple(a.shape[1:])) for name, a in columns.items()}


def arrow_schema(fields: Fields) -> pa.Schema:
    """How the fields lie in Parquet; nothing may be NULL."""
    return pa.schema([pa.field(name, field.arrow, nullable=False) for name, field in fields.items()])


def arrow_table(columns: Columns, fields: Fields) -> pa.Table:
    """The columns, without a copy, as they lie in Parquet.  StagedError where dtype, shape or rows differ from the fields."""
    if set(columns) != set(fields):
        raise StagedError(f"columns {sorted(columns)}, fields {sorted(fields)}")
    rows = {len(a) for a in columns.values()}
    if len(rows) != 1:
        raise StagedError(f"columns of different lengths: {({name: len(a) for name, a in columns.items()})}")
    return pa.Table.from_arrays([_column(name, columns[name], f) for name, f in fields.items()], schema=arrow_schema(fields))


def _column(name: str, a: np.ndarray, field: Field) -> pa.Array:
    if str(a.dtype) != field.dtype or a.shape[1:] != field.shape:
        raise StagedError(f"{name}: {a.dtype} {a.shape[1:]}, the field is {field.dtype} {field.shape}")
    a = np.ascontiguousarray(a)
    if not field.shape:
        return pa.array(a)
    if a.nbytes >= 2**31:       # offsets of `binary` are int32
        raise StagedError(f"{name}: {a.nbytes:,} bytes in one file, at most {2**31 - 1:,}; write fewer rows per file")
    ends = np.arange(len(a) + 1, dtype=np.int32) * field.width
    return pa.Array.from_buffers(pa.binary(), len(a), [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(a)])


def write_part(folder: str | Path, number: int, columns: Columns, fields: Fields, row_group_rows: int = 2_048) -> StagedFile:
    """Write `part-NNNNN.parquet`.  Safe to repeat: a retried task replaces its file in one step."""
    path = Path(folder) / f"part-{number:05d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = arrow_table(columns, fields)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    # dictionaries do not help byte blobs that never repeat; zstd halves id lists, its level 1 reads at 1 GB/s
    pq.write_table(table, half, compression="zstd", compression_level=1, use_dictionary=False, row_group_size=row_group_rows)
    file = StagedFile(path.name, table.num_rows, half.stat().st_size, sha256_of(half))
    half.replace(path)
    return file


def write_manifest(folder: str | Path, fields: Fields, files: Iterable[StagedFile], facts: Mapping[str, Any] | None = None) -> Staged:
    """Finish the data set; from here on it can be read."""
    folder = Path(folder)
    staged = Staged(folder, dict(fields), tuple(sorted(files, key=lambda f: f.name)), dict(facts or {}))
    text = {
        "format": FORMAT, "rows": staged.rows, "fields": _plain(fields), "files": [asdict(f) for f in staged.files],
        "facts": staged.facts, "content_hash": staged.content_hash,
    }
    half = folder / f".{MANIFEST}.{os.getpid()}"
    with half.open("w") as out:
        json.dump(text, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    half.replace(folder / MANIFEST)
    return staged


def write_staged(folder: str | Path, columns: Columns, rows_per_file: int = 10_000, facts: Mapping[str, Any] | None = None) -> Staged:
    """All of it from memory: parts in row order, then the manifest."""
    fields = fields_of(columns)
    n = len(next(iter(columns.values())))
    files = [
        write_part(folder, number, {name: a[lo:lo + rows_per_file] for name, a in columns.items()}, fields)
        for number, lo in enumerate(range(0, n, rows_per_file))
    ]
    return write_manifest(folder, fields, files, facts)


def open_staged(folder: str | Path) -> Staged:
    """The data set in a folder; files are there with the bytes the manifest names (`verify` reads them).  Else StagedError."""
    folder = Path(folder)
    if (folder / "_delta_log").exists():
        raise StagedError(f"{folder} is a Delta table: reading its files would bring deleted rows back; stage a pinned version first")
    if (folder / "_common_metadata").exists():
        raise StagedError(f"{folder} holds _common_metadata, which petastorm would unpickle: not written by this project")
    try:
        text = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise StagedError(f"{folder}: no {MANIFEST}; staging has not finished there") from None
    if text["format"] != FORMAT:
        raise StagedError(f"{folder}: format {text['format']}, this version reads {FORMAT}; stage again")
    fields = {name: Field(f["dtype"], tuple(f["shape"])) for name, f in text["fields"].items()}
    staged = Staged(folder, fields, tuple(StagedFile(**f) for f in text["files"]), text["facts"])
    if staged.content_hash != text["content_hash"] or staged.rows != text["rows"]:
        raise StagedError(f"{folder}: the manifest does not agree with itself")
    for file in staged.files:
        path = folder / file.name
        if Path(file.name).name != file.name:
            raise StagedError(f"{folder}: {file.name} is not the name of a file in the folder")
        have = path.stat().st_size if path.is_file() else -1
        if have != file.bytes:
            raise StagedError(f"{path}: {'missing' if have < 0 else f'{have:,} bytes'}, the manifest says {file.bytes:,}")
    return staged


def verify(staged: Staged) -> None:
    """Read every file: bytes hash to what the manifest says, rows and schema are its own.  Costs a second per gigabyte."""
    for file in staged.files:
        check_schema(staged, file)
        have = sha256_of(staged.folder / file.name)
        if have != file.sha256:
            raise StagedError(f"{staged.folder / file.name}: sha256 {have[:12]}…, the manifest says {file.sha256[:12]}…")


def check_schema(staged: Staged, file: StagedFile) -> None:
    """The footer of one file: columns, types and row count are the manifest's."""
    path = staged.folder / file.name
    footer = pq.ParquetFile(path)
    have, want = {f.name: f.type for f in footer.schema_arrow}, {name: f.arrow for name, f in staged.fields.items()}
    if have != want:
        raise StagedError(f"{path}: columns {have}, the manifest says {want}")
    if footer.metadata.num_rows != file.rows:
        raise StagedError(f"{path}: {footer.metadata.num_rows:,} rows, the manifest says {file.rows:,}")


def sha256_of(path: str | Path) -> str:
    """Hex."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _plain(fields: Fields) -> dict[str, Any]:
    return {name: {"dtype": f.dtype, "shape": list(f.shape)} for name, f in fields.items()}


def link_together(folder: str | Path, parts: Iterable[Staged], facts: Mapping[str, Any] | None = None) -> Staged:
    """One data set of several with the same fields: their files linked (copied where the disk cannot) into `folder`."""
    folder, parts = Path(folder), list(parts)
    folder.mkdir(parents=True, exist_ok=True)
    fields, files = parts[0].fields, []
    for part in parts:
        if part.fields != fields:
            raise StagedError(f"{part.folder}: other fields than {parts[0].folder}; stage both with the same settings")
        for file in part.files:
            name = f"part-{len(files):05d}.parquet"
            _link(part.folder / file.name, folder / name)
            files.append(StagedFile(name, file.rows, file.bytes, file.sha256))
    return write_manifest(folder, fields, files, facts)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def read_columns(staged: Staged, names: Iterable[str], most_rows: int | None = None) -> dict[str, np.ndarray]:
    """Some fields [rows, *shape] of all files in order, or of the first files up to `most_rows` rows."""
    names, found, rows = list(names), [], 0
    for file in staged.files:
        if file.rows:
            found.append(pq.read_table(staged.folder / file.name, columns=names))
        rows += file.rows
        if most_rows is not None and rows >= most_rows:
            break
    return {name: np.concatenate([_values(t.column(name), staged.fields[name]) for t in found] or [_values(None, staged.fields[name])])
            for name in names}


def _values(column: pa.ChunkedArray | None, field: Field) -> np.ndarray:
    if column is None:
        return np.zeros((0, *field.shape), field.dtype)
    if not field.shape:
        return column.to_numpy()
    return np.concatenate([np.frombuffer(b"".join(c.to_pylist()), field.dtype).reshape(len(c), *field.shape) for c in column.chunks])
