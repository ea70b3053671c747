"""Answer a benchmark split with one of the product's models.

    python benchmarks/run_split.py SPLIT_DIR --model blend --out recs.parquet

The folder is as splits.py of the outside judge writes it (the truth is not needed and never read).  What happens is what happens
every night in the product, with its own functions: histories and item tables as of earlier cuts inside the fit events, parameters
fitted on what followed them, then, cut by cut, item tables rebuilt from that night's history and lists made from it.

    nightly, nightly1d      fitted on earlier cuts, each with a whole horizon before the first cut; tables and histories as of each cut
    gts_last                fitted on the last tenth of the fit events; tables of the fit events, a history and an instant per user
    loo                     fitted on each user's last fit event; the same

--no-refit keeps the item tables of the first cut for all nights (histories still grow).  --budget bounds the minutes: the first
table build is measured, then earlier cuts are dropped, then tables rebuilt for every second, third, … night only.
--set KEY=VALUE holds a parameter of the model fixed (span=14d), or, with a dot, sets a key of the configuration
(item_tables.neighbours=100, fit.nights=4).  --work DIR keeps item tables between runs.
"""
from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError
from pyspark.sql import functions as F
from split_folder import (
    LATER_US,
    SplitError,
    SplitFolder,
    before_targets,
    quantile_us,
    targets_of,
    utc,
    whole_hours,
)

from recs.clock import micros
from recs.config import Config, SparkConfig
from recs.etl.item_hours import item_hours
from recs.etl.item_tables import build_item_tables
from recs.etl.sequences import SequenceRule, sequences
from recs.evidence.histories import SEQUENCE_COLUMNS
from recs.judge import replay
from recs.models import NAMES, ModelError, Setting, make, model_class
from recs.models.fitting import SettingError, with_fixed
from recs.serve.rules import Rules
from recs.serve.score import recommend
from recs.session import SessionError, start

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger("run_split")


@dataclass
class Stopwatch:
    """The budget in seconds, from now on."""

    budget_s: float

    def __post_init__(self) -> None:
        self.began = time.monotonic()

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        return self.budget_s - self.spent_s

    def at(self, share: float) -> float:
        """The reading of time.monotonic() at which this share of the budget is spent."""
        return self.began + share * self.budget_s


@dataclass
class Run:
    """One model on one split."""

    split: SplitFolder
    name: str
    config: Config
    fixed: dict[str, Any]
    k: int
    refit: bool
    work: Path
    watch: Stopwatch
    build_s: float = 0.0    # measured: tables of an earlier cut, tables of a night, lists of a night
    night_s: float = 0.0
    list_s: float = 0.0

    @cached_property
    def setting(self) -> Setting:
        """What the log allows a model; the size of its catalogue is that of the fit events."""
        return replay.setting_of(self.config, self.split.fit_events.select("item_index").distinct().count())

    @cached_property
    def grid(self) -> list[dict[str, Any]]:
        return with_fixed(model_class(self.name).grid(self.setting), self.fixed)

    @property
    def kinds(self) -> frozenset[str]:
        return kinds_of(self.name, self.grid)

    @property
    def rules(self) -> Rules:
        return Rules.of(self.config.lists.rules, self.config.log.events.event_types)

    def sequences(self, events: DataFrame, as_of_us: int) -> DataFrame:
        gap_us = self.config.sessions.gap // timedelta(microseconds=1)
        rule = SequenceRule(self.config.sequences.max_events, gap_us, "UTC", self.config.log.events.has_clock)
        return sequences(events, self.split.users, utc(as_of_us), rule)

    def tables(self, events: DataFrame, histories: DataFrame, cut_us: int, kinds: frozenset[str], label: str) -> Path:
        """Item tables of these events as of the cut; those an earlier run left in the work folder are used again."""
        types = self.split.event_types
        hours = item_hours(events, self.split.users, utc(cut_us), self.config.sessions.gap, list(types))
        return build_item_tables(
            hours, histories, self.split.vocabulary, None, utc(cut_us), kinds, self.config.item_tables,
            self.work / f"{label}-{cut_us}", types, split=self.split.path.name, events=self.split.meta["n_fit_events"], label=label,
        ).path

    def params(self) -> dict[str, Any]:
        """Fitted inside the fit events; a model with one set of parameters needs no fit."""
        if len(self.grid) == 1:
            return self.grid[0]
        exams, tables = self._earlier_nights() if self.split.nightly else self._earlier_targets()
        found = replay.fit(
            self.name, exams, tables, self.setting, self.rules, k=self.config.fit.k, until=self.watch.at(0.6), fixed=self.fixed,
        )
        self._say("fitted", tried=len(found.tried), **found.metrics, params=found.params)
        return found.params

    def _earlier_nights(self) -> tuple[DataFrame, list[Path]]:
        """Exams and item tables of earlier cuts, the latest first; as many as the budget bears."""
        events, first_us = self.split.fit_events.persist(), self.split.cuts_us[0]
        histories = self.sequences(events, first_us).persist()
        begins_us = micros(events.agg(F.min("ts")).first()[0])
        cuts: list[replay.Cut] = []
        for back in range(self.config.fit.nights):
            cut_us, before = first_us - self.split.horizon_us - back * self.split.step_us, time.monotonic()
            if cuts and cut_us < begins_us + self.split.horizon_us:
                log.warning("fitting on %d earlier nights instead of %d: the log is short", len(cuts), self.config.fit.nights)
                break
            if cuts and self._short_of_time():
                log.warning("fitting on %d earlier nights instead of %d: the budget is short", len(cuts), self.config.fit.nights)
                break
            path = self.tables(events, histories, cut_us, self.kinds, "fit")
            cuts.append(replay.Cut(path, cut_us, cut_us, self.split.horizon_us))
            self.build_s = max(self.build_s, time.monotonic() - before)
            self._say("item tables of an earlier night", cut=str(utc(cut_us)), seconds=round(time.monotonic() - before, 1))
        exams = replay.exams_at_cuts(histories, cuts, list(self.split.event_types.values()))
        return replay.exams_sampled(exams, len(cuts), self.config.fit.max_users), [c.tables for c in cuts]

    def _short_of_time(self) -> bool:
        """Would one more build leave too little for the nights themselves (at a table build each) and the fit (a third)?"""
        nights = len(self.split.nights) if self.refit else 1
        return self.watch.spent_s + self.build_s * (1 + nights) > self.watch.budget_s * 2 / 3

    def _earlier_targets(self) -> tuple[DataFrame, list[Path]]:
        """One exam per user: the protocol's own rule, inside the fit events."""
        events = self.split.fit_events.persist()
        split_us = None if self.split.protocol == "loo" else quantile_us(events, self.split.meta.get("q", 0.9))
        targets = targets_of(events, split_us, self.split.filter_seen).persist()
        known = before_targets(events, targets) if split_us is None else events.where(F.col("ts") <= F.timestamp_micros(F.lit(split_us)))
        if split_us is None:    # users without a target are known whole
            known = known.unionByName(events.join(targets, "user_id", "left_anti").select(*events.columns))
        cut_us = whole_hours(micros(known.agg(F.max("ts")).first()[0]) + 1)
        tables = self.tables(known, self.sequences(known, cut_us).persist(), cut_us, self.kinds, "fit")
        asked = targets.select(
            "user_id", F.unix_micros("ts").alias("request_us"), F.array("item_index").alias("truth"),
            F.lit(0).alias("night"), F.lit(replay.NO_CUT).alias("cut_us"),
        )
        exams = self.sequences(before_targets(events, targets), LATER_US).select(*SEQUENCE_COLUMNS).join(asked, "user_id")
        return replay.exams_sampled(exams, 1, self.config.fit.max_users), [tables]

    def lists(self, params: dict[str, Any]) -> list[Path]:
        """Lists of every night, a folder of Parquet each."""
        model = self.work / "model"
        make(self.name, params).save(model)
        kinds, tables, rebuilds = kinds_of(self.name, [params]), None, 0
        out = []
        for place, night in enumerate(self.split.nights):
            events = self.split.history(night).persist()
            at_us = self.split.cuts_us[place] if self.split.nightly else LATER_US
            histories = self.sequences(events, at_us).persist()
            if tables is None or (self.refit and self.split.nightly and place % self._every(place) == 0):
                before = time.monotonic()
                tables = self._tables_of_night(events, histories, at_us, kinds)
                self.night_s, rebuilds = time.monotonic() - before, rebuilds + 1
            before = time.monotonic()
            asked = histories.select(*SEQUENCE_COLUMNS).join(self.split.requests(night), "user_id").repartition(8, "user_id")
            found = recommend(asked, model, tables, self.k, self.rules).withColumn("night", F.lit(night))
            out.append(self.work / f"lists-{night:02d}")
            found.select("user_id", "night", "item_id", "rank", "score").coalesce(1).write.mode("overwrite").parquet(str(out[-1]))
            self.list_s = time.monotonic() - before
            for frame in (events, histories):
                frame.unpersist()
            self._say("night", night=night, lists_s=round(self.list_s, 1), tables_s=round(self.night_s, 1), rebuilds=rebuilds)
        return out

    def _tables_of_night(self, events: DataFrame, histories: DataFrame, at_us: int, kinds: frozenset[str]) -> Path:
        if self.split.nightly:
            return self.tables(events, histories, at_us, kinds, "night")
        fit = self.split.fit_events.persist()
        cut_us = whole_hours(micros(fit.agg(F.max("ts")).first()[0]) + 1)
        return self.tables(fit, self.sequences(fit, cut_us).persist(), cut_us, kinds, "night")

    def _every(self, place: int) -> int:
        """Rebuild item tables every so many nights: 1 unless the time left is too short for that."""
        nights_left = len(self.split.nights) - place
        for_builds = max(self.watch.left_s - nights_left * self.list_s, 0.0)
        every = math.ceil(nights_left * self.night_s / max(for_builds, 1e-9)) if self.night_s else 1
        if every > 1:
            log.warning("night %d: item tables are rebuilt every %d nights only: the budget is short", place, every)
        return min(max(every, 1), 1_000)

    def _say(self, what: str, **facts: Any) -> None:
        log.info("%5.0f s  %s %s", self.watch.spent_s, what, json.dumps(facts))


def kinds_of(name: str, grid: list[dict[str, Any]]) -> frozenset[str]:
    """Item tables that the model reads with any of these parameters."""
    return frozenset(kind for params in grid for kind in model_class(name).needs(params))


def parse_settings(pairs: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """KEY=VALUE -> (parameters of the model, keys of the configuration); values are YAML."""
    parsed = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise SplitError(f"--set {pair}: write KEY=VALUE")
        parsed[key] = yaml.safe_load(value)
    return {k: v for k, v in parsed.items() if "." not in k}, {k: v for k, v in parsed.items() if "." in k}


def write_one_file(folders: list[Path], out: Path) -> int:
    """All lists as one Parquet file; returns the rows."""
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    out.parent.mkdir(parents=True, exist_ok=True)
    partial, rows, writer = out.with_name(out.name + ".partial"), 0, None
    for folder in folders:
        for batch in ds.dataset(sorted(folder.glob("*.parquet"))).to_batches():
            writer = writer or pq.ParquetWriter(partial, batch.schema, compression="zstd")
            writer.write_batch(batch)
            rows += batch.num_rows
    if writer is None:
        raise SplitError("no request has a user with a history: there is nothing to recommend")
    writer.close()
    partial.replace(out)
    return rows


def arg_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("split_dir", type=Path, help="folder written by splits.py")
    p.add_argument("--model", required=True, help=f"one of {', '.join(NAMES)}")
    p.add_argument("--out", type=Path, required=True, help="Parquet file: user_id, night, item_id, rank, score")
    p.add_argument("--k", type=int, default=20, help="length of the lists (20)")
    p.add_argument("--no-refit", action="store_true", help="item tables of the first cut for all nights")
    p.add_argument("--budget", type=float, default=30.0, metavar="MINUTES", help="time to keep to (30)")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a fixed parameter, or a key of the configuration")
    p.add_argument("--work", type=Path, help="folder for item tables and lists on their way; kept (a temporary one is removed)")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command."""
    args = arg_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    watch = Stopwatch(args.budget * 60)
    work = args.work or Path(tempfile.mkdtemp(prefix="run-split-"))
    spark = None
    try:
        fixed, keys = parse_settings(args.set)
        model_class(args.model)
        spark = start("recs run_split", SparkConfig(shuffle_partitions=4))
        split = SplitFolder(args.split_dir, spark)
        run = Run(split, args.model, split.config(keys), fixed, args.k, not args.no_refit, work.resolve(), watch)
        rows = write_one_file(run.lists(run.params()), args.out)
        log.info("%5.0f s  %d rows in %s", watch.spent_s, rows, args.out)
    except (SplitError, ModelError, SettingError, SessionError, ValidationError) as e:
        print(f"run_split: {e}", file=sys.stderr)
        return 2
    finally:
        if spark is not None:
            spark.stop()
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
