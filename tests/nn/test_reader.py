"""Both readers give every row of the manifest once per epoch, in an order that (seed, epoch) decides and nothing else does."""
from __future__ import annotations

import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from nn_made import every_type

from recs.nn import reader as readers
from recs.nn.reader import Batch, Reader, ReaderError
from recs.nn.staged import Staged, write_staged

ROWS = 103      # files of 20 and one of 3


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    return write_staged(tmp_path_factory.mktemp("staged"), every_type(ROWS), rows_per_file=20)


def ids(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([b["id"] for b in batches]) - 2**53


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        p.keys() == q.keys() and all(p[k].dtype == q[k].dtype and np.array_equal(p[k], q[k]) for k in p) for p, q in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("kind", ["petastorm", "arrow"])
def test_every_row_arrives_once_bit_for_bit(staged: Staged, kind: str):
    got = list(Reader(staged, 16, seed=1, kind=kind).epoch(0))
    assert [len(b["id"]) for b in got] == [16] * 6 + [7]
    order = ids(got)
    assert sorted(order) == list(range(ROWS))
    for name, column in every_type(ROWS).items():
        arrived = np.concatenate([b[name] for b in got])
        assert arrived.dtype == column.dtype
        np.testing.assert_array_equal(arrived, column[order], err_msg=name)


@pytest.mark.parametrize("pool", ["dummy", "thread"])
@pytest.mark.parametrize("shards", [1, 2])
def test_petastorm_agrees_with_its_oracle(staged: Staged, shards: int, pool: str):
    for epoch, start in ((0, 0), (3, 2)):
        a, b = (
            list(Reader(staged, 16, seed=5, shards=shards, kind=kind, pool=pool).epoch(epoch, start)) for kind in ("petastorm", "arrow")
        )
        assert same(a, b)       # one row group per file: threads have nothing to swap


def test_seed_and_epoch_decide_the_order(staged: Staged):
    def order(seed: int, epoch: int, **other: object) -> list[int]:
        return list(ids(list(Reader(staged, 16, seed=seed, kind="arrow", **other).epoch(epoch))))

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1, 2)}) == 6
    assert order(1, 4, shuffle=False) == list(range(ROWS))


def test_rows_inside_a_file_change_places_too(tmp_path: Path):
    one = write_staged(tmp_path, every_type(20), rows_per_file=20)
    orders = {tuple(ids(list(Reader(one, 16, seed=s, kind="arrow").epoch(e)))) for s in (0, 1) for e in (0, 1, 2)}
    assert len(orders) == 6


def test_rows_of_several_files_are_mixed(staged: Staged):
    first = ids(list(Reader(staged, 16, seed=1, kind="arrow", mix_files=4).epoch(0)))[:16]
    assert len(set(first // 20)) >= 3
    alone = ids(list(Reader(staged, 16, seed=1, kind="arrow", mix_files=1).epoch(0)))[:16]
    assert len(set(alone // 20)) <= 2


@pytest.mark.parametrize("start", range(8))
def test_an_epoch_goes_on_from_any_batch(staged: Staged, start: int):
    whole = list(Reader(staged, 16, seed=2, kind="arrow", mix_files=2).epoch(5))
    assert same(list(Reader(staged, 16, seed=2, kind="arrow", mix_files=2).epoch(5, start)), whole[start:])


def test_going_on_opens_only_the_files_it_needs(staged: Staged):
    with Reader(staged, 16, shuffle=False, kind="arrow", mix_files=1).epoch(0, 5) as batches:     # row 80 = part 4
        next(batches)
    assert batches.file in ("part-00004.parquet", "part-00005.parquet")
    opened = []
    list(Reader(staged, 16, shuffle=False, kind="arrow", mix_files=1)._merged(0, 5, opened.append))
    assert opened == ["part-00004.parquet", "part-00005.parquet"]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_shards_give_all_ranks_equally_many_rows(staged: Staged, world_size: int):
    ranks = [Reader(staged, 16, seed=3, rank=r, world_size=world_size, shards=4, kind="arrow") for r in range(world_size)]
    got = [list(r.epoch(1)) for r in ranks]
    assert {len(batches) for batches in got} == {ranks[0].batches} == {7}
    assert [sum(len(rank[b]["id"]) for rank in got) for b in range(7)] == [ranks[0].rows_in_batch(b) for b in range(7)]
    everywhere = np.concatenate([ids(batches) for batches in got])
    assert len(everywhere) == len(set(everywhere)) == 100       # 103 rows over four shards: three are left out of this epoch


def test_one_process_with_two_shards_sees_the_batches_of_two_processes(staged: Staged):
    both = list(Reader(staged, 16, seed=3, shards=2, kind="arrow").epoch(2))
    a, b = (list(Reader(staged, 16, seed=3, rank=r, world_size=2, kind="arrow").epoch(2)) for r in (0, 1))
    assert same(both, [{k: np.concatenate([p[k], q[k]]) for k in p} for p, q in zip(a, b, strict=True)])


def test_other_rows_are_left_out_in_other_epochs(staged: Staged):
    left = {
        frozenset(set(range(ROWS)) - set(ids(list(Reader(staged, 16, seed=3, shards=4, kind="arrow").epoch(e))))) for e in range(6)
    }
    assert len(left) > 1


def test_evaluation_leaves_nothing_out(staged: Staged):
    got = [list(Reader(staged, 16, even=False, shuffle=False, rank=r, world_size=4, kind="arrow").epoch(0)) for r in range(4)]
    assert sorted(np.concatenate([ids(b) for b in got])) == list(range(ROWS))


def test_the_short_last_batch_can_be_dropped(staged: Staged):
    got = list(Reader(staged, 16, drop_last=True, kind="arrow").epoch(0))
    assert [len(b["id"]) for b in got] == [16] * 6


def test_batch_size_and_ranks_must_divide(staged: Staged):
    with pytest.raises(ValueError, match="divide"):
        Reader(staged, 15, world_size=2)
    with pytest.raises(ReaderError, match="103 rows for 104 shards"):
        Reader(staged, 104, shards=104)


def test_lost_rows_end_the_run_with_both_numbers(staged: Staged, monkeypatch: pytest.MonkeyPatch):
    def loses_some(path: Path, fields: dict, rows: int):
        for group in readers._with_arrow(path, fields, rows):
            lost = len(group["id"]) - (7 if path.name == "part-00002.parquet" else 0)
            yield {name: a[:lost] for name, a in group.items()}

    reader = Reader(staged, 16, kind="arrow")
    monkeypatch.setattr(reader, "_read_file", loses_some)
    with pytest.raises(ReaderError, match=r"part-00002.parquet: 13 rows read, the manifest says 20"):
        list(reader.epoch(0))


def test_rows_lost_after_reading_are_seen_at_the_end_of_the_epoch(staged: Staged, monkeypatch: pytest.MonkeyPatch):
    reader = Reader(staged, 16, shuffle=False, kind="arrow")
    groups = reader._groups
    monkeypatch.setattr(reader, "_groups", lambda *which: iter(list(groups(*which))[:-1]))
    with pytest.raises(ReaderError, match=r"80 rows delivered in epoch 0, the manifest promises 103"):
        list(reader.epoch(0))


def test_a_file_of_another_schema_is_refused_before_its_rows(tmp_path: Path):
    staged = write_staged(tmp_path, every_type(40), rows_per_file=20)
    table = pq.read_table(tmp_path / "part-00001.parquet")
    pq.write_table(table.drop_columns(["n"]), tmp_path / "part-00001.parquet")
    with pytest.raises(ValueError, match=r"part-00001.parquet: columns"):
        list(Reader(staged, 16, kind="arrow").epoch(0))


def test_a_stall_names_the_file(staged: Staged, monkeypatch: pytest.MonkeyPatch):
    go_on = threading.Event()

    def stalls(path: Path, fields: dict, rows: int):
        if path.name == "part-00003.parquet":
            go_on.wait(20)
        yield from readers._with_arrow(path, fields, rows)

    reader = Reader(staged, 20, shuffle=False, mix_files=1, kind="arrow")
    monkeypatch.setattr(reader, "_read_file", stalls)
    batches = reader.epoch(0)
    try:
        assert [len(next(batches)["id"]) for _ in range(3)] == [20] * 3
        reader.stall_s = 0.1        # only now: a loaded machine may be slow with the others
        with pytest.raises(ReaderError, match=r"part-00003.parquet: no batch for 0.1 s"):
            next(batches)
    finally:
        go_on.set()


def test_it_reads_ahead_only_so_far_and_its_thread_ends(staged: Staged):
    reader = Reader(staged, 5, shuffle=False, mix_files=1, prefetch=2, kind="arrow")
    opened: list[str] = []
    batches = reader.epoch(0)
    batches._reading = opened.append
    next(batches)
    time.sleep(0.3)
    assert len(opened) <= 2     # 1 + 2 + 1 batches of 5 lie in two files
    batches.close()
    assert not batches._thread.is_alive()


def test_petastorm_warnings_are_silenced_and_others_are_not(staged: Staged):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        list(Reader(staged, 50, kind="petastorm").epoch(0))
        warnings.warn("mine", FutureWarning, stacklevel=1)
    assert [str(w.message) for w in seen if w.category is FutureWarning] == ["mine"]      # it leaves files to the garbage collector, too
