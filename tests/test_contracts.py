"""The contracts hold what they promise: declared, documented, rendered, and enforced by the tables in Delta."""
from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import tiny_warehouse

import recs.schemas as schemas
from recs.report import dictionary
from recs.schemas import (
    ALL_TABLES,
    BATCHES,
    EVENTS,
    MODELS,
    NIGHTS,
    RECOMMENDATIONS,
    SEQUENCES,
    SESSIONS,
    USERS,
    Column,
    ContractError,
    Table,
)
from recs.tables import Lake, predicate

REPO = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden" / "ddl"
each_table = pytest.mark.parametrize("table", ALL_TABLES, ids=lambda t: t.name)


def same_as_file(path: Path, text: str) -> None:
    """The file holds the text.  With RECS_REBUILD=1 it is written anew, and the test skips: a rebuild proves nothing."""
    if os.environ.get("RECS_REBUILD") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        pytest.skip(f"wrote {path.relative_to(REPO)}")
    assert path.read_text(encoding="utf-8") == text, f"{path.relative_to(REPO)} is not up to date; write it anew with RECS_REBUILD=1"


# ---- declared

def test_table_names_are_unique_and_every_contract_is_listed():
    names = [t.name for t in ALL_TABLES]
    assert len(set(names)) == len(names)
    modules = [importlib.import_module(f"recs.schemas.{m.name}") for m in pkgutil.iter_modules(schemas.__path__)]
    declared = {v.name for m in modules for v in vars(m).values() if isinstance(v, Table)}
    assert declared == set(names)


@each_table
def test_names_are_plain_and_the_key_is_declared(table: Table):
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in (table.name, *table.column_names))
    assert table.key and len(set(table.key)) == len(table.key)
    nullable = {c.name for c in table.columns if c.nullable and c.name in table.key}
    assert nullable == ({"user_id"} if table.name == "blocks" else set())    # a block without a user is for everybody


@each_table
def test_every_table_and_column_says_what_it_means(table: Table):
    assert table.doc.startswith("One ")
    assert [c.name for c in table.columns if len(c.doc) < 6] == []


def test_a_key_that_is_no_column_is_refused():
    with pytest.raises(ContractError, match="not declared.*nothing"):
        Table("t", "One row", (Column("a", "int", "a number"),), key=("nothing",))


# ---- rendered

@each_table
def test_ddl_is_what_it_was(table: Table):
    """A changed file here is a changed table for everybody who reads it."""
    sql = table.create_sql(f"ROOT/{table.name}")
    lines = sql.replace(" (`", " (\n    `", 1).replace(", `", ",\n    `").replace(") USING DELTA", "\n) USING DELTA", 1)
    same_as_file(GOLDEN / f"{table.name}.sql", re.sub(r" ?'delta\.", "\n    'delta.", lines) + ";\n")      # one column or property a line


def test_no_golden_outlives_its_table():
    assert {p.stem for p in GOLDEN.glob("*.sql")} == {t.name for t in ALL_TABLES}


def test_the_data_dictionary_is_up_to_date():
    same_as_file(REPO / "docs" / "tables.md", dictionary.render())


def test_the_data_dictionary_names_every_column_of_every_table():
    page = dictionary.render()
    for table in ALL_TABLES:
        section = page.split(f"\n## `{table.name}`\n")[1].split("\n## ")[0]
        assert [c.name for c in table.columns if f"| `{c.name}` |" not in section] == []


# ---- enforced by Delta

def test_tables_in_delta_show_comments_checks_and_keep_reader_version_1(lake: Lake):
    """Made by Spark, looked at without a JVM."""
    from deltalake import DeltaTable

    for table in ALL_TABLES:
        lake.ensure(table)
        delta = DeltaTable(lake.path(table))
        facts, fields = delta.metadata(), delta.schema().fields
        assert [f.name for f in fields] == list(table.column_names)
        assert [f.metadata["comment"] for f in fields] == [c.comment for c in table.columns]
        assert facts.description == table.doc.replace("'", "’")
        assert tuple(facts.partition_columns) == table.partitions
        checks = {k.removeprefix("delta.constraints."): v for k, v in facts.configuration.items() if k.startswith("delta.constraints.")}
        assert checks == dict(table.checks)
        # whoever turns on column mapping, or deletion vectors elsewhere, locks readers out
        assert delta.protocol().min_reader_version == (3 if table is SEQUENCES else 1), table.name


def test_a_deprecated_column_says_so_also_in_a_table_that_is_older(lake: Lake):
    from deltalake import DeltaTable

    old = Table("things", "One thing", (Column("thing", "string", "the thing"), Column("size", "int", "its size, mm")), key=("thing",))
    now = replace(old, columns=(old.columns[0], replace(old.columns[1], deprecated="0.2, read width")))
    lake.append(lake.spark.createDataFrame([("cup", 80)], old.ddl), old, {"state": 7})

    def comments() -> list[str]:
        return [f.metadata["comment"] for f in DeltaTable(lake.path(old)).schema().fields]

    assert lake.describe(old) == [] and comments() == ["the thing", "its size, mm"]
    assert lake.describe(now) == ["size"] and comments() == ["the thing", "deprecated since 0.2, read width: its size, mm"]
    assert lake.describe(now) == [] and lake.note(now) == {"state": 7} and lake.read(now).count() == 1
    gone = replace(old, columns=old.columns[:1])
    assert lake.describe(gone) == ["size"]
    lake.append(lake.spark.createDataFrame([("jug",)], gone.ddl), gone, {"state": 8})
    assert {tuple(r) for r in lake.read(gone).collect()} == {("cup", 80), ("jug", None)}
    assert "deprecated since 0.2, read width: its size, mm" in now.create_sql("x") and "deprecated" in dictionary.table_page(now)


GOOD = tiny_warehouse.LISTS[0]      # ann's first item


def listed(**other) -> dict:
    return tiny_warehouse.list_row(GOOD) | other


FORBIDDEN = {
    "a score that is not a number": (RECOMMENDATIONS, listed(score=float("nan"))),      # NaN >= 0 is true for Spark
    "an infinite score": (RECOMMENDATIONS, listed(score=float("-inf"))),
    "rank 0": (RECOMMENDATIONS, listed(rank=0)),
    "a source nobody knows": (RECOMMENDATIONS, listed(source="magic")),
    "an audience nobody knows": (RECOMMENDATIONS, listed(audience="world")),
    "a decision nobody knows": (NIGHTS, {"decision": "maybe"}),
    "a status nobody knows": (MODELS, {"status": "best"}),
    "accounts that do not add up": (BATCHES, {"rows_in": 5, "rows_accepted": 3, "rows_quarantined": 1, "rows_duplicate": 0}),
    "no user": (EVENTS, {"user_id": ""}),
}
ALLOWED = (
    (RECOMMENDATIONS, listed()), (NIGHTS, {"decision": "held"}), (MODELS, {"status": "retired"}), (EVENTS, {"user_id": "ann"}),
    (BATCHES, {"rows_in": 5, "rows_accepted": 3, "rows_quarantined": 1, "rows_duplicate": 1}),
)


def test_checks_forbid_what_they_should_and_nothing_else(lake: Lake):
    """The conditions alone, without a table: quick."""
    def holds(table: Table, row: dict) -> bool:
        every = " AND ".join(f"({sql})" for _, sql in table.checks)
        return tiny_warehouse.frame(lake, table, [row]).where(every).count() == 1

    assert [table.name for table, row in ALLOWED if not holds(table, row)] == []
    assert [case for case, (table, row) in FORBIDDEN.items() if holds(table, row)] == []


def test_delta_refuses_what_breaks_a_check(lake: Lake):
    lake.append(tiny_warehouse.frame(lake, RECOMMENDATIONS, [listed()]), RECOMMENDATIONS, {})
    for case in ("a score that is not a number", "rank 0", "a source nobody knows"):
        table, row = FORBIDDEN[case]
        with pytest.raises(Exception, match="DELTA_VIOLATE_CONSTRAINT_WITH_VALUES"):
            lake.append(tiny_warehouse.frame(lake, table, [row]), table, {})
    assert lake.read(RECOMMENDATIONS).count() == 1


def test_delta_refuses_null_where_the_contract_has_none_and_rows_of_another_night(lake: Lake):
    nullable = lake.spark.createDataFrame([(None,)], "item_id string")
    rows = tiny_warehouse.frame(lake, RECOMMENDATIONS, [listed()]).drop("item_id").crossJoin(nullable)
    with pytest.raises(Exception, match="NOT NULL constraint violated|DELTA_NOT_NULL_CONSTRAINT_VIOLATED"):
        lake.append(rows, RECOMMENDATIONS, {})
    with pytest.raises(Exception, match="DELTA_REPLACE_WHERE_MISMATCH"):
        rows = tiny_warehouse.frame(lake, RECOMMENDATIONS, [listed()])
        lake.replace(rows, RECOMMENDATIONS, predicate(run_date=date(2024, 3, 9), list_name="main"), {})
    assert lake.read(RECOMMENDATIONS).count() == 0


def test_conform_names_every_column_that_is_off(lake: Lake):
    frame = lake.spark.createDataFrame([("s", 1)], "session_id string, user_id bigint")
    with pytest.raises(ContractError, match=r"table sessions: .*user_id is bigint, the contract says string.*|started_at is missing") as e:
        SESSIONS.conform(frame)
    assert "started_at is missing" in str(e.value) and "user_id is bigint" in str(e.value)


def test_published_tables_stay_readable_without_a_jvm_after_every_kind_of_write(lake: Lake):
    import polars as pl
    from deltalake import DeltaTable, QueryBuilder

    night = predicate(run_date=GOOD[0], list_name="main")
    for _ in range(2):
        lake.replace(tiny_warehouse.frame(lake, RECOMMENDATIONS, [listed(), listed(rank=2)]), RECOMMENDATIONS, night, {"n": 1})
    lake.delete(RECOMMENDATIONS, "rank = 2", {})
    lake.append(tiny_warehouse.frame(lake, USERS, [{"user_id": "ann"}, {"user_id": "bob"}]), USERS, {})
    lake.merge(tiny_warehouse.frame(lake, USERS, [{"user_id": "bob", "segment": "north"}, {"user_id": "cat"}]), USERS, {})
    for table, n in ((RECOMMENDATIONS, 1), (USERS, 3)):
        delta = DeltaTable(lake.path(table))
        assert delta.protocol().min_reader_version == 1
        assert pl.scan_delta(lake.path(table)).collect().height == n
        assert len(QueryBuilder().register("t", delta).execute("SELECT * FROM t").read_all()) == n


# ---- documented

def public_names(path: Path) -> Iterator[tuple[str, ast.AST, str | None]]:
    """(name, node, its class) of the module, its public classes and functions, and their public methods; not of what functions hold."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield path.name, tree, None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node, None
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield inner.name, inner, node.name


def undocumented(root: Path) -> list[str]:
    """Public names under recs/, jobs/ and schemas/ without a docstring.  A method may leave it to the one it overrides."""
    files = [p for room in ("recs", "jobs", "schemas") for p in sorted((root / room).rglob("*.py"))]
    bases: dict[str, set[str]] = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(ast.unparse(b).split("[")[0].split(".")[-1] for b in node.bases)
    found = [(path, *entry) for path in files for entry in public_names(path)]
    has_docs = {(owner, name) for _, name, node, owner in found if owner and ast.get_docstring(node)}

    def said_above(owner: str, name: str) -> bool:
        return any((base, name) in has_docs or said_above(base, name) for base in bases.get(owner, ()))

    return [
        f"{path.relative_to(root)}:{getattr(node, 'lineno', 1)} {f'{owner}.' if owner else ''}{name}"
        for path, name, node, owner in found
        if not ast.get_docstring(node) and not (isinstance(node, ast.Module) and not node.body) and not (owner and said_above(owner, name))
    ]


def test_every_public_function_has_a_docstring():
    assert undocumented(REPO) == []


def test_the_docstring_rule_sees_what_it_should(tmp_path: Path):
    planted = tmp_path / "recs" / "bad.py"
    planted.parent.mkdir()
    planted.write_text(
        '"""m"""\ndef naked(): ...\ndef _own(): ...\ndef fine():\n    "d"\n    def inside(): ...\n'
        'class Base:\n    "d"\n    def said(self):\n        "d"\n'
        'class Below(Base):\n    "d"\n    def said(self): ...\n    def unsaid(self): ...\n'
    )
    assert undocumented(tmp_path) == ["recs/bad.py:2 naked", "recs/bad.py:14 Below.unsaid"]
