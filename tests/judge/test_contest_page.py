"""The page of a contest: a row per model with its costs, seeds as one cell, models that failed, and a plot for any number of them."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from recs.judge.comparison import Figure
from recs.report.comparison import Page
from recs.report.contest import grid, markdown, with_seeds, write

COSTS = {"parameters": 1_234_567.0, "fit_s": 605.0, "users_per_s": 1_500.0, "memory_mb": 812.4, "seeded": 1.0}


def figures_of(label: str, ndcg: float, **costs: float) -> list[Figure]:
    names = ("ndcg@10", "recall@10", "mrr@10", "precision@10", "f1@10", "diversity_category@10")
    out = [Figure(label, "", name, "", ndcg, ndcg - 0.02, ndcg + 0.03, None, 120) for name in names]
    out += [Figure(label, "", "ndcg@10", f"history={band}", ndcg, ndcg - 0.1, ndcg + 0.1, None, 30) for band in ("1", "2-4")]
    out.append(Figure(label, "", "coverage@10", "", 0.4, None, None, None, 120))
    return out + [Figure(label, "", name, "", value, None, None, None, 120) for name, value in (COSTS | costs).items()]


def page(*models: str, **costs: float) -> Page:
    found = [f for n, m in enumerate(models) for f in figures_of(m, 0.1 + 0.2 * n / len(models), **costs)]
    found += [Figure(m, models[-1], "ndcg@10", "", -0.05, -0.08, -0.01, 0.004, 120) for m in models[:-1]]
    return Page("shop, nightly", found, models, 10, {"budget": "10 min"})


def row_of(text: str, model: str) -> list[str]:
    return [cell.strip() for cell in next(line for line in text.splitlines() if f"| {model} |" in line).split("|")[1:-1]]


def test_a_row_has_the_place_the_figures_and_the_costs():
    text = markdown(page("popularity", "sasrec"), {}, 600)
    header = next(line for line in text.splitlines() if line.startswith("| # |"))
    assert row_of(text, "sasrec")[:4] == ["1", "sasrec", "0.2000 [0.1800, 0.2300]", ""]
    last = row_of(text, "popularity")
    assert last[:4] == ["2", "popularity", "0.1000 [0.0800, 0.1300]", "-0.0500 [-0.0800, -0.0100] p 0.004"]
    assert last[-4:] == ["1,234,567", "10 min 05 s", "1,500", "812 MB"]
    for name in ("recall@10", "mrr@10", "precision@10", "f1@10", "coverage@10", "diversity_category@10"):
        assert f" {name} " in header
    assert "## ndcg@10 by history" in text and "## Difference to sasrec" in text


@pytest.mark.parametrize(("seconds", "shown"), [(3.24, "3.2 s"), (42.0, "42 s"), (659.0, "10 min 59 s"), (661.0, "11 min 01 s †")])
def test_a_fit_beyond_its_budget_is_marked(seconds: float, shown: str):
    assert row_of(markdown(page("a", fit_s=seconds), {}, 600), "a")[-3] == shown


def test_a_model_without_a_measurement_has_an_empty_cell():
    bare = page("a")
    bare = replace(bare, figures=[f for f in bare.figures if f.name != "memory_mb"])
    assert row_of(markdown(bare, {}, 600), "a")[-1] == ""


def test_failed_models_stand_last_and_cannot_break_the_table():
    text = markdown(page("a"), {"b": "ValueError: x | y"}, 600)
    assert row_of(text, "b")[:3] == ["", "b", "failed: ValueError: x / y"] and len(row_of(text, "b")) == len(row_of(text, "a"))
    alone = markdown(Page("shop", [], [], 10, {}), {"b": "ValueError: x"}, 600)
    assert row_of(alone, "b")[2] == "failed: ValueError: x"


def test_seeds_are_slices_of_their_model():
    found = [f for label, ndcg in (("a", 0.10), ("a seed 2", 0.14), ("a seed 3", 0.12), ("b", 0.2)) for f in figures_of(label, ndcg)]
    told = with_seeds(found, {"a": ["a", "a seed 2", "a seed 3"], "b": ["b"]}, "ndcg@10")
    assert {f.model for f in told} == {"a", "b"}
    of = {f.slice: f for f in told if f.model == "a" and f.name == "ndcg@10"}
    assert {s: f.value for s, f in of.items() if s.startswith("seed=")} == {"seed=1": 0.10, "seed=2": 0.14, "seed=3": 0.12}
    assert (of["seeds=3"].value, of["seeds=3"].low, of["seeds=3"].high) == (pytest.approx(0.12), 0.10, 0.14)
    assert of[""].value == 0.10 and not any(f.slice.startswith("seed") for f in told if f.model == "b")
    keys = [(f.model, f.versus, f.name, f.slice) for f in told]
    assert len(keys) == len(set(keys))
    text = markdown(Page("shop", told, ["a", "b"], 10, {}), {}, 600)
    assert "0.1200 ± 0.0200 (3)" in row_of(text, "a") and row_of(text, "b")[4] == ""


@pytest.mark.parametrize("n", [1, 15])
def test_plots_and_terminal_come_out_whatever_the_number_of_models(tmp_path: Path, n: int):
    shown = page(*(f"interest_dynamics_{i}" for i in range(n)), **({"parameters": 0.0} if n == 1 else {}))
    write(shown, {}, 600, tmp_path)
    assert all((tmp_path / f"compare.{kind}").stat().st_size > 1_000 for kind in ("png", "svg"))
    console = Console(width=80, record=True)
    console.print(grid(shown, {"z": "ValueError: x"}, 600))
    said = console.export_text()
    assert "interest_dynamics_0" in said and "failed:" in said and "1,500" in said and "…" not in said
