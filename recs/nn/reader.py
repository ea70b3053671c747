"""From staged files to batches.  The one file that knows petastorm.

    files of the epoch, in an order drawn from (seed, epoch)
      └ cut into `shards` equal runs of rows, so that every rank gets the same number of batches
          └ `mix_files` files at a time in memory, their rows in an order drawn from (seed, epoch, shard, group)
              └ batches

The order is a function of (seed, epoch) and of the manifest, never of threads: petastorm is asked for one file at a time, so
that we know where we are.  A run resumes at any batch by skipping whole files and reading on from the one that holds it.  A
thread reads ahead, `prefetch` batches at most; memory holds `mix_files` + 1 files.

One process with `shards=2` sees the same batches as two processes with one shard each, put together.

Both kinds of reader give the same bytes: `petastorm` is the one in use, `arrow` its oracle in the tests and the way out where
petastorm's pins (pyarrow < 15) clash.
"""
from __future__ import annotations

import logging
import queue
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from recs.nn.staged import Field, Staged, StagedFile, check_schema

Batch = dict[str, np.ndarray]       # field -> [rows, *shape]
Kind = Literal["petastorm", "arrow"]
Pool = Literal["dummy", "thread"]


class ReaderError(RuntimeError):
    """The data set gave other rows than its manifest promises, or none for too long; the message names the file."""


class Reader:
    """Batches of a staged data set, epoch by epoch.

    `batch_size` rows over all ranks together; this rank gets its share of each batch.  For training (`even`) all shards deliver
    equally many rows: up to `shards` - 1 rows of an epoch are left out, other ones in each epoch.  For evaluation every row is
    delivered once.  The last batch of an epoch is shorter unless `drop_last`.
    """

    def __init__(
        self, staged: Staged, batch_size: int, *, seed: int = 0, shuffle: bool = True, even: bool = True, drop_last: bool = False,
        rank: int = 0, world_size: int = 1, shards: int | None = None, kind: Kind = "petastorm", pool: Pool = "dummy",
        mix_files: int = 4, prefetch: int = 4, stall_s: float = 300.0,
    ) -> None:
        shards = shards or world_size
        if shards % world_size or batch_size % shards:
            raise ValueError(f"batch size {batch_size} over {shards} shards over {world_size} ranks: each must divide the one before")
        if staged.rows < shards:
            raise ReaderError(f"{staged.folder}: {staged.rows} rows for {shards} shards")
        self.staged, self.batch_size, self.shards = staged, batch_size, shards
        self.mine = range(rank, shards, world_size)
        self.seed, self.shuffle, self.even, self.drop_last = seed, shuffle, even, drop_last
        self.mix_files, self.prefetch, self.stall_s = mix_files, prefetch, stall_s
        self._read_file = _with_petastorm(pool) if kind == "petastorm" else _with_arrow
        self._checked: set[str] = set()
        for name in staged.fields:
            if not name.isidentifier():
                raise ReaderError(f"field {name!r}: petastorm needs names that are identifiers")

    # -- what an epoch adds up to, from the manifest alone ------------------------------------------------------------------
    def rows_of_shard(self, shard: int) -> range:
        """Rows of the epoch's file order that the shard delivers."""
        n = self.staged.rows
        if self.even:
            return range(shard * (n // self.shards), (shard + 1) * (n // self.shards))
        return range(shard * n // self.shards, (shard + 1) * n // self.shards)

    @property
    def batches(self) -> int:
        """Batches per epoch."""
        most = max(len(self.rows_of_shard(s)) for s in range(self.shards))
        size = self.batch_size // self.shards
        return most // size if self.drop_last else -(-most // size)

    def rows_in_batch(self, batch: int, everywhere: bool = True) -> int:
        """Rows of one batch over all ranks together, or of this rank alone."""
        size = self.batch_size // self.shards
        held = (len(self.rows_of_shard(s)) for s in (range(self.shards) if everywhere else self.mine))
        return sum(min(size, max(0, n - batch * size)) for n in held)

    # -- one epoch ----------------------------------------------------------------------------------------------------------
    def epoch(self, n: int, start_batch: int = 0) -> Batches:
        """The batches of epoch `n` from `start_batch` on, read ahead by a thread: read them to the end, or use `with`."""
        return Batches(self, n, start_batch)

    def _merged(self, epoch: int, start_batch: int, reading: Callable[[str], None]) -> Iterator[Batch]:
        streams = [self._stream(epoch, s, start_batch, reading) for s in self.mine]
        delivered, last = 0, self.batches if self.drop_last else None
        for number, parts in enumerate(zip_longest(*streams), start_batch):
            if number == last:
                break
            batch = _joined([p for p in parts if p is not None])
            delivered += len(next(iter(batch.values())))
            yield batch
        promised = sum(self.rows_in_batch(b, everywhere=False) for b in range(start_batch, self.batches))
        if delivered != promised:
            raise ReaderError(f"{self.staged.folder}: {delivered:,} rows delivered in epoch {epoch}, the manifest promises {promised:,}")

    def _stream(self, epoch: int, shard: int, start_batch: int, reading: Callable[[str], None]) -> Iterator[Batch]:
        """Batches of one shard: groups of files, each permuted, cut into batches; a batch may span two groups."""
        size = self.batch_size // self.shards
        skip = start_batch * size
        parts: list[Batch] = []     # of the batch under way
        have = 0
        for number, segments in enumerate(self._groups(epoch, shard)):
            rows = sum(len(run) for _, run in segments)
            if skip >= rows:
                skip -= rows
                continue
            columns = self._load(segments, reading)
            order = np.random.default_rng([self.seed, epoch, shard, number]).permutation(rows) if self.shuffle else np.arange(rows)
            at, skip = skip, 0
            while at < rows:
                picked = order[at:at + size - have]
                parts.append({name: a[picked] for name, a in columns.items()})
                at, have = at + len(picked), have + len(picked)
                if have == size:
                    yield _joined(parts)
                    parts, have = [], 0
        if parts:
            yield _joined(parts)

    def _groups(self, epoch: int, shard: int) -> Iterator[list[tuple[StagedFile, range]]]:
        """(file, its rows that belong to the shard), `mix_files` at a time, in the epoch's order."""
        n = len(self.staged.files)
        order = np.random.default_rng([self.seed, epoch]).permutation(n) if self.shuffle else np.arange(n)
        mine, segments, at = self.rows_of_shard(shard), [], 0
        for i in order:
            file = self.staged.files[i]
            run = range(max(mine.start - at, 0), min(mine.stop - at, file.rows))
            at += file.rows
            if len(run):
                segments.append((file, run))
        for lo in range(0, len(segments), self.mix_files):
            yield segments[lo:lo + self.mix_files]

    def _load(self, segments: list[tuple[StagedFile, range]], reading: Callable[[str], None]) -> Batch:
        """The rows of a group, one file after the other into arrays made for all of them."""
        total = sum(len(run) for _, run in segments)
        fields = self.staged.fields
        columns = {name: np.empty((total, *f.shape), f.dtype) for name, f in fields.items()}
        at = 0
        for file, run in segments:
            reading(file.name)
            if file.name not in self._checked:
                check_schema(self.staged, file)
                self._checked.add(file.name)
            have = 0
            for rows in self._read_file(self.staged.folder / file.name, fields, file.rows):
                n = len(next(iter(rows.values())))
                lo, hi = max(run.start, have), min(run.stop, have + n)
                for name in fields if lo < hi else ():
                    columns[name][at + lo - run.start: at + hi - run.start] = rows[name][lo - have: hi - have]
                have += n
            if have != file.rows:
                raise ReaderError(f"{self.staged.folder / file.name}: {have:,} rows read, the manifest says {file.rows:,}")
            at += len(run)
        return columns


class Batches(Iterator[Batch]):
    """One epoch under way.  `file`: the one last opened; `waited_s`: seconds the consumer spent in `next`."""

    def __init__(self, reader: Reader, epoch: int, start_batch: int) -> None:
        self.file, self.waited_s = "(none opened yet)", 0.0
        self._reader, self._closed = reader, threading.Event()
        self._ready: queue.Queue[Any] = queue.Queue(max(1, reader.prefetch))
        self._thread = threading.Thread(target=self._read_ahead, args=(epoch, start_batch), name="recs-reader", daemon=True)
        self._thread.start()

    def _read_ahead(self, epoch: int, start_batch: int) -> None:
        try:
            for batch in self._reader._merged(epoch, start_batch, self._reading):
                if not self._put(batch):
                    return
            self._put(StopIteration())
        except BaseException as error:      # handed to the consumer, who raises it
            self._put(error)

    def _reading(self, name: str) -> None:
        self.file = name

    def _put(self, it: Any) -> bool:
        while not self._closed.is_set():
            try:
                self._ready.put(it, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __next__(self) -> Batch:
        started = time.perf_counter()
        try:
            got = self._ready.get(timeout=self._reader.stall_s)
        except queue.Empty:
            self.close(wait=False)
            path = self._reader.staged.folder / self.file
            raise ReaderError(f"{path}: no batch for {self._reader.stall_s:g} s; the reader is stalled there") from None
        finally:
            self.waited_s += time.perf_counter() - started
        if isinstance(got, BaseException):
            self.close()
            raise got
        return got

    def close(self, wait: bool = True) -> None:
        """End the reading thread."""
        self._closed.set()
        if wait:
            self._thread.join()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close(wait=False)


def _joined(parts: list[Batch]) -> Batch:
    return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _viewed(joined: Any, field: Field, rows: int) -> np.ndarray:
    return np.frombuffer(joined, np.dtype(field.dtype).newbyteorder("<")).reshape(rows, *field.shape)


# -- one file, in row order: the only difference between the two kinds -------------------------------------------------------
ReadFile = Callable[[Path, dict[str, Field], int], Iterator[Batch]]


def _with_petastorm(pool: Pool) -> ReadFile:
    """Row group by row group.  `dummy` reads in the calling thread: as fast as threads and in file order, which threads are not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # of its import only
        from petastorm import make_batch_reader
    # it calls pyarrow's legacy API (a page of warnings per file) and tells of metadata that plain Parquet does not have
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")
    logging.getLogger("petastorm.etl.dataset_metadata").setLevel(logging.WARNING)

    def read(path: Path, fields: dict[str, Field], rows: int) -> Iterator[Batch]:
        names = [f"^{re.escape(name)}$" for name in fields]
        have = 0
        with make_batch_reader(
            [path.resolve().as_uri()], schema_fields=names, reader_pool_type=pool, workers_count=2, results_queue_size=2,
            shuffle_row_groups=False, num_epochs=1,
        ) as reader:
            for group in reader:
                n = len(group[0])
                yield {
                    name: _viewed(b"".join(getattr(group, name)), f, n) if f.shape else getattr(group, name) for name, f in fields.items()
                }
                have += n
                # Not once more: the dummy pool waits for ever when it is asked for rows after the last ones before the thread
                # that hands out row groups has noted that it is done.
                if have >= rows:
                    break

    return read


def _with_arrow(path: Path, fields: dict[str, Field], rows: int) -> Iterator[Batch]:
    import pyarrow.dataset as ds

    groups = ds.dataset(path, format="parquet").to_batches(columns=list(fields), use_threads=False, batch_readahead=1, fragment_readahead=1)
    for group in groups:
        if group.num_rows:
            yield {name: _of_arrow(group.column(name), f) for name, f in fields.items()}


def _of_arrow(column: Any, field: Field) -> np.ndarray:
    if not field.shape:
        return column.to_numpy(zero_copy_only=False)
    lo = int(np.frombuffer(column.buffers()[1], np.int32)[column.offset])   # blobs of one length: the other offsets say nothing new
    return _viewed(memoryview(column.buffers()[2])[lo:lo + len(column) * field.width], field, len(column))
