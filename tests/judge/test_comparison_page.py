"""The page of a comparison: what it shows, in which order, and that plots of any size come out."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_text import Text

from recs.judge.comparison import Figure
from recs.report.comparison import Page, grid, markdown, tables, write
from recs.report.page import evaluation


def figure(model: str, name: str, value: float, part: str = "", versus: str = "", p: float | None = None, n: int = 120) -> Figure:
    return Figure(model, versus, name, part, value, value - 0.02, value + 0.03, p, n)


def page(models: tuple[str, ...] = ("popularity", "recent_popularity", "blend"), days: int = 3) -> Page:
    out = []
    for i, m in enumerate(models):
        out += [figure(m, name, 0.1 * (i + 1)) for name in ("ndcg@10", "recall@10", "hr@10", "novelty@10")]
        out += [figure(m, "ndcg@10", 0.1 * (i + 1) + 0.01 * d, f"night=2024-03-{d + 1:02d}", n=40) for d in range(days)]
        out += [figure(m, "ndcg@10", 0.1, f"history={band}", n=30) for band in ("100+", "5-19", "1", "20-99", "2-4")]
        out.append(Figure(m, "", "coverage@10", "", 0.4, None, None, None, 120))
        if m != models[0]:
            out.append(figure(m, "ndcg@10", 0.1 * i, versus=models[0], p=0.002))
    return Page("shop, nightly", out, models, 10, {"refit": "weekly"})


def test_the_best_stands_first_with_its_interval():
    text = markdown(page())
    quality = text.split("## Quality")[1].split("##")[0].splitlines()
    order = [line.split("|")[1].strip() for line in quality if line.startswith("| ")]
    assert order == ["model", "blend", "recent_popularity", "popularity"]
    assert "| blend | 0.3000 [0.2800, 0.3300] | 0.3000 |" in text
    assert "mrr@10" not in text             # nobody has one
    assert "- refit: weekly" in text


def test_differences_show_their_sign_interval_and_p():
    text = markdown(page()).split("## Difference to popularity")[1].split("##")[0]
    assert "| blend | +0.2000 [+0.1800, +0.2300] p 0.002 |" in text
    assert "| popularity |" not in text


def test_slices_stand_in_their_own_order_with_their_lists():
    rows = markdown(page()).split("## ndcg@10 by history")[1].strip().splitlines()
    assert [r.split("|")[1].strip() for r in rows if r.startswith("| ")] == ["history", "1", "2-4", "5-19", "20-99", "100+"]
    assert rows[2].startswith("| 1 | 30 | 0.1000 [0.0800, 0.1300] |")


@pytest.mark.parametrize(("models", "days"), [(("popularity",), 1), (tuple(f"model_{n}" for n in range(9)), 28)])
def test_plots_come_out_whatever_the_number_of_models_and_nights(tmp_path: Path, models: tuple[str, ...], days: int):
    written = write(page(models, min(days, 28)), tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"report.md", "models.png", "models.svg"} | ({"nights.png", "nights.svg"} if days > 1 else set())
    assert all(p.stat().st_size > 1_000 for p in tmp_path.iterdir() if p.suffix != ".md")
    assert "![models](models.png)" in written.read_text()


def test_a_terminal_shows_the_same(capsys):
    from rich.console import Console

    Console(width=160).print(grid(page()))
    shown = capsys.readouterr().out
    assert "0.3000 [0.2800, 0.3300]" in shown
    assert "+0.2000" in shown
    assert shown.index("blend") < shown.index("recent_popularity")


def test_a_figure_is_found_by_its_whole_key():
    p = page()
    assert p.figure("blend", "ndcg@10").value == pytest.approx(0.3)
    assert p.figure("blend", "ndcg@10", versus="popularity").value == pytest.approx(0.2)
    assert p.figure("blend", "ndcg@10", "history=7") is None


# ---- the same as HTML

def test_an_evaluation_shows_what_its_markdown_shows(tmp_path: Path):
    asked = page()
    text = evaluation.write(asked, tmp_path).read_text(encoding="utf-8")
    said = Text(text)
    words = " ".join(" ".join(said.sections.values()).split())
    assert "blend leads" in words and "NDCG@10, mean over 120 lists" in words and "0.300" in words and "0.280 to 0.330" in words
    for table in tables(asked):
        assert table.title in words
        for label, cells in zip(table.labels, table.cells, strict=True):
            assert all(cell in words for cell in (label, *cells))
    assert "+0.200 p 0.002" in words and "blend, 95 %" not in words
    assert not {"script", "img"} & said.tags and not re.search(r"https?://|url\(|@import", text)
    assert text.count("<svg") == 4      # two figures by model, the nights, one set of differences


def test_an_evaluation_of_nothing_says_so(tmp_path: Path):
    empty = Page("log, nightly", [], ["blend"], 10, {})
    assert "Nothing to judge" in evaluation.write(empty, tmp_path).read_text()
    figures = [figure("blend", "ndcg@10", 0.1), Figure("blend", "", "recall@10", "", 0.2, None, None, None, 9)]
    one = Page("<log>", figures, ["blend"], 10, {"a": "<b>"})
    text = evaluation.write(one, tmp_path).read_text()
    assert "&lt;log&gt;" in text and "<b>&lt;b&gt;" not in text and "&lt;b&gt;" in text
