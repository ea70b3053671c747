"""A folder of a benchmark split (written by splits.py of the outside judge) as frames of the product.

    meta.json                       protocol, cuts, horizon, whether seen items are filtered, whether the log has a clock
    fit_events.parquet              what a model may be fitted on
    history_events/night=NN.parquet what may be looked at when night NN is answered
    requests.parquet                user, night, instant: one list is wanted per row
    truth.parquet                   never opened

Columns of the event files: user_id, item_id, ts (seconds), event_type, value, order (inside a tie in time).

What the log says of items may lie beside the folder, in one Parquet file with the column item_id and any others of the table `items`
(title, category, lat, lon, …).  With `valid_from` nothing of a row is known before.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import Window
from pyspark.sql import functions as F

from recs.clock import DAY, HOUR, MICROS
from recs.config import Config, TextConfig
from recs.etl.catalogue import EPOCH
from recs.etl.text_vectors import Texts, new_texts, vectors
from recs.judge.targets import before_targets, quantile_us, targets_of
from recs.schemas import EVENTS, ITEMS, TEXT_VECTORS, USERS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["LATER_US", "SplitError", "SplitFolder", "before_targets", "quantile_us", "targets_of", "utc", "whole_hours"]

LATER_US = 253_000_000_000 * MICROS     # the year 9987: after everything


class SplitError(ValueError):
    """The folder is not what splits.py writes; the message names the file or the key."""


@dataclass
class SplitFolder:
    """The folder; frames are read when asked for."""

    path: Path
    spark: SparkSession
    items_path: Path | None = None
    meta: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.meta = json.loads((self.path / "meta.json").read_text())
        except FileNotFoundError as e:
            raise SplitError(f"{self.path}: no meta.json; give a folder written by splits.py") from e
        for name in ("fit_events.parquet", "requests.parquet", "history_events"):
            if not (self.path / name).exists():
                raise SplitError(f"{self.path / name}: missing")
        if self.items_path is not None and not self.items_path.exists():
            raise SplitError(f"{self.items_path}: missing; --items takes a Parquet file with the column item_id")
        self.protocol: str = self.meta["protocol"]
        self.filter_seen: bool = self.meta["filter_seen"]
        self.has_clock: bool = self.meta.get("source", {}).get("has_time", True)
        self.cuts_us: list[int] = [int(c) * MICROS for c in self.meta.get("cuts", [])]
        self.horizon_us = int(self.meta.get("horizon_days", 1)) * DAY

    @property
    def step_us(self) -> int:
        """Between two earlier cuts: a day, or two for a week; overlapping windows, since a few weeks of lists are few."""
        return max(DAY, self.horizon_us * 2 // 7 // DAY * DAY)

    @property
    def nightly(self) -> bool:
        """Are lists wanted for all users at common cuts?  Else each request has an instant of its own."""
        return bool(self.cuts_us)

    @cached_property
    def nights(self) -> list[int]:
        """Numbers of the nights, ascending."""
        return sorted(int(p.stem.split("=")[1]) for p in (self.path / "history_events").glob("night=*.parquet"))

    @cached_property
    def event_types(self) -> dict[str, int]:
        """Code by name."""
        names = [r[0] for r in self._every_event().select("event_type").distinct().collect()]
        return {name: code for code, name in enumerate(sorted(names), start=1)}

    @cached_property
    def vocabulary(self) -> DataFrame:
        """item_id, item_index of all items of the folder; columns of item tables stand by id, so the integers change no list."""
        ids = self._every_event().select("item_id").distinct()
        numbered = ids.withColumn("item_index", F.row_number().over(Window.orderBy("item_id")) - 1)     # thousands of ids: one partition
        return numbered.withColumn("tombstoned_on", F.lit(None).cast("date")).persist()

    @cached_property
    def users(self) -> DataFrame:
        """Nothing is known about users."""
        return self.spark.createDataFrame([], USERS.ddl)

    @cached_property
    def _raw_items(self) -> DataFrame | None:
        return None if self.items_path is None else self.spark.read.parquet(str(self.items_path))

    @cached_property
    def items(self) -> DataFrame | None:
        """ITEMS rows, where a file says something of items."""
        raw = self._raw_items
        if raw is None:
            return None
        if unknown := sorted(set(raw.columns) - {c.name for c in ITEMS.columns}):
            raise SplitError(f"{self.items_path}: the table items has no {', '.join(unknown)}; it has {', '.join(ITEMS.column_names)}")
        if "item_id" not in raw.columns:
            raise SplitError(f"{self.items_path}: column missing: item_id")
        said = {c.name: F.col(c.name) if c.name in raw.columns else F.lit(None) for c in ITEMS.columns}
        said["valid_from"] = F.coalesce(said["valid_from"], F.expr(EPOCH))
        said["batch_id"] = F.lit(1)
        return ITEMS.conform(raw.select(*(said[c.name].cast(c.type).alias(c.name) for c in ITEMS.columns))).persist()

    def texts(self, config: Config) -> Texts | None:
        """What the items' texts say, each read once."""
        if self.items is None or config.text is None:
            return None
        unread = new_texts(self.items, self.spark.createDataFrame([], TEXT_VECTORS.ddl), config.text)
        return Texts(self.items, vectors(unread, config.text).persist(), config.text)

    @cached_property
    def fit_events(self) -> DataFrame:
        """EVENTS rows a model may be fitted on."""
        return self._events(self._raw("fit_events.parquet"))

    def last_request_us(self) -> int:
        """The latest instant for which a list is wanted."""
        last = self.spark.read.parquet(str(self.path / "requests.parquet")).agg(F.max("request_ts")).first()[0]
        return int(last) * MICROS

    def history(self, night: int) -> DataFrame:
        """EVENTS rows that may be looked at when this night is answered."""
        return self._events(self._raw(f"history_events/night={night:02d}.parquet"))

    def requests(self, night: int) -> DataFrame:
        """user_id, request_us."""
        wanted = self.spark.read.parquet(str(self.path / "requests.parquet")).where(F.col("night") == night)
        return wanted.select("user_id", (F.col("request_ts") * MICROS).cast("bigint").alias("request_us"))

    def _raw(self, name: str) -> DataFrame:
        raw = self.spark.read.parquet(str(self.path / name))
        if missing := sorted({"user_id", "item_id", "ts", "event_type", "value", "order"} - set(raw.columns)):
            raise SplitError(f"{self.path / name}: columns missing: {missing}")
        return raw

    def _every_event(self) -> DataFrame:
        # histories repeat each other; the last night's and the fit events hold them all, except in folders of several short histories
        frames = [self._raw("fit_events.parquet"), *(self._raw(f"history_events/night={n:02d}.parquet") for n in self.nights)]
        out = frames[0].select("item_id", "event_type")
        for frame in frames[1:]:
            out = out.union(frame.select("item_id", "event_type"))
        return out

    def _events(self, raw: DataFrame) -> DataFrame:
        codes = F.create_map(*(F.lit(x) for pair in self.event_types.items() for x in pair))
        instant = F.timestamp_seconds("ts")
        missing = {c: F.lit(None).cast("double") for c in ("dwell_s", "lat", "lon")}
        return EVENTS.conform(
            raw.join(F.broadcast(self.vocabulary.select("item_id", "item_index")), "item_id")
            .withColumns({
                "event_id": F.md5(F.concat_ws("\x1f", "user_id", "item_id", "ts", "order")),
                "type_code": codes[F.col("event_type")], "source_seq": F.col("order").cast("bigint"),
                "value": F.col("value").cast("double"), **missing, "context": F.lit(None).cast("string"),
                "batch_id": F.lit(1).cast("bigint"), "event_date": F.to_date(instant), "ts": instant,
            })
        )

    def config(self, overrides: dict[str, Any]) -> Config:
        """The product's configuration for this log; `overrides` are keys of the tree by dotted name."""
        log = {
            "name": "split",
            "events": {
                "source": {"format": "parquet"}, "user_id": "user_id", "item_id": "item_id", "event_type": "event_type",
                "time": {"kind": "epoch_s" if self.has_clock else "order_only", "expr": "ts"}, "order": "`order`", "value": "value",
                "event_types": {name: {"code": code} for name, code in self.event_types.items()},
            },
        }
        seen = "never" if self.filter_seen else "always"
        tree: dict[str, Any] = {
            "log": log, "lists": {"rules": {"seen": {"default": seen}}}, "sequences": {"max_events": 5000},
            "fit": {"nights": 7, "horizon": self.horizon_us / MICROS if self.nightly else 3600},
        }
        if self.items is not None:
            said = self._raw_items.columns
            log["items"] = {"source": {"format": "parquet"}, "columns": {name: name for name in said}}
            if fields := [name for name in TextConfig().fields if name in said]:
                tree["text"] = {"fields": fields}
        for key, value in overrides.items():
            *sections, last = key.split(".")
            node = tree
            for section in sections:
                node = node.setdefault(section, {})
            node[last] = value
        return Config.model_validate(tree)


def whole_hours(us: int) -> int:
    """The next full hour: item_hours counts whole hours."""
    return -(-us // HOUR) * HOUR


def utc(us: int) -> datetime:
    return datetime.fromtimestamp(us / MICROS, UTC)
