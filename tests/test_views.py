"""Every view says the same in Spark and, without a JVM, in DuckDB and polars: same columns, same types, same rows."""
from __future__ import annotations

import ast
import json
import re
import shutil
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
import tiny_warehouse
from tiny_warehouse import FIRST, HELD, LAST, TEA_DRUNK, at

from recs.report import views
from recs.schemas import ALL_TABLES, RECOMMENDATIONS, SEQUENCES
from recs.tables import Lake, TableError

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(spark, tmp_path_factory.mktemp("it's"))     # a path that needs quoting
    tiny_warehouse.write(lake)
    views.register(lake)
    return lake


@pytest.fixture(scope="module")
def con(warehouse: Lake):
    with views.connect(warehouse.root) as con:
        yield con


@pytest.fixture(scope="module")
def frames(warehouse: Lake):
    return views.scan(warehouse.root)


# view -> the columns to compare, and the rows; order does not count
EXPECTED = {
    "item_titles": (
        ("item_id", "title", "title_from", "title_until"),
        [
            ("tea", "Green tea", None, at("2024-03-02")),
            ("tea", "Sencha", at("2024-03-02"), None),
            ("mug", "Mug", None, None),
            ("pot", "Tea pot", None, None),
            ("lid", None, None, None),
            ("jar", "Glass", None, at("2024-03-02")),
            ("jar", "Jar", at("2024-03-02"), None),
        ],
    ),
    "user_segments": (
        ("user_id", "segment", "opt_out", "zone", "segment_from", "segment_until"),
        [
            ("ann", "north", False, "America/New_York", None, at("2024-03-02")),
            ("ann", "south", False, "Asia/Shanghai", at("2024-03-02"), None),
            ("bob", "all", False, None, None, None),
            ("dee", "north", False, "Europe/Amsterdam", None, None),
            ("fay", "all", True, None, None, None),
        ],
    ),
    "published_nights": (
        ("list_name", "run_date", "previous_run_date", "nights_ago"),
        [("main", FIRST, None, 1), ("main", LAST, FIRST, 0), ("mail", FIRST, None, 0)],   # the held night is left out
    ),
    "current_lists": (
        ("run_date", "list_name", "audience", "user_id", "rank", "item_id", "title"),
        [
            (LAST, "main", "user", "ann", 1, "mug", "Mug"),
            (LAST, "main", "user", "ann", 2, "tea", "Sencha"),      # the title it has when the list is used
            (LAST, "main", "user", "ann", 3, "lid", None),
            (LAST, "main", "user", "cat", 1, "tea", "Sencha"),
            (LAST, "main", "user", "cat", 2, "pot", "Tea pot"),
            (LAST, "main", "segment", "all", 1, "tea", "Sencha"),
            (LAST, "main", "segment", "all", 2, "mug", "Mug"),
            (FIRST, "mail", "user", "ann", 1, "pot", "Tea pot"),    # each list has its own newest night
        ],
    ),
    "user_history": (
        ("user_id", "audience", "list_name", "run_date", "rank", "item_id", "title", "first_listed", "times_listed"),
        [
            ("ann", "user", "main", FIRST, 1, "tea", "Green tea", FIRST, 1),    # the title of that night
            ("ann", "user", "main", FIRST, 2, "mug", "Mug", FIRST, 1),
            ("ann", "user", "main", FIRST, 3, "pot", "Tea pot", FIRST, 1),
            ("ann", "user", "main", LAST, 1, "mug", "Mug", FIRST, 2),
            ("ann", "user", "main", LAST, 2, "tea", "Sencha", FIRST, 2),
            ("ann", "user", "main", LAST, 3, "lid", None, LAST, 1),
            ("ann", "user", "mail", FIRST, 1, "pot", "Tea pot", FIRST, 1),      # lists do not mix
            ("bob", "user", "main", FIRST, 1, "mug", "Mug", FIRST, 1),
            ("bob", "user", "main", FIRST, 2, "tea", "Green tea", FIRST, 1),
            ("cat", "user", "main", LAST, 1, "tea", "Sencha", LAST, 1),
            ("cat", "user", "main", LAST, 2, "pot", "Tea pot", LAST, 1),
            ("all", "segment", "main", FIRST, 1, "tea", "Green tea", FIRST, 1),
            ("all", "segment", "main", FIRST, 2, "pot", "Tea pot", FIRST, 1),
            ("all", "segment", "main", LAST, 1, "tea", "Sencha", FIRST, 2),
            ("all", "segment", "main", LAST, 2, "mug", "Mug", LAST, 1),
        ],
    ),
    "changes_since_yesterday": (
        ("run_date", "previous_run_date", "list_name", "audience", "user_id", "item_id", "title", "change", "previous_rank", "rank"),
        [
            (LAST, FIRST, "main", "user", "ann", "mug", "Mug", "up", 2, 1),
            (LAST, FIRST, "main", "user", "ann", "tea", "Sencha", "down", 1, 2),
            (LAST, FIRST, "main", "user", "ann", "lid", None, "entered", None, 3),
            (LAST, FIRST, "main", "user", "ann", "pot", "Tea pot", "left", 3, None),
            (LAST, FIRST, "main", "user", "bob", "mug", "Mug", "left", 1, None),            # dormant now
            (LAST, FIRST, "main", "user", "bob", "tea", "Green tea", "left", 2, None),      # the title it was last shown with
            (LAST, FIRST, "main", "user", "cat", "tea", "Sencha", "entered", None, 1),
            (LAST, FIRST, "main", "user", "cat", "pot", "Tea pot", "entered", None, 2),
            (LAST, FIRST, "main", "segment", "all", "pot", "Tea pot", "left", 2, None),     # tea kept rank 1: no row
            (LAST, FIRST, "main", "segment", "all", "mug", "Mug", "entered", None, 2),
            (FIRST, None, "mail", "user", "ann", "pot", "Tea pot", "entered", None, 1),     # a first night: everything entered
        ],
    ),
    "why": (
        ("list_name", "user_id", "rank", "title", "reason_code", "evidence_title", "evidence_ts", "evidence_days_ago"),
        [
            # from 28 February 05:00 to 3 March 07:00 are 4 days and 2 hours (to the cut: 3); the tea was called so when ann drank it
            ("main", "ann", 1, "Mug", "neighbour", "Green tea", TEA_DRUNK, 4),
            ("main", "ann", 2, "Sencha", "repeat", "Green tea", TEA_DRUNK, 4),
            ("main", "ann", 3, None, "taste", None, None, None),
            ("main", "cat", 1, "Sencha", "popular", None, None, None),
            ("main", "cat", 2, "Tea pot", "popular", None, None, None),
            ("main", "all", 1, "Sencha", "popular", None, None, None),
            ("main", "all", 2, "Mug", "popular", None, None, None),
            ("mail", "ann", 1, "Tea pot", "popular", None, None, None),
        ],
    ),
    "evidence_events": (
        ("list_name", "user_id", "rank", "item_id", "reason_code", "evidence_item_id", "evidence_type", "zone", "serve_at"),
        [
            ("main", "ann", 1, "mug", "neighbour", "tea", "purchase", "Asia/Shanghai", at("2024-03-03 07:00")),     # the last of the tie
            ("main", "ann", 2, "tea", "repeat", "tea", "purchase", "Asia/Shanghai", at("2024-03-03 07:00")),
            ("main", "ann", 3, "lid", "taste", None, None, "Asia/Shanghai", at("2024-03-03 07:00")),
            ("main", "cat", 1, "tea", "popular", None, None, None, at("2024-03-03 07:00")),
            ("main", "cat", 2, "pot", "popular", None, None, None, at("2024-03-03 07:00")),
            ("main", "all", 1, "tea", "popular", None, None, None, at("2024-03-03 07:00")),
            ("main", "all", 2, "mug", "popular", None, None, None, at("2024-03-03 07:00")),
            ("mail", "ann", 1, "pot", "popular", None, None, "America/New_York", at("2024-03-01 07:00")),           # before she moved
        ],
    ),
    "cold_users": (
        ("run_date", "list_name", "user_id", "n_events", "last_event_at", "segment", "opt_out", "gets"),
        [       # ann has six events
            (LAST, "main", "bob", 1, at("2024-01-05 09:30"), "all", False, "all"),
            (LAST, "main", "cat", 1, at("2024-03-02 21:00"), "all", False, "own"),
            (LAST, "main", "dee", 0, None, "north", False, "all"),
            (LAST, "main", "fay", 0, None, "all", True, "nothing"),
            (FIRST, "mail", "bob", 1, at("2024-01-05 09:30"), "all", False, "nothing"),     # this list has none for segments
            (FIRST, "mail", "cat", 1, at("2024-03-02 21:00"), "all", False, "nothing"),
            (FIRST, "mail", "dee", 0, None, "north", False, "nothing"),
            (FIRST, "mail", "fay", 0, None, "all", True, "nothing"),
        ],
    ),
    "coverage_by_day": (
        (
            "run_date", "list_name", "scope", "segment", "n_user_lists", "n_segment_lists", "n_rows", "n_items", "catalogue_share",
            "fallback_share",
        ),
        [
            (FIRST, "main", "everybody", None, 2, 1, 7, 3, 3 / 5, 1 / 5),   # 5 living items; 1 of 5 rows in users' lists is a fallback
            (FIRST, "main", "segment", "north", 1, 0, 3, 3, 3 / 5, 0.0),    # ann, before she moved
            (FIRST, "main", "segment", "all", 1, 1, 4, 3, 3 / 5, 1 / 2),    # bob and the shared list
            (FIRST, "mail", "everybody", None, 1, 0, 1, 1, 1 / 5, 0.0),
            (FIRST, "mail", "segment", "north", 1, 0, 1, 1, 1 / 5, 0.0),
            (LAST, "main", "everybody", None, 2, 1, 7, 4, 4 / 5, 2 / 5),
            (LAST, "main", "segment", "south", 1, 0, 3, 3, 3 / 5, 0.0),
            (LAST, "main", "segment", "all", 1, 1, 4, 3, 3 / 5, 1.0),       # cat, who is in no user table, and the shared list
        ],
    ),
    "nights_and_holds": (
        ("run_date", "list_name", "decision", "decided_by", "is_last_word", "rows_now", "rows_staged"),
        [
            (FIRST, "main", "published", "audit", True, 7, 7),
            (FIRST, "mail", "published", "audit", True, 1, 1),
            (HELD, "main", "held", "audit", True, 0, 6),
            (LAST, "main", "held", "audit", False, 7, 7),
            (LAST, "main", "released", "eve", True, 7, 7),
            (date(2024, 3, 4), "main", "started", "night", False, 0, 0),    # of decided attempts the start is not shown
        ],
    ),
    "outcomes_by_day": (
        (
            "served_on", "run_date", "served_again", "is_whole", "n_judged", "value", "low", "popularity", "gain", "came_true", "trend",
            "trend_low", "trend_high",
        ),
        [
            (FIRST, FIRST, False, True, 40, 0.5, 0.4, 0.25, 0.25, 0.2, 0.5, None, None),
            # of 0.5 and 0.25: mean 0.375, standard deviation 0.1768; 1.96 of it over the root of 2 is 0.245
            (HELD, FIRST, True, True, 40, 0.25, 0.2, 0.25, 0.0, None, 0.375, 0.13, 0.62),
            (LAST, LAST, False, False, 10, 0.75, 0.7, None, None, None, None, None, None),      # not whole: no trend
        ],
    ),
    "outcomes_by_slice": (
        ("served_on", "name", "kind", "part", "n", "value", "popularity", "gain", "p"),
        [
            (FIRST, "ndcg@10", "", "", 40, 0.5, 0.25, 0.25, 0.02),
            (FIRST, "ndcg@10", "segment", "north=east", 3, 0.75, None, None, None),
            (FIRST, "came_true@10", "", "", 100, 0.2, None, None, None),
            (HELD, "ndcg@10", "", "", 40, 0.25, 0.25, 0.0, 1.0),
            (LAST, "ndcg@10", "", "", 10, 0.75, None, None, None),
        ],
    ),
    "cold_items": (("item_id", "title", "n_current_lists"), [("lid", None, 1), ("jar", "Jar", 0)]),
}


def same_rows(found: pa.Table, columns: tuple[str, ...], rows: list[tuple]) -> None:
    have = [tuple(r[c] for c in columns) for r in found.select(list(columns)).to_pylist()]
    assert sorted(have, key=repr) == sorted(rows, key=repr)


def types(found: pa.Table) -> dict[str, str]:
    return {f.name: str(f.type).replace("large_string", "string") for f in found.schema}


def test_every_view_has_expected_rows():
    assert set(EXPECTED) == set(views.VIEWS)


@pytest.mark.parametrize("view", views.VIEWS)
def test_spark_duckdb_and_polars_agree(view: str, warehouse: Lake, con, frames):
    columns, rows = EXPECTED[view]
    in_spark, without_jvm = warehouse.spark.table(view).toArrow(), con.sql(f"SELECT * FROM {view}").to_arrow_table()
    same_rows(in_spark, columns, rows)
    same_rows(without_jvm, columns, rows)
    assert types(in_spark) == types(without_jvm)
    every = lambda t: sorted(map(repr, t.to_pylist()))      # noqa: E731 - all columns, also those not spelled out above
    assert every(in_spark) == every(without_jvm)
    assert every(frames[view].collect().to_arrow().cast(without_jvm.schema)) == every(without_jvm)


@pytest.mark.parametrize("view", views.VIEWS)
def test_every_view_is_one_select_that_says_its_grain(view: str):
    sql = views.text(view)
    assert views.meaning(view).startswith("One ")
    body = re.sub(r"--.*", "", sql).strip()
    assert re.match(r"(SELECT|WITH)\b", body) and ";" not in body


def test_every_file_of_sql_is_a_registered_view():
    assert {p.stem for p in (REPO / "sql").glob("*.sql")} == set(views.VIEWS)


def test_views_read_only_tables_and_earlier_views():
    known = {t.name for t in ALL_TABLES}
    for view in views.VIEWS:
        body = re.sub(r"--.*", "", views.text(view))
        steps = set(re.findall(r"(\w+) AS \(\s*SELECT", body))
        read = set(re.findall(r"\b(?:FROM|JOIN) ([a-z_]+)\b(?!\.)(?! FROM)", body))      # `IS DISTINCT FROM p.rank` names no table
        assert read - steps <= known, view
        known.add(view)


def test_a_new_night_is_current_after_connecting_again(lake: Lake):
    def publish(night: date) -> None:
        row = tiny_warehouse.list_row((night, "main", "user", "bob", 1, "jar", 0.5, "model", "taste", None, None))
        lake.append(tiny_warehouse.frame(lake, RECOMMENDATIONS, [row]), RECOMMENDATIONS, {})

    publish(FIRST)
    before = views.connect(lake.root)
    publish(LAST)
    newest = "SELECT max(run_date) FROM current_lists"
    assert before.sql(newest).fetchall() == [(FIRST,)]      # pinned to what it saw
    assert views.connect(lake.root).sql(newest).fetchall() == [(LAST,)]


def test_a_path_with_a_space_is_read(warehouse: Lake, con, tmp_path: Path):
    shutil.copytree(warehouse.root, tmp_path / "my lists")
    lists = "SELECT user_id, rank, item_id FROM current_lists ORDER BY ALL"
    with views.connect(tmp_path / "my lists") as moved:
        assert moved.sql(lists).fetchall() == con.sql(lists).fetchall() != []


def test_no_tables_is_an_error_that_says_what_to_name(spark, tmp_path: Path):
    for read in (lambda: views.connect(tmp_path), lambda: views.scan(tmp_path), lambda: views.register(Lake(spark, tmp_path))):
        with pytest.raises(TableError, match="no tables under"):
            read()
    assert list(tmp_path.iterdir()) == []       # looking creates nothing


def test_tables_never_written_are_empty_not_missing(warehouse: Lake, con, frames):
    empty = [t for t in ALL_TABLES if not Path(warehouse.path(t)).exists()]
    assert "sessions" in {t.name for t in empty}
    for table in empty:
        in_spark, without_jvm = warehouse.spark.table(table.name).toArrow(), con.sql(f"SELECT * FROM {table.name}").to_arrow_table()
        assert in_spark.num_rows == without_jvm.num_rows == 0
        assert in_spark.column_names == without_jvm.column_names == list(table.column_names)
        assert frames[table.name].collect().shape == (0, len(table.column_names))


def test_deleted_rows_of_sequences_stay_deleted_without_a_jvm(lake: Lake):
    """`sequences` has deletion vectors: its files hold rows that are gone."""
    def history(user: str, n: int) -> dict:
        return {"user_id": user, "n_events": n} | {c.name: [] for c in SEQUENCES.columns if c.type.startswith("array")}

    # one file, so that ann's old row stays in it beside bob's
    lake.append(tiny_warehouse.frame(lake, SEQUENCES, [history("ann", 3), history("bob", 1)]), SEQUENCES, {})
    lake.merge(tiny_warehouse.frame(lake, SEQUENCES, [history("ann", 4)]), SEQUENCES, {})
    with views.connect(lake.root) as con:
        assert sorted(con.sql("SELECT user_id, n_events FROM sequences").fetchall()) == [("ann", 4), ("bob", 1)]
        files = [str(p) for p in Path(lake.path(SEQUENCES)).glob("*.parquet")]
        assert con.sql("SELECT count(*) FROM read_parquet(?)", params=[files]).fetchall() == [(3,)]   # else this test shows nothing


# ---- what the documentation shows is run

@pytest.fixture
def beside_warehouse(warehouse: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `warehouse` in it, as in the repository after `make nightly`; the session is the tests' own."""
    (tmp_path / "warehouse").symlink_to(warehouse.root)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr("recs.session.start", lambda app: warehouse.spark)
    return tmp_path


def shown(code: str, names: dict) -> object:
    """Run a cell in `names`; the value of its last line, as a notebook would show it."""
    tree = ast.parse(code)
    assert isinstance(tree.body[-1], ast.Expr), f"this shows nothing:\n{code}"
    exec(compile(ast.Module(tree.body[:-1], []), "cell", "exec"), names)    # noqa: S102
    return eval(compile(ast.Expression(tree.body[-1].value), "cell", "eval"), names)    # noqa: S307


def blocks(language: str) -> list[str]:
    page = (REPO / "docs" / "query.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


def test_the_python_of_the_query_page_runs(beside_warehouse: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(beside_warehouse)
    names: dict = {}
    for code in blocks("python"):
        found = shown(code, names)
        assert found is None or len(found) > 0, code    # Spark's show() prints
    assert len(blocks("python")) == 11


@pytest.mark.parametrize("sql", blocks("sql"))
def test_the_sql_of_the_query_page_says_the_same_in_both(sql: str, warehouse: Lake, con):
    in_spark, without_jvm = warehouse.spark.sql(sql).toArrow(), con.sql(sql).to_arrow_table()
    assert in_spark.num_rows > 0
    assert in_spark.to_pylist() == without_jvm.to_pylist()      # in the same order: every example sorts all it shows


WITH_SPARK = [p for p in sorted((REPO / "notebooks").glob("*.ipynb")) if '"spark"' in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_SPARK, ids=lambda p: p.stem)
def test_notebooks_with_spark_run(path: Path, beside_warehouse: Path, monkeypatch: pytest.MonkeyPatch):
    """The code cells in order, by plain exec; all notebooks without their cells of Spark: tests/report/test_analyst.py."""
    monkeypatch.chdir(beside_warehouse / "notebooks")
    names: dict = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            code = "".join(cell["source"])
            assert len(shown(code, names)) > 0, code


def test_some_notebook_shows_spark():
    assert len(WITH_SPARK) > 0
