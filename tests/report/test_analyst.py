"""What analysts do, without a JVM: views in DuckDB and polars, lists in words, pictures, notebooks.

`make test-analyst` runs this file in the analysts' own environment (requirements-analyst.txt), which has neither Spark nor torch.
"""
from __future__ import annotations

import ast
import json
import re
from datetime import date, datetime
from pathlib import Path

import pytest
import tiny_warehouse
from rich.console import Console
from test_views import EXPECTED, same_rows, shown

from recs.report import pictures, views
from recs.report.phrases import phrases_of
from recs.report.show import ShowError
from recs.report.told import told_rows, user_words

REPO = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
LAST = tiny_warehouse.LAST


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place") / "warehouse"
    tiny_warehouse.write_without_spark(folder)
    return folder


@pytest.fixture
def con(root: Path):
    with views.connect(root) as con:
        yield con


@pytest.mark.parametrize("view", EXPECTED)
def test_duckdb_and_polars_agree(view: str, root: Path, con):
    columns, rows = EXPECTED[view]
    in_duckdb = con.sql(f"FROM {view}").to_arrow_table()
    same_rows(in_duckdb, columns, rows)
    same_rows(views.scan(root)[view].collect().to_arrow().cast(in_duckdb.schema), columns, rows)


def test_what_polars_cannot_say_is_asked_of_duckdb(root: Path, monkeypatch: pytest.MonkeyPatch):
    moving = "SELECT user_id, rank, stddev_samp(score) OVER (ORDER BY user_id, rank ROWS 1 PRECEDING) AS s FROM current_lists"
    known = views.text
    monkeypatch.setattr(views, "VIEWS", (*views.VIEWS, "moving"))
    monkeypatch.setattr(views, "text", lambda view: moving if view == "moving" else known(view))
    assert views.scan(root)["moving"].collect().shape == (8, 3)


# ---- lists in words

def words(root: Path, user: str, **other) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))      # noqa: SIM115, PTH123
    asked = {"list_name": "main", "run_date": None, "limit": 20, "language": "en", "zone": "UTC", "polish": None} | other
    console.print(user_words(root, user, **asked))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def test_a_list_is_shown_as_its_user_reads_it(root: Path):
    assert words(root, "ann") == (      # 05:00 UTC is 13:00 in Shanghai, where ann lives by now; the last of the tie was the purchase
        "Recommended for you: Mug, Sencha, item lid\n"
        "1  Mug       Because you bought Green tea on Wednesday afternoon\n"
        "2  Sencha    Because you bought it on Wednesday afternoon\n"
        "3  item lid  Because it suits your taste")
    assert words(root, "ann", run_date=date(2024, 3, 1), language="zh", limit=2) == (       # then in New York: midnight there
        "推荐给您的商品有：Green tea、Mug\n"
        "1  Green tea  因为你前天凌晨购买了它\n"
        "2  Mug        因为你前天凌晨购买了Green tea")
    assert words(root, "bob").splitlines()[0] == "Recommended for you: Sencha, Mug"         # dormant: everybody's list


def test_a_user_whose_row_names_no_zone_takes_the_one_given(root: Path):
    night = {"run_date": date(2024, 3, 1), "limit": 1}
    assert "Because you viewed Tea pot 8 weeks ago" in words(root, "bob", **night, zone="Asia/Tokyo")
    with pytest.raises(ShowError, match="opted out"):
        words(root, "fay")
    with pytest.raises(ValueError, match="not a time zone"):
        words(root, "bob", zone="Mars/Olympus")


def test_rows_to_tell_have_the_event_behind_them(con):
    rows = told_rows(con, "ann", "main", LAST)
    assert [(r["evidence_type"], r["zone"]) for r in rows] == [
        ("purchase", "Asia/Shanghai"), ("purchase", "Asia/Shanghai"), (None, "Asia/Shanghai")]


def test_the_page_about_words_says_what_comes_out(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root.parent)
    page = (REPO / "docs" / "sentences.md").read_text(encoding="utf-8")
    names: dict = {}
    found = [shown(code, names) for code in re.findall(r"```python\n(.*?)```", page, re.S)]
    assert list(found[0]["sentence"]) == [
        "Because you bought Green tea on Wednesday afternoon", "Because you bought it on Wednesday afternoon",
        "Because it suits your taste"]
    assert found[1] == "推荐给您的商品有：Mug、Sencha、商品lid"
    assert found[2] == ast.literal_eval(re.findall(r"```text\n(.*?)```", page, re.S)[0])


def test_the_phrases_the_page_shows_are_phrases(tmp_path: Path):
    page = (REPO / "docs" / "sentences.md").read_text(encoding="utf-8")
    (shown_file,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "mine.yaml").write_text(shown_file, encoding="utf-8")
    assert phrases_of(tmp_path / "mine.yaml").verb("view") == "looked at"


# ---- pictures

def drawn(figure) -> list[str]:
    """All texts of a figure, those that are seen."""
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def test_the_picture_of_a_user_joins_events_and_items(con):
    figure = pictures.user_picture(con, "ann")
    (axis,) = figure.axes
    assert "ann, Sunday 03 March 2024 (Asia/Shanghai time)" in drawn(figure)
    assert "1  Mug\n     Because you bought Green tea on Wednesday afternoon" in drawn(figure)
    assert [t.get_text() for t in axis.get_yticklabels()] == ["cart", "purchase", "view"]
    assert sum(len(c.get_offsets()) for c in axis.collections) == 6          # ann's events before the cut
    joined = [line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] == datetime(2024, 2, 28, 13)]
    assert len(joined) == 2                                                  # mug and tea, from the purchase at 13:00 in Shanghai
    assert "bob: the list shared by all, Sunday 03 March 2024 (UTC time)" in drawn(pictures.user_picture(con, "bob"))
    assert "no event before the night" in drawn(pictures.user_picture(con, "dee"))


def test_the_picture_of_nights_shows_figures_and_gaps(con):
    figure = pictures.nights_picture(con)
    lists, catalogue, fallback, mix = figure.axes
    assert list(lists.lines[0].get_ydata()) == [2, 2] and list(lists.lines[0].get_xdata()) == [0, 2]    # the held night lies between
    assert list(catalogue.lines[0].get_ydata()) == [3 / 5, 4 / 5] and list(fallback.lines[0].get_ydata()) == [1 / 5, 2 / 5]
    assert [t.get_text() for t in mix.get_xticklabels()] == ["Fri 01 Mar", "Sat 02 Mar", "Sun 03 Mar"]
    assert " held" in drawn(figure)
    assert sum(bar.get_height() for bar in mix.patches if bar.get_x() < 1 and bar.get_height() < 1) == pytest.approx(1)


def test_pictures_are_written_as_png(con, tmp_path: Path):
    for name, figure in (("nights", pictures.nights_picture(con)), ("user", pictures.user_picture(con, "ann"))):
        figure.savefig(tmp_path / f"{name}.png", dpi=50)
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == figure._repr_png_()[:4] == b"\x89PNG"


# ---- notebooks

def cells(path: Path) -> list[dict]:
    return [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run_and_only_show(path: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The code cells in order, by plain exec; those that need Spark are run by test_views.py."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "warehouse").symlink_to(root)
    monkeypatch.chdir(tmp_path / "notebooks")
    names: dict = {}
    for cell in cells(path):
        code = "".join(cell["source"])
        assert cell["outputs"] == [] and cell["execution_count"] is None, "strip the outputs"
        assert not re.search(r"^\s*(def|class) ", code, re.M), "a notebook imports; what is worth defining belongs into recs/"
        if "spark" not in cell["metadata"].get("tags", []):
            found = shown(code, names)
            assert getattr(found, "axes", None) or len(found) > 0, code      # a picture, or rows


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run_in_a_kernel(path: Path, root: Path, tmp_path: Path):
    """As an analyst runs them; only where Jupyter is installed: in the analysts' environment."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "warehouse").symlink_to(root)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [c for c in notebook.cells if "spark" not in c.metadata.get("tags", [])]
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path / "notebooks"}}).execute()
    kinds = {kind for c in notebook.cells if c.cell_type == "code" for o in c.outputs for kind in o.get("data", {})}
    assert "text/html" in kinds or "text/plain" in kinds
    assert "image/png" in kinds or path.stem.startswith("01")      # pictures are pictures


