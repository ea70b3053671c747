"""What a contest is held on: all that is the same for every model, made once, and lists made of one model at a time.

    Nights      past nights; a model is fitted as of the first (jobs/_again.py says what a past night knows)
    Targets     one target per user, asked at its own instant (jobs/_targets.py)

    prepare     histories, who is asked, truth and item tables, in the contest's folder; what is there already is taken
    fit         one model, by one seed, in the minutes given
    lists       its lists, written as recs.judge.comparison.LIST_COLUMNS; users a second

Item tables are of every kind that one of the models reads.  Neither they nor histories count as a model's time or memory.
"""
from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recs.clock import Night
from recs.config import Config
from recs.etl.news import State, visible
from recs.jobs import _again, _targets, item_tables, train
from recs.judge.comparison import listed
from recs.judge.truth import followed, with_own_list
from recs.schemas import EVENTS, ITEM_HOURS
from recs.serve.artifacts import folder_hash, ship, tables_artifact
from recs.serve.inputs import Inputs
from recs.serve.make import model_lists
from recs.serve.score import recommend
from recs.tables import Lake, SideLake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Step = Callable[..., Any]
DIVERSITY = "cooc"  # what recs/judge/beyond.py measures the difference of a list's items by
RULE = "target"     # of Targets: publications ask at the target's own instant


@dataclass(frozen=True)
class Fitted:
    """A model's folder, with its content hash and how long its fit took."""

    path: Path
    content_hash: str
    seconds: float


class Ground(Protocol):
    """See the module's text."""

    facts: dict[str, str]

    def prepare(self, step: Step) -> None:
        """Make what is not there yet."""

    def fit(self, name: str, minutes: float, fixed: dict[str, Any], watch: Any) -> Fitted:
        """Fit a model; `watch` (a context) is open while it is fitted, and closed while item tables are made."""

    def lists(self, fitted: Fitted, label: str, k: int, out: Path) -> float:
        """Write the model's lists, and say how many users a second got one."""

    def truth(self) -> DataFrame:
        """What came true, as recs.judge.comparison takes it."""

    @property
    def n_catalogue(self) -> int:
        """Items of the (last) catalogue."""


def kinds_made(file: Path) -> frozenset[str]:
    """Kinds of item tables that the note on what was prepared names; none where there is no note."""
    return frozenset(json.loads(file.read_text())["kinds"]) if file.exists() else frozenset()


def is_made(file: Path, kinds: frozenset[str]) -> bool:
    """Is all prepared, with these kinds of item tables?"""
    return file.exists() and kinds <= kinds_made(file)


class Nights:
    """The nights `asked` of a lake, in a contest's `folder`."""

    def __init__(self, lake: Lake, config: Config, asked: Sequence[Night], max_batch: int, names: Sequence[str], folder: Path) -> None:
        self.lake, self.config, self.asked, self.max_batch, self.folder = lake, config, asked, max_batch, folder
        self.work = SideLake(lake, folder, own=())
        self.kinds = train.kinds_of(train.setting_at(lake, config), names) | {DIVERSITY}
        self.hours = lake.read(ITEM_HOURS)      # read once: a night that is made meanwhile changes nothing here
        horizon_d = train.micros_of(config.fit.horizon) / 86_400e6
        when = f"{asked[0].run_date} to {asked[-1].run_date}"
        self.facts = {"nights": f"{len(asked)}, {when}, horizon {horizon_d:g} d; every model is fitted once, as of the first"}

    def prepare(self, step: Step) -> None:
        """Item tables, histories, users with a list of their own, and truth of every night."""
        for number, night in enumerate(self.asked):
            if not is_made(self._made(number), self.kinds):
                with step(f"night {night.run_date:%m-%d}") as counts:
                    counts.update(items=self._prepare(number, night))

    def _prepare(self, number: int, night: Night) -> int:
        here, kinds = self._made(number).parent, self.kinds | kinds_made(self._made(number))
        shutil.rmtree(here, ignore_errors=True)
        inputs = _again.inputs_at(self.lake, self.config, night, self.max_batch, self.hours)
        try:
            inputs.sequences.write.parquet(f"{here}/sequences")
            with_own_list(inputs).write.parquet(f"{here}/active")
            followed(inputs, train.micros_of(self.config.fit.horizon)).write.parquet(f"{here}/truth")
            state = State(night.as_of_us, self.max_batch)
            tables = item_tables.run(self.lake.spark, self.work, self.config, night.as_of, kinds, derived=inputs.derived, state=state)
        finally:
            inputs.close()
            inputs.sequences.unpersist()
        made = {"tables": str(tables.path), "n_items": tables.n_items, "kinds": sorted(kinds)}
        self._made(number).write_text(json.dumps(made))     # the last: all is there
        return tables.n_items

    def _made(self, number: int) -> Path:
        return self.folder / "nights" / f"{number:03d}" / "made.json"

    def _inputs(self, number: int) -> Inputs:
        """The inputs of a prepared night: histories as they were written."""
        histories = self.lake.spark.read.parquet(f"{self._made(number).parent}/sequences")
        return _again.inputs_of(self.lake, self.config, self.asked[number], self.max_batch, self.hours, histories)

    def fit(self, name: str, minutes: float, fixed: dict[str, Any], watch: Any) -> Fitted:
        """As of the first night, from examples of its own: none is left by the model before."""
        inputs = self._inputs(0)
        exams = train.asked(self.work, self.config, inputs.derived, inputs.attempt, name, self.kinds)
        shutil.rmtree(train.examples_folder(self.work), ignore_errors=True)
        with watch:
            found = train.fit_asked(
                self.work, self.config, inputs.derived, inputs.attempt, name, exams, minutes=minutes, fixed=fixed)
        return Fitted(found.path, found.row["content_hash"], found.fit_s)

    def lists(self, fitted: Fitted, label: str, k: int, out: Path) -> float:
        """Of every night; users a second of the night in the middle, Spark's own work included."""
        speeds, spark = [], self.lake.spark
        for number in range(len(self.asked)):
            inputs, here = self._inputs(number), self._made(number).parent
            made = json.loads(self._made(number).read_text())
            active, raw = spark.read.parquet(f"{here}/active"), f"{self.folder}/raw"
            began = time.monotonic()
            model_lists(inputs, active, fitted.path, made["tables"], fitted.content_hash).write.mode("overwrite").parquet(raw)
            speeds.append(active.count() / (time.monotonic() - began))
            shelf = ship(spark, tables_artifact(made["tables"]))
            rows = spark.read.parquet(raw).join(active, "user_id")
            listed(rows, label, number, shelf, k).write.parquet(f"{out}/night-{number:03d}")
            inputs.close()
        return sorted(speeds)[len(speeds) // 2]

    def truth(self) -> DataFrame:
        """Of all nights."""
        from pyspark.sql import functions as F

        frames = [
            self.lake.spark.read.parquet(f"{self._made(n).parent}/truth").withColumn("night", F.lit(n)) for n in range(len(self.asked))]
        return reduce(lambda a, b: a.unionByName(b), frames)

    @property
    def n_catalogue(self) -> int:
        """Items of the last night."""
        return json.loads(self._made(len(self.asked) - 1).read_text())["n_items"]


class Targets:
    """The targets of a published protocol on a lake's events, in a contest's `folder`."""

    def __init__(self, lake: Lake, config: Config, protocol: str, state: State, names: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.fold = _targets.Fold(lake, config, protocol, visible(lake.read(EVENTS), state).persist(), state.max_batch)
        self.kinds = train.kinds_of(self.fold.setting, names) | {DIVERSITY}
        self.facts = {"targets": f"{_targets.MEANING[protocol]}, asked at its own instant"}

    def prepare(self, step: Step) -> None:
        """Item tables of what is known, and of what was known when models are fitted; histories and truth."""
        if is_made(self._made, self.kinds):
            return
        kinds = self.kinds | kinds_made(self._made)
        shutil.rmtree(self.folder / "nights", ignore_errors=True)
        with step("targets") as counts:
            fit = self.fold.inner.tables(kinds, self.folder / "item_tables" / "fit")
            known = self.fold.tables(kinds, self.folder / "item_tables" / "known")
            self.fold.asked(RULE).write.parquet(f"{self.folder}/nights/asked")
            _targets.truth_of(self.fold).write.parquet(f"{self.folder}/nights/truth")
            made = {"fit": str(fit.path), "tables": str(known.path), "n_items": known.n_items, "kinds": sorted(kinds)}
            self._made.write_text(json.dumps(made))
            counts.update(items=known.n_items)

    @property
    def _made(self) -> Path:
        return self.folder / "nights" / "made.json"

    def fit(self, name: str, minutes: float, fixed: dict[str, Any], watch: Any) -> Fitted:
        """By the same rule inside what is known, from examples of its own."""
        scratch, path = self.folder / "_examples", self.folder / "_models" / "-".join([name, *map(str, fixed.values())])
        shutil.rmtree(scratch, ignore_errors=True)
        exams = _targets.exams_to_fit(self.fold)
        with watch:
            began = time.monotonic()
            tables = [Path(json.loads(self._made.read_text())["fit"])]
            _targets.fit(self.fold, name, exams, tables, path, scratch, began + 60 * minutes, fixed)
        return Fitted(path, folder_hash(path), time.monotonic() - began)

    def lists(self, fitted: Fitted, label: str, k: int, out: Path) -> float:
        """Of every target's user."""
        from pyspark.sql import functions as F

        spark, raw, tables = self.fold.lake.spark, f"{self.folder}/raw", json.loads(self._made.read_text())["tables"]
        asked = spark.read.parquet(f"{self.folder}/nights/asked")
        began = time.monotonic()
        spread = asked.repartition(spark.sparkContext.defaultParallelism * 2, "user_id")
        recommend(spread, fitted.path, tables, k, self.fold.rules, model_hash=fitted.content_hash).write.mode("overwrite").parquet(raw)
        speed = asked.count() / (time.monotonic() - began)
        rows = spark.read.parquet(raw).withColumn("segment", F.lit("all"))
        listed(rows, label, 0, ship(spark, tables_artifact(tables)), k).write.parquet(f"{out}/all")
        return speed

    def truth(self) -> DataFrame:
        """Of all targets."""
        return self.fold.lake.spark.read.parquet(f"{self.folder}/nights/truth")

    @property
    def n_catalogue(self) -> int:
        """Items known."""
        return json.loads(self._made.read_text())["n_items"]
