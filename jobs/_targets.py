"""Published protocols on the lake's events: one target per user, full ranking, asked by both request-time rules side by side.

    leave one out       target: the last event; known: everything else
    global temporal     target: the last event after the instant by which 90 % of all events have happened; known: what happened by it

Recipes are fitted by the same rule once more inside what is known; item tables are of what is known.  The two rules (recs/judge/targets.py)
answer the same targets from the same tables; `night` asks as a nightly list is asked, and leaves users without a history before
that night's cut without a list.
"""
from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from recs.clock import HOUR, from_micros, micros
from recs.config import Config
from recs.etl.item_hours import item_hours
from recs.etl.item_tables import build_item_tables
from recs.etl.news import State, visible
from recs.etl.sequences import sequences
from recs.etl.users_at import known_users
from recs.evidence.histories import SEQUENCE_COLUMNS
from recs.evidence.item_tables import ItemTables
from recs.jobs._again import Contestant, Replayed
from recs.jobs.sequences import rule_of
from recs.jobs.train import kinds_of, setting_at
from recs.judge import replay, targets
from recs.judge.comparison import listed
from recs.judge.exams import NO_CUT, exams_sampled, one_target
from recs.judge.truth import HISTORY, band
from recs.models import Model, Setting, load, make
from recs.schemas import EVENTS, ITEM_VOCABULARY, ITEMS, USERS
from recs.serve.artifacts import ship, tables_artifact
from recs.serve.rules import Rules
from recs.serve.score import recommend
from recs.tables import Lake, TableError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MEANING = {"loo": "the last event of every user with three or more", "gts_last": "each user's last event after the 0.9 quantile of time"}
SHARE = 0.9
LATER = datetime.fromisoformat("9987-01-01T00:00:00+00:00")     # after everything


def rules_of(config: Config) -> tuple[str, ...]:
    """Request-time rules that mean something on this log: without a clock there is no night."""
    return targets.RULES if config.log.events.has_clock else targets.RULES[:1]


@dataclass(frozen=True)
class Fold:
    """Events, the targets among them, and what is known when they are answered."""

    lake: Lake
    config: Config
    protocol: str
    events: DataFrame
    max_batch: int

    @cached_property
    def rules(self) -> Rules:
        """The rules of the lists."""
        return Rules.of(self.config.lists.rules, self.config.log.events.event_types)

    @cached_property
    def split_us(self) -> int | None:
        """The instant between known and later; None: every user has his own."""
        return None if self.protocol == "loo" else targets.quantile_us(self.events, SHARE)

    @cached_property
    def targets(self) -> DataFrame:
        """user_id, target (0), item_index, ts, place."""
        codes = [t.code for t in self.config.log.events.event_types.values() if t.target]
        return targets.targets_of(self.events, self.split_us, self.rules.hides_seen, codes).persist()

    @cached_property
    def known(self) -> DataFrame:
        """Events that models and item tables may read."""
        if self.split_us is not None:
            return self.events.where(F.col("ts") <= F.timestamp_micros(F.lit(self.split_us))).persist()
        others = self.events.join(self.targets, "user_id", "left_anti").select(*self.events.columns)
        return targets.before_targets(self.events, self.targets).unionByName(others).persist()

    @cached_property
    def first_us(self) -> int:
        """The instant that no model may have been trained beyond."""
        return self.split_us if self.split_us is not None else self.targets.agg(F.min(F.unix_micros("ts"))).first()[0]

    @cached_property
    def setting(self) -> Setting:
        """What the log allows models."""
        return setting_at(self.lake, self.config)

    @cached_property
    def inner(self) -> Fold:
        """The same inside what is known: what recipes are fitted on."""
        return Fold(self.lake, self.config, self.protocol, self.known, self.max_batch)

    def histories(self, events: DataFrame) -> DataFrame:
        """Rows of `sequences` of these events."""
        users = known_users(self.lake.read(USERS), State.of(LATER, self.max_batch))
        return sequences(events, users, LATER, rule_of(self.config))

    def tables(self, kinds: frozenset[str], out: Path) -> ItemTables:
        """Item tables of what is known, as of its end (the next full hour)."""
        config, types = self.config, {name: t.code for name, t in self.config.log.events.event_types.items()}
        cut = from_micros(-(-(micros(self.known.agg(F.max("ts")).first()[0]) + 1) // HOUR) * HOUR)
        users = known_users(self.lake.read(USERS), State.of(LATER, self.max_batch))
        hours = item_hours(self.known, users, cut, config.sessions.gap, list(types))
        vocabulary, items = (self.lake.read(t).where(F.col("batch_id") <= self.max_batch) for t in (ITEM_VOCABULARY, ITEMS))
        catalogue = items if config.log.items else None
        return build_item_tables(hours, self.histories(self.known), vocabulary, catalogue, cut, kinds, config.item_tables, out, types)

    def asked(self, rule: str) -> DataFrame:
        """SEQUENCE_COLUMNS and request_us of every target's user, by a request-time rule."""
        before = targets.before_targets(self.events, self.targets)
        zone, lead = self.config.clock.zone, self.config.clock.lead
        if rule == "target":
            asked = targets.asked_at_target(self.targets)
        else:
            asked = targets.asked_at_night(self.targets, zone, lead)
            before = before.join(asked, "user_id").where(F.unix_micros("ts") < F.col("cut_us")).select(*before.columns)
        return self.histories(before).select(*SEQUENCE_COLUMNS).join(asked.select("user_id", "request_us"), "user_id")

    def exams(self) -> DataFrame:
        """The targets as exams (recs/judge/exams.py), each at its own instant."""
        truth = self.targets.select(
            "user_id", *one_target("item_index"), F.lit(0).alias("night"), F.lit(NO_CUT).alias("cut_us"),
        )
        return self.asked("target").join(truth, "user_id")


@contextmanager
def replayed(
    lake: Lake, config: Config, contestants: Sequence[Contestant], protocol: str, state: State, k: int, folder: Path,
    step: Callable[..., Any],
) -> Iterator[Replayed]:
    """Lists by every rule (models named `<label> @<rule>`) and truth of the protocol's targets, while the body runs."""
    fold = Fold(lake, config, protocol, visible(lake.read(EVENTS), state).persist(), state.max_batch)
    try:
        _refuse_the_future(fold, contestants)
        with step("fit") as counts:
            models = _models(fold, contestants, folder)
            counts.update(models=len(models))
        kinds = reduce(frozenset.union, (kinds for _, kinds, _ in models.values()))
        with step("item_tables"):
            tables = fold.tables(kinds, folder / "item_tables" / "known")
        shelf = ship(lake.spark, tables_artifact(tables.path))
        for rule in rules_of(config):
            with step(f"lists {rule}"):
                asked = fold.asked(rule).repartition(lake.spark.sparkContext.defaultParallelism * 2, "user_id").persist()
                for n, (label, (path, _, content)) in enumerate(models.items()):
                    rows = recommend(asked, path, tables.path, k, fold.rules, model_hash=content).withColumn("segment", F.lit("all"))
                    listed(rows, f"{label} @{rule}", 0, shelf, k).write.parquet(f"{folder}/lists/{rule}-{n:03d}")
                asked.unpersist()
        truth_of(fold).write.parquet(f"{folder}/truth/all")
        spark = lake.spark
        yield Replayed(spark.read.parquet(f"{folder}/lists/*"), spark.read.parquet(f"{folder}/truth/*"), tables.n_items)
    finally:
        fold.events.unpersist()
        for part in ("lists", "truth", "item_tables", "_models", "_examples"):
            shutil.rmtree(folder / part, ignore_errors=True)


def _refuse_the_future(fold: Fold, contestants: Sequence[Contestant]) -> None:
    for c in contestants:
        if c.row and c.row["trained_through_us"] > fold.first_us:
            through, first = (from_micros(us).isoformat() for us in (c.row["trained_through_us"], fold.first_us))
            raise TableError(f"{c.label} was trained through {through}, after the first target ({first}): name its recipe {c.name}")


def _models(fold: Fold, contestants: Sequence[Contestant], folder: Path) -> dict[str, tuple[Path, frozenset[str], str | None]]:
    """By label: folder, kinds of item tables, content hash (None: just made)."""
    recipes = [c for c in contestants if not c.row]
    kinds = kinds_of(fold.setting, [c.name for c in recipes])
    tables = [fold.inner.tables(kinds, folder / "item_tables" / "fit").path] if recipes else []
    exams = exams_to_fit(fold) if recipes else None
    out = {}
    for c in contestants:
        path, content = (Path(fold.lake.root) / c.row["path"], c.row["content_hash"]) if c.row else (folder / "_models" / c.label, None)
        model = load(path) if c.row else fit(fold, c.name, exams, tables, path, folder / "_examples")
        out[c.label] = (path, model.needs(model.params), content)
    return out


def exams_to_fit(fold: Fold) -> DataFrame:
    """What recipes are fitted on: the protocol's targets inside what is known."""
    return exams_sampled(fold.inner.exams(), 1, fold.config.fit.max_users)


def fit(
    fold: Fold, name: str, exams: DataFrame, tables: Sequence[Path], path: Path, scratch: Path, until: float | None = None,
    fixed: dict[str, Any] | None = None,
) -> Model:
    """A recipe fitted on these exams, saved as the folder `path`."""
    fitted = replay.fit(name, exams, tables, fold.setting, fold.rules, fold.config.fit.k, scratch=scratch, until=until, fixed=fixed)
    model = make(name, fitted.params, fitted.weights)
    model.save(path)
    return model


def truth_of(fold: Fold) -> DataFrame:
    """A row per target; known or not, none is left out."""
    ids = fold.lake.read(ITEM_VOCABULARY).select("item_id", "item_index")
    slices = F.array(F.lit(""), band("history", F.col("place") - 1, HISTORY))
    return fold.targets.join(ids, "item_index").select(F.lit(0).alias("night"), "user_id", "item_id", slices.alias("slices"))
