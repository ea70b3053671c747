"""The folder of item tables as a reader sees it: mapped files, looked-up items, hashes that find a flipped byte."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recs.evidence.item_tables import FOREVER_US, ArtifactError, ItemTables, verify_files, write_manifest

IDS = ["10", "9", "Zebra", "a", "é", "日本"]    # ascending by UTF-8 bytes, which is Python's order of str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    raw = [i.encode() for i in IDS]
    arrays = {
        "item_ids.bytes": np.frombuffer(b"".join(raw), np.uint8), "item_ids.ends": np.cumsum([len(r) for r in raw], dtype=np.int64),
        "item_index": np.array([5, 0, 9, 2, 7, 1], np.int32),
        "available_from": np.full(6, -FOREVER_US), "available_until": np.full(6, FOREVER_US),
        "stat.users_all": np.arange(6, dtype=np.float32),
        "cooc.indptr": np.array([0, 2, 2, 3, 3, 3, 3], np.int32), "cooc.indices": np.array([1, 4, 0], np.int32),
        "cooc.values": np.array([0.5, 0.25, 1.0], np.float32), "ease:30.dense": np.eye(6, dtype=np.float32),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    write_manifest(tmp_path, cut_us=1_000_000, n_items=6, kinds=["cooc", "ease:30"])
    return tmp_path


def is_mapped(array: np.ndarray) -> bool:
    """Does the array look into a mapped file, through however many views?"""
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap)


def test_arrays_are_mapped_not_read(folder: Path):
    tables = ItemTables(folder)
    for name in ("stat.users_all", "cooc.values", "ease:30.dense", "item_ids.bytes"):
        assert is_mapped(tables.array(name)) and tables.array(name).mode == "r"
    cooc = tables.neighbours("cooc")
    for part, name in ((cooc.data, "values"), (cooc.indices, "indices"), (cooc.indptr, "indptr")):
        assert is_mapped(part), f"scipy copied {name}"
    assert cooc.toarray()[0].tolist() == [0, 0.5, 0, 0, 0.25, 0] and cooc[2, 0] == 1
    assert tables.stat("users_all")[5] == 5 and tables.dense("ease:30").shape == (6, 6)
    with pytest.raises(ValueError, match="read-only"):
        tables.stat("users_all")[0] = 1


def test_items_are_found_by_id_and_by_vocabulary_integer(folder: Path):
    tables = ItemTables(folder)
    assert tables.item_ids.tolist() == IDS == sorted(IDS)
    assert tables.ids(np.array([5, 0])).tolist() == ["日本", "10"]
    assert tables.find(["é", "none", "", "10", "~"]).tolist() == [4, -1, -1, 0, -1]
    assert tables.columns(np.array([[5, 1], [3, 9], [-1, 10_000]])).tolist() == [[0, 5], [-1, 2], [-1, -1]]
    assert (tables.cut_us, tables.n_items, tables.kinds) == (1_000_000, 6, {"cooc", "ease:30"})


def test_a_flipped_byte_a_cut_file_and_a_missing_one_are_named(folder: Path):
    ItemTables(folder, verify=True)
    victim = folder / "cooc.values.npy"
    good = victim.read_bytes()
    victim.write_bytes(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])
    with pytest.raises(ArtifactError, match=r"cooc\.values\.npy: SHA-256 is \w{12}…, the manifest says \w{12}…"):
        ItemTables(folder, verify=True)
    victim.write_bytes(good[:-1])
    with pytest.raises(ArtifactError, match=r"cooc\.values\.npy: SHA-256"):
        ItemTables(folder, verify=True)
    victim.unlink()
    with pytest.raises(ArtifactError, match=r"cooc\.values\.npy: missing"):
        ItemTables(folder, verify=True)


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"holds no 'transitions\.values'; it was built with kinds \['cooc', 'ease:30'\]"):
        ItemTables(folder).neighbours("transitions")
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="no manifest.json"):
        ItemTables(folder)


def test_the_version_is_that_of_the_content(folder: Path):
    first = json.loads((folder / "manifest.json").read_text())
    again = write_manifest(folder, cut_us=1_000_000, n_items=6, kinds=["cooc", "ease:30"])
    assert again == first and first["version"] == f"1000000-{first['content_hash'][:12]}"
    np.save(folder / "stat.users_all.npy", np.arange(6, dtype=np.float32)[::-1])
    assert write_manifest(folder, cut_us=1_000_000, n_items=6, kinds=["cooc", "ease:30"])["version"] != first["version"]
    with pytest.raises(ArtifactError, match="stat.users_all"):
        verify_files(folder, first)
