"""Raw rows -> the columns of `events`, by the expressions of the mapping; and why a row is refused.

The rows in order: `explode` makes several rows of one; `columns` adds named expressions; the mapping's own expressions are
evaluated beside each other over the raw names; ids are cleaned, the time is read, the merge keys are hashed; the first thing
that is wrong with a row becomes its `reason`: malformed, the first rule that does not hold, no_user, no_item,
unknown_event_type, bad_time, too_early, in_future, bad_value.  (too_late is left to recs/etl/ingest.py: a late row that is
already known is a duplicate.)

Every expression is tried on the raw columns before any row is read, so that a column that is no longer there stops the run with
the name of the mapping's key.
"""
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import reduce

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, FloatType, MapType, StringType, StructType

from recs.clock import micros, parse_instant
from recs.config import EventMapping, IngestConfig, Rule

from .clocks import LAST_US, instant
from .instants import utc_date

# White space of every script, and the invisible characters that come with copied text.
BLANKS = (
    " \t\n\r\f\v\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
)
# What a missing value is turned into on its way through pandas, petastorm and JSON.
NO_IDS = ("", "none", "nan", "null")
MERGEABLE = ("user_id", "item_id", "ts", "event_type", "value", "dwell_s", "lat", "lon", "context", "source_seq")
NUMBERS = ("value", "dwell_s", "lat", "lon")


class MappingError(ValueError):
    """A mapping does not fit its raw columns; the message names the key."""


@dataclass(frozen=True)
class Arrival:
    """Which instants a batch may bring, in microseconds: up to `latest_us`; before `late_before_us` only what is known already."""

    latest_us: int = LAST_US
    late_before_us: int | None = None

    @classmethod
    def of(cls, config: IngestConfig, now: datetime, newest: datetime | None, backfill: bool = False) -> Arrival:
        """A batch that comes at `now`, when the newest known event is of `newest` (None: there is none, everything may come).

        For logs without a clock there is no late and no future: use `Arrival()`.
        """
        late = None if backfill or newest is None else micros(newest - config.lookback)
        return cls(min(LAST_US, micros(now + config.future_slack)), late)

    def is_late(self, ts: Column) -> Column:
        """Is the instant older than the lookback allows?"""
        return F.lit(False) if self.late_before_us is None else F.coalesce(F.unix_micros(ts) < self.late_before_us, F.lit(False))


class Expressions:
    """The mapping's SQL over one frame: `column` tries an expression before it is used."""

    def __init__(self, raw: DataFrame, label: str) -> None:
        self.raw, self.label = raw, label

    def column(self, key: str, sql: str) -> Column:
        """The expression of a key of the mapping, checked against the raw columns."""
        self.type(key, sql)
        return F.expr(sql)

    def type(self, key: str, sql: str) -> DataType:
        """Spark type of an expression over the raw columns.  MappingError names the key when it cannot be resolved."""
        try:
            return self.raw.select(F.expr(sql)).schema[0].dataType
        except (AnalysisException, ParseException) as e:
            why = str(e).split("SQLSTATE")[0].splitlines()[0].strip()
            raise MappingError(f"{self.label}.{key}: `{sql}`: {why}; the raw columns are {', '.join(self.raw.columns)}") from None

    def id(self, key: str, sql: str) -> Column:
        """An id as text, cleaned.  MappingError for floating-point ids."""
        if isinstance(self.type(key, sql), (DoubleType, FloatType)):
            raise MappingError(f"{self.label}.{key}: `{sql}` is a floating-point number, which has no room for ids above 2^53; "
                               f"write try_cast({sql} AS bigint)")
        return clean_id(F.expr(sql))


def clean_id(value: Column) -> Column:
    """An id as it is stored: white space around it removed, Unicode form NFC, case kept; NULL when nothing is left.

    'None', 'NaN' and 'null', in any case, are no ids.  NFC comes from the ICU library that Spark 4 carries for its collations
    (`compose` with canonical equivalence); only ids with a character outside ASCII are sent through it.
    """
    text = F.btrim(value.cast("string"), F.lit(BLANKS))
    composed = F.reflect(F.lit("com.ibm.icu.text.Normalizer"), F.lit("compose"), text, F.lit(False))
    text = F.when(F.octet_length(text) != F.char_length(text), composed).otherwise(text)     # NULL must not reach `compose`
    return F.when(~F.lower(text).isin(*NO_IDS), text)


def with_named_columns(raw: DataFrame, columns: dict[str, str], label: str) -> DataFrame:
    """`columns` one after another: each may use those before it, and may take the name of a raw column."""
    for name, sql in columns.items():
        raw = raw.withColumn(name, Expressions(raw, label).column(f"columns.{name}", sql))
    return raw


def broken_rule(rules: list[Rule], expressions: Expressions) -> Column:
    """Reason of the first rule that does not hold, NULL when all do."""
    broken = [F.when(~F.coalesce(expressions.column(f"where.{r.reason}", r.keep), F.lit(False)), r.reason) for r in rules]
    return F.coalesce(*broken, F.lit(None).cast("string"))


def code_of(event_type: Column, mapping: EventMapping) -> Column:
    """The stable integer of an event type; NULL for one the mapping does not list."""
    pairs = [F.lit(x) for name, t in mapping.event_types.items() for x in (name, t.code)]
    return F.create_map(*pairs)[event_type].cast("int")


def map_events(raw: DataFrame, mapping: EventMapping, log: str, arrival: Arrival) -> DataFrame:
    """`raw` (recs/etl/sources.py) as events of the log `log`: the columns of `events` that a row has by itself, and

    position        order of the rows in the input
    reason          why the row is refused; NULL = the row is sound
    raw, source_file, row_hash   what the quarantine keeps; NULL for rows that it will not get
    """
    said = _as_said(_exploded(raw, mapping, log), mapping, log)
    text = F.to_json("raw", {"ignoreNullFields": "false"}) if isinstance(said.schema["raw"].dataType, StructType) else F.col("raw")
    events = said.select(
        _event_id(mapping).alias("event_id"), "user_id", "item_id", "ts", "event_type",
        code_of(F.col("event_type"), mapping).alias("type_code"),
        *(_number(F.col(c)).alias(c) for c in NUMBERS), "context", "source_seq", "position",
        utc_date(F.col("ts")).alias("event_date"), _reason(mapping, arrival).alias("reason"), text.alias("text"), "file", "place",
    )
    refused = F.col("reason").isNotNull() | arrival.is_late(F.col("ts"))
    events = events.withColumn("raw", F.when(refused, F.col("text")))   # JSON is written for these rows only
    row_hash = F.md5(F.concat_ws(":", "file", F.col("place").cast("string"), "event_id", "raw"))
    return events.withColumns({
        "source_file": F.when(refused, F.element_at(F.split("file", "/"), -1)), "row_hash": F.when(refused, row_hash),
    }).drop("text", "file", "place")


def _exploded(raw: DataFrame, mapping: EventMapping, log: str) -> DataFrame:
    if mapping.explode:
        if "_outer" not in mapping.explode.split("(")[0]:
            raise MappingError(f"{log}.events.explode: use the _outer form of the generator: a row without elements must not be lost")
        if not mapping.order:
            raise MappingError(f"{log}.events.order: rows made by explode need an order of their own, for example the position")
        try:
            raw = raw.selectExpr("*", mapping.explode)
        except (AnalysisException, ParseException) as e:
            raise MappingError(f"{log}.events.explode: `{mapping.explode}`: {str(e).splitlines()[0]}") from None
    return with_named_columns(raw, mapping.columns, f"{log}.events")


def _as_said(raw: DataFrame, mapping: EventMapping, log: str) -> DataFrame:
    """The mapping's expressions side by side: ids cleaned, time read, numbers still as the log has them."""
    x = Expressions(raw, f"{log}.events")
    if unknown := [c for c in mapping.merge if c not in MERGEABLE]:
        raise MappingError(f"{log}.events.merge: {', '.join(unknown)}: merged can be {', '.join(MERGEABLE)}")
    time = mapping.time
    zone = x.column("time.zone_expr", time.zone_expr) if time.zone_expr else None
    columns = {
        "user_id": x.id("user_id", mapping.user_id),
        "item_id": x.id("item_id", mapping.item_id),
        "ts": instant(time, x.column("time.expr", time.expr), x.type("time.expr", time.expr), zone),
        "event_type": F.trim(x.column("event_type", mapping.event_type).cast("string")),
        **{c: _said_number(x, c, getattr(mapping, c) or "CAST(NULL AS DOUBLE)") for c in NUMBERS},
        "context": _as_text(x, "context", mapping.context or "CAST(NULL AS STRING)"),
        "source_seq": x.column("order", mapping.order).try_cast("bigint") if mapping.order else F.col("_seq"),
        **{f"key{i}": x.column(f"merge_keys.{i}", sql).cast("string") for i, sql in enumerate(mapping.merge_keys)},
        "rule": broken_rule(mapping.where, x),
        "raw": F.col("_raw"), "malformed": F.col("_malformed"), "file": F.col("_file"), "place": F.col("_place"), "position": F.col("_seq"),
    }
    return raw.select(*(column.alias(name) for name, column in columns.items()))


def _said_number(x: Expressions, key: str, sql: str) -> Column:
    is_text = isinstance(x.type(key, sql), StringType)
    return x.column(key, sql) if is_text else x.column(key, sql).cast("double")


def _as_text(x: Expressions, key: str, sql: str) -> Column:
    nested = isinstance(x.type(key, sql), (StructType, MapType))
    return F.to_json(x.column(key, sql)) if nested else x.column(key, sql).cast("string")


def _number(said: Column) -> Column:
    """A double; NaN counts as missing, as pandas writes it, and -0.0 is 0.0."""
    return F.nullif(said.try_cast("double"), F.lit(float("nan"))) + F.lit(0.0)


def _event_id(mapping: EventMapping) -> Column:
    """128 bits over the keys, each with its length in front: ('a', 'bc') and ('ab', 'c') differ, and so do NULL and ''."""
    own = [F.col(f"key{i}") for i in range(len(mapping.merge_keys))]
    usual = [F.col("user_id"), F.col("item_id"), F.unix_micros("ts").cast("string"), F.col("event_type")]
    keys = own or (usual + [F.col("source_seq").cast("string")] if mapping.order else usual)
    framed = [F.coalesce(F.concat(F.length(k).cast("string"), F.lit(":"), k), F.lit("-")) for k in keys]
    return F.md5(F.concat(*framed))


def _reason(mapping: EventMapping, arrival: Arrival) -> Column:
    """The first thing that is wrong, NULL when nothing is."""
    earliest = micros(parse_instant(mapping.time.earliest)) if mapping.has_clock else 0
    bad_value = reduce(lambda a, b: a | b, [_not_a_number(c) for c in NUMBERS]) | F.col("source_seq").isNull()
    return F.coalesce(
        F.when(F.col("malformed"), "malformed"),
        F.col("rule"),
        F.when(F.col("user_id").isNull(), "no_user"),
        F.when(F.col("item_id").isNull(), "no_item"),
        F.when(code_of(F.col("event_type"), mapping).isNull(), "unknown_event_type"),
        F.when(F.col("ts").isNull(), "bad_time"),
        F.when(F.unix_micros("ts") < earliest, "too_early"),
        F.when(F.unix_micros("ts") > arrival.latest_us, "in_future"),
        F.when(F.coalesce(bad_value, F.lit(False)), "bad_value"),
    )


def _not_a_number(column: str) -> Column:
    """A value that is there but is no number, or an infinite or impossible one."""
    said, number = F.col(column), _number(F.col(column))
    nothing = said.isNull() | (F.lower(F.trim(said.cast("string"))).isin("", "nan"))
    impossible = F.abs(number) == float("inf")
    if limit := {"lat": 90.0, "lon": 180.0}.get(column):
        impossible = impossible | (F.abs(number) > limit)
    if column == "dwell_s":
        impossible = impossible | (number < 0)
    return ~nothing & (number.isNull() | impossible)
