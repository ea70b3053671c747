"""Item tables as of a cut, built by Spark (recs/evidence/item_tables.py is the format and its reader).

    item_hours before the cut   -> statistics per item          which items are known, and how much they were used when
    items, vocabulary           -> category, availability       as they were known at the cut
    sequences before the cut    -> sums over pairs of items     recs/etl/item_pairs.py, on the executors
    sums                        -> neighbours, EASE             packed by the driver, one block of rows at a time
    sequences before the cut    -> ALS factors                  Spark's own

The driver holds one row per item (a million items: 200 MB) and, for EASE only, one dense items x items matrix; users and events
stay on the executors, and so do blocks of pairs until the driver takes them, a partition at a time.  The folder is the driver's own:
it is written under a temporary name, renamed when whole, and shipped to the workers from there.

`item_hours` counts whole hours: for a cut inside an hour the statistics end with the hour before, the pairs at the cut.
"""
from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark import StorageLevel
from pyspark.sql import functions as F

from recs.clock import micros
from recs.config import ItemTableConfig
from recs.evidence import pairs
from recs.evidence.item_kinds import COUNTS, PairKinds, parse_kind
from recs.evidence.item_tables import ItemTables, write_manifest

from . import item_pairs
from .als import als_factors
from .item_statistics import known_items

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

_COUNTS_FILE = "counts.partial.npy"     # dense co-occurrence, while EASE is solved from it
_NOT_STATISTICS = ["item_id", "item_index", "category", "available_from", "available_until"]


@dataclass(frozen=True)
class Build:
    """One build under way: the cut, the known items (a row each), the users' histories before the cut, the unfinished folder."""

    cut_us: int
    config: ItemTableConfig
    items: pd.DataFrame
    histories: DataFrame
    n_users: int
    n_pairs: int
    folder: Path

    @property
    def n_items(self) -> int:
        """Items with a column."""
        return len(self.items)


def begin(
    item_hours: DataFrame, sequences: DataFrame, vocabulary: DataFrame, items: DataFrame | None,
    cut_us: int, event_types: Mapping[str, int], config: ItemTableConfig, folder: Path,
) -> Build:
    """Gather what is known of each item; beside the statistics of item_hours the users who met it and how active they are."""
    known = known_items(item_hours, vocabulary, items, cut_us, event_types)
    histories = item_pairs.histories_before(sequences, cut_us)
    met = item_pairs.users_of_items(histories, config.max_items_per_user).toPandas().set_index("item_index")
    n_users, n_pairs = (int(met.at[-1, c]) for c in ("users_met", "pairs")) if -1 in met.index else (0, 0)
    mine = met.reindex(known["item_index"], fill_value=0)
    known["users_met"] = mine["users_met"].to_numpy(np.int64)
    known["activity"] = mine["activity"].to_numpy(np.float64) / 2**20 / np.maximum(known["users_met"], 1)
    return Build(cut_us, config, known, histories, n_users, n_pairs, folder)


def write_items(build: Build) -> None:
    """Ids, availability, category codes and statistics as arrays."""
    items, folder = build.items, build.folder
    ids = [i.encode() for i in items["item_id"]]
    np.save(folder / "item_ids.bytes.npy", np.frombuffer(b"".join(ids), np.uint8))
    np.save(folder / "item_ids.ends.npy", np.cumsum([len(i) for i in ids], dtype=np.int64))
    np.save(folder / "item_index.npy", items["item_index"].to_numpy(np.int32))
    for name in ("available_from", "available_until"):
        np.save(folder / f"{name}.npy", items[name].to_numpy(np.int64))
    names = sorted({c for c in items["category"] if c})
    code = {name: i for i, name in enumerate(names)}
    np.save(folder / "category.npy", np.array([code.get(c, -1) for c in items["category"]], np.int32))
    (folder / "categories.json").write_text(json.dumps(names, ensure_ascii=False))
    for name in items.columns.difference(_NOT_STATISTICS):
        np.save(folder / f"stat.{name}.npy", items[name].to_numpy(np.float32))


def write_pairs(build: Build, kinds: tuple[str, ...]) -> None:
    """Neighbours and EASE: sums on the executors; their finished blocks come to the driver a partition at a time."""
    config, index, met = build.config, build.items["item_index"].to_numpy(), build.items["users_met"].to_numpy()
    columns = np.full(int(index.max(initial=-1)) + 1, -1, np.int32)
    columns[index] = np.arange(build.n_items)
    idf = pairs.inverse_frequency(met, build.n_users)
    gap_us = round(config.transition_gap.total_seconds() * 1e6)
    rules = pairs.PairRules(build.cut_us, columns, idf, config.max_items_per_user, gap_us, config.transition_half_life_d)
    wanted = PairKinds(kinds, config.neighbours, config.adopter_half_life_d, met, idf)
    plan = item_pairs.Plan.of(build.n_items, build.n_pairs)

    partial = item_pairs.partial_sums(build.histories, rules, wanted.sums, plan)
    blocks = item_pairs.reduced(partial, plan, wanted.finish).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        _gather(blocks, plan, kinds, build.folder)
    finally:
        blocks.unpersist()
    for kind in kinds:
        if kind.startswith("ease:"):
            counts = np.array(np.load(build.folder / _COUNTS_FILE, mmap_mode="r"))
            np.save(build.folder / f"{kind}.dense.npy", pairs.ease_weights(counts, *parse_kind(kind)[1]))
    (build.folder / _COUNTS_FILE).unlink(missing_ok=True)


def _gather(blocks: DataFrame, plan: item_pairs.Plan, kinds: tuple[str, ...], folder: Path) -> None:
    """Put the blocks, in whatever order they come, into the arrays of their kinds; the counts for EASE into a dense one."""
    n = plan.n_items
    indptr = {kind: np.zeros(n + 1, np.int64) for kind in kinds if not kind.startswith("ease:")}
    for row in blocks.where(F.col("name") != COUNTS).select("name", "block", "indptr").toLocalIterator():
        lo, hi = plan.span(row["block"])
        indptr[row["name"]][lo + 1 : hi + 1] = np.diff(np.frombuffer(row["indptr"], np.int64))
    arrays = {}
    for kind, ends in indptr.items():
        np.cumsum(ends, out=ends)
        index_type = np.int32 if ends[-1] < 2**31 else np.int64     # scipy copies unless both have the same type
        np.save(folder / f"{kind}.indptr.npy", ends.astype(index_type))
        stored = (("indices", index_type), ("values", np.float32))
        arrays[kind] = [_create(folder / f"{kind}.{part}.npy", dtype, ends[-1]) for part, dtype in stored]
    if len(kinds) > len(indptr):
        counts = _create(folder / _COUNTS_FILE, np.float64 if n <= pairs.EASE_DOUBLE_ITEMS else np.float32, n, n)
    for row in blocks.toLocalIterator():
        (lo, hi), m = plan.span(row["block"]), item_pairs.unpack(row.asDict(), n)
        if row["name"] == COUNTS:
            counts[lo:hi] = m.toarray()
            continue
        a, b = indptr[row["name"]][[lo, hi]]
        for array, part in zip(arrays[row["name"]], (m.indices, m.data), strict=True):
            array[a:b] = part
    for array in (a for pair in arrays.values() for a in pair):
        array.flush()


def _create(path: Path, dtype: type, *shape: int) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(map(int, shape)))


def _write_kinds(build: Build, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Write the arrays of every kind that the size of the catalogue allows; returns what the manifest says of them."""
    n, most = build.n_items, build.config.ease_max_items
    left_out = {k: f"{n} items, and ease_max_items is {most}" for k in kinds if k.startswith("ease:") and n > most}
    for kind, why in left_out.items():
        log.warning("item tables without %s: %s", kind, why)
    made = tuple(k for k in kinds if k not in left_out)
    if of_pairs := tuple(k for k in made if not k.startswith("als:")):
        write_pairs(build, of_pairs)
    for kind in set(made) - set(of_pairs):
        factors = als_factors(build.histories, build.items["item_index"], build.n_pairs, kind, build.config.als_iterations)
        np.save(build.folder / f"{kind}.dense.npy", factors)
    return {"n_items": n, "n_users": build.n_users, "kinds": list(made), "left_out": left_out}


def build_item_tables(
    item_hours: DataFrame, sequences: DataFrame, vocabulary: DataFrame, items: DataFrame | None, cut: datetime, kinds: Iterable[str],
    config: ItemTableConfig, out: Path, event_types: Mapping[str, int] | None = None, **facts: Any,
) -> ItemTables:
    """The item tables of a cut in the folder `out`; opens them.

    `sequences` and `item_hours` may reach beyond the cut: what lies at or after it is not read.  `items` None: no catalogue.
    `event_types` (name -> code): their shares become `stat.type_<code>`.

    `facts` name the inputs (as_of, batch, …) in the manifest.  When there are any, a whole folder of the same facts, cut and
    configuration is opened as it is if it has the kinds, else built anew with its kinds and these.  Equal inputs give equal bytes,
    and so the same version.  EASE above `ease_max_items` is left out: the manifest's `left_out` says why, `kinds` holds what is there.
    """
    kinds, out = set(kinds), Path(out)
    for kind in kinds:
        parse_kind(kind)
    identity = {"cut_us": micros(cut), "config": config.model_dump(mode="json"), "event_types": dict(event_types or {}), "inputs": facts}
    if facts and (found := _same(out, identity)):
        have = found.kinds | set(found.manifest["left_out"])
        if kinds <= have:
            return found
        kinds |= have
    folder = _new_folder(out)
    try:
        build = begin(item_hours, sequences, vocabulary, items, micros(cut), identity["event_types"], config, folder)
        write_items(build)
        write_manifest(folder, **identity, **_write_kinds(build, tuple(sorted(kinds))))
        _put_in_place(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ItemTables(out)


def _same(out: Path, identity: dict[str, Any]) -> ItemTables | None:
    """The tables that lie at `out`, when they are whole and made from the same inputs."""
    if not (out / "manifest.json").is_file():
        return None
    tables = ItemTables(out)
    asked = json.loads(json.dumps(identity))
    return tables if all(tables.manifest.get(key) == value for key, value in asked.items()) else None


def _new_folder(out: Path) -> Path:
    """An empty folder beside `out`, named after this process; what killed builds of the same tables left here is removed."""
    host = socket.gethostname()
    for left in out.parent.glob(f".{out.name}.*{host}.*"):
        if not Path(f"/proc/{left.suffix[1:]}").exists() or left.suffix == f".{os.getpid()}":
            shutil.rmtree(left, ignore_errors=True)
    folder = out.parent / f".{out.name}.{host}.{os.getpid()}"
    folder.mkdir(parents=True)
    return folder


def _put_in_place(folder: Path, out: Path) -> None:
    """Rename the finished folder to its name; an older one of that name makes way (files that are mapped stay readable)."""
    old = folder.with_name(folder.name.replace(out.name, f"{out.name}.old", 1))
    if out.exists():
        out.rename(old)
    folder.rename(out)
    shutil.rmtree(old, ignore_errors=True)
