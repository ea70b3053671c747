"""The documentation holds together: links and anchors lead somewhere, the site names every page, and every command shown is one."""
from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import typer
import yaml

from recs.jobs.cli import STAGES, app

REPO = Path(__file__).resolve().parents[1]
SITE = yaml.safe_load((REPO / "mkdocs.yml").read_text())
PAGES = sorted([REPO / "README.md", REPO / "airflow_dags/README.md", REPO / "benchmarks/README.md", *(REPO / "docs").rglob("*.md")])
JOBS = {name: module for name, module, *_ in STAGES}


def name_of(page: Path) -> str:
    return page.relative_to(REPO).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL))


@cache
def anchors(page: Path) -> set[str]:
    """Of the headings, as a forge makes them: lower case, punctuation gone, spaces to hyphens; and those written as HTML."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    said = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", h).replace("`", "") for h in headings]
    return {re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in said} | set(re.findall(r'(?:id|name)="([^"]+)"', text))


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead to no file, or to no heading of it."""
    out = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            out.append(f"{name_of(page)}: {link}")
    return out


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path):
    assert broken_links(page) == []


def test_a_planted_fault_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "REPO", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# One `two`: three\n[fine](#one-two-three) [gone](other.md) [wrong](page.md#four)\n```\n[code](x.md)\n```\n")
    assert broken_links(page) == ["page.md: other.md", "page.md: page.md#four"]


def in_navigation(part) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    for child in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
        yield from in_navigation(child)


def test_every_page_is_in_the_navigation_once():
    named = [p.removeprefix("repository/") if p.startswith("repository/") else f"docs/{p}" for p in in_navigation(SITE["nav"])]
    assert sorted(named) == sorted(map(name_of, PAGES))


def commands_of(page: Path) -> Iterator[list[str]]:
    """Every command line in a block of code, `recs NAME …` or `spark-submit … jobs/NAME.py …`: name and flags, without redirections."""
    for block in re.findall(r"^ *```(?:console|bash|sh)?\n(.*?)^ *```$|^((?:    .*\n)+)", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n\s*", " ", "".join(block)).splitlines():
            for one in line.split(" && "):
                if found := re.match(r"\s*(?:\$ )?(?:\S*/)?recs ([a-z].*)$|.*spark-submit .*?jobs/(\w+\.py .*)$", one):
                    name, *flags = shlex.split(re.split(r" [>&|]|;", found[1] or found[2])[0], comments=True)
                    yield [name.removesuffix(".py").replace("_", "-"), *flags]


SHOWN = [(name_of(page), words) for page in PAGES for words in commands_of(page)]


class Parsed(Exception):
    """Stands in for the job: its flags were read."""


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=[f"{page}: recs {' '.join(words)}" for page, words in SHOWN])
def test_every_command_shown_is_understood(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch):
    name, *rest = words
    if name not in JOBS:
        command = typer.main.get_command(app).commands[name]
        command.make_context(name, rest)
        return
    real = argparse.ArgumentParser.parse_known_args

    def read_only(self, *args, **more):
        real(self, *args, **more)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", read_only)
    with pytest.raises(Parsed):
        import_module(f"recs.jobs.{JOBS[name]}").main(rest)


def test_there_is_something_to_understand():
    assert {"night", "ingest", "release", "evaluate", "show", "completion"} <= {words[0] for _, words in SHOWN}
    assert all(name in JOBS or name in ("show", "nights", "outcomes", "picture") for _, (name, *_) in SHOWN)
