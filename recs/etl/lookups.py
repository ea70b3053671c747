"""A second file whose columns a table of items or users needs: titles kept under other ids, for example."""
from __future__ import annotations

from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recs.config import Lookup, TableMapping

from .mapping import Expressions
from .sources import InputFile, list_files, read_raw


def with_lookups(raw: DataFrame, files: list[InputFile], mapping: TableMapping, label: str) -> DataFrame:
    """`raw` with the columns of the mapping's lookups, NULL where nothing matches.  Malformed lines of a lookup match nothing."""
    for i, lookup in enumerate(mapping.lookups):
        second = read_raw(raw.sparkSession, _lookup_files(raw.sparkSession, files, lookup), lookup.source).frame
        x = Expressions(second, f"{label}.lookups.{i}")
        picked = second.where(~F.col("_malformed")).select(*(x.column(name, sql).alias(name) for name, sql in lookup.columns.items()))
        raw = raw.join(picked, F.expr(lookup.match), "left")
    return raw


def with_lookup_fingerprints(spark: SparkSession, files: list[InputFile], mapping: TableMapping) -> list[InputFile]:
    """A table is read again when one of its lookups has changed."""
    of = [f.fingerprint for lookup in mapping.lookups for f in _lookup_files(spark, files, lookup)]
    return [replace(f, fingerprint="+".join([f.fingerprint, *of])) for f in files]


def _lookup_files(spark: SparkSession, files: list[InputFile], lookup: Lookup) -> list[InputFile]:
    folder = files[0].path.rsplit("/", 1)[0]
    return list_files(spark, [f"{folder}/{lookup.path}"], lookup.source)
