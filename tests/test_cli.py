"""The command `recs` to a person who types: contents, what was meant, and what TAB offers."""
from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recs.jobs import completion, evaluate, release
from recs.jobs.cli import STAGES, app

REPO = Path(__file__).resolve().parents[1]


def test_every_job_is_a_command():
    jobs = {p.stem for p in (REPO / "jobs").glob("[a-z]*.py") if "def main(" in p.read_text()}
    assert jobs == {module for _, module, *_ in STAGES}


def test_help_is_a_table_of_contents():
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).output
    panels = re.findall(r"^╭─ ([^─]+) ─", said, re.MULTILINE)
    assert panels == ["Options", "The night and its lists", "Decisions", "Models", "Stages of the night, in order", "Housekeeping"]
    # a command is a line: what it does is said in one
    assert len(re.findall(r"^│ [a-z][a-z-]+ +[A-Z].*[.?] +│$", said, re.MULTILINE)) == len(STAGES) + 3


@pytest.mark.parametrize(("typed", "meant"), [
    (["release", "2024-03-31", "--raeson", "x"], "--raeson: did you mean --reason?"),
    (["evaluate", "--night=3"], "--night: did you mean --nights?"),
    (["release", "2024-03-31", "--reason", "x", "--xyzzy"], "--xyzzy: "),
])
def test_an_unknown_option_names_the_nearest(typed: list[str], meant: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        {"release": release, "evaluate": evaluate}[typed[0]].main(typed[1:])
    assert stopped.value.code == 2 and f"no option {meant}" in capsys.readouterr().err


def test_an_unknown_command_names_the_nearest():
    # rich breaks lines where it likes
    said = " ".join(CliRunner().invoke(app, ["ingets"]).output.split())
    assert "Did you mean 'ingest'" in said


def test_bash_completes_commands_options_and_values():
    asked = """
    try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _recs; echo "${COMPREPLY[*]}"; }
    try recs ni; try recs evaluate --r; try recs evaluate --refit ""
    try recs night --config ti; try recs show ann --l; try recs night --input x
    """
    done = subprocess.run(["bash", "-c", completion.script("bash") + asked], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["night nights", "--root --refit", "never nightly weekly", "tiny", "--list --limit", ""]
    assert done.stderr == ""
