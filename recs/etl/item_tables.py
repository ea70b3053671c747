"""Item tables as of one or many cuts, built by Spark (recs/evidence/item_tables.py is the format and its reader).

    item_hours before the cut   -> statistics per item          which items are known, and how much they were used when
    items, vocabulary           -> category, availability       as they were known at the cut
    sequences before the cut    -> sums over pairs of items     recs/etl/item_pairs.py, on the executors
    sums                        -> neighbours, EASE             packed by the driver, one block of rows at a time
    sequences before the cut    -> ALS factors                  Spark's own
    items, text_vectors         -> vectors of texts             as the catalogue said at the cut; with them items that nobody has met
    items                       -> facts, other vectors         yet have a column

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from recs.evidence.item_kinds import COUNTS, FACTS, OF_CATALOGUE, TEXT, VECTORS, PairKinds, is_solved, parse_kind
from recs.evidence.item_tables import ItemTables, write_manifest

from . import item_pairs
from .als import als_factors
from .item_facts import facts_at, vectors_at
from .item_statistics import known_items
from .text_vectors import Texts

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

_COUNTS_FILE = "counts.partial.npy"     # dense co-occurrence, while EASE is solved from it
ROWS_AT_ONCE = 1 << 20      # items x cuts that share their jobs: the driver holds a row each (300 MB)
PAIRS_AT_ONCE = 1 << 24     # pairs of one round of cuts: at most 200 MB of partial sums per kind on the executors
CELLS_AT_ONCE = 1 << 28     # of counts for EASE: at most 2 GB on the driver's disk for a while
_NOT_STATISTICS = ["item_id", "item_index", "category", "available_from", "available_until"]


@dataclass(frozen=True)
class Sources:
    """What item tables are made from.  `sequences` and `item_hours` may reach beyond the cuts; `items` None: no catalogue."""

    item_hours: DataFrame
    sequences: DataFrame
    vocabulary: DataFrame
    items: DataFrame | None
    event_types: Mapping[str, int]      # name -> code: their shares become `stat.type_<code>`
    texts: Texts | None = None          # what models read of the catalogue's texts


@dataclass(frozen=True)
class Build:
    """One build under way: the cut, the known items (a row each), the unfinished folder."""

    cut_us: int
    items: pd.DataFrame
    n_users: int
    n_pairs: int
    folder: Path

    @property
    def n_items(self) -> int:
        """Items with a column."""
        return len(self.items)


def begin(sources: Sources, histories: DataFrame, folders: Mapping[int, Path], config: ItemTableConfig) -> list[Build]:
    """Gather what is known of each item at each cut; beside the statistics of item_hours the users who met it and how active they are."""
    cuts_us = sorted(folders)
    says = None if sources.texts is None else sources.texts.said
    known = known_items(sources.item_hours, sources.vocabulary, sources.items, cuts_us, sources.event_types, says)
    every = item_pairs.users_of_items(histories, config.max_items_per_user).toPandas()
    return [_begun(cut_us, known[cut_us], every[every["cut_us"] == cut_us].set_index("item_index"), folders[cut_us]) for cut_us in cuts_us]


def _begun(cut_us: int, known: pd.DataFrame, met: pd.DataFrame, folder: Path) -> Build:
    n_users, n_pairs = (int(met.at[-1, c]) for c in ("users_met", "pairs")) if -1 in met.index else (0, 0)
    mine = met.reindex(known["item_index"], fill_value=0)
    known["users_met"] = mine["users_met"].to_numpy(np.int64)
    known["activity"] = mine["activity"].to_numpy(np.float64) / 2**20 / np.maximum(known["users_met"], 1)
    return Build(cut_us, known, n_users, n_pairs, folder)


def write_items(build: Build) -> None:
    """Ids, availability, category codes and statistics as arrays."""
    items, folder = build.items, build.folder
    _write_strings(folder, "item_ids", items["item_id"])
    np.save(folder / "item_index.npy", items["item_index"].to_numpy(np.int32))
    for name in ("available_from", "available_until"):
        np.save(folder / f"{name}.npy", items[name].to_numpy(np.int64))
    names = sorted({c for c in items["category"] if c})
    code = {name: i for i, name in enumerate(names)}
    np.save(folder / "category.npy", np.array([code.get(c, -1) for c in items["category"]], np.int32))
    (folder / "categories.json").write_text(json.dumps(names, ensure_ascii=False))
    for name in items.columns.difference(_NOT_STATISTICS):
        np.save(folder / f"stat.{name}.npy", items[name].to_numpy(np.float32))


def _write_strings(folder: Path, name: str, strings: Iterable[str]) -> None:
    encoded = [s.encode() for s in strings]
    np.save(folder / f"{name}.bytes.npy", np.frombuffer(b"".join(encoded), np.uint8))
    np.save(folder / f"{name}.ends.npy", np.cumsum([len(s) for s in encoded], dtype=np.int64))


def write_pairs(builds: Sequence[Build], histories: DataFrame, kinds: tuple[str, ...], config: ItemTableConfig) -> None:
    """Neighbours and EASE of some cuts: sums on the executors; their finished blocks come to the driver a partition at a time."""
    rules, wanted, plans = {}, {}, {}
    gap_us = round(config.transition_gap.total_seconds() * 1e6)
    for build in builds:
        index, met = build.items["item_index"].to_numpy(), build.items["users_met"].to_numpy()
        columns = np.full(int(index.max(initial=-1)) + 1, -1, np.int32)
        columns[index] = np.arange(build.n_items)
        idf = pairs.inverse_frequency(met, build.n_users)
        rules[build.cut_us] = pairs.PairRules(
            build.cut_us, columns, idf, config.max_items_per_user, gap_us, config.transition_half_life_d)
        days = np.maximum(build.items["users_all"].to_numpy(), 1)       # the hour of the cut is not in it
        wanted[build.cut_us] = PairKinds(kinds, config.neighbours, config.adopter_half_life_d, met, days, idf)
        plans[build.cut_us] = item_pairs.Plan.of(build.n_items, build.n_pairs)
    mine = histories.where(F.col("cut_us").isin(list(plans)))
    partial = item_pairs.partial_sums(mine, rules, next(iter(wanted.values())).sums, plans)
    blocks = item_pairs.reduced(partial, plans, {cut_us: w.finish for cut_us, w in wanted.items()}).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        _gather(blocks, plans, kinds, {build.cut_us: build.folder for build in builds})
    finally:
        blocks.unpersist()
    for build in builds:
        _solve(build, [kind for kind in kinds if is_solved(kind)], config.neighbours)


def _solve(build: Build, kinds: Sequence[str], neighbours: int) -> None:
    """EASE from the counts, by every lambda that is wanted; the dense solution is written or its best neighbours."""
    for lambda_ in sorted({parse_kind(kind)[1][0] for kind in kinds}):
        counts = np.array(np.load(build.folder / _COUNTS_FILE, mmap_mode="r"))
        weights = pairs.ease_weights(counts, lambda_)
        for kind in (kind for kind in kinds if parse_kind(kind)[1][0] == lambda_):
            if kind.startswith("ease:"):
                np.save(build.folder / f"{kind}.dense.npy", weights)
            else:
                _write_sparse(build.folder, kind, pairs.top_of_dense(weights, neighbours))
    (build.folder / _COUNTS_FILE).unlink(missing_ok=True)


def _write_sparse(folder: Path, kind: str, m: sp.csr_matrix) -> None:
    for part, array in (("indptr", m.indptr), ("indices", m.indices), ("values", m.data.astype(np.float32))):
        np.save(folder / f"{kind}.{part}.npy", array)


def _gather(blocks: DataFrame, plans: Mapping[int, item_pairs.Plan], kinds: tuple[str, ...], folders: Mapping[int, Path]) -> None:
    """Put the blocks, in whatever order they come, into the arrays of their cuts and kinds; the counts for EASE into a dense one."""
    sparse = [kind for kind in kinds if not is_solved(kind)]
    indptr = {(cut_us, kind): np.zeros(plan.n_items + 1, np.int64) for cut_us, plan in plans.items() for kind in sparse}
    for row in blocks.where(F.col("name") != COUNTS).select("cut_us", "name", "block", "indptr").toLocalIterator():
        lo, hi = plans[row["cut_us"]].span(row["block"])
        indptr[row["cut_us"], row["name"]][lo + 1 : hi + 1] = np.diff(np.frombuffer(row["indptr"], np.int64))
    arrays, counts = {}, {}
    for (cut_us, kind), ends in indptr.items():
        np.cumsum(ends, out=ends)
        index_type = np.int32 if ends[-1] < 2**31 else np.int64     # scipy copies unless both have the same type
        np.save(folders[cut_us] / f"{kind}.indptr.npy", ends.astype(index_type))
        stored = (("indices", index_type), ("values", np.float32))
        arrays[cut_us, kind] = [_create(folders[cut_us] / f"{kind}.{part}.npy", dtype, ends[-1]) for part, dtype in stored]
    if len(kinds) > len(sparse):
        for cut_us, plan in plans.items():
            n = plan.n_items
            dtype = np.float64 if n <= pairs.EASE_DOUBLE_ITEMS else np.float32
            counts[cut_us] = _create(folders[cut_us] / _COUNTS_FILE, dtype, n, n)
    for row in blocks.toLocalIterator():
        cut_us, plan = row["cut_us"], plans[row["cut_us"]]
        (lo, hi), m = plan.span(row["block"]), item_pairs.unpack(row.asDict(), plan.n_items)
        if row["name"] == COUNTS:
            counts[cut_us][lo:hi] = m.toarray()
            continue
        a, b = indptr[cut_us, row["name"]][[lo, hi]]
        for array, part in zip(arrays[cut_us, row["name"]], (m.indices, m.data), strict=True):
            array[a:b] = part
    for array in (*(a for pair in arrays.values() for a in pair), *counts.values()):
        array.flush()


def _create(path: Path, dtype: type, *shape: int) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(map(int, shape)))


def _left_out(n_items: int, kinds: Iterable[str], config: ItemTableConfig) -> dict[str, str]:
    """The kinds that the size of the catalogue does not allow, and why."""
    too_many = f"{n_items} items, and ease_max_items is {config.ease_max_items}"
    return {k: too_many for k in kinds if is_solved(k) and n_items > config.ease_max_items}


def _left_out_of(sources: Sources, kinds: Iterable[str]) -> dict[str, str]:
    """The kinds that the log has nothing for, and why."""
    out = {}
    if TEXT in kinds and sources.texts is None:
        out[TEXT] = "no texts: the configuration has no `text`, or the log no catalogue"
    return out | {kind: "the log has no catalogue" for kind in (FACTS, VECTORS) if kind in kinds and sources.items is None}


def _rounds(builds: Sequence[Build], kinds: Iterable[str]) -> Iterator[list[Build]]:
    """Builds whose pairs are summed in the same jobs: of one set of kinds, few enough for the driver's disk and the tasks' memory."""
    solved = any(map(is_solved, kinds))
    waiting: list[Build] = []
    for build in builds:
        together = [*waiting, build]
        pairs_, cells = sum(b.n_pairs for b in together), sum(b.n_items**2 for b in together) if solved else 0
        if waiting and (pairs_ > PAIRS_AT_ONCE or cells > CELLS_AT_ONCE):
            yield waiting
            together = [build]
        waiting = together
    if waiting:
        yield waiting


def _write_kinds(
    builds: Sequence[Build], sources: Sources, histories: DataFrame, kinds: tuple[str, ...], config: ItemTableConfig,
) -> None:
    """Write the arrays of every kind that the size of the catalogue allows."""
    for solvable in (True, False):
        mine = [b for b in builds if (b.n_items <= config.ease_max_items) is solvable]
        of_pairs = tuple(k for k in kinds if k not in OF_CATALOGUE and not k.startswith("als:") and (solvable or not is_solved(k)))
        for together in _rounds(mine, of_pairs) if of_pairs else ():
            write_pairs(together, histories, of_pairs, config)
    for build in builds:
        for kind in (k for k in kinds if k.startswith("als:")):
            mine = histories.where(F.col("cut_us") == build.cut_us)
            factors = als_factors(mine, build.items["item_index"], build.n_pairs, kind, config.als_iterations)
            np.save(build.folder / f"{kind}.dense.npy", factors)
        if TEXT in kinds:
            vectors, texts = sources.texts.at(build.cut_us, build.items["item_id"])
            np.save(build.folder / f"{TEXT}.dense.npy", vectors)
            _write_strings(build.folder, f"{TEXT}.said", texts)
        if FACTS in kinds:
            np.save(build.folder / f"{FACTS}.dense.npy", facts_at(sources.items, build.cut_us, build.items["item_id"]))
        if VECTORS in kinds:
            for modality, vectors in vectors_at(sources.items, build.cut_us, build.items["item_id"]).items():
                np.save(build.folder / f"{VECTORS}.{modality}.dense.npy", vectors)


def build_at_cuts(
    sources: Sources, outs: Mapping[datetime, Path], kinds: Iterable[str], config: ItemTableConfig, **facts: Any,
) -> list[ItemTables]:
    """The item tables of several cuts, each in its folder of `outs`; opens them, in the order of `outs`.

    Nothing at or after a cut is read for it.  All cuts go through the same Spark jobs: forty cuts of a small log cost little more than
    one.  `facts` name the inputs (as_of, batch, …) in the manifest.  When there are any, a whole folder of the same facts, cut and
    configuration is opened as it is if it has the kinds, else built anew with its kinds and these.  Equal inputs give equal bytes,
    and so the same version.  EASE above `ease_max_items` is left out: the manifest's `left_out` says why, `kinds` holds what is there.
    """
    for kind in (kinds := set(kinds)):
        parse_kind(kind)
    wanted: dict[frozenset[str], dict[Path, dict[str, Any]]] = {}     # kinds -> folders to build with them
    for cut, out in outs.items():
        identity = {
            "cut_us": micros(cut), "config": config.model_dump(mode="json"), "event_types": dict(sources.event_types), "inputs": facts}
        found = _same(Path(out), identity) if facts else None
        have = found.kinds | set(found.manifest["left_out"]) if found else set()
        if not found or not kinds <= have:
            wanted.setdefault(frozenset(kinds | have), {})[Path(out)] = identity
    for all_kinds, identities in wanted.items():
        todo, n = list(identities.items()), _cuts_at_once(sources, len(identities))
        for start in range(0, len(todo), n):
            _build(sources, dict(todo[start : start + n]), tuple(sorted(all_kinds)), config)
    return [ItemTables(out) for out in outs.values()]


def _cuts_at_once(sources: Sources, n_cuts: int) -> int:
    return 1 if n_cuts == 1 else max(1, min(n_cuts, ROWS_AT_ONCE // max(sources.vocabulary.count(), 1)))


def _build(sources: Sources, identities: Mapping[Path, dict[str, Any]], kinds: tuple[str, ...], config: ItemTableConfig) -> None:
    """Build folders of different cuts and put them in place."""
    folders = {out: _new_folder(out) for out in identities}
    try:
        by_cut = {identities[out]["cut_us"]: folder for out, folder in folders.items()}
        histories = item_pairs.histories_before(sources.sequences, sorted(by_cut))
        builds = begin(sources, histories, by_cut, config)
        for build in builds:
            write_items(build)
        not_there = _left_out_of(sources, kinds)
        _write_kinds(builds, sources, histories, tuple(k for k in kinds if k not in not_there), config)
        facts = {b.cut_us: b for b in builds}
        for out, identity in identities.items():
            build = facts[identity["cut_us"]]
            left_out = _left_out(build.n_items, kinds, config) | not_there
            for kind, why in left_out.items():
                log.warning("item tables without %s: %s", kind, why)
            made = [k for k in kinds if k not in left_out]
            write_manifest(build.folder, **identity, n_items=build.n_items, n_users=build.n_users, kinds=made, left_out=left_out)
            _put_in_place(build.folder, out)
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def build_item_tables(
    item_hours: DataFrame, sequences: DataFrame, vocabulary: DataFrame, items: DataFrame | None, cut: datetime, kinds: Iterable[str],
    config: ItemTableConfig, out: Path, event_types: Mapping[str, int] | None = None, **facts: Any,
) -> ItemTables:
    """The item tables of one cut, see `build_at_cuts`."""
    sources = Sources(item_hours, sequences, vocabulary, items, event_types or {})
    return build_at_cuts(sources, {cut: Path(out)}, kinds, config, **facts)[0]


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
