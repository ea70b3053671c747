"""Models of a contest, one after another; what is done is kept, so that a contest that was killed goes on where it was.

    <contest>/done/sasrec.1.json        what became of a model by a seed: where it lies, what it cost, or why it failed
    <contest>/_models/…                 the models
    <contest>/lists/sasrec.1/           its lists; with `nights`, `_examples`, `item_tables` and `raw` they go when all is judged

A model that failed is tried again when the command is; one that is fitted is not fitted again, also where its lists must be.
"""
from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recs.jobs._cli import code_version
from recs.jobs._grounds import Fitted, Ground
from recs.judge.comparison import ALL, Figure
from recs.judge.memory import Peak, machine, warm
from recs.models import load
from recs.models.size import n_learned

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)

OF_USERS = ("nights", "lists", "raw", "raw-lists", "_examples")     # hold what users did: recs erase removes them
SAID = 200      # characters of an error that a table has room for


@dataclass(frozen=True)
class Entry:
    """What became of a model by one seed (1: the model's own)."""

    name: str
    seed: int = 1
    path: str = ""
    content_hash: str = ""
    seeded: bool = False            # has it a seed?
    parameters: int = 0
    fit_s: float = 0.0
    users_per_s: float = 0.0
    memory_mb: float | None = None
    code: str = ""                  # that fitted it, and where
    machine: str = ""
    failed: str = ""

    @property
    def label(self) -> str:
        """What it is judged under."""
        return self.name if self.seed == 1 else f"{self.name} seed {self.seed}"

    @property
    def file(self) -> str:
        """Its name among files."""
        return f"{self.name}.{self.seed}"

    def costs(self, n: int) -> list[Figure]:
        """Figures of what it costs; `n`: lists that it made."""
        values = {"parameters": self.parameters, "fit_s": self.fit_s, "users_per_s": self.users_per_s, "seeded": self.seeded}
        values |= {} if self.memory_mb is None else {"memory_mb": self.memory_mb}
        return [Figure(self.label, "", name, ALL, float(value), None, None, None, n) for name, value in values.items()]


@dataclass(frozen=True)
class Contest:
    """A contest in its folder: `minutes` are each model's for fitting, lists are judged to the place `k`."""

    ground: Ground
    folder: Path
    minutes: float
    k: int
    spark: SparkSession

    def run(self, name: str, seed: int, step: Callable[..., Any]) -> Entry:
        """A model by a seed: fitted and listed, unless that is done."""
        entry = self._read(Entry(name, seed))
        if entry.path and (self.folder / "lists" / entry.file).exists():
            return entry
        with step(entry.label) as counts:
            try:
                entry = entry if entry.path else self._fit(entry)
                entry = self._list(entry)
                counts.update(parameters=entry.parameters, fit_s=entry.fit_s, users_per_s=entry.users_per_s, memory_mb=entry.memory_mb)
            except Exception as e:      # of whatever kind: the others shall have their turn
                log.warning("%s failed", entry.label, exc_info=True)
                self.spark.range(1).count()     # without a session nobody's turn would come: then this is the end
                entry = self._written(replace(entry, failed=f"{type(e).__name__}: {str(e).strip()}".splitlines()[0][:SAID]))
                counts.update(failed=entry.failed)
        return entry

    def _fit(self, entry: Entry) -> Entry:
        watch = Peak()
        warm(self.spark)
        fixed = {} if entry.seed == 1 else {"seed": entry.seed}
        fitted = self.ground.fit(entry.name, self.minutes, fixed, watch)
        model = load(fitted.path)
        return self._written(replace(
            entry, path=str(fitted.path.relative_to(self.folder)), content_hash=fitted.content_hash, seeded="seed" in model.params,
            parameters=n_learned(model), fit_s=round(fitted.seconds, 2), memory_mb=watch.mb,
            code=code_version(), machine=machine(), failed=""))

    def _list(self, entry: Entry) -> Entry:
        unfinished, here = self.folder / "raw-lists", self.folder / "lists" / entry.file
        shutil.rmtree(unfinished, ignore_errors=True)
        fitted = Fitted(self.folder / entry.path, entry.content_hash, entry.fit_s)
        warm(self.spark)        # workers that were idle during the fit are new ones
        with Peak() as watch:
            speed = self.ground.lists(fitted, entry.label, self.k, unfinished)
        here.parent.mkdir(parents=True, exist_ok=True)
        most = max((mb for mb in (entry.memory_mb, watch.mb) if mb is not None), default=None)
        most = None if most is None else round(most, 1)
        entry = self._written(replace(entry, users_per_s=round(speed, 2), memory_mb=most, failed=""))
        unfinished.rename(here)     # the last: where it is, all of this is done
        return entry

    def lists(self, entries: Sequence[Entry]) -> DataFrame:
        """The lists of these."""
        frames = [self.spark.read.parquet(f"{self.folder}/lists/{e.file}/*") for e in entries]
        return reduce(lambda a, b: a.unionByName(b), frames)

    def clear(self) -> None:
        """Remove what only served the contest; models, what they cost and the page stay."""
        for part in (*OF_USERS, "item_tables"):
            shutil.rmtree(self.folder / part, ignore_errors=True)

    def _read(self, entry: Entry) -> Entry:
        file = self.folder / "done" / f"{entry.file}.json"
        return Entry(**json.loads(file.read_text())) if file.exists() else entry

    def _written(self, entry: Entry) -> Entry:
        file = self.folder / "done" / f"{entry.file}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".partial")
        unfinished.write_text(json.dumps(asdict(entry), indent=1))
        unfinished.rename(file)
        return entry
