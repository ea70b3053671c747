"""Where a page shows what was measured: between two marks, which stay."""
from __future__ import annotations

from pathlib import Path


def put_into(page: Path, name: str, text: str) -> None:
    """Have the page say `text` between `<!-- name -->` and `<!-- /name -->`, in place of what it said there."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")
