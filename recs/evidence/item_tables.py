"""Item tables as of a cut: what the log says about items, as files that a worker maps into memory.

A folder per cut, written by recs/etl/item_tables.py, opened by every model:

    manifest.json           cut, batch, number of items, shape, type and SHA-256 of every file; written last
    item_index.npy          [I] int32: integer of item_vocabulary of column c; columns are in the order of the item ids, so
                            that the lower column is the tie-break by item id
    item_ids.bytes/.ends    the ids themselves, UTF-8, one after another, and where each ends
    available_from/_until   [I] int64 microseconds; available_from <= t < available_until may be recommended
    category.npy            [I] int32 code of the top-level category, -1 = none; codes hold in this folder only
    categories.json         the categories' names, by code
    stat.<name>.npy         [I] float32 statistics (names below)
    <kind>.indptr/.indices/.values   sparse item x item neighbours, row = item the user has, column = item it speaks for
    <kind>.dense.npy        [I, I] or [I, F] float32

`Known` items are those with a whole hour of events before the cut, and, where texts are read, those on offer that say something: their
counts are 0, `first_h` and `last_h` the hours since the catalogue has them.  Only known items have columns.  Category and availability
are what the catalogue and the tombstones said at the cut.

Statistics from item_hours, whole hours before the cut, ages from the middle of the hour: `users_<W>` day-users (distinct users per UTC
day, summed) in the window W before the cut, W in WINDOWS; `decay_<H>` the same of all time with weight 2^(-age / H), H in
HALF_LIVES; `events_all`, `sessions_all`; `first_h`, `last_h` hours from first and last event to the cut; `type_<code>` share of
the item's events of that type; `value_log` mean over its events of log1p(mean value of the event's hour).  From the users' newest
events: `users_met` distinct users among whose newest `max_items_per_user` items it is; `activity` their mean log1p(events).  From the
catalogue: `lat`, `lon` degrees, NaN where an item has no place.

Neighbour kinds, by the string a model asks for (recs/evidence/item_kinds.py; at most `neighbours` per row, the greatest, columns
ascending, diagonal empty).  A user's history gives his newest `max_items_per_user` distinct items; n_i = users_met, idf_i =
log((users + 1) / (n_i + 1)):
    cooc, cooc:<shrink>  cosine of co-occurrence: n_ij / (sqrt(n_i n_j) + shrink), shrink 0 unless told
    together, together:<shrink>     the same of days: n_ij days (UTC) of a user with both, n_i = users_all
    transitions     j -> i are consecutive events of a user, less than `transition_gap` apart, i != j: w_ji / (sum_i w_ji + 5),
                    w_ji = sum 2^(-age of the later event / `transition_half_life_d`)
    follows:<events>:<hours>        the same of events at most so many events and less than so many hours apart, each over its distance:
                    what else belongs to a visit
    adopters, adopters:<half-life in days>      votes of recent adopters: idf_j^2 * sum over users v of [v knows j] *
                    2^(-age of v's latest meeting of i / half-life) / sqrt(1 + sum over what v knows of idf^2).  Summed over the items j
                    a user knows it is the sum over others of (idf profile of the user . that of v, normalised) * how freshly v met i:
                    the votes of similar users, up to the user's own norm.  His own events are in it, as everybody's.
    ease:<lambda>   EASE (Steck, WWW 2019, arXiv 1905.03375), dense; only up to `ease_max_items`, else named in `left_out`
    ease_near:<lambda>  the same, the greatest weights of each row only: sparse, and a fiftieth of the bytes
    text            what the catalogue said of each item at the cut: vectors [I, S] float16 (schemas: text_vectors), dense, 0 = nothing; and
                    the texts themselves, `text.said.bytes` and `.ends` as the ids
    facts           [I, 5] int32 codes of the catalogue's category path, brand and price at the cut (recs/evidence/item_facts.py), dense
    vectors         what `items.vectors` held at the cut, by modality: `vectors.<modality>.dense` [I, S] float16 of unit length, 0 = none
    als:<factors>:<reg>:<alpha>     item factors [I, F] of implicit ALS (Hu et al., ICDM 2008; recs/etl/als.py), dense; 0 = no history

The manifest holds cut_us, n_items, n_users (users with an event before the cut), kinds, left_out, config, event_types, inputs,
files (SHA-256 and bytes of each), content_hash and version.
"""
from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

# hours
WINDOWS = {
    "6h": 6, "1d": 24, "2d": 48, "3d": 72, "7d": 168, "14d": 336, "28d": 672, "60d": 1440, "90d": 2160, "180d": 4320, "all": None,
}
HALF_LIVES = {"6h": 6, "12h": 12, "1d": 24, "3d": 72, "10d": 240, "30d": 720}
FOREVER_US = np.iinfo(np.int64).max


class ArtifactError(RuntimeError):
    """A folder of files is not what its manifest says."""


class ItemTables:
    """One folder of item tables, opened read-only; arrays are memory-mapped when first asked for."""

    def __init__(self, path: str | Path, verify: bool = False) -> None:
        self.path = Path(path)
        try:
            self.manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        except FileNotFoundError as e:
            raise ArtifactError(f"{self.path}: no manifest.json; the folder is missing or was not written to its end") from e
        if verify:
            verify_files(self.path, self.manifest)

    @property
    def cut_us(self) -> int:
        """Nothing at or after this instant is in the tables."""
        return self.manifest["cut_us"]

    @property
    def version(self) -> str:
        """Cut and content in one name."""
        return self.manifest["version"]

    @property
    def n_items(self) -> int:
        """I, items with a column."""
        return self.manifest["n_items"]

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of neighbours and factors that the folder holds."""
        return frozenset(self.manifest["kinds"])

    def digest(self, kinds: Collection[str] | None = None) -> str:
        """SHA-256 over the files, whatever they were built from and when: those of these kinds (None: all) and those of no kind."""
        others = self.kinds - frozenset(self.kinds if kinds is None else kinds)
        mine = {n: f["sha256"] for n, f in self.manifest["files"].items() if not any(n.startswith(f"{kind}.") for kind in others)}
        return hashlib.sha256(json.dumps([self.cut_us, mine], sort_keys=True).encode()).hexdigest()

    def array(self, name: str) -> np.ndarray:
        """One file, memory-mapped.  ArtifactError when the folder does not hold it."""
        try:
            return np.load(self.path / f"{name}.npy", mmap_mode="r")
        except FileNotFoundError as e:
            raise ArtifactError(f"{self.path}: holds no {name!r}; it was built with kinds {sorted(self.kinds)}") from e

    @cached_property
    def category_names(self) -> list[str]:
        """Names of the top-level categories, by their code in `category`."""
        return json.loads((self.path / "categories.json").read_text())

    def stat(self, name: str) -> np.ndarray:
        """[I] float32 statistic, see the module's text."""
        return self.array(f"stat.{name}")

    def neighbours(self, kind: str) -> sp.csr_matrix:
        """[I, I] float32 sparse neighbours of a kind, memory-mapped."""
        parts = [self.array(f"{kind}.{part}") for part in ("values", "indices", "indptr")]
        return sp.csr_matrix((parts[0], parts[1], parts[2]), shape=(self.n_items, self.n_items), copy=False)

    def dense(self, kind: str) -> np.ndarray:
        """[I, ·] float32 dense table of a kind, memory-mapped."""
        return self.array(f"{kind}.dense")

    @property
    def modalities(self) -> list[str]:
        """Of which the folder holds vectors."""
        ends = ("vectors.", ".dense.npy")
        return sorted(n[len(ends[0]) : -len(ends[1])] for n in self.manifest["files"] if n.startswith(ends[0]) and n.endswith(ends[1]))

    def said(self, columns: np.ndarray) -> list[str]:
        """What the catalogue said of columns [N]; the item's id where it said nothing, or the folder holds no texts."""
        ids = self.ids(columns)
        if "text" not in self.kinds:
            return list(ids)
        every = _Slices(self.array("text.said.bytes"), self.array("text.said.ends"))
        return [every[c].decode() or item for c, item in zip(columns, ids, strict=True)]

    @cached_property
    def item_ids(self) -> np.ndarray:
        """[I] str, ascending."""
        ends, raw = self.array("item_ids.ends"), self.array("item_ids.bytes").tobytes()
        starts = np.concatenate([[0], ends[:-1]])
        return np.array([raw[a:b].decode() for a, b in zip(starts, ends, strict=True)], object)

    def ids(self, columns: np.ndarray) -> np.ndarray:
        """Item ids [N] str of columns [N]: decodes these only (`item_ids` decodes the whole catalogue)."""
        every = _Slices(self.array("item_ids.bytes"), self.array("item_ids.ends"))
        return np.array([every[c].decode() for c in columns], object)

    def find(self, ids: Any) -> np.ndarray:
        """Columns [N] int64 of item ids; -1 for those without one.  A binary search: UTF-8 sorts as the ids do."""
        every = _Slices(self.array("item_ids.bytes"), self.array("item_ids.ends"))
        wanted = [str(i).encode() for i in ids]
        at = [bisect_left(every, w) for w in wanted]
        return np.array([c if c < len(every) and every[c] == w else -1 for c, w in zip(at, wanted, strict=True)], np.int64)

    @cached_property
    def _column_of(self) -> np.ndarray:
        index = self.array("item_index")
        out = np.full(int(index.max()) + 1 if len(index) else 0, -1, np.int32)
        out[index] = np.arange(len(index), dtype=np.int32)
        return out

    def columns(self, item_index: np.ndarray) -> np.ndarray:
        """Vocabulary integers -> columns; -1 for items without a column (any shape)."""
        index = np.asarray(item_index)
        inside = (index >= 0) & (index < len(self._column_of))
        return np.where(inside, self._column_of[np.where(inside, index, 0)] if len(self._column_of) else -1, -1)


class _Slices:
    """Texts that lie one after another in `raw`, as a sequence that `bisect` can search without decoding it."""

    def __init__(self, raw: np.ndarray, ends: np.ndarray) -> None:
        self.raw, self.ends = raw, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> bytes:
        return self.raw[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes()


def write_manifest(path: Path, **facts: Any) -> dict[str, Any]:
    """Hash every file of the folder and write `manifest.json`, last and atomically; adds `version` = <cut>-<hash>."""
    files = {p.name: {"sha256": sha256(p), "bytes": p.stat().st_size} for p in sorted(path.iterdir()) if p.name != "manifest.json"}
    content = hashlib.sha256(json.dumps([files, facts], sort_keys=True).encode()).hexdigest()
    manifest = {**facts, "content_hash": content, "version": f"{facts['cut_us']}-{content[:12]}", "files": files}
    partial = path / "manifest.json.partial"
    partial.write_text(json.dumps(manifest, indent=1, sort_keys=True))
    partial.replace(path / "manifest.json")
    return manifest


def verify_files(path: Path, manifest: dict[str, Any]) -> None:
    """Raise ArtifactError, naming the file and both hashes, unless every file is exactly what the manifest says."""
    for name, facts in manifest["files"].items():
        if not (path / name).exists():
            raise ArtifactError(f"{path / name}: missing; the manifest wants {facts['sha256'][:12]}…")
        if (have := sha256(path / name)) != facts["sha256"]:
            raise ArtifactError(f"{path / name}: SHA-256 is {have[:12]}…, the manifest says {facts['sha256'][:12]}…")


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
