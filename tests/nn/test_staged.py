"""A staged data set is what its manifest says, or it is refused with a message that names file and numbers."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from nn_made import every_type

from recs.nn.staged import MANIFEST, Field, StagedError, fields_of, open_staged, verify, write_manifest, write_part, write_staged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_staged(tmp_path / "train", every_type(25), rows_per_file=10, facts={"cut": "2024-03-31"})
    return tmp_path / "train"


def test_what_was_written_is_what_is_opened(folder: Path):
    staged = open_staged(folder)
    verify(staged)
    assert [f.rows for f in staged.files] == [10, 10, 5]
    assert staged.rows == 25
    assert staged.facts == {"cut": "2024-03-31"}
    assert staged.fields["evidence"] == Field("float16", (5, 2))
    assert staged.row_bytes == 8 + 4 + 4 + 12 + 12 + 24 + 48 + 20 + 8
    assert not any(field.nullable for field in pq.read_schema(folder / "part-00000.parquet"))


def test_the_same_data_has_the_same_hash_and_other_data_another(tmp_path: Path, folder: Path):
    assert write_staged(tmp_path / "b", every_type(25), rows_per_file=10).content_hash == open_staged(folder).content_hash
    assert write_staged(tmp_path / "c", every_type(25, seed=1), rows_per_file=10).content_hash != open_staged(folder).content_hash


def test_without_a_manifest_nothing_is_read(folder: Path):
    (folder / MANIFEST).unlink()
    with pytest.raises(StagedError, match="staging has not finished"):
        open_staged(folder)


def test_a_repeated_task_replaces_its_file(tmp_path: Path):
    columns = every_type(10)
    first = write_part(tmp_path, 3, columns, fields_of(columns))
    assert write_part(tmp_path, 3, columns, fields_of(columns)) == first
    assert [p.name for p in tmp_path.iterdir()] == ["part-00003.parquet"]


def test_a_missing_file_and_a_cut_one_are_named(folder: Path):
    cut = folder / "part-00001.parquet"
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-10])
    with pytest.raises(StagedError, match=f"part-00001.parquet: {len(whole) - 10:,} bytes, the manifest says {len(whole):,}"):
        open_staged(folder)
    cut.unlink()
    with pytest.raises(StagedError, match="part-00001.parquet: missing"):
        open_staged(folder)


def test_one_flipped_byte_is_seen(folder: Path):
    path = folder / "part-00002.parquet"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(StagedError, match=r"part-00002.parquet: sha256"):
        verify(open_staged(folder))


def test_a_manifest_that_was_edited_is_refused(folder: Path):
    text = json.loads((folder / MANIFEST).read_text())
    text["files"][0]["rows"] = 11
    (folder / MANIFEST).write_text(json.dumps(text))
    with pytest.raises(StagedError, match="does not agree with itself"):
        open_staged(folder)


def test_a_file_with_other_rows_or_columns_than_promised_is_seen(tmp_path: Path):
    columns = every_type(10)
    fields = fields_of(columns)
    file = write_part(tmp_path, 0, columns, fields)
    other = write_part(tmp_path, 1, {"n": columns["n"]}, {"n": fields["n"]})
    with pytest.raises(StagedError, match="part-00001.parquet: columns"):
        verify(write_manifest(tmp_path, fields, [file, other]))
    lied = type(file)(file.name, 12, file.bytes, file.sha256)
    with pytest.raises(StagedError, match="part-00000.parquet: 10 rows, the manifest says 12"):
        verify(write_manifest(tmp_path, fields, [lied]))


def test_delta_and_pickled_metadata_are_refused(folder: Path):
    (folder / "_common_metadata").touch()
    with pytest.raises(StagedError, match="unpickle"):
        open_staged(folder)
    (folder / "_delta_log").mkdir()
    with pytest.raises(StagedError, match="Delta table"):
        open_staged(folder)


@pytest.mark.parametrize(("name", "bad"), [
    ("n", np.zeros(10, np.float64)), ("items", np.zeros((10, 7), np.int32)), ("wide", np.zeros((9, 2), np.float32)),
])
def test_a_column_that_is_not_its_field_is_refused(tmp_path: Path, name: str, bad: np.ndarray):
    columns = every_type(10)
    with pytest.raises(StagedError):
        write_part(tmp_path, 0, {**columns, name: bad}, fields_of(columns))
    assert list(tmp_path.iterdir()) == []


def test_types_that_parquet_or_the_reader_would_bend_are_refused():
    with pytest.raises(StagedError, match="scalar of float16"):
        Field("float16")
    with pytest.raises(StagedError, match="array of object"):
        Field("object", (3,))
