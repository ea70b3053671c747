"""Is this machine fit for a night?  Each thing that a night needs, what was found, and the remedy where it is not right.

reads   this machine, the configuration, the tables under --root (nothing is started and nothing written)

    recs doctor
    recs doctor --config my.yaml --root /data/recs

Exit code 2 when something has to be mended; what is only worth knowing (an extra that is not there) does not count.
"""
from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from recs.config import Config, ConfigError
from recs.jobs._cli import BAD_INPUT, load, parser, run_job
from recs.models import model_class
from recs.nn.text import HASHED
from recs.report.show import newest_run_date
from recs.report.views import connect
from recs.session import SessionError, check_java

LEAST_GB, LEAST_DISK_GB = 6, 5
EXTRAS = {"torch": "train", "petastorm": "train", "lightgbm": "trees", "transformers": "lm"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `well` None: worth knowing, no fault."""

    what: str
    found: str
    well: bool | None = True
    remedy: str = ""


def findings(config: str, root: str) -> Iterator[Finding]:
    """All of them, in the order in which a night would meet them."""
    yield _python()
    yield _java()
    for package in ("pyspark", "delta-spark", "deltalake", "pyarrow", "pandas"):
        yield _package(package, "spark", needed=True)
    yield from _jars()
    for package, extra in EXTRAS.items():
        yield _package(package, extra, needed=False)
    yield _device()
    yield from _memory()
    try:
        known: Config | None = load(config)
        yield Finding("configuration", f"{config}: log {known.log.name}, models {', '.join(known.models)}")
    except (ConfigError, ValueError) as e:
        known = None
        yield Finding("configuration", str(e).splitlines()[0], False, "mend the line it names, or name another with --config")
    if known:
        yield from _wanted(known)
    yield from _root(root)


def _python() -> Finding:
    have = ".".join(map(str, sys.version_info[:3]))
    remedy = "install 3.11 or newer: apt-get install python3.11 python3.11-venv"
    return Finding("Python", f"{have} at {sys.executable}", sys.version_info >= (3, 11), remedy)


def _java() -> Finding:
    try:
        return Finding("Java", f"version {check_java()}")
    except SessionError as e:
        problem, _, remedy = str(e).partition("; ")
        return Finding("Java", problem, False, remedy)


def _package(name: str, extra: str, needed: bool) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "not installed", False if needed else None, f"pip install 'recs[{extra}]'")


def _jars() -> Iterator[Finding]:
    folder = os.environ.get("RECS_JARS_DIR")
    if folder:
        n = len(list(Path(folder).glob("*.jar")))
        yield Finding("Delta's jars", f"{n} in {folder}", n > 0, "copy Delta's three jars there, or unset RECS_JARS_DIR")
        return
    cached = list(Path.home().glob(".ivy2*/jars/io.delta_delta-spark*.jar"))
    yield Finding("Delta's jars", "cached" if cached else "fetched at the first start", True if cached else None,
                  "without network: put them into a folder and name it in RECS_JARS_DIR")


def _device() -> Finding:
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return Finding("device", "no torch: simple models only", None, "pip install 'recs[train]'")
    devices = sorted(str(p) for p in Path("/dev").glob("nvidia[0-9]*"))
    return Finding("device", f"{len(devices)} GPU" if devices else f"CPU, {os.cpu_count()} cores (torch {torch})")


def _memory() -> Iterator[Finding]:
    gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = f"a night wants {LEAST_GB} GB: lower spark.driver_memory, or take another machine"
    yield Finding("memory", f"{gb:.0f} GB", gb >= LEAST_GB, remedy)


def _wanted(config: Config) -> Iterator[Finding]:
    """What the configured models and texts need beside the basics; silent where it is there."""
    if any(model_class(name).trains for name in config.models):
        for package in ("torch", "petastorm"):
            found = _package(package, "train", needed=True)
            if not found.well:
                yield found
    if config.text and config.text.model != HASHED:
        there = Path(config.text.model).is_dir()
        yield Finding("text model", f"{config.text.model}{'' if there else ': no folder here'}", there or not config.text.offline,
                      "name a folder with config.json, weights and tokenizer, or set text.offline: false to ask the hub")


def _root(root: str) -> Iterator[Finding]:
    if "://" in root:
        yield Finding("tables", f"{root}: a URL, not looked at", None)
        return
    folder = next(p for p in (Path(root).resolve(), *Path(root).resolve().parents) if p.exists())
    yield Finding("tables", f"{root} can be written" if os.access(folder, os.W_OK) else f"{root}: {folder} cannot be written",
                  os.access(folder, os.W_OK), "choose another --root, or change who owns the folder")
    free = shutil.disk_usage(folder).free / 1e9
    remedy = "recs clean removes what no kept night needs, recs compact old versions"
    yield Finding("disk", f"{free:,.0f} GB free", free >= LEAST_DISK_GB, remedy)
    try:
        yield Finding("newest lists", str(newest_run_date(connect(root), "main")))
    except (ValueError, RuntimeError):
        yield Finding("newest lists", "none yet", None, "recs night makes them")


def main(argv: list[str] | None = None) -> int:
    """The command."""
    args = parser(__doc__).parse_args(argv)

    def body() -> int:
        found = list(findings(args.config, args.root))
        grid = Grid(box=None, header_style="bold")
        for column in ("", "what", "found", "remedy"):
            grid.add_column(column, overflow="fold")
        for f in found:
            mark = {True: "[green]ok[/]", False: "[red]mend[/]", None: "[dim]-[/]"}[f.well]
            grid.add_row(mark, f.what, f.found, "" if f.well else f.remedy)
        Console().print(grid)
        return BAD_INPUT if any(f.well is False for f in found) else 0

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
