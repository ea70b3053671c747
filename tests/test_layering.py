"""airflow_dags -> (command line) -> jobs -> recs -> schemas, one way only; and each runtime has its home."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
# room -> what it must not import (as installed: jobs and schemas live inside `recs`)
FORBIDDEN = {
    "schemas": {"recs", "pyspark", "delta", "torch", "pandas", "numpy"},
    "recs": {"recs.jobs", "airflow"},
    "recs/evidence": {"pyspark", "delta", "torch", "recs.tables", "recs.etl", "recs.serve"},
    "recs/models": {"pyspark", "delta", "recs.tables", "recs.etl", "recs.serve"},
    "recs/etl": {"torch", "delta", "recs.models", "recs.serve"},
    "recs/nn": {"pyspark", "delta", "recs.tables", "recs.etl", "recs.serve", "recs.models"},
    "recs/serve": {"recs.etl", "petastorm"},
    "jobs": {"torch", "petastorm", "transformers", "delta", "airflow"},
    "airflow_dags": {"recs", "pyspark", "torch"},
}


def imported(path: Path, room: str) -> set[str]:
    """Every dotted name the file imports, relative imports made absolute; imports for type checkers do not count."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(n) for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", getattr(node.test, "attr", "")) == "TYPE_CHECKING"
        for n in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(REPO).with_suffix("").parts[: -node.level] if node.level else ()
            base = ".".join((*package, node.module or "")).strip(".")
            names |= {base} | {f"{base}.{a.name}" for a in node.names}
    return names


def violations(room: str, path: Path) -> list[str]:
    return sorted(
        f"{path.relative_to(REPO)} imports {name}"
        for name in imported(path, room)
        for bad in FORBIDDEN[room]
        if (name == bad or name.startswith(bad + ".")) and not (room == "schemas" and name.startswith("recs.schemas"))
    )


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_import_one_way_only(room: str):
    files = sorted((REPO / room).rglob("*.py"))
    assert [v for f in files for v in violations(room, f)] == []


def test_the_rule_catches_a_planted_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    planted = tmp_path / "recs" / "etl" / "bad.py"
    planted.parent.mkdir(parents=True)
    planted.write_text("import torch.nn\nfrom ..models import blend\n")
    monkeypatch.setattr("tests.test_layering.REPO" if __name__.startswith("tests.") else f"{__name__}.REPO", tmp_path)
    assert len(violations("recs/etl", planted)) >= 2
