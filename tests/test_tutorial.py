"""docs/tutorial.md as a reader follows it: its files are written, its commands run one after another in an empty folder."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recs.config import load
from recs.report.views import connect

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "tutorial.md").read_text()
FILES = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^\$ (.+)$", "".join(re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)), re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the tutorial's files and its log."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    subprocess.run([sys.executable, "make_loans.py"], cwd=tmp_path, check=True)
    return tmp_path


def test_files_of_the_tutorial_are_sound(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    assert load("library.yaml").log.name == "loans"
    loans = sorted((folder / "loans").glob("*.csv"))
    assert [loans[0].stem, loans[-1].stem] == ["2024-01-01", "2024-04-01"]
    # what the page shows of them is in them
    for path in (folder / "loans/2024-03-30.csv", folder / "books.csv"):
        assert "\n".join(path.read_text().splitlines()[:3]) in PAGE


@pytest.mark.slow
def test_commands_of_the_tutorial_run(folder: Path):
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in COMMANDS:
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    published = connect(folder / "warehouse").sql("SELECT DISTINCT CAST(run_date AS VARCHAR) FROM recommendations ORDER BY 1").fetchall()
    assert published == [("2024-04-01",), ("2024-04-02",)]
