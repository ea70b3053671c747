"""Sums over pairs of items, spread over the executors: users in parts, partial sums by rows of items, one block of rows per reducer.

    histories           one user before the cut: items, ts (newest last)
    partial sums        (sum, block, rows of a sparse [I, I] of this part of the users)     as bytes, a few per task
    blocks of sums      the parts of one block added: exact, since the entries are integers
    blocks of kinds     normalised, best neighbours per row: (kind, block, rows)

Only whole blocks of rows cross between Python and the JVM, as the bytes of numpy arrays: a block is 2^21 pairs or less on
average (tens of MB), a task holds at most MAX_HELD entries of partial sums before it hands them on.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from pyspark.sql import functions as F

from recs.evidence import pairs

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

PAIRS_PER_TASK = 1 << 25    # about two seconds of a core
PAIRS_PER_BLOCK = 1 << 21
MAX_HELD = 1 << 23          # entries of partial sums per name: 100 MB
MAX_TASKS = 1000
_ROWS = "name string, block int, dtype string, indptr binary, indices binary, values binary"
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


def histories_before(sequences: DataFrame, cut_us: int) -> DataFrame:
    """Users with an event before the cut: `item_index` and `ts` of those events, oldest first."""
    before = F.size(F.filter("ts", lambda t: t < cut_us)).alias("n")
    known = sequences.select("user_id", "item_index", "ts", before).where("n > 0")
    return known.select("user_id", *(F.slice(c, F.lit(1), F.col("n")).alias(c) for c in ("item_index", "ts")))


def users_of_items(histories: DataFrame, max_items: int) -> DataFrame:
    """Per item: `users_met` users among whose newest `max_items` items it is, `activity` sum over them of log1p(events) in units
    of 2^-20.  The row with item_index -1 counts the users, and in `pairs` the pairs that they form."""
    newest = F.slice(F.array_distinct(F.reverse("item_index")), 1, max_items)
    users = histories.select(newest.alias("items"), F.rint(F.log1p(F.size("ts")) * 2**20).cast("bigint").alias("activity"))
    per_item = users.select(F.explode(F.array_append("items", F.lit(-1))).alias("item_index"), "activity", F.size("items").alias("n"))
    own_pairs = F.when(F.col("item_index") == -1, F.col("n").cast("bigint") * F.col("n"))
    return per_item.groupBy("item_index").agg(
        F.count(F.lit(1)).alias("users_met"), F.sum("activity").alias("activity"), F.sum(own_pairs).alias("pairs")
    )


def partial_sums(histories: DataFrame, rules: pairs.PairRules, sums: Iterable[str], plan: Plan) -> DataFrame:
    """Sums of parts of the users, by blocks of rows."""
    sums = tuple(sums)

    def add_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held: dict[str, sp.csr_matrix] = {}
        for batch in batches:
            for part in pairs.chunks(_meetings(batch), rules.max_items):
                for name, m in pairs.pair_sums(part, rules, sums).items():
                    held[name] = held[name] + m if name in held else m
                    if held[name].nnz > MAX_HELD:
                        yield from _pack(name, held.pop(name), plan)
        for name, m in held.items():
            yield from _pack(name, m, plan)

    now = histories.rdd.getNumPartitions()
    parts = histories.coalesce(plan.tasks) if plan.tasks <= now else histories.repartition(plan.tasks)
    return parts.select("item_index", "ts").mapInArrow(add_up, _ROWS)


def reduced(partial: DataFrame, plan: Plan, finish: Callable[[str, sp.csr_matrix, int], dict[str, sp.csr_matrix]]) -> DataFrame:
    """Whole blocks of rows, each finished: `finish(sum, block of sums, its first row)` gives the blocks of its kinds."""

    def add_up(table: pa.Table) -> pa.Table:
        import pyarrow as pa

        name, block = table.column("name")[0].as_py(), table.column("block")[0].as_py()
        lo, hi = plan.span(block)
        total = sp.csr_matrix((hi - lo, plan.n_items), dtype=np.int64)
        for i in range(table.num_rows):
            arrays = {c: table.column(c)[i].as_buffer() for c in ("indptr", "indices", "values")}
            total = total + unpack({"dtype": table.column("dtype")[i].as_py(), **arrays}, plan.n_items)
        total.sort_indices()
        return pa.Table.from_batches([_row(kind, block, m) for kind, m in finish(name, total, lo).items()])

    return partial.groupBy("name", "block").applyInArrow(add_up, _ROWS)


def _meetings(batch: pa.RecordBatch) -> pairs.Meetings:
    items, ts = batch.column(0), batch.column(1)
    offsets = np.concatenate([[0], np.cumsum(items.value_lengths().to_numpy(zero_copy_only=False))]).astype(np.int64)
    return pairs.Meetings(offsets, items.flatten().to_numpy(zero_copy_only=False), ts.flatten().to_numpy(zero_copy_only=False))


def _pack(name: str, m: sp.csr_matrix, plan: Plan) -> Iterator[pa.RecordBatch]:
    for block in range(-(-plan.n_items // plan.rows)):
        lo, hi = plan.span(block)
        if m.indptr[hi] > m.indptr[lo]:
            yield _row(name, block, m[lo:hi])


def _row(name: str, block: int, m: sp.csr_matrix) -> pa.RecordBatch:
    """One block of rows as the bytes of its three arrays; integers that fit are stored in half the width."""
    import pyarrow as pa

    values = m.data
    if values.dtype == np.int64 and (not m.nnz or np.abs(values).max() < 2**31):
        values = values.astype(np.int32)
    arrays = [np.ascontiguousarray(a) for a in (m.indptr.astype(np.int64), m.indices.astype(np.int32), values)]
    facts = [pa.array([name]), pa.array([block], pa.int32()), pa.array([values.dtype.str])]
    return pa.RecordBatch.from_arrays(facts + [pa.array([a.data], pa.binary()) for a in arrays], _NAMES)


def unpack(row: Mapping[str, Any], n_items: int) -> sp.csr_matrix:
    """The block of rows that one packed row holds, with the types it was packed with; no copy."""
    indptr, indices = np.frombuffer(row["indptr"], np.int64), np.frombuffer(row["indices"], np.int32)
    return sp.csr_matrix((np.frombuffer(row["values"], row["dtype"]), indices, indptr), shape=(len(indptr) - 1, n_items))
