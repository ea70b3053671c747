"""What is installed: one import name, and in it everything the jobs need (docs/decisions/0001-one-import-name.md)."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
# folder in the repository -> where its files lie in the wheel
ROOMS = {"recs": "recs", "schemas": "recs/schemas", "jobs": "recs/jobs", "configs": "recs/configs", "sql": "recs/sql"}
SHIPPED = {
    "recs": ("*.py", "*.j2", "*.css"), "schemas": ("*.py",), "jobs": ("*.py",), "configs": ("*.py", "*.yaml"), "sql": ("*.py", "*.sql"),
}


def files_to_ship() -> set[str]:
    """Every file of the rooms, by its name in the wheel."""
    return {
        f"{ROOMS[room]}/{path.relative_to(REPO / room)}"
        for room, patterns in SHIPPED.items() for pattern in patterns for path in (REPO / room).rglob(pattern)
        if "__pycache__" not in path.parts
    }


def test_every_package_on_disk_is_declared():
    declared = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    on_disk = {Path(name).parent.as_posix().replace("/", ".") for name in files_to_ship() if name.endswith("/__init__.py")}
    assert sorted(declared) == sorted(on_disk)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `pip` builds it, from a copy: a build leaves folders behind that could answer for files long gone."""
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip(f"setuptools {version('setuptools')} is too old to build with; `make setup` installs the locked one")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(REPO / room, copy / room, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(REPO / name, copy)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(copy)]
    made = subprocess.run(build, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return next(out.glob("recs-*.whl"))


@pytest.mark.slow
def test_the_wheel_claims_one_name_and_holds_every_file(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert "recs" in tops and all(top.endswith(".dist-info") for top in tops - {"recs"}) and len(tops) == 2
    assert {n for n in names if n.startswith("recs/")} == files_to_ship()
    folder = next(top for top in tops if top != "recs")
    assert zipfile.ZipFile(wheel).read(f"{folder}/top_level.txt").split() == [b"recs"]


@pytest.mark.slow
def test_the_installed_wheel_finds_its_configurations_and_views(wheel: Path, tmp_path: Path):
    target = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)], check=True)
    look = (
        "import recs, recs.schemas, recs.jobs\n"
        "from recs.config import load\n"
        "from recs.report import views\n"
        "load('default')\n"
        "assert all(views.text(v) for v in views.VIEWS)\n"
        "print(recs.__file__)"
    )
    env = os.environ | {"PYTHONPATH": str(target)}
    found = subprocess.run([sys.executable, "-c", look], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).is_relative_to(target)
