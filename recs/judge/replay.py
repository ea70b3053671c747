"""Earlier nights asked again: what parameters would have made the best lists, by what followed?

    exams                           one row per user and earlier cut at which something followed (recs/judge/exams.py)
    Exams                           the questions a model class asks of them (recs/models/fitting.py), answered on the executors
    fit                             the parameters of one model by name

The driver sees sums over lists, never a user.  A worker holds one batch of histories and one batch x catalogue of scores; item
tables of the cuts are memory-mapped.  Truth = distinct items of target event types in [cut, cut + horizon) that the item tables
of the cut know and the rules would have allowed.  An item's gain is the weight of the best target event type it was met by.
"""
from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recs.clock import DAY, from_micros
from recs.evidence.histories import SEQUENCE_COLUMNS, Histories
from recs.evidence.item_tables import ItemTables
from recs.models import grid_of, make, model_class
from recs.models.base import Model, Setting
from recs.models.fitting import Fit, Question, Staged, with_fixed
from recs.serve.artifacts import Artifact, ship, tables_artifact
from recs.serve.rules import FOR_EVER, Forbidden, Rules
from recs.serve.score import batches, one_thread

from . import parts
from .exams import EXAM_COLUMNS
from .metrics import metrics_of_hits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recs.config import Config
    from recs.nn.staged import Staged as StagedFolder

log = logging.getLogger(__name__)

CELLS = 1 << 24         # users x items of a batch: 64 MB of scores
LISTS_HERE = 5_000      # lists whose arrays the driver may hold: about 100 MB of the blend's


def setting_of(config: Config, n_items: int) -> Setting:
    """What a model may use of this log; SettingError where parameters are configured that a model does not have."""
    rules = Rules.of(config.lists.rules, config.log.events.event_types)
    targets = [t.code for t in config.log.events.event_types.values() if t.target]
    repeats = any(rules.hidden_us.get(code, rules.hidden_default_us) < FOR_EVER for code in targets)
    horizon_us = config.fit.horizon // timedelta(microseconds=1)
    places = config.log.items is not None and {"lat", "lon"} <= config.log.items.columns.keys()
    setting = Setting(
        repeats, config.log.events.has_clock, n_items, config.item_tables.ease_max_items, config.fit.nights, horizon_us, places,
        texts=config.text is not None and config.log.items is not None, fixed=config.parameters, serves_us=config.fit.serves_us)
    for name in config.parameters:
        grid_of(name, setting)
    return setting


def fit(
    name: str, exams: DataFrame, tables: Sequence[str | Path], setting: Setting, rules: Rules, k: int = 10, until: float | None = None,
    fixed: dict[str, Any] | None = None, scratch: Path | None = None, horizon_us: int | None = None, before: Model | None = None,
    facts: dict[str, Any] | None = None, histories: DataFrame | None = None,
) -> Fit:
    """The parameters of a model by its lists for these exams (EXAM_COLUMNS), with NDCG@k and its companions.

    `tables`: folder of item tables by `night`.  `until`: by this reading of time.monotonic() the search should end.  `fixed`:
    parameters that are not to be fitted.  `scratch`: a folder for examples, kept for the next fit.  `horizon_us`: how long after a cut
    what followed was looked for (default: the setting's).  `before`: the earlier fit that this one goes on from.  `facts`: the tables'
    versions, for the manifests of examples.  `histories`: SEQUENCE_COLUMNS of all users up to the present.  Without any exam the model
    keeps its first guess.
    """
    cls, grid = model_class(name), with_fixed(grid_of(name, setting), fixed or {})
    fixed = {**setting.fixed.get(name, {}), **(fixed or {})}
    with Exams.open(exams, tables, rules, k, until, scratch, horizon_us or setting.horizon_us, facts, histories) as replay:
        if not replay.n_lists:
            log.warning("%s: nothing followed the earlier cuts; the model keeps its first guess", name)
            return Fit(grid[0], [])
        found = cls.fit_with(setting, replay, fixed) if before is None else cls.fit_on(setting, replay, fixed, before)
        return replace(found, metrics=found.metrics or replay.metrics_of(name, found.params))


def stage(
    name: str, exams: DataFrame, tables: Sequence[str | Path], setting: Setting, rules: Rules, k: int, scratch: Path, facts: dict[str, Any],
) -> dict[str, Any]:
    """Write the examples that `fit` with the same arguments reads, into `scratch`; what they are (nothing followed: nothing)."""
    with Exams.open(exams, tables, rules, k, None, scratch, setting.horizon_us, facts) as replay:
        return model_class(name).stage(setting, replay, grid_of(name, setting)[0]) if replay.n_lists else {}


@dataclass(frozen=True)
class _Plan:
    """What a worker needs."""

    tables: tuple[Artifact, ...]
    rules: Rules
    k: int
    rows: int


class Exams:
    """Exams on the executors: the `Replay` that models are fitted with."""

    def __init__(
        self, exams: DataFrame, plan: _Plan, until: float | None, scratch: Path | None = None, horizon_us: int = DAY,
        facts: dict[str, Any] | None = None, histories: DataFrame | None = None,
    ) -> None:
        self.histories = histories
        self.exams, self.plan, self.until, self.k, self.scratch, self.horizon_us = exams, plan, until, plan.k, scratch, horizon_us
        self.facts = facts or {}

    @classmethod
    @contextmanager
    def open(
        cls, exams: DataFrame, tables: Sequence[str | Path], rules: Rules, k: int, until: float | None = None,
        scratch: Path | None = None, horizon_us: int = DAY, facts: dict[str, Any] | None = None, histories: DataFrame | None = None,
    ) -> Iterator[Exams]:
        """Keeps the exams on the executors' disks while the body runs."""
        from pyspark import StorageLevel

        spark = exams.sparkSession
        shipped = tuple(ship(spark, tables_artifact(path)) for path in tables)
        widest = max((ItemTables(path).n_items for path in tables), default=1)
        plan = _Plan(shipped, rules, k, int(np.clip(CELLS // max(widest, 1), 16, 256)))
        kept = exams.select(*EXAM_COLUMNS).repartition(spark.sparkContext.defaultParallelism * 2, "user_id").persist(StorageLevel.DISK_ONLY)
        try:
            yield cls(kept, plan, until, scratch, horizon_us, facts, histories)
        finally:
            kept.unpersist()

    @cached_property
    def n_lists(self) -> int:
        """Lists with something to hit."""
        return int(self._sums(_count)[0])

    @property
    def nights(self) -> list[int]:
        """Numbers of the nights with an exam."""
        return sorted(self._asked)

    @cached_property
    def _asked(self) -> dict[int, str]:
        """By night: who is asked, on what, and what came true; nothing after the cut beside that."""
        from pyspark.sql import functions as F

        before = F.size(F.filter("ts", lambda t: t < F.col("cut_us")))
        known = [F.slice(c, F.lit(1), before) for c in SEQUENCE_COLUMNS if c != "user_id"]
        row = F.xxhash64("user_id", "cut_us", "request_us", "truth", "gain", *known)
        hashed = self.exams.select("night", row.alias("row"))
        # rows in any order; two hashes of 64 bits, since those of different rows may cancel out in one
        sums = hashed.groupBy("night").agg(F.count("row"), F.bit_xor("row"), F.bit_xor(F.xxhash64("row", F.lit(1))))
        return {night: json.dumps(rest) for night, *rest in sums.collect()}

    def contents(self, kinds: Collection[str] | None = None) -> dict[int, str]:
        """By night: a hash of exams, rules and item tables (by the bytes of their files, whenever they were built)."""
        rules = [sorted(self.plan.rules.hidden_us.items()), self.plan.rules.hidden_default_us, self.plan.rules.exclude_self,
                 list(self.plan.rules.blocked)]
        out = {}
        for night, asked in self._asked.items():
            facts = [asked, rules, self.tables(night).digest(kinds)]
            out[night] = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        return out

    @property
    def cuts_us(self) -> tuple[int, ...]:
        """Knowledge cut of each night, by its number."""
        return tuple(ItemTables(artifact.folder).cut_us for artifact in self.plan.tables)

    def tables(self, night: int) -> ItemTables:
        """The item tables of a night, on the driver."""
        return ItemTables(self.plan.tables[night].folder)

    def only(self, nights: Collection[int]) -> Exams:
        """Some of the nights."""
        some = self.exams.where(self.exams["night"].isin([int(n) for n in nights]))
        part = Exams(some, self.plan, self.until, self.scratch, self.horizon_us, self.facts, self.histories)
        part._asked = {n: asked for n, asked in self._asked.items() if n in nights}
        return part

    def write(
        self, make: Callable[[Question], dict[str, np.ndarray]], folder: Path, kinds: Collection[str] | None = None,
    ) -> dict[int, StagedFolder]:
        """Arrays of every question as staged Parquet, a folder per night (named after its cut and contents), by night.

        The folder is on storage that driver and executors share.  A night that lies there finished is not written again.
        """
        from recs.nn.staged import MANIFEST, open_staged

        names = {n: f"{from_micros(self.cuts_us[n]):%Y%m%dT%H%M}-{content[:12]}" for n, content in self.contents(kinds).items()}
        todo = [n for n in self.nights if not (Path(folder) / names[n] / MANIFEST).exists()]
        wanted = self.exams.where(self.exams["night"].isin(todo))
        written = partial(_write_on_worker, self.plan, make, {n: str(Path(folder) / names[n]) for n in todo})
        files = wanted.mapInPandas(written, parts.DDL).collect() if todo else []
        for night in sorted({row["night"] for row in files}):
            facts = self.facts | {"cut_us": self.cuts_us[night], "item_tables": self.plan.tables[night].content_hash}
            parts.finished(Path(folder) / names[night], [row for row in files if row["night"] == night], facts)
        return {n: open_staged(Path(folder) / names[n]) for n in self.nights if (Path(folder) / names[n] / MANIFEST).exists()}

    def write_histories(
        self, make: Callable[[Histories, ItemTables], dict[str, np.ndarray]], folder: Path, night: int,
    ) -> StagedFolder | None:
        """Arrays of all users' histories up to the present, with a night's item tables, as staged Parquet; None where there are none."""
        from .known import write_histories

        with_tables = partial(_with_tables, make, self.plan.tables[night])
        return None if self.histories is None else write_histories(self.histories, with_tables, folder)

    def enough(self) -> bool:
        """Is the time for the search over?"""
        return self.until is not None and time.monotonic() > self.until

    def mean(self, ask: Callable[[Question], np.ndarray]) -> np.ndarray:
        """Mean over the lists of what `ask` sums up per question, [P]."""
        # rounded: partial sums arrive in any order, and their last bits must not decide between equals
        return np.round(self._sums(ask) / self.n_lists, 9)

    def stage(self, make: Callable[[Question], dict[str, np.ndarray]]) -> Staged:
        """Keep what `make` computes from every question on the executors’ disks, to be asked many times."""
        from pyspark import StorageLevel

        blobs = self.exams.mapInPandas(partial(_stage_on_worker, self.plan, make), "arrays binary")
        if self.n_lists <= LISTS_HERE:
            return _Here([_arrays(row["arrays"]) for row in blobs.collect()], self.n_lists)
        return _Blobs(blobs.persist(StorageLevel.DISK_ONLY), self.n_lists)

    def metrics_of(self, name: str, params: dict[str, Any]) -> dict[str, float]:
        """ndcg, recall, hr and mrr @k of one parameter set, and the number of lists."""
        sums = self._sums(partial(_metric_sums, name, params))
        names = list(metrics_of_hits(np.zeros((1, self.k), bool), np.ones(1, int)))
        return {n: round(float(s / self.n_lists), 6) for n, s in zip(names, sums, strict=True)} | {"lists": float(self.n_lists)}

    def _sums(self, ask: Callable[[Question], np.ndarray]) -> np.ndarray:
        return _added(self.exams.mapInPandas(partial(_ask_on_worker, self.plan, ask), "place int, total double"))


class _Here:
    """What was kept of every question, in the driver's memory: a search asks a hundred times, and a Spark job costs a second."""

    def __init__(self, questions: list[dict[str, np.ndarray]], n_lists: int) -> None:
        self.questions, self.n_lists = questions, n_lists

    def mean(self, ask: Callable[[dict[str, np.ndarray]], np.ndarray]) -> np.ndarray:
        return np.round(sum(ask(arrays) for arrays in self.questions) / self.n_lists, 9)


class _Blobs:
    """What was kept of every question, as bytes in a frame."""

    def __init__(self, blobs: DataFrame, n_lists: int) -> None:
        self.blobs, self.n_lists = blobs, n_lists

    def mean(self, ask: Callable[[dict[str, np.ndarray]], np.ndarray]) -> np.ndarray:
        return np.round(_added(self.blobs.mapInPandas(partial(_ask_blobs_on_worker, ask), "place int, total double")) / self.n_lists, 9)


def _added(parts: DataFrame) -> np.ndarray:
    """[P] partial sums of all tasks added up; [1] zero when there was no question."""
    from pyspark.sql import functions as F

    rows = parts.groupBy("place").agg(F.sum("total").alias("total")).orderBy("place").collect()
    return np.array([r["total"] for r in rows] or [0.0])


def _ask_on_worker(plan: _Plan, ask: Callable[[Question], np.ndarray], frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    yield from _total(ask(question) for question in _questions(plan, frames))


def _ask_blobs_on_worker(ask: Callable[[dict[str, np.ndarray]], np.ndarray], frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    yield from _total(ask(_arrays(blob)) for frame in frames for blob in frame["arrays"])


def _arrays(blob: bytes) -> dict[str, np.ndarray]:
    return dict(np.load(io.BytesIO(blob), allow_pickle=False))


def _total(answers: Iterator[np.ndarray]) -> Iterator[pd.DataFrame]:
    total: np.ndarray | float = 0.0
    for answer in answers:
        total = total + answer
    if isinstance(total, np.ndarray):
        yield pd.DataFrame({"place": np.arange(len(total), dtype=np.int32), "total": total.astype(np.float64)})


def _stage_on_worker(
    plan: _Plan, make: Callable[[Question], dict[str, np.ndarray]], frames: Iterator[pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    for question in _questions(plan, frames):
        file = io.BytesIO()
        np.savez(file, **make(question))
        yield pd.DataFrame({"arrays": [file.getvalue()]})


def _write_on_worker(
    plan: _Plan, make: Callable[[Question], dict[str, np.ndarray]], folders: dict[int, str], frames: Iterator[pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    """A file per question with a row; its name is of the task and the question, so that a task tried again writes the same files."""
    for number, (night, question) in enumerate(_questions_of_nights(plan, frames)):
        with one_thread():
            columns = make(question)
        if len(columns["n_truth"]):
            yield parts.part(folders[night], number, columns, night)


def _questions(plan: _Plan, frames: Iterator[pd.DataFrame]) -> Iterator[Question]:
    return (question for _, question in _questions_of_nights(plan, frames))


def _questions_of_nights(plan: _Plan, frames: Iterator[pd.DataFrame]) -> Iterator[tuple[int, Question]]:
    """Batches of exams of one night with something to hit, and the night's number."""
    waiting: dict[int, list[pd.DataFrame]] = {}
    for batch in batches(frames, plan.rows):
        for night, rows in batch.groupby("night"):
            parts = waiting.setdefault(int(night), [])
            parts.append(rows)
            if sum(map(len, parts)) >= plan.rows // 2:
                yield from _numbered(int(night), _question(plan, int(night), pd.concat(waiting.pop(int(night)), ignore_index=True)))
    for night, parts in sorted(waiting.items()):
        yield from _numbered(night, _question(plan, night, pd.concat(parts, ignore_index=True)))


def _numbered(night: int, questions: Iterator[Question]) -> Iterator[tuple[int, Question]]:
    return ((night, question) for question in questions)


def _question(plan: _Plan, night: int, rows: pd.DataFrame) -> Iterator[Question]:
    """The question of these rows, without those for which nothing that may be listed came true."""
    tables = _tables(plan.tables[night])
    wanted, cells, gain = _truth(plan, rows, tables)
    if not (wanted > 0).any():
        return
    rows, wanted = rows[wanted > 0], wanted[wanted > 0]
    histories, request_us, forbidden = _asked(plan, rows, tables)
    users, columns = np.divmod(cells, tables.n_items)
    truth = np.unique(users, return_inverse=True)[1] * tables.n_items + columns
    yield Question(histories, request_us, tables, forbidden, truth, wanted, plan.k, gain)


def _asked(plan: _Plan, rows: pd.DataFrame, tables: ItemTables) -> tuple[Histories, np.ndarray, Forbidden]:
    histories = Histories.from_frame(rows).before(rows["cut_us"].to_numpy(np.int64))
    request_us = rows["request_us"].to_numpy(np.int64)
    nothing = [np.empty(0, np.int64)] * len(rows)
    return histories, request_us, Forbidden(plan.rules, histories, request_us, tables, nothing)


def _truth(plan: _Plan, rows: pd.DataFrame, tables: ItemTables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[U] how many items came true that could have been listed; their cells user * I + column, ascending; what each is worth."""
    _, _, forbidden = _asked(plan, rows, tables)
    lengths = rows["truth"].map(len).to_numpy(np.int64)
    columns = tables.columns(np.concatenate([np.asarray(t, np.int64) for t in rows["truth"]]))
    known = columns >= 0
    cells, first = np.unique(np.repeat(np.arange(len(rows)), lengths)[known] * tables.n_items + columns[known], return_index=True)
    gain = np.concatenate([np.asarray(g, np.float32) for g in rows["gain"]])[known][first]
    users, columns = np.divmod(cells, max(tables.n_items, 1))
    allowed = ~forbidden(0, tables.n_items)[users, columns]
    return np.bincount(users[allowed], minlength=len(rows)), cells[allowed], gain[allowed]


_OPEN: dict[str, ItemTables] = {}       # of this process


def _with_tables(
    make: Callable[[Histories, ItemTables], dict[str, np.ndarray]], tables: Artifact, histories: Histories,
) -> dict[str, np.ndarray]:
    return make(histories, _tables(tables))


def _tables(artifact: Artifact) -> ItemTables:
    if artifact.content_hash not in _OPEN:
        _OPEN[artifact.content_hash] = ItemTables(artifact.local, verify=True)
    return _OPEN[artifact.content_hash]


def _count(question: Question) -> np.ndarray:
    return np.array([float(len(question.wanted))])


def _metric_sums(name: str, params: dict[str, Any], question: Question) -> np.ndarray:
    found = metrics_of_hits(question.hits(question.lists(make(name, params))), question.wanted)
    return np.array([values.sum() for values in found.values()])


__all__ = ["Exams", "fit", "setting_of"]
