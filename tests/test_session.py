"""What a person is told when Spark cannot start."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recs.config import SparkConfig
from recs.session import DELTA_PACKAGE, SessionError, check_java, start

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that puts a `java` of some version where Spark would look for it."""
    def put(banner: str | None) -> None:
        (tmp_path / "bin").mkdir()
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        if banner:
            program = tmp_path / "bin" / "java"
            program.write_text(f"#!/bin/sh\necho '{banner}' >&2\n")
            program.chmod(0o755)

    return put


def test_a_java_of_today_is_taken(java):
    java('openjdk version "21.0.4" 2024-07-16')
    assert check_java() == "21"


@pytest.mark.parametrize(("banner", "said"), [
    (None, "Java is missing"), ('java version "1.8.0_402"', "is Java 1:"), ('openjdk version "11.0.2"', "is Java 11:"),
    ("no such thing", "is Java ?:"),
])
def test_a_missing_or_wrong_java_is_explained_with_the_command(java, banner, said):
    java(banner)
    with pytest.raises(SessionError, match="apt-get install openjdk-17") as e:
        start("test", SparkConfig())
    assert said in str(e.value)


def test_a_folder_without_jars_is_named(tmp_path: Path):
    with pytest.raises(SessionError, match=str(tmp_path)):
        start("test", SparkConfig(jars_dir=str(tmp_path)))


@pytest.mark.slow
def test_a_submit_without_delta_is_told_the_flag(tmp_path: Path):
    submit = [Path(sys.executable).with_name("spark-submit"), "--master", "local[1]", ROOT / "jobs" / "sessionize.py"]
    env = os.environ | {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    env.pop("PYSPARK_SUBMIT_ARGS", None)
    args = ["--config", "tiny", "--root", tmp_path / "lake", "--as-of", "2024-03-31T00:00:00Z"]
    said = subprocess.run([*submit, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, check=False)
    assert said.returncode == 2 and f"recs: this session has no Delta: add `--packages {DELTA_PACKAGE}`" in said.stdout
    assert "Traceback" not in said.stdout
