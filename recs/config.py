"""How things are done: the validated configuration tree.  Flags say where and when; this says how.

A file is YAML; every key is checked, an unknown one is an error that names it.  `load(path_or_name)` takes a path or the
name of a file shipped in `configs/`.  `extends: NAME` starts from another shipped file.
"""
from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from .clock import parse_zone


class ConfigError(ValueError):
    """The configuration cannot be used; the message names file and key."""


def _duration(v: Any) -> Any:
    """`30m`, `2h`, `7d`, `90s` -> timedelta; other values are left to pydantic."""
    if isinstance(v, str) and v and v[:-1].replace(".", "", 1).isdigit() and v[-1] in "smhd":
        return timedelta(seconds=float(v[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[v[-1]])
    return v


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EventType(_Strict):
    """One kind of interaction.  `code` is stored in `sequences` and must never be given to another type."""

    code: int = Field(ge=0, le=32767)
    weight: float = Field(1.0, ge=0)    # of a target, in training: what it is worth to bring it about; figures of quality count all alike
    target: bool = True     # is it something the lists should bring about?


class TimeColumn(_Strict):
    """Where the instant comes from.

    `epoch_s`, `epoch_ms`, `epoch_us`: a number; `iso`: ISO 8601, an offset wins over `zone`; `local`: wall-clock text read with
    `format` in `zone` (an IANA name) or in the zone that the Spark SQL expression `zone_expr` gives per row;
    `timestamp`: already an instant (one without a zone is read in `zone`); `order_only`: no clock, `expr` is a position, kept
    as 1970 plus `step` times it.
    """

    kind: Literal["epoch_s", "epoch_ms", "epoch_us", "iso", "local", "timestamp", "order_only"]
    expr: str
    format: str | None = None
    zone: str = "UTC"
    zone_expr: str | None = None
    step: Duration = timedelta(days=1)
    earliest: str = "1990-01-01"    # earlier instants are refused as too_early (epoch 0, year 1, seconds read as milliseconds)

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, v: str) -> str:
        parse_zone(v)
        return v


class SourceFormat(_Strict):
    """How the raw files are read: `options` go to Spark's reader as they are."""

    format: Literal["csv", "json", "parquet", "delta", "text"]
    options: dict[str, str] = {}
    schema_ddl: str | None = None   # CSV and JSON: the raw columns with their types; default: everything as text (JSON: inferred)


class Rule(_Strict):
    """Keep a row only where `keep` (Spark SQL) is true; others are refused with `reason`.  NULL counts as not true."""

    keep: str
    reason: str = Field(pattern=r"^[a-z][a-z0-9_]*$")


class EventMapping(_Strict):
    """Raw columns -> the columns of `events`, each a Spark SQL expression over the raw ones.

    `explode`: a SQL generator applied first: one raw row may hold many events.  `merge_keys`: expressions that identify one
    event; rows equal in them are merged by `merge` (column -> aggregate over the mapped rows: first, last, min, max,
    sum), default: the first row in source order is kept.  Besides the raw columns, expressions may use `_file` (path),
    `_place` (number of the row in its file, from 0) and `_seq` (its number in the whole input).  docs/mappings.md has examples.
    """

    source: SourceFormat
    explode: str | None = None      # SQL generator, e.g. "posexplode_outer(split(value, ' ')) AS (pos, token)"
    columns: dict[str, str] = {}    # further named expressions, usable in everything below
    where: list[Rule] = []
    user_id: str
    item_id: str
    time: TimeColumn
    event_type: str = "'event'"
    event_types: dict[str, EventType] = {"event": EventType(code=1)}
    value: str | None = None
    dwell_s: str | None = None
    lat: str | None = None
    lon: str | None = None
    context: str | None = None
    order: str | None = None        # order inside a tie in time; default: the row's place in its file
    merge_keys: list[str] = []      # default: user, item, instant, event type and, where `order` is given, order
    merge: dict[str, Literal["first", "last", "min", "max", "sum"]] = {}

    @property
    def has_clock(self) -> bool:
        """Is the log’s time an instant?  Else it is an order only."""
        return self.time.kind != "order_only"

    @field_validator("event_types")
    @classmethod
    def _codes_differ(cls, v: dict[str, EventType]) -> dict[str, EventType]:
        if len({t.code for t in v.values()}) != len(v):
            raise ValueError("two event types share a code")
        if not any(t.target for t in v.values()):
            raise ValueError("no event type is a target")
        if idle := [name for name, t in v.items() if t.target and not t.weight]:
            raise ValueError(f"targets of weight 0: {', '.join(idle)}; give them a weight, or say target: false")
        return v

    @property
    def gains(self) -> dict[int, float]:
        """What it is worth when a target event type comes true, by its code: weights in units of the least of them."""
        weights = {t.code: t.weight for t in self.event_types.values() if t.target}
        return {code: weight / min(weights.values()) for code, weight in weights.items()}


class Lookup(_Strict):
    """A second file whose columns a table needs: joined (left) where the Spark SQL condition `match` holds."""

    path: str                       # relative to the folder of the table's own file
    source: SourceFormat
    columns: dict[str, str]         # name -> expression over the second file's columns; the names are usable in the table's expressions
    match: str      # not `on`: YAML reads that as true


class TableMapping(_Strict):
    """A catalogue or user table: its columns as Spark SQL expressions over the raw ones; absent ones are NULL.

    Without `valid_from` the file is a snapshot: the first description of a key holds from 1970 on, a changed one from the
    batch on.  `latest_by` keeps, per key, the row with the greatest value of it (default: the last row in source order).
    """

    source: SourceFormat
    lookups: list[Lookup] = []
    where: list[Rule] = []
    columns: dict[str, str]
    latest_by: str | None = None


class LogConfig(_Strict):
    """One log: how its raw files become events, items and users."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    events: EventMapping
    items: TableMapping | None = None
    users: TableMapping | None = None
    notes: list[str] = []


class IngestConfig(_Strict):
    """Which rows are too late or too early, and when a batch is refused as a whole."""

    lookback: Duration = timedelta(days=7)       # older than the newest known event by more than this: too_late (first load excepted)
    future_slack: Duration = timedelta(hours=1)  # an event later than the batch's clock by more than this is refused as in_future
    max_quarantine_share: float = Field(0.5, ge=0, le=1)    # above it the batch is not written: the mapping is wrong


class SessionConfig(_Strict):
    """When a new session begins."""

    gap: Duration = timedelta(minutes=30)        # a gap of exactly this much still joins


class SequenceConfig(_Strict):
    """How long histories are, and what stands for missing values."""

    max_events: int = Field(500, ge=1, le=100_000)  # newest N per user: bounds memory per row
    missing: dict[Literal["value", "dwell_s", "lat", "lon"], Literal["mask", "last", "mean", "interpolate"]] = {}


class ItemTableConfig(_Strict):
    """Item statistics and neighbours as of a cut (recs/evidence/item_tables.py says what each means)."""

    neighbours: int = Field(200, ge=1)              # kept per item and kind
    max_items_per_user: int = Field(500, ge=2)      # newest distinct items that form pairs: bounds the cost of one user to its square
    ease_max_items: int = Field(15_000, ge=0)       # EASE inverts items x items: 15,000 need 1.8 GB and a minute; above, it is left out
    ease_lambda: float = Field(300.0, gt=0)
    transition_gap: Duration = timedelta(days=2)
    transition_half_life_d: float = 120.0
    adopter_half_life_d: float = 3.0
    als_factors: int = Field(64, ge=1)
    als_iterations: int = Field(10, ge=1)


class TextConfig(_Strict):
    """What models read of the catalogue's texts; without it they read none."""

    model: str = "hashed"                           # folder or hub name of a `transformers` model; hashed: words alone, no download
    fields: Annotated[list[Literal["title", "description", "category", "brand"]], Field(min_length=1)] = ["title", "category", "brand"]
    max_tokens: int = Field(64, ge=4, le=512)       # the rest of a text is not read
    offline: bool = True                            # False: a model that is no folder here is asked for at the hub


class FitConfig(_Strict):
    """How parameters of simple models are fitted on earlier nights."""

    nights: int = Field(2, ge=1)                    # cuts before the night
    train_nights: int = Field(40, ge=1)             # cuts before the night that networks and trees learn from, at least
    max_train_nights: int = Field(120, ge=1)        # … and at most: more than `train_nights` where those have fewer than `train_lists`
    train_lists: int = Field(12_000, ge=100)        # users and cuts that they learn from, at most; 12,000 are 1 GB of examples
    light_lists: int = Field(240_000, ge=100)       # … models whose examples are histories alone: a kilobyte each, not 80
    # fitted anew when the reigning recipe's newest fit is so old; item tables, and with them all that models read of items, are of the
    # night itself in any case
    every: Literal["never", "nightly"] | Duration = timedelta(days=7)
    warm_starts: int = Field(0, ge=0)               # refits in a row that go on from the reigning weights; the next is from scratch
    horizon: Duration = timedelta(days=1)           # a cut's truth is what users meet in [cut, cut + horizon)
    max_users: int = Field(20_000, ge=1)            # users per cut, chosen by hash
    k: int = 10

    @model_validator(mode="after")
    def _most_are_not_fewer(self) -> FitConfig:
        if self.max_train_nights < self.train_nights:
            raise ValueError(
                f"max_train_nights {self.max_train_nights} is below train_nights {self.train_nights}: raise the one or lower the other")
        return self

    def most_users(self, n_cuts: int, trains: bool, light: bool = False) -> int:
        """Users that each of so many cuts asks, at most; what trains shares its lists out among its cuts."""
        if light:
            return self.light_lists // n_cuts
        return min(self.max_users, self.train_lists // n_cuts) if trains else self.max_users

    @property
    def serves_us(self) -> int | None:
        """From a fit's cut to that of the last night before the next fit; None: there is no next one."""
        if isinstance(self.every, timedelta):
            return max(self.every - timedelta(days=1), timedelta()) // timedelta(microseconds=1)
        return 0 if self.every == "nightly" else None

    def is_due(self, through_us: int, as_of_us: int) -> bool:
        """Is a model that knows what happened before `through_us` to be fitted anew at the cut `as_of_us`?"""
        if isinstance(self.every, timedelta):
            return through_us <= as_of_us - self.every // timedelta(microseconds=1)
        return self.every == "nightly" and through_us < as_of_us


class PromotionConfig(_Strict):
    """What a model must show before it becomes champion."""

    nights: int = Field(7, ge=1)                    # past nights it is judged on, at most
    min_nights: int = Field(3, ge=1)                # fewer are no judgement: the champion stays
    not_worse: float = Field(0.01, ge=0)            # lower end of what a refit of the reigning recipe may lose of the metric
    smoke_users: int = Field(20, ge=1)              # users whose lists are looked at before a model becomes champion


class SeenPolicy(_Strict):
    """Per event type: may an item the user has met this way be recommended?  `never`, `always`, or again after N days."""

    default: Literal["always", "never"] = "always"
    by_type: dict[str, Literal["always", "never"] | Annotated[int, Field(ge=1)]] = {}


class RuleConfig(_Strict):
    """What a list may hold, whichever model ranked it."""

    seen: SeenPolicy = SeenPolicy()
    category_cap: int | None = Field(None, ge=1)    # at most this many items of one top-level category in a list
    mmr_lambda: float = Field(1.0, gt=0, le=1)      # 1 = by score; below, similar items are pushed apart (maximal marginal relevance)
    exclude_self: bool = False                      # items are users: nobody is recommended to themself


class ListConfig(_Strict):
    """One list: how long, for whom, by which rules; and how scoring is cut into blocks."""

    name: str = Field("main", pattern=r"^[a-z][a-z0-9_]*$")
    k: int = Field(20, ge=1, le=1000)
    active_days: int = Field(90, ge=1)              # an event within this many days: a list of one's own; else the segment's list
    rules: RuleConfig = RuleConfig()
    block_items: int = Field(65_536, ge=1)          # catalogue columns scored at a time
    batch_users: int = Field(256, ge=1)             # histories scored at a time


class AuditConfig(_Strict):
    """Limits beyond which a night is held."""

    max_fallback_share: float = Field(0.5, ge=0, le=1)
    max_change_of_lists: float = Field(0.5, ge=0)           # |lists / yesterday's lists - 1|
    min_overlap: float = Field(0.02, ge=0, le=1)            # mean share of yesterday's items kept; not asked of first nights, new models
    max_identical_share: float = Field(0.999, ge=0, le=1)   # lists equal to yesterday's though the users have new events: frozen model
    max_item_share: float = Field(0.98, ge=0, le=1)         # one item in more than this share of the lists: collapse


class OutcomeConfig(_Strict):
    """How served lists are held against what followed, and when somebody is told (recs score-outcomes)."""

    shown_by: list[str] = []                        # event types that say that an item was shown to the user
    trend_nights: int = Field(7, ge=2)              # earlier days that the newest is held against, at most
    min_nights: int = Field(3, ge=2)                # fewer are no trend: nobody is told
    max_drop: float = Field(0.2, gt=0, lt=1)        # told when so much of their mean is lost, and the day lies below their band


class ZoneConfig(_Strict):
    """Where midnight is, and when on the day the lists are used."""

    zone: str = "UTC"
    lead: Duration = timedelta(hours=7)             # the list is used this much after local midnight

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, v: str) -> str:
        parse_zone(v)
        return v


class KeepConfig(_Strict):
    """What `recs clean` leaves."""

    nights: int = Field(14, ge=1)                   # newest run dates whose staged lists, item tables and examples stay


class SparkConfig(_Strict):
    """Settings of the session made here; under spark-submit what the submit command says wins."""

    master: str = "local[*]"
    shuffle_partitions: int = Field(8, ge=1)        # written into a configuration it holds under a submit too, unless that names one
    driver_memory: str = "4g"
    java_options: str = ""                          # for the driver's JVM, beside those of recs/session.py
    jars_dir: str | None = None                     # folder with Delta's three jars, for machines without network; default: $RECS_JARS_DIR
    settings: dict[str, str] = {}


class Config(_Strict):
    """Everything that says how a night is made; flags say where and when."""

    log: LogConfig
    demo: dict[str, Any] | None = None              # settings of recs.generate: the log that `recs night` makes when no input is named
    clock: ZoneConfig = ZoneConfig()
    ingest: IngestConfig = IngestConfig()
    sessions: SessionConfig = SessionConfig()
    sequences: SequenceConfig = SequenceConfig()
    item_tables: ItemTableConfig = ItemTableConfig()
    text: TextConfig | None = None
    fit: FitConfig = FitConfig()
    models: Annotated[list[str], Field(min_length=1)] = ["popularity", "recent_popularity", "blend"]    # in the contest; who wins reigns
    parameters: dict[str, dict[str, Any]] = {}      # by model: those that are as said here, and neither fitted nor the model's own guess
    promotion: PromotionConfig = PromotionConfig()
    lists: ListConfig = ListConfig()
    audit: AuditConfig = AuditConfig()
    outcomes: OutcomeConfig = OutcomeConfig()
    keep: KeepConfig = KeepConfig()
    spark: SparkConfig = SparkConfig()

    @field_validator("models")
    @classmethod
    def _models_differ(cls, v: list[str]) -> list[str]:
        if len(set(v)) != len(v):
            raise ValueError("a model is named twice")
        return v

    @property
    def hash(self) -> str:
        """Of everything that can change a list; what is done with its outcome, where Spark runs, how long old files stay, cannot."""
        body = self.model_dump(mode="json", exclude={"keep", "outcomes", "spark"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]


def _read(name: str) -> tuple[str, dict]:
    """A path, or the name of a shipped file (which may lie inside a zip); a `log` given as text names another file the same way."""
    shipped = resources.files("recs.configs")
    for place in (Path(name), shipped.joinpath(f"{name}.yaml")):
        if place.is_file():
            try:
                body = yaml.safe_load(place.read_text()) or {}
            except yaml.YAMLError as e:
                raise ConfigError(f"{place}: not YAML: {e}") from e
            if not isinstance(body, dict):
                raise ConfigError(f"{place}: expected keys and values")
            return str(place), body
    known = sorted(p.name.removesuffix(".yaml") for p in shipped.iterdir() if p.name.endswith(".yaml"))
    raise ConfigError(f"no configuration {name!r}: give a path or one of {', '.join(known)}")


def _merge(base: dict, top: dict) -> dict:
    return {**base, **{k: _merge(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v for k, v in top.items()}}


def load(name: str, **overrides: Any) -> Config:
    """The configuration of a path or a shipped name; `overrides` replace whole top-level keys."""
    path, body = _read(name)
    names = [name]
    while base := body.pop("extends", None):
        if base in names:
            raise ConfigError(f"{path}: extends itself: {' -> '.join([*names, base])}")
        names.append(base)
        body = _merge(_read(base)[1], body)
    if isinstance(body.get("log"), str):
        beside = Path(path).parent / f"{body['log']}.yaml"
        body["log"] = _read(str(beside) if beside.is_file() else body["log"])[1]
    try:
        return Config.model_validate({**body, **overrides})
    except ValidationError as e:
        lines = [f"  {'.'.join(map(str, x['loc'])) or '(top)'}: {x['msg']}" for x in e.errors()]
        raise ConfigError(f"{path}:\n" + "\n".join(lines)) from e
