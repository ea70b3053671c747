"""What the site needs beyond mkdocs-material: files from outside docs/, formulas, and a check of the pages as built.

    links out of docs/      ../sql/why.sql is copied to repository/sql/why.sql, a README there becomes a page; links are turned to them
    ```math                 LaTeX, rendered to MathML here: no script in the page
    javascripts/            mermaid and the search's worker, fetched once by `make docs` into .venv-docs/npm
    built pages             every link and anchor resolves; nothing is loaded from another host

The pages themselves stay plain Markdown that a forge shows too.
"""
from __future__ import annotations

import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from pymdownx.superfences import fence_code_format

REPO = Path(__file__).resolve().parents[1]
NPM = REPO / ".venv-docs" / "npm"
SCRIPTS = {"mermaid.min.js": NPM / "mermaid.min.js", "iframe-worker.js": NPM / "iframe-worker.js"}
PAGES = ("README.md", "airflow_dags/README.md", "benchmarks/README.md")      # beside those of docs/
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")      # [text](path#anchor); no scheme


def on_config(config):
    """Two kinds of fences: pictures as mermaid finds them, formulas as MathML."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "mermaid", "class": "mermaid", "format": fence_code_format})
    fences.append({"name": "math", "class": "math", "format": _mathml})
    return config


def _mathml(source: str, *_args, **_more) -> str:
    lines = [line for line in re.split(r"\n\s*\n", source) if line.strip()]
    return '<div class="math">' + "".join(convert(line.strip(), display="block") for line in lines) + "</div>"


def site_path(path: Path) -> str | None:
    """Where a file of the repository lies in the site; None for a folder."""
    if path.is_dir():
        return None
    inside = path.is_relative_to(REPO / "docs")
    return path.relative_to(REPO / "docs").as_posix() if inside else f"repository/{path.relative_to(REPO).as_posix()}"


def linked(page: Path) -> set[Path]:
    """The files that a Markdown page names."""
    return {(page.parent / unquote(m[2])).resolve() for m in LINK.finditer(page.read_text())}


def on_files(files: Files, config) -> Files:
    """Adds the scripts, the pages outside docs/ and whatever else is linked there."""
    for name, path in SCRIPTS.items():
        files.append(File.generated(config, f"javascripts/{name}", abs_src_path=str(path)))
    pages = [*(REPO / "docs").rglob("*.md"), *(REPO / p for p in PAGES)]
    wanted = {REPO / p for p in PAGES}.union(*map(linked, pages))
    for path in sorted(p for p in wanted if p.is_file() and p.is_relative_to(REPO) and not p.is_relative_to(REPO / "docs")):
        files.append(File.generated(config, site_path(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page, **_more) -> str:
    """Turns links to where the files lie in the site; a link to a folder becomes its text."""
    here, at = Path(page.file.abs_src_path).parent, posixpath.dirname(page.file.src_uri)

    def turned(m: re.Match) -> str:
        target = (here / unquote(m[2])).resolve()
        if not target.exists() or not target.is_relative_to(REPO):
            return m[0]
        there = site_path(target)
        return m[0] if there is None else f"{m[1]}{posixpath.relpath(there, at or '.')}{m[3] or ''}{m[4]}"

    without_folders = re.sub(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+/?)\)", lambda m: m[1] if (here / m[2]).is_dir() else m[0], markdown)
    return LINK.sub(turned, without_folders)


class _Built(HTMLParser):
    """Ids of a page, where it points, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.points: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.ids |= {v for k in ("id", "name") if (v := of.get(k))}
        if tag == "a" and of.get("href"):
            self.points.append(of["href"])
        elif of.get("src") or (tag == "link" and of.get("rel") != "canonical" and of.get("href")):
            self.loads.append(of.get("src") or of["href"])


def on_post_build(config, **_more) -> None:
    """PluginError when a built page points nowhere or loads something from elsewhere."""
    site = Path(config.site_dir)
    built = {p: _Built(p.read_text()) for p in site.rglob("*.html") if p.name != "404.html"}    # of /404.html every link is absolute
    faults = []
    for page, seen in built.items():
        faults += [f"{page.relative_to(site)} loads {url}" for url in seen.loads if urlsplit(url).netloc]
        for url in {*seen.points, *seen.loads}:
            link = urlsplit(url)
            if link.scheme or link.netloc:
                continue
            target = (page.parent / unquote(link.path)).resolve() if link.path else page
            anchors = built[target].ids if target in built else set()
            if not target.exists() or (link.fragment and target in built and unquote(link.fragment) not in anchors):
                faults.append(f"{page.relative_to(site)} points to {url}")
    if faults:
        raise PluginError("\n".join(["the site has faults:", *sorted(faults)]))
