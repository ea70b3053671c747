"""Past nights asked again: by trained models as they are, or by recipes fitted at the past cuts.

    night     2024-03-24   2024-03-25   2024-03-26  …
    tables    as of each night's cut, rebuilt from the events before it (batches up to the newest: late rows count on their own day)
    recipes   fitted as of the first night, and again when the refit policy says so; each sees the nights before the cut only
    models    as they are; one that was trained beyond a cut is refused
    lists     by recs.serve.make.model_lists, the night's own, of the users who get a list of their own
    truth     recs/judge/truth.py

Lists and truth lie in the run's folder as Parquet until they are judged; item tables of one night at a time.  None of this takes the
lease: tables are read at pinned versions, and the run writes into its own folder alone.
"""
from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recs.clock import Night, from_micros
from recs.config import Config
from recs.etl.news import State, visible
from recs.etl.sequences import sequences
from recs.etl.users_at import known_users
from recs.jobs import item_tables, train
from recs.jobs._cli import code_version
from recs.jobs.sequences import rule_of
from recs.judge.comparison import listed
from recs.judge.truth import followed, with_own_list
from recs.schemas import EVENTS, ITEM_HOURS, SEQUENCES, USERS, Table
from recs.serve import nights
from recs.serve.artifacts import ship, tables_artifact
from recs.serve.inputs import Inputs
from recs.serve.make import model_lists
from recs.tables import Lake, SideLake, TableError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Contestant:
    """Who takes part: a trained model by its row of `models`, or (without one) the recipe `name`, fitted at past cuts."""

    label: str
    name: str
    row: dict[str, Any] | None = None


@dataclass(frozen=True)
class Past:
    """The derived tables as they stood at a past cut; what recs.jobs.derive.Derived is for the present."""

    frames: dict[str, DataFrame]

    def read(self, table: Table) -> DataFrame:
        """The rows of a derived table."""
        return self.frames[table.name]


@dataclass(frozen=True)
class Replayed:
    """What came of it: lists and truth (as recs.judge.comparison takes them), and the size of the last night's catalogue."""

    lists: DataFrame
    truth: DataFrame
    n_catalogue: int


@dataclass
class Fits:
    """The models of a night.  `refit_us`: recipes are fitted again when their fit is so old; None: once."""

    work: Lake
    lake: Lake
    config: Config
    contestants: Sequence[Contestant]
    refit_us: int | None = None
    fitted_us: int | None = None
    recipes: dict[str, train.Trained] = field(default_factory=dict)

    def at(self, inputs: Inputs) -> dict[str, train.Trained]:
        """By label.  TableError for a model that was trained beyond the cut."""
        cut_us = inputs.attempt.night.as_of_us
        for c in self.contestants:
            if c.row and c.row["trained_through_us"] > cut_us:
                through, cut = (from_micros(us).isoformat() for us in (c.row["trained_through_us"], cut_us))
                raise TableError(f"{c.label} was trained through {through}, after the cut {cut}: name its recipe {c.name}, or later nights")
        self._fit(inputs, cut_us)
        return {c.label: train.at_hand(self.lake, c.row) if c.row else self.recipes[c.name] for c in self.contestants}

    def _fit(self, inputs: Inputs, cut_us: int) -> None:
        names = list(dict.fromkeys(c.name for c in self.contestants if not c.row))
        due = self.fitted_us is None or (self.refit_us is not None and cut_us - self.fitted_us >= self.refit_us)
        if names and due:
            self.recipes = {t.row["name"]: t for t in train.fit_models(self.work, self.config, inputs.derived, inputs.attempt, names)}
            self.fitted_us = cut_us


def past_nights(lake: Lake, config: Config, state: State, n: int, every: timedelta, until: date | None = None) -> list[Night]:
    """The last n nights (`until` the last), ascending, whose horizon ended by the state's cut and whose cut lies a horizon into the log."""
    from pyspark.sql import functions as F

    horizon_us = train.micros_of(config.fit.horizon)
    begins_us = lake.read(EVENTS).where(F.col("batch_id") <= state.max_batch).agg(F.min(F.unix_micros("ts"))).first()[0]
    if begins_us is None:
        raise TableError(f"{lake.path(EVENTS)} holds no event yet: ingest a log first (recs ingest)")
    day, found = until or from_micros(state.as_of_us).date() + timedelta(days=1), []
    while len(found) < n:
        night = Night.of(day, config.clock.zone, config.clock.lead)
        if night.as_of_us < begins_us + horizon_us:
            break
        if night.as_of_us + horizon_us <= state.as_of_us:
            found.append(night)
            day -= every
        else:
            day -= timedelta(days=1)
    return found[::-1]


def inputs_at(lake: Lake, config: Config, night: Night, max_batch: int, item_hours: DataFrame) -> Inputs:
    """What the night would have read: histories rebuilt from the events before its cut, item hours before it, blocks made before it."""
    state = State(night.as_of_us, max_batch)
    users = known_users(lake.read(USERS), state)
    histories = sequences(visible(lake.read(EVENTS), state), users, night.as_of, rule_of(config))
    return inputs_of(lake, config, night, max_batch, item_hours, histories.persist())


def inputs_of(lake: Lake, config: Config, night: Night, max_batch: int, item_hours: DataFrame, histories: DataFrame) -> Inputs:
    """The same with the night's histories at hand."""
    from pyspark.sql import functions as F

    hours = item_hours.where(F.col("hour") < F.timestamp_micros(F.lit(night.as_of_us)))
    attempt = nights.Attempt(night, config.lists.name, 0, max_batch, night.as_of_us, config.hash, code_version())
    return Inputs(lake, Past({SEQUENCES.name: histories, ITEM_HOURS.name: hours}), config, attempt)


@contextmanager
def replayed(
    lake: Lake, config: Config, contestants: Sequence[Contestant], asked: Sequence[Night], max_batch: int, k: int, folder: Path,
    refit_us: int | None, step: Callable[..., Any],
) -> Iterator[Replayed]:
    """Lists and truth of these nights, while the body runs; `folder` is the run's own, `step(name)` times and shows each night."""
    work = SideLake(lake, folder, own=())
    fits = Fits(work, lake, config, contestants, refit_us)
    hours, n_catalogue = lake.read(ITEM_HOURS), 0       # read once: a night that is made meanwhile changes nothing here
    try:
        for number, night in enumerate(asked):
            with step(f"night {night.run_date:%m-%d}") as counts:
                inputs = inputs_at(lake, config, night, max_batch, hours)
                n_catalogue = _one_night(work, lake, fits, inputs, number, k, counts)
        spark = lake.spark
        yield Replayed(spark.read.parquet(f"{folder}/lists/*"), spark.read.parquet(f"{folder}/truth/*"), n_catalogue)
    finally:
        for part in ("lists", "truth", "item_tables", "_models", "_examples"):
            shutil.rmtree(folder / part, ignore_errors=True)


def _one_night(work: Lake, lake: Lake, fits: Fits, inputs: Inputs, number: int, k: int, counts: dict[str, Any]) -> int:
    """Writes the night's lists and truth; the number of items known."""
    from pyspark.sql import functions as F

    config, night = inputs.config, inputs.attempt.night
    try:
        models = fits.at(inputs)
        kinds = reduce(frozenset.union, (m.needs for m in models.values()))
        state = State(night.as_of_us, inputs.attempt.max_batch)
        tables = item_tables.run(lake.spark, work, config, night.as_of, kinds, derived=inputs.derived, state=state)
        active = with_own_list(inputs).persist()
        shelf = ship(lake.spark, tables_artifact(tables.path))
        lists = []
        for label, m in models.items():
            rows = model_lists(inputs, active, m.path, tables.path, m.row["content_hash"])
            lists.append(listed(rows.join(active, "user_id"), label, number, shelf, k))
        write = reduce(lambda a, b: a.unionByName(b), lists).write
        write.parquet(f"{work.root}/lists/night-{number:03d}")
        truth = followed(inputs, train.micros_of(config.fit.horizon)).withColumn("night", F.lit(number))
        truth.write.parquet(f"{work.root}/truth/night-{number:03d}")
        fitted = str(from_micros(fits.fitted_us).date()) if fits.fitted_us else None
        counts.update(models=len(models), items=tables.n_items, fitted_through=fitted)
        active.unpersist()
        return tables.n_items
    finally:
        inputs.sequences.unpersist()
        shutil.rmtree(Path(work.root) / "item_tables", ignore_errors=True)
