"""Item tables as of a cut, built by Spark (recs/evidence/item_tables.py is the format and its reader).

    item_hours before the cut   -> statistics per item          which items are known, and how much they were used when
    items, vocabulary           -> category, availability       as they were known at the cut
    sequences before the cut    -> sums over pairs of items     recs/etl/item_pairs.py, on the executors
    sums                        -> neighbours, EASE             packed by the driver, one block of rows at a time
    sequences before the cut    -> ALS factors                  Spark's own

The driver holds one row per item (a million items: 200 MB) and, for EASE only, one dense items x items matrix; users and events
stay on the executors.  Everything is written under a temporary name and renamed when whole.

`item_hours` counts whole hours: for a cut inside an hour the statistics end with the hour before, and the pairs at the cut.
"""
from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from pyspark.sql import functions as F

from recs.clock import HOUR, micros
from recs.config import ItemTableConfig
from recs.etl import item_pairs
from recs.evidence import pairs
from recs.evidence.item_tables import FOREVER_US, HALF_LIVES, WINDOWS, ItemTables, write_manifest

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame

log = logging.getLogger(__name__)

ALS_SEED = 7
ALS_ONE_SOURCE = 5_000_000  # user-item pairs: up to here ALS is fed in one order, see als_factors


class KindError(ValueError):
    """A kind of item table that nobody builds."""


def parse_kind(kind: str) -> tuple[str, tuple[float, ...]]:
    """`ease:300` -> ("ease", (300.0,)); raises KindError for what is not documented in recs/evidence/item_tables.py."""
    name, *args = kind.split(":")
    allowed = {"cooc": (0, 1), "transitions": (0,), "adopters": (0, 1), "ease": (1,), "als": (3,)}
    try:
        values = tuple(float(a) for a in args)
    except ValueError:
        values = None
    if name not in allowed or values is None or len(values) not in allowed[name] or any(not v >= 0 for v in values):
        raise KindError(f"no item table {kind!r}; there are cooc[:shrink], transitions, adopters[:half-life], ease:lambda, als:factors:reg:alpha")
    return name, values


# ---- statistics ------------------------------------------------------------------------------------------------------------


def exact_sum(x: Column) -> Column:
    """Sum of a double column, the same bit for bit in any order: two sums of integers, units 2^-20 and 2^-50."""
    high = F.round(x * 2.0**20)
    low = F.round((x * 2.0**20 - high) * 2.0**30)
    return F.sum(high.cast("bigint")) * F.lit(2.0**-20) + F.sum(low.cast("bigint")) * F.lit(2.0**-50)


def item_statistics(item_hours: DataFrame, cut_us: int, event_types: Mapping[str, int]) -> DataFrame:
    """One row per item with a whole hour before the cut: item_id, item_index and the statistics."""
    hour_us = F.unix_micros("hour")
    age_h = (F.lit(cut_us) - hour_us) / F.lit(float(HOUR)) - 0.5
    before = item_hours.where((hour_us <= cut_us - HOUR) & (F.col("event_date") <= F.to_date(F.timestamp_micros(F.lit(cut_us)))))
    hours = before.withColumn("age_h", age_h)

    def inside(window_h: int | None) -> Column:
        within = hour_us >= cut_us - window_h * HOUR if window_h else F.lit(True)
        return F.sum(F.when(within, F.col("n_day_users")).otherwise(0))

    users = [inside(h).alias(f"users_{name}") for name, h in WINDOWS.items()]
    decayed = [exact_sum(F.col("n_day_users") * F.pow(F.lit(2.0), -F.col("age_h") / h)).alias(f"decay_{n}") for n, h in HALF_LIVES.items()]
    events = F.sum("n_events")
    shares = [(F.sum(F.coalesce(F.try_element_at("n_by_type", F.lit(t)), F.lit(0))) / events).alias(f"type_{c}") for t, c in event_types.items()]
    # the mean value of an hour is all that is known of its events; the logarithm bounds what one odd price can do
    mean_value = F.greatest(F.nanvl("value", F.lit(0.0)) / F.col("n_events"), F.lit(0.0))
    return hours.groupBy("item_id", "item_index").agg(
        *users, *decayed, *shares,
        events.alias("events_all"), F.sum("n_sessions").alias("sessions_all"),
        (exact_sum(F.col("n_events") * F.log1p(mean_value)) / events).alias("value_log"),
        F.max("age_h").alias("first_h"), F.min("age_h").alias("last_h"),
    )


def catalogue_at(items: DataFrame, cut_us: int) -> DataFrame:
    """What the catalogue said at the cut, one row per item: top-level category and availability in microseconds (NULL = always)."""
    cut = F.timestamp_micros(F.lit(cut_us))
    valid = items.where((F.col("valid_from") <= cut) & (F.col("valid_to").isNull() | (F.col("valid_to") > cut)))
    facts = F.struct(
        F.substring_index("category", "/", 1).alias("category"),
        F.unix_micros("available_from").alias("available_from"), F.unix_micros("available_until").alias("available_until"),
    )
    return valid.groupBy("item_id").agg(F.max_by(facts, "valid_from").alias("f")).select("item_id", "f.*")


def withdrawn_at(vocabulary: DataFrame, cut_us: int) -> DataFrame:
    """Items withdrawn for good by the cut, and when (microseconds); a later tombstone is not known yet."""
    since = F.unix_micros(F.col("tombstoned_on").cast("timestamp"))
    return vocabulary.select("item_index", since.alias("withdrawn")).where(since <= cut_us)


def known_items(
    item_hours: DataFrame, vocabulary: DataFrame, items: DataFrame | None, cut_us: int, event_types: Mapping[str, int]
) -> pd.DataFrame:
    """The driver's frame: one row per known item, ascending by id (Python's order of str is that of UTF-8 bytes, as Spark's is)."""
    known = item_statistics(item_hours, cut_us, event_types).join(withdrawn_at(vocabulary, cut_us), "item_index", "left")
    if items is not None:
        known = known.join(catalogue_at(items, cut_us), "item_id", "left")
    frame = known.toPandas().sort_values("item_id", ignore_index=True)
    for column in ("category", "available_from", "available_until"):
        if column not in frame:
            frame[column] = None
    return frame


def write_items(frame: pd.DataFrame, folder: Path) -> None:
    """Ids, availability, category codes and statistics as arrays."""
    ids = [i.encode() for i in frame["item_id"]]
    np.save(folder / "item_ids.bytes.npy", np.frombuffer(b"".join(ids), np.uint8))
    np.save(folder / "item_ids.ends.npy", np.cumsum([len(i) for i in ids], dtype=np.int64))
    np.save(folder / "item_index.npy", frame["item_index"].to_numpy(np.int32))
    until = np.minimum(_micros_or(frame["available_until"], FOREVER_US), _micros_or(frame["withdrawn"], FOREVER_US))
    np.save(folder / "available_from.npy", _micros_or(frame["available_from"], -FOREVER_US))
    np.save(folder / "available_until.npy", until)
    names = sorted(set(frame["category"].dropna()) - {""})
    code = {name: i for i, name in enumerate(names)}
    np.save(folder / "category.npy", np.array([code.get(c, -1) for c in frame["category"]], np.int32))
    (folder / "categories.json").write_text(json.dumps(names, ensure_ascii=False))
    not_statistics = {"item_id", "item_index", "category", "available_from", "available_until", "withdrawn"}
    for name in frame.columns.difference(list(not_statistics)):
        np.save(folder / f"stat.{name}.npy", frame[name].to_numpy(np.float64).astype(np.float32))


def _micros_or(instants: pd.Series, missing: int) -> np.ndarray:
    """[I] int64; never by way of a float, which would round microseconds."""
    return np.array([missing if i is None or i != i else int(i) for i in instants.astype(object)], np.int64)


# ---- pairs -----------------------------------------------------------------------------------------------------------------


def sum_of(kind: str, config: ItemTableConfig) -> str | None:
    """The sum over pairs that a kind is made from; ALS has none."""
    name, args = parse_kind(kind)
    if name == "adopters":
        return f"adopters:{args[0] if args else config.adopter_half_life_d!r}"
    return {"cooc": "cooc", "ease": "cooc", "transitions": "transitions", "als": None}[name]


def finish_block(
    name: str, sums: sp.csr_matrix, first_row: int, kinds: Iterable[str], config: ItemTableConfig, users_met: np.ndarray, idf: np.ndarray
) -> dict[str, sp.csr_matrix]:
    """A block of one sum as blocks of the kinds made from it; EASE takes the counts as they are, under the name `ease`."""
    out = {}
    for kind in kinds:
        if sum_of(kind, config) != name:
            continue
        base, args = parse_kind(kind)
        if base == "ease":
            out["ease"] = sums
        elif base == "cooc":
            out[kind] = pairs.top_per_row(pairs.cosine(sums, first_row, users_met, *args), config.neighbours)
        elif base == "transitions":
            out[kind] = pairs.top_per_row(pairs.next_item_shares(sums), config.neighbours)
        else:
            out[kind] = pairs.top_per_row(pairs.adopter_votes(sums, first_row, idf), config.neighbours)
    return out


def write_neighbours(blocks: Path, plan: item_pairs.Plan, kind: str, folder: Path) -> None:
    """Put the blocks of one kind, in whatever order they lie there, into its three arrays."""
    lengths = np.zeros(plan.n_items, np.int64)
    for block, m in item_pairs.read_blocks(blocks, kind, plan.n_items):
        lengths[slice(*plan.span(block))] = np.diff(m.indptr)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    index_type = np.int32 if indptr[-1] < 2**31 else np.int64
    np.save(folder / f"{kind}.indptr.npy", indptr.astype(index_type))
    n = (int(indptr[-1]),)
    indices = np.lib.format.open_memmap(folder / f"{kind}.indices.npy", mode="w+", dtype=index_type, shape=n)
    values = np.lib.format.open_memmap(folder / f"{kind}.values.npy", mode="w+", dtype=np.float32, shape=n)
    for block, m in item_pairs.read_blocks(blocks, kind, plan.n_items):
        lo, hi = plan.span(block)
        indices[indptr[lo] : indptr[hi]] = m.indices
        values[indptr[lo] : indptr[hi]] = m.data


def write_ease(blocks: Path, plan: item_pairs.Plan, kind: str, folder: Path) -> None:
    """Solve EASE on the driver from the whole rows of the co-occurrence counts."""
    (regularisation,) = parse_kind(kind)[1]
    counts = np.zeros((plan.n_items, plan.n_items), np.float64 if plan.n_items <= pairs.EASE_DOUBLE_ITEMS else np.float32)
    for block, m in item_pairs.read_blocks(blocks, "ease", plan.n_items):
        counts[slice(*plan.span(block))] = m.toarray()
    np.save(folder / f"{kind}.dense.npy", pairs.ease_weights(counts, regularisation))


def write_pairs(
    histories: DataFrame, frame: pd.DataFrame, n_pairs: int, n_users: int, kinds: tuple[str, ...], cut_us: int, config: ItemTableConfig, folder: Path
) -> None:
    """Neighbours and EASE of the known items: sums on the executors, Parquet blocks between, arrays at the end."""
    index, met = frame["item_index"].to_numpy(), frame["users_met"].to_numpy(np.int64)
    columns = np.full(int(index.max(initial=-1)) + 1, -1, np.int32)
    columns[index] = np.arange(len(index))
    idf = pairs.inverse_frequency(met, n_users)
    gap_us = round(config.transition_gap.total_seconds() * 1e6)
    rules = pairs.PairRules(cut_us, columns, idf, config.max_items_per_user, gap_us, config.transition_half_life_d)
    plan, sums = item_pairs.Plan.of(len(frame), n_pairs), {sum_of(kind, config) for kind in kinds}

    def finish(name: str, block: sp.csr_matrix, first_row: int) -> dict[str, sp.csr_matrix]:
        return finish_block(name, block, first_row, kinds, config, met, idf)

    blocks = folder / "blocks.partial"
    partial = item_pairs.partial_sums(histories, rules, sorted(sums), plan)
    item_pairs.reduced(partial, plan, finish).write.partitionBy("name").option("compression", "none").parquet(str(blocks))
    for kind in kinds:
        (write_ease if kind.startswith("ease:") else write_neighbours)(blocks, plan, kind, folder)
    shutil.rmtree(blocks)


# ---- ALS -------------------------------------------------------------------------------------------------------------------


def als_factors(histories: DataFrame, frame: pd.DataFrame, n_pairs: int, kind: str, iterations: int) -> np.ndarray:
    """Item factors [I, F] float32 of implicit ALS on events per user and item (Spark MLlib: confidence 1 + alpha * events,
    regularisation times the user's or item's number of pairs).  Items without a history get zeros.

    Up to ALS_ONE_SOURCE pairs Spark is given the pairs in one order and two blocks, which makes the factors the same bit for
    bit; above, they agree to float rounding only.
    """
    from pyspark.ml.recommendation import ALS

    rank, reg, alpha = parse_kind(kind)[1]
    spark = histories.sparkSession
    numbered = histories.select("user_id").sort("user_id").rdd.map(lambda row: row[0]).zipWithIndex()
    users = spark.createDataFrame(numbered, "user_id string, user bigint").withColumn("user", F.col("user").cast("int"))
    met = histories.join(users, "user_id").select("user", F.explode("item_index").alias("item"))
    counts = met.groupBy("user", "item").agg(F.count(F.lit(1)).cast("float").alias("events"))
    small = n_pairs <= ALS_ONE_SOURCE
    ordered = counts.coalesce(1).sortWithinPartitions("user", "item") if small else counts
    als = ALS(
        rank=int(rank), maxIter=iterations, regParam=reg, alpha=alpha, implicitPrefs=True, seed=ALS_SEED,
        userCol="user", itemCol="item", ratingCol="events", **({"numUserBlocks": 2, "numItemBlocks": 2} if small else {}),
    )
    factors = als.fit(ordered).itemFactors.toPandas().set_index("id")["features"].reindex(frame["item_index"])
    return np.array([f if isinstance(f, (list, np.ndarray)) else np.zeros(int(rank)) for f in factors], np.float32).reshape(len(frame), int(rank))


# ---- the folder ------------------------------------------------------------------------------------------------------------


def build_item_tables(
    item_hours: DataFrame, sequences: DataFrame, vocabulary: DataFrame, items: DataFrame | None, cut: datetime, kinds: Iterable[str],
    config: ItemTableConfig, out: Path, event_types: Mapping[str, int] | None = None, **facts: Any,
) -> ItemTables:
    """The item tables of a cut in the folder `out`; opens them.

    `sequences`, `item_hours` may reach beyond the cut: what lies at or after it is not read.  `items` None: no catalogue.
    `event_types` (name -> code): their shares become `stat.type_<code>`.  `facts` name the inputs (batch, as_of, …) in the
    manifest; when there are any, a whole folder made from the same facts, cut, configuration and (at least these) kinds is
    opened as it is.  Equal inputs give equal bytes and so the same version.  EASE beyond `ease_max_items` is left out: the manifest's
    `left_out` says so, and `kinds` holds what is there.
    """
    kinds, out = tuple(sorted(set(kinds))), Path(out)
    for kind in kinds:
        parse_kind(kind)
    identity = {
        "cut_us": micros(cut), "config": config.model_dump(mode="json"), "event_types": dict(event_types or {}), "inputs": facts,
    }
    if facts and (found := _reusable(out, identity, kinds)):
        return found
    folder = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.partial"
    folder.mkdir(parents=True)
    try:
        made = _fill(item_hours, sequences, vocabulary, items, kinds, config, folder, identity)
        write_manifest(folder, **identity, **made)
        _put_in_place(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ItemTables(out)


def _fill(
    item_hours: DataFrame, sequences: DataFrame, vocabulary: DataFrame, items: DataFrame | None, kinds: tuple[str, ...],
    config: ItemTableConfig, folder: Path, identity: dict[str, Any],
) -> dict[str, Any]:
    """Write every array; returns what the manifest says of them."""
    cut_us = identity["cut_us"]
    frame = known_items(item_hours, vocabulary, items, cut_us, identity["event_types"])
    histories = item_pairs.histories_before(sequences, cut_us)
    met = item_pairs.users_of_items(histories, config.max_items_per_user).toPandas().set_index("item_index")
    n_users, n_pairs = (int(met.at[-1, c]) for c in ("users_met", "pairs")) if -1 in met.index else (0, 0)
    frame["users_met"] = met["users_met"].reindex(frame["item_index"]).fillna(0).to_numpy(np.int64)
    activity = met["activity"].reindex(frame["item_index"]).fillna(0).to_numpy(np.float64) / 2**20
    frame["activity"] = activity / np.maximum(frame["users_met"], 1)
    write_items(frame, folder)

    too_many = len(frame) > config.ease_max_items
    left_out = {k: f"{len(frame)} items, ease_max_items is {config.ease_max_items}" for k in kinds if k.startswith("ease:") and too_many}
    if left_out:
        log.warning("item tables without %s: %s", ", ".join(left_out), next(iter(left_out.values())))
    made = tuple(k for k in kinds if k not in left_out)
    if of_pairs := tuple(k for k in made if sum_of(k, config)):
        write_pairs(histories, frame, n_pairs, n_users, of_pairs, cut_us, config, folder)
    for kind in made:
        if kind.startswith("als:"):
            np.save(folder / f"{kind}.dense.npy", als_factors(histories, frame, n_pairs, kind, config.als_iterations))
    return {"n_items": len(frame), "n_users": n_users, "kinds": list(made), "left_out": left_out}


def _reusable(out: Path, identity: dict[str, Any], kinds: tuple[str, ...]) -> ItemTables | None:
    """The tables that lie at `out`, when they are whole and answer the same question."""
    if not (out / "manifest.json").is_file():
        return None
    tables = ItemTables(out)
    have = tables.manifest
    same = all(have.get(key) == value for key, value in json.loads(json.dumps(identity)).items())
    return tables if same and set(kinds) <= tables.kinds | set(have["left_out"]) else None


def _put_in_place(folder: Path, out: Path) -> None:
    """Rename the finished folder to its name; an older one of that name makes way (mapped files stay readable)."""
    old = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.old"
    if out.exists():
        out.rename(old)
    folder.rename(out)
    shutil.rmtree(old, ignore_errors=True)
