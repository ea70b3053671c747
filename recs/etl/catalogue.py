"""Tables of items and users -> rows with validity intervals.

The rows in order: the mapping's expressions make the columns; rows without an id, and malformed ones, are refused; of several
rows for one key the newest stays.  Then the delivered rows are dated and set into what is known:

* a table with `valid_from` brings its own intervals: a row holds until the next one of its key begins; a row that is known
  changes nothing;
* a table without is a snapshot.  The first description of a key holds from 1970 on: nothing else was ever known.  One that equals
  the known one changes nothing; another one begins at the batch's time and closes the row before it.

    known      a  1970 –        title Old        known      a  1970 – 5 May   title Old
    delivered  a  (5 May)       title New   ->              a  5 May –        title New

Items that only events name get a row with their id alone; the first description fills it in.  Users whom no table names have
no row: default zone, no segment, not opted out.
"""
from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recs.clock import micros
from recs.config import TableMapping
from recs.schemas import Table

from .instants import instant
from .mapping import Expressions, MappingError, broken_rule

EPOCH = "TIMESTAMP '1970-01-01 00:00:00Z'"
_DATED = ("valid_from", "valid_to", "batch_id")


def map_table(raw: DataFrame, mapping: TableMapping, table: Table, label: str) -> DataFrame:
    """`raw` as rows of ITEMS or USERS without batch_id, and position, reason (NULL = sound), raw,
    source_file, row_hash.  Rows outside `where` are left out: they belong to other tables, they are not wrong."""
    key = table.key[0]
    x = Expressions(raw, label)
    known = [c.name for c in table.columns if c.name != "batch_id"]
    if unknown := sorted(set(mapping.columns) - set(known)):
        raise MappingError(f"{label}.columns: {', '.join(unknown)}: the table {table.name} has {', '.join(known)}")
    if key not in mapping.columns:
        raise MappingError(f"{label}.columns: {key} is missing")
    columns = {c.name: _column(x, c.name, c.type, mapping.columns.get(c.name)) for c in table.columns if c.name in known}
    newest = x.column("latest_by", mapping.latest_by) if mapping.latest_by else F.lit(None)
    rows = raw.where(broken_rule(mapping.where, x).isNull() | F.col("_malformed")).select(
        *(column.alias(name) for name, column in columns.items()), newest.alias("newest"), F.col("_seq").alias("position"),
        F.col("_malformed").alias("malformed"), F.col("_raw").alias("text"), F.col("_file").alias("file"), F.col("_place").alias("place"),
    )
    return _with_refusal(rows, key, table.name, "valid_from" in mapping.columns)


def _with_refusal(rows: DataFrame, key: str, name: str, dated: bool) -> DataFrame:
    empty = F.coalesce(F.col("valid_to") <= F.col("valid_from"), F.lit(False)) | (F.col("valid_from").isNull() & F.lit(dated))
    reason = F.when(F.col("malformed"), f"{name}_malformed").when(F.col(key).isNull(), f"{name}_no_id").when(empty, f"{name}_bad_interval")
    text = F.col("text") if rows.schema["text"].dataType.simpleString() == "string" else F.to_json("text", {"ignoreNullFields": "false"})
    rows = rows.withColumn("reason", reason).withColumn("raw", F.when(F.col("reason").isNotNull(), text))
    row_hash = F.md5(F.concat_ws(":", F.lit(name), "file", F.col("place").cast("string"), "raw"))
    return rows.withColumns({
        "row_hash": F.when(F.col("reason").isNotNull(), row_hash), "source_file": F.element_at(F.split("file", "/"), -1),
    }).drop("malformed", "text", "file", "place")


def _column(x: Expressions, name: str, type_: str, sql: str | None) -> Column:
    """One column of the table; a value that does not fit its type is NULL, except for opting out: there it counts as yes."""
    if sql is None:
        return F.lit(False) if name == "opt_out" else F.lit(None).cast(type_)
    said = x.column(name, sql)
    if name in ("item_id", "user_id"):
        return x.id(name, sql)
    if name == "opt_out":
        return F.coalesce(said.try_cast("boolean"), said.isNotNull())
    if name == "zone":
        zone = F.trim(said)     # text that cannot be read with the zone behind it: no such zone
        return F.when(F.concat(F.lit("2000-01-01 00:00:00 "), zone).try_cast("timestamp").isNotNull(), zone)
    if type_ == "string":
        return F.nullif(F.trim(said.cast("string")), F.lit(""))
    if type_ == "double":
        return F.nullif(said.try_cast("double"), F.lit(float("nan")))
    return said.try_cast(type_)


def newest_per_key(rows: DataFrame, table: Table) -> DataFrame:
    """Sound rows, one per key and valid_from: the one with the greatest `latest_by`, then the last in source order."""
    order = Window.partitionBy(*table.key).orderBy(F.col("newest").desc_nulls_last(), F.col("position").desc())
    numbered = rows.where("reason IS NULL").withColumn("row_number", F.row_number().over(order))
    return numbered.where("row_number = 1").select(*(c for c in table.column_names if c != "batch_id"))


def changes(delivered: DataFrame, current: DataFrame, table: Table, at: datetime, batch_id: int) -> DataFrame:
    """Rows to merge into `table` (by its key): new intervals, and known ones that the new ones close.

    `delivered`: `newest_per_key`; `current`: the table; `at`: when the batch came.
    """
    key = table.key[0]
    dated = _dated(delivered, current, table, at).withColumn("batch_id", F.lit(batch_id).cast("bigint"))
    touched = current.join(dated.select(key).distinct(), key, "left_semi")
    kept = touched.join(dated.select(*table.key), list(table.key), "left_anti").withColumn("was_to", F.col("valid_to"))
    new = dated.withColumns({"was_to": F.lit(None).cast("timestamp"), "is_new": F.lit(True)})
    both = kept.withColumn("is_new", F.lit(False)).unionByName(new)
    following = F.lead("valid_from").over(Window.partitionBy(key).orderBy("valid_from"))
    closed = both.withColumn("valid_to", F.least("valid_to", following))
    news = closed.where("is_new OR NOT (valid_to <=> was_to)").withColumn("says", _said(table))
    # a table with dates of its own is often delivered whole: what it says again stays a row of the batch that said it first
    facts = [F.col(k).alias(f"known_{k}") for k in table.key] + [F.col("valid_to").alias("known_to"), _said(table).alias("said")]
    again = current.select(*facts)
    same = [F.col(k) == F.col(f"known_{k}") for k in table.key] + [F.expr("valid_to <=> known_to"), F.col("says") == F.col("said")]
    return news.join(again, same, "left_anti").select(*table.column_names)


def _dated(delivered: DataFrame, current: DataFrame, table: Table, at: datetime) -> DataFrame:
    """Snapshot rows get their valid_from; those that say nothing new go."""
    key = table.key[0]
    row = F.struct(F.col("valid_from").alias("since"), _said(table).alias("said"))
    newest = current.groupBy(key).agg(F.max_by(row, "valid_from").alias("known"))
    both = delivered.withColumn("says", _said(table)).join(newest, key, "left")
    since, said = F.col("known.since"), F.col("known.said")
    now = instant(micros(at))
    # what replaces a row that says nothing, or one that began just now, takes its place
    start = F.when(said.isNull(), F.expr(EPOCH)).when((said == _NOTHING) | (since >= now), since).otherwise(now)
    is_snapshot = F.col("valid_from").isNull()
    news = both.where(~is_snapshot | said.isNull() | (said != F.col("says")))
    return news.withColumn("valid_from", F.when(is_snapshot, start).otherwise(F.col("valid_from"))).drop("says", "known")


_NOTHING = "{}"


def _said(table: Table) -> Column:
    """What a row says besides key and dates, as comparable text; '{}' when it says nothing."""
    columns = [c for c in table.columns if c.name not in (table.key[0], *_DATED)]
    said = [F.array_sort(F.map_entries(c.name)).alias(c.name) if c.type.startswith("map") else F.col(c.name) for c in columns]
    return F.to_json(F.struct(*said))


def undescribed(item_ids: DataFrame, described: Iterable[DataFrame], table: Table, batch_id: int) -> DataFrame:
    """Rows of ITEMS that hold nothing but an id, for those of `item_ids` (unique) that none of the frames `described` names."""
    new = item_ids.select("item_id")
    for items in described:
        new = new.join(items.select("item_id"), "item_id", "left_anti")
    fixed = {"item_id": F.col("item_id"), "valid_from": F.expr(EPOCH), "batch_id": F.lit(batch_id).cast("bigint")}
    return new.select(*(fixed.get(c.name, F.lit(None).cast(c.type)).alias(c.name) for c in table.columns))
