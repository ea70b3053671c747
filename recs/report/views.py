"""The views of `sql/`, for an analyst: in a Spark session, or without a JVM in DuckDB or polars.  One text serves all three.

A view is a plain SELECT over tables named as in `schemas/` and over the views before it in VIEWS.  Nothing is stored: `register`,
`connect` and `scan` look at the table versions of that moment.  Call them again to see a night published since.

    con = connect("warehouse")
    con.sql("SELECT rank, title FROM current_lists WHERE user_id = 'ann' ORDER BY rank").pl()      # a polars frame; .df() for pandas
    scan("warehouse")["why"].filter(pl.col("user_id") == "ann").sort("rank").collect()               # polars alone
"""
from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from recs.schemas import ALL_TABLES, Table
from recs.tables import Lake, TableError

if TYPE_CHECKING:
    import duckdb
    import polars as pl

# in the order in which they are registered: a view reads tables and earlier views only
VIEWS: tuple[str, ...] = (
    "item_titles", "user_segments", "published_nights", "current_lists", "user_history", "changes_since_yesterday",
    "why", "evidence_events", "coverage_by_day", "nights_and_holds", "cold_users", "cold_items", "outcomes_by_day", "outcomes_by_slice",
)


def text(view: str) -> str:
    """The SQL of one view, comment header included.  Raises TableError for a name that is not in VIEWS."""
    if view not in VIEWS:
        raise TableError(f"no view {view!r}; there are {', '.join(VIEWS)}")
    return resources.files("recs.sql").joinpath(f"{view}.sql").read_text(encoding="utf-8")


def meaning(view: str) -> str:
    """The comment header of a view: first line what one row is, then what a reader must know."""
    lines = text(view).splitlines()
    header = lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))]
    return "\n".join(line.removeprefix("--").strip() for line in header)


def register(lake: Lake) -> None:
    """Make every table of the lake and every view a temporary view of its Spark session.

    A table that was never written is an empty view; nothing is created in the lake.  Raises TableError when the lake has no table.
    """
    _refuse_no_tables(lake.root, [t for t in ALL_TABLES if lake.exists(t)])
    for table in ALL_TABLES:
        lake.read(table).createOrReplaceTempView(table.name)
    for view in VIEWS:
        lake.spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW {view} AS\n{text(view)}")


def connect(root: str | Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection in which every table under `root` (a local folder or a URL deltalake knows) and every view has its name.

    Rows are read when a query asks for them, and only the files and columns it needs.  Instants are shown in UTC.
    Raises TableError when there is no table under `root`.
    """
    import duckdb
    from deltalake import DeltaTable

    paths = {t: f"{root}/{t.name}" for t in ALL_TABLES}
    there = [t for t in ALL_TABLES if DeltaTable.is_deltatable(paths[t])]
    _refuse_no_tables(root, there)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for table in ALL_TABLES:
        if table in there:
            _open(con, table, DeltaTable(paths[table]))
        else:
            con.execute(f"CREATE TABLE {table.name} ({', '.join(f'{_quoted(c.name)} {duckdb_type(c.type)}' for c in table.columns)})")
    for view in VIEWS:
        con.execute(f"CREATE VIEW {view} AS\n{text(view)}")
    return con


# whole days between two instants: the one expression of the views for which polars has other words
_DAYS = re.compile(r"EXTRACT\(DAY FROM ([^()]+)\)")
_DAYS_IN_POLARS = r"FLOOR(CAST((\1) AS BIGINT) / 86400000000)"


def scan(root: str | Path) -> dict[str, pl.LazyFrame]:
    """Every table under `root` and every view as a lazy frame of polars, by name.

    For SQL hand them to `pl.SQLContext`.  Raises TableError when there is no table under `root`.
    """
    import polars as pl
    from deltalake import DeltaTable

    there = {t.name for t in ALL_TABLES if DeltaTable.is_deltatable(f"{root}/{t.name}")}
    with connect(root) as con:
        def asked(name: str) -> pl.LazyFrame:
            return con.sql(f"FROM {name}").pl().lazy()

        frames = {t.name: pl.scan_delta(f"{root}/{t.name}") if t.name in there else asked(t.name) for t in ALL_TABLES}
        context = pl.SQLContext(frames)
        for view in VIEWS:
            try:
                frames[view] = context.execute(_DAYS.sub(_DAYS_IN_POLARS, text(view)))
                frames[view].collect_schema()
            except pl.exceptions.SQLInterfaceError:     # what polars' SQL does not know (a moving deviation): DuckDB's rows, at once
                frames[view] = asked(view)
            context.register(view, frames[view])
    return frames


def duckdb_type(spark_type: str) -> str:
    """DuckDB's name of a Spark type.

    >>> duckdb_type("map<string,array<float>>")
    'MAP(VARCHAR,float[])'
    """
    name = spark_type.replace("string", "VARCHAR").replace("timestamp", "TIMESTAMPTZ")
    while (inner := re.sub(r"map<([^<>]*)>", r"MAP(\1)", re.sub(r"array<([^<>]*)>", r"\1[]", name))) != name:
        name = inner
    return name


def _open(con: duckdb.DuckDBPyConnection, table: Table, delta) -> None:
    """Name a Delta table in DuckDB.

    With reader version 1 the live files are the table, and DuckDB reads them itself (10^7 rows: 140 MB at the peak; 820 MB
    through polars).  A table with deletion vectors, without files or far away goes through polars, which knows these (but not
    a folder with a space in its path: that one table then fails when it is asked for).
    """
    files = delta.file_uris()
    if delta.protocol().min_reader_version > 1 or not files or "://" in files[0]:
        import polars as pl

        con.register(table.name, pl.scan_delta(delta))
        return
    listed = ", ".join(_literal(unquote(f)) for f in files)     # deltalake names them as URLs do: a space is %20
    # types of partition columns are said: a list called 2024 is still text
    types = ", ".join(f"{_quoted(c.name)}: {duckdb_type(c.type)}" for c in table.columns if c.name in table.partitions)
    partitioned = f"hive_partitioning = true, hive_types = {{{types}}}" if types else "hive_partitioning = false"
    columns = ", ".join(_quoted(c) for c in table.column_names)
    con.execute(f"CREATE VIEW {table.name} AS SELECT {columns} FROM read_parquet([{listed}], union_by_name = true, {partitioned})")


def _refuse_no_tables(root: str | Path, there: list[Table]) -> None:
    if not there:
        raise TableError(f"no tables under {root}: name the folder that `recs night --root` wrote")


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return f'"{name}"'
