"""Which files beside the tables are old: item tables, examples, staged lists, tables that were rebuilt for a night of the past.

    item_tables/<cut>-batch<n>      kept: of a night that is kept, and all that were built from a state at or after its cut
    _examples/<model>-….json        books, each of one fit; kept: as of a night that is kept or later, and a model's newest
    _examples/<shape>/<night>       kept: what a kept book names, and what no book names; so are the priors beside them
    _staging/<run_date>             kept: of a night that is kept (they are what `recs release` publishes)
    _rebuilt/<as_of>-<batch>        kept: the state of an attempt at a night that is kept

Nothing here is the only copy of anything: a night is run again from the tables, and makes what it needs anew.  What goes is time:
an older night that is run again rebuilds its item tables and examples, and one that was held can no longer be released.  Models stay.
"""
from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from recs.clock import ClockError, parse_date
from recs.evidence.item_tables import ArtifactError, ItemTables

_GONE = ".removed."     # such a folder is one whose removal did not end


@dataclass(frozen=True)
class Kept:
    """What the kept nights need: their run dates, states (as_of in microseconds, highest batch) and item tables."""

    run_dates: frozenset[date]
    states: frozenset[tuple[int, int]]
    item_tables: frozenset[str]

    @property
    def since_us(self) -> int:
        """The oldest knowledge cut among them."""
        return min(as_of_us for as_of_us, _ in self.states)

    @property
    def since(self) -> date:
        """The oldest run date among them."""
        return min(self.run_dates)


def newest_nights(booked: Iterable[dict[str, Any]], n: int, at_work_us: int | None = None) -> Kept | None:
    """The newest `n` run dates of every list among rows of `nights` (run_date, list_name, as_of_us, max_batch, item_tables, decided_at_us).

    All attempts at them count, and nights of a backfill that were begun or decided since the instant `at_work_us`.  None when no night
    is booked.
    """
    rows = list(booked)
    kept = set() if at_work_us is None else {r["run_date"] for r in rows if r["decided_at_us"] >= at_work_us}
    for name in {r["list_name"] for r in rows}:
        kept |= set(sorted({r["run_date"] for r in rows if r["list_name"] == name})[-n:])
    mine = [r for r in rows if r["run_date"] in kept]
    if not mine:
        return None
    states = frozenset((r["as_of_us"], r["max_batch"]) for r in mine)
    return Kept(frozenset(kept), states, frozenset(r["item_tables"] for r in mine if r["item_tables"]))


def old_folders(root: str | Path, kept: Kept) -> list[Path]:
    """What lies under `root` and no kept night needs.  What is not of the known form is left alone."""
    root = Path(root)
    item_tables = [p for p in sorted(root.glob("item_tables/[!.]*-batch*")) if _old_tables(p, kept)]
    staged = [p for p in sorted(root.glob("_staging/*")) if _older(p.name, kept)]
    rebuilt = [p for p in sorted(root.glob("_rebuilt/[!.]*-*")) if _old_state(p.name, kept)]
    gone = [*root.glob(f"*/{_GONE}*"), *root.glob(f"_examples/*/{_GONE}*")]
    return [*item_tables, *_old_examples(root / "_examples", kept), *staged, *rebuilt, *sorted(gone)]


def remove(path: Path) -> int:
    """Remove a folder or a file; its bytes.  A rename first, so that a run that dies half-way leaves no folder that looks whole."""
    size = sum(p.stat().st_size for p in (path, *path.rglob("*")) if p.is_file())
    gone = path if path.name.startswith(_GONE) else path.with_name(_GONE + path.name)
    path.rename(gone)
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()
    return size


def _old_examples(folder: Path, kept: Kept) -> list[Path]:
    """What old books name and no other, then the books: whoever dies in between finds it named again."""
    books = {}
    for file in sorted(folder.glob("[!.]*.json")):
        try:
            body = json.loads(file.read_text())
            books[file] = (body["model"], body["as_of_us"], {folder / name for name in body["names"]})
        except (ValueError, KeyError, TypeError):       # not a book
            continue
    newest = {model: max(us for m, us, _ in books.values() if m == model) for model, _, _ in books.values()}
    old = [file for file, (model, us, _) in books.items() if us < min(kept.since_us, newest[model])]
    needed = {path for file, (_, _, names) in books.items() if file not in old for path in names}
    named = {path for file in old for path in books[file][2]}
    return [*sorted(path for path in named - needed if path.exists()), *old]


def _old_tables(folder: Path, kept: Kept) -> bool:
    try:
        tables = ItemTables(folder)
    except ArtifactError:       # not written to its end, or not ours
        return False
    built_from = tables.manifest.get("inputs", {}).get("as_of_us", tables.cut_us)
    return tables.version not in kept.item_tables and built_from < kept.since_us


def _older(name: str, kept: Kept) -> bool:
    try:
        return parse_date(name) < kept.since
    except ClockError:          # not a folder of ours
        return False


def _old_state(name: str, kept: Kept) -> bool:
    as_of_us, _, batch = name.rpartition("-")
    try:
        return (int(as_of_us), int(batch)) not in kept.states
    except ValueError:
        return False
