"""Sums over pairs of items, spread over the executors: users in parts, partial sums by rows of items, one block of rows per reducer.

    histories           one user before one cut: items, ts (newest last); several cuts go through the same jobs
    partial sums        (cut, sum, block, rows of a sparse [I, I] of this part of the users)     as bytes, a few per task
    blocks of sums      the parts of one block added: exact, since the entries are integers
    blocks of kinds     normalised, best neighbours per row: (cut, kind, block, rows)

Only whole blocks of rows cross between Python and the JVM, as the bytes of numpy arrays: a block is 2^21 pairs or less on
average (tens of MB), a task holds at most MAX_HELD entries of partial sums before it hands them on.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from pyspark.sql import functions as F

from recs.evidence import pairs

from .item_statistics import at_cuts

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

PAIRS_PER_TASK = 1 << 25    # about two seconds of a core
PAIRS_PER_BLOCK = 1 << 21
MAX_HELD = 1 << 23          # entries of partial sums per name: 100 MB
MAX_TASKS = 1000
PARTS_OF_USERS = 1000     # a cut's users are told apart by this many hashes
_ROWS = "cut_us bigint, name string, block int, dtype string, indptr binary, indices binary, values binary"
_NAMES = [column.split()[0] for column in _ROWS.split(", ")]


@dataclass(frozen=True)
class Plan:
    """How the work is cut: blocks of `rows` items; `tasks` parts of the users."""

    n_items: int
    rows: int
    tasks: int

    @classmethod
    def of(cls, n_items: int, n_pairs: int) -> Plan:
        """From the number of pairs that all users form: small logs one task, large ones tasks and blocks of bounded size."""
        blocks = min(max(1, -(-n_pairs // PAIRS_PER_BLOCK)), max(1, n_items))
        return cls(n_items, max(1, -(-n_items // blocks)), min(max(1, -(-n_pairs // PAIRS_PER_TASK)), MAX_TASKS))

    def span(self, block: int) -> tuple[int, int]:
        """First and last + 1 row of a block."""
        return block * self.rows, min((block + 1) * self.rows, self.n_items)


def histories_before(sequences: DataFrame, cuts_us: Sequence[int]) -> DataFrame:
    """Per cut the users with an event before it: `item_index` and `ts` of those events, oldest first."""
    before = F.size(F.filter("ts", lambda t: t < F.col("cut_us"))).alias("n")
    known = at_cuts(sequences.select("user_id", "item_index", "ts"), cuts_us).select("*", before).where("n > 0")
    return known.select("cut_us", "user_id", *(F.slice(c, F.lit(1), F.col("n")).alias(c) for c in ("item_index", "ts")))


def users_of_items(histories: DataFrame, max_items: int) -> DataFrame:
    """Per cut and item: `users_met` users among whose newest `max_items` items it is, `activity` sum over them of log1p(events) in
    units of 2^-20.  The row with item_index -1 counts the users, and in `pairs` the pairs that they form."""
    newest = F.slice(F.array_distinct(F.reverse("item_index")), 1, max_items)
    activity = F.rint(F.log1p(F.size("ts")) * 2**20).cast("bigint").alias("activity")
    users = histories.select("cut_us", newest.alias("items"), activity)
    each = F.explode(F.array_append("items", F.lit(-1))).alias("item_index")
    per_item = users.select("cut_us", each, "activity", F.size("items").alias("n"))
    own_pairs = F.when(F.col("item_index") == -1, F.col("n").cast("bigint") * F.col("n"))
    return per_item.groupBy("cut_us", "item_index").agg(
        F.count(F.lit(1)).alias("users_met"), F.sum("activity").alias("activity"), F.sum(own_pairs).alias("pairs")
    )


def partial_sums(histories: DataFrame, rules: Mapping[int, pairs.PairRules], sums: Iterable[str], plans: Mapping[int, Plan]) -> DataFrame:
    """Sums of parts of the users, by cut and blocks of rows; `rules` and `plans` by cut."""
    sums = tuple(sums)

    def add_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        cut, held = None, {}
        for batch in batches:
            for now_us, rows in _runs(batch):
                if cut is not None and now_us != cut:
                    yield from _handed_on(cut, held, plans[cut])
                    held = {}
                cut = now_us
                for part in pairs.chunks(_meetings(rows), rules[cut].max_items):
                    for name, m in pairs.pair_sums(part, rules[cut], sums).items():
                        held[name] = held[name] + m if name in held else m
                        if held[name].nnz > MAX_HELD:
                            yield from _handed_on(cut, {name: held.pop(name)}, plans[cut])
        if cut is not None:
            yield from _handed_on(cut, held, plans[cut])

    tasks = min(sum(plan.tasks for plan in plans.values()), MAX_TASKS)
    return _in_tasks(histories, tasks).select("cut_us", "item_index", "ts").mapInArrow(add_up, _ROWS)


def _in_tasks(histories: DataFrame, tasks: int) -> DataFrame:
    """The histories in about so many partitions, those of one cut one after another."""
    if tasks <= 1:
        parts = histories.coalesce(1)
    else:
        parts = histories.repartition(tasks, F.xxhash64("cut_us", F.pmod(F.xxhash64("user_id"), F.lit(PARTS_OF_USERS))))
    return parts.sortWithinPartitions("cut_us")


def _runs(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each cut; they come sorted by it."""
    cuts = batch.column(0).to_numpy()
    starts = np.flatnonzero(np.diff(cuts, prepend=cuts[:1] - 1))
    for a, b in zip(starts, [*starts[1:], len(cuts)], strict=True):
        yield int(cuts[a]), batch.slice(a, b - a)


def _handed_on(cut_us: int, held: Mapping[str, sp.csr_matrix], plan: Plan) -> Iterator[pa.RecordBatch]:
    """Whole blocks of rows of the sums."""
    for name, m in held.items():
        for block in range(-(-plan.n_items // plan.rows)):
            lo, hi = plan.span(block)
            if m.indptr[hi] > m.indptr[lo]:
                yield _row(cut_us, name, block, m[lo:hi])


def reduced(
    partial: DataFrame, plans: Mapping[int, Plan], finish: Mapping[int, Callable[[str, sp.csr_matrix, int], dict[str, sp.csr_matrix]]],
) -> DataFrame:
    """Whole blocks of rows, each finished: `finish[cut](sum, block of sums, its first row)` gives the blocks of its kinds."""

    def add_up(table: pa.Table) -> pa.Table:
        import pyarrow as pa

        cut_us, name, block = (table.column(c)[0].as_py() for c in ("cut_us", "name", "block"))
        n_items, (lo, hi) = plans[cut_us].n_items, plans[cut_us].span(block)
        total = sp.csr_matrix((hi - lo, n_items), dtype=np.int64)
        for i in range(table.num_rows):
            arrays = {c: table.column(c)[i].as_buffer() for c in ("indptr", "indices", "values")}
            total = total + unpack({"dtype": table.column("dtype")[i].as_py(), **arrays}, n_items)
        total.sort_indices()
        return pa.Table.from_batches([_row(cut_us, kind, block, m) for kind, m in finish[cut_us](name, total, lo).items()])

    return partial.groupBy("cut_us", "name", "block").applyInArrow(add_up, _ROWS)


def _meetings(batch: pa.RecordBatch) -> pairs.Meetings:
    items, ts = batch.column(1), batch.column(2)
    offsets = np.concatenate([[0], np.cumsum(items.value_lengths().to_numpy(zero_copy_only=False))]).astype(np.int64)
    return pairs.Meetings(offsets, items.flatten().to_numpy(zero_copy_only=False), ts.flatten().to_numpy(zero_copy_only=False))


def _row(cut_us: int, name: str, block: int, m: sp.csr_matrix) -> pa.RecordBatch:
    """One block of rows as the bytes of its three arrays; integers that fit are stored in half the width."""
    import pyarrow as pa

    values = m.data
    if values.dtype == np.int64 and (not m.nnz or np.abs(values).max() < 2**31):
        values = values.astype(np.int32)
    arrays = [np.ascontiguousarray(a) for a in (m.indptr.astype(np.int64), m.indices.astype(np.int32), values)]
    facts = [pa.array([cut_us]), pa.array([name]), pa.array([block], pa.int32()), pa.array([values.dtype.str])]
    return pa.RecordBatch.from_arrays(facts + [pa.array([a.data], pa.binary()) for a in arrays], _NAMES)


def unpack(row: Mapping[str, Any], n_items: int) -> sp.csr_matrix:
    """The block of rows that one packed row holds, with the types it was packed with; no copy."""
    indptr, indices = np.frombuffer(row["indptr"], np.int64), np.frombuffer(row["indices"], np.int32)
    return sp.csr_matrix((np.frombuffer(row["values"], row["dtype"]), indices, indptr), shape=(len(indptr) - 1, n_items))
