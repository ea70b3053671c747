"""The pages in a real browser without a screen: nothing sticks out, nothing is fetched, dark is dark, paper is paper.

Needs Debian's chromium (`make browser` installs it); skipped where there is none.
"""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
import tiny_warehouse
from tiny_warehouse import FIRST

from recs.judge.comparison import Figure
from recs.report.comparison import Page
from recs.report.page import evaluation, night

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: `make browser` installs Debian's (apt-get install chromium)")
# what the page looks like from inside: written into the page's copy, which the browser then hands back
LOOK = """<script>
addEventListener("load", () => {
  const sheet = getComputedStyle(document.body), out = [];
  const inside = (box, own) =>
    box.left >= own.left - 1 && box.right <= own.right + 1 && box.top >= own.top - 1 && box.bottom <= own.bottom + 1;
  for (const svg of document.querySelectorAll("svg")) {
    const own = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")];
    const boxes = texts.map(t => t.getBoundingClientRect()), name = svg.getAttribute("aria-label");
    texts.forEach((t, n) => {
      if (!inside(boxes[n], own)) out.push(name + ": " + t.textContent);
      for (let m = 0; m < n; m++) {
        const a = boxes[n], b = boxes[m];
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
          out.push(name + ": " + texts[m].textContent + " under " + t.textContent);
      }
    });
  }
  const unnamed = [...document.querySelectorAll("svg")].filter(s => !s.getAttribute("aria-label")).length;
  document.documentElement.dataset.look = JSON.stringify({
    wide: document.documentElement.scrollWidth - innerWidth, fetched: performance.getEntriesByType("resource").map(e => e.name),
    ground: sheet.backgroundColor, ink: sheet.color, charts: document.querySelectorAll("svg").length, sticking: out, unnamed,
    lost: [...document.querySelectorAll("nav a")].filter(a => !document.querySelector(a.getAttribute("href"))).map(a => a.textContent),
  });
});
</script>"""


def chromium(profile: Path, *flags: str) -> str:
    """What the browser prints; it may not resolve any name."""
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    asked = [
        CHROMIUM, "--headless", *root, "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND", *flags,
    ]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=300).stdout


def look(page: Path, *flags: str) -> dict:
    copy = page.with_suffix(".look.html")
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    said = chromium(page.parent / "profile", "--virtual-time-budget=5000", "--dump-dom", *flags, copy.as_uri())
    return json.loads(unescape(re.search(r'data-look="([^"]*)"', said)[1]))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("browser")
    tiny_warehouse.write_without_spark(folder / "warehouse")
    figures = [
        Figure(m, v, "ndcg@10", s, x, x - 0.02, x + 0.02, None if not v else 0.01, 40)
        for m, x in (("a_model_with_quite_a_long_name", 0.3), ("popularity", 0.1)) for v in ("", "popularity") if v != m
        for s in ("", "night=2024-03-01", "night=2024-03-02", "history=1")
    ]
    compared = Page("log, nightly", figures, ["popularity", "a_model_with_quite_a_long_name"], 10, {"refit": "weekly"})
    return {
        "night": night.write(folder / "warehouse", "main", FIRST, out=folder / "night.html"),
        "evaluation": evaluation.write(compared, folder),
    }


@pytest.mark.parametrize(("name", "charts"), [("night", 13), ("evaluation", 4)])
def test_on_a_laptop_nothing_sticks_out_and_nothing_is_fetched(pages: dict[str, Path], name: str, charts: int):
    seen = look(pages[name], "--window-size=1280,800")
    assert seen["wide"] <= 0 and seen["sticking"] == [] and seen["fetched"] == [] and seen["lost"] == [] and seen["unnamed"] == 0
    assert seen["charts"] == charts


def test_a_narrow_window_needs_no_scrolling_sideways(pages: dict[str, Path]):
    for page in pages.values():
        assert look(page, "--window-size=500,900")["wide"] <= 0


def test_dark_is_dark(pages: dict[str, Path]):
    def light(colour: str) -> float:
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765

    day = look(pages["night"], "--window-size=1280,800", "--blink-settings=preferredColorScheme=1")
    dark = look(pages["night"], "--window-size=1280,800", "--blink-settings=preferredColorScheme=0")
    assert light(day["ground"]) > 0.9 and light(day["ink"]) < 0.2
    assert light(dark["ground"]) < 0.15 and light(dark["ink"]) > 0.8


def test_paper(pages: dict[str, Path], tmp_path: Path):
    out = tmp_path / "night.pdf"
    chromium(tmp_path / "profile", "--no-pdf-header-footer", f"--print-to-pdf={out}", pages["night"].as_uri())
    printed = out.read_bytes()
    assert printed.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 6
    assert re.search(rb"/MediaBox\s*\[0 0 59[45][\d.]* 84[12]", printed)      # A4
