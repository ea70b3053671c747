"""The data dictionary: docs/tables.md, rendered from the contracts in `schemas/` and the comment headers of `sql/`.

Nobody edits the page by hand; tests/test_contracts.py compares it and writes it anew under RECS_REBUILD=1.
"""
from __future__ import annotations

from recs.schemas import ALL_TABLES, Column, Table

from . import views

HEAD = """\
# Tables and views

Rendered from `schemas/` and `sql/`; change it there (`RECS_REBUILD=1 .venv/bin/python -m pytest tests/test_contracts.py` writes this page).

A table is a folder of Delta files under one root, without a metastore: `recommendations` is `ROOT/recommendations`. The same comments
stand in the tables themselves (`DESCRIBE TABLE`). Column types are Spark's. A column may be NULL only where the last column says so.

## What one must know

**`run_date`** is the local date, in the configured zone (`clock: {zone: …}`), on which the lists are first served, not the date on which
the night ran or of the newest event. `scored_as_of` is the knowledge cut: nothing at or after that instant was read. `serve_at` is the
instant for which the lists were made: gaps, clocks and decays were measured to it. All instants are UTC, with microseconds.

**Current** is the newest `run_date` in `recommendations`, per `list_name`. What is in `recommendations` was published: a night that is
held never gets there, a night that a person took back is no longer there; `nights` tells what happened. A night is published in one
commit, so a reader sees all of it or nothing.

**`score`** orders the rows of one list and source: higher is better, ties by item id. It is not a probability, and it says nothing across
lists, users, models or nights: use `rank` for that. It is always finite. Rows with `source` = `fallback` fill a list that the model could
not fill; they stand below the model's rows, with a score of their own scale.

**How many nights are kept.** All of them: every published night stays in `recommendations`, as a partition of its own, and every decision
in `nights`; no job removes one. What goes is what a night was made from: `recs clean` keeps staged lists, item tables and examples of the
newest 14 run dates (`keep: {nights: 14}`). Past *versions* of a table (`VERSION AS OF`) can be read for 30 days after a rewrite
(`recs compact --keep-days`); a published night is not rewritten, so its rows outlive that.

**A column is deprecated** in two steps; none is renamed, retyped or given another meaning in place. First its comment, here and in Delta,
begins with *deprecated since VERSION, read OTHER* (`Column(deprecated=…)` in `schemas/`), while it is filled as before and OTHER stands
beside it. Two minor versions and 90 days later, at the earliest, the contract leaves it out: tables that exist keep the column with the
values they have, new rows are NULL there. Run `recs compact` after an upgrade: it brings the comments of existing tables up to date.

**A column is added** by the next write after an upgrade: rows from before are NULL there, whatever the last column of this page says.
Tables that are derived from others (`sessions`, `item_hours`, `sequences`) are rebuilt instead where rows get another meaning.

**A user's list** has `audience` = `user`. Users without recent events share their segment's list: `audience` = `segment`, `user_id` = name
of the segment, `all` for users without one. Users who opted out have none.

**The order of a user's events** is always (`ts`, `source_seq`, `event_id`): ties in time are real.

**Readers.** All tables have Delta reader version 1, which every reader of Delta knows, except those marked *deletion vectors*, which
need reader version 3 (Spark with Delta 2.3 or newer, polars, deltalake's SQL). A folder of Parquet files is not the table: files of
past versions lie in it too.
"""


def render() -> str:
    """The whole page, in Markdown."""
    tables = "\n".join(f"| [`{t.name}`](#{t.name}) | {t.doc} | {_names(t.key)} |" for t in ALL_TABLES)
    listed = "\n".join(f"| [`{v}`](#{v}) | {_first_line(v)} |" for v in views.VIEWS)
    parts = [
        HEAD,
        "## All tables\n\n| table | one row is | key |\n|---|---|---|\n" + tables + "\n",
        "## All views\n\n| view | one row is |\n|---|---|\n" + listed + "\n",
        *(table_page(t) for t in ALL_TABLES),
        *(_view(v) for v in views.VIEWS),
    ]
    return "\n".join(parts)


def table_page(table: Table) -> str:
    """The section of one table."""
    facts = [f"Key: {_names(table.key)}."]
    if table.partitions:
        facts.append(f"Partitions: {_names(table.partitions)}.")
    if dict(table.properties).get("delta.enableDeletionVectors") == "true":
        facts.append("Deletion vectors: reader version 3.")
    checks = "".join(f"- `{name}`: `{sql}`\n" for name, sql in table.checks)
    if checks:
        checks = "\nDelta refuses rows that break a check:\n\n" + checks
    columns = "\n".join(_column(c) for c in table.columns)
    head = f"## `{table.name}`\n\n{table.doc}. {' '.join(facts)}\n"
    return f"{head}\n| column | type | meaning | NULL |\n|---|---|---|---|\n{columns}\n{checks}"


def _column(column: Column) -> str:
    return f"| `{column.name}` | {_cell(column.type)} | {_cell(column.meaning)} | {'yes' if column.nullable else ''} |"


def _view(view: str) -> str:
    return f"## `{view}`\n\n{views.meaning(view)}\n\nView: [`sql/{view}.sql`](../sql/{view}.sql).\n"


def _first_line(view: str) -> str:
    return _cell(views.meaning(view).splitlines()[0].rstrip("."))


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f"`{c}`" for c in columns)


def _cell(text: str) -> str:
    """Text as it can stand in a table of Markdown."""
    return text.replace("|", "\\|").replace("<", "\\<")
