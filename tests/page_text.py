"""A page as a reader has it, for tests."""
from __future__ import annotations

from html.parser import HTMLParser


class Text(HTMLParser):
    """The page as a reader has it: words by section, every address it would load, every tag."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.sections: dict[str, str] = {"": ""}
        self.at, self.skip, self.tags, self.loads = "", False, set(), []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.add(tag)
        self.loads += [v for k, v in named.items() if k in ("src", "href", "xlink:href", "srcset", "data", "action") and v]
        self.skip = tag in ("style", "title")
        if tag == "section":
            self.at = named.get("id", "")
            self.sections.setdefault(self.at, "")

    def handle_endtag(self, tag):
        self.skip = False
        if tag == "section":
            self.at = ""

    def handle_data(self, data):
        if not self.skip:
            self.sections[self.at] += " " + data

    def of(self, section: str) -> str:
        """Its words, with single blanks."""
        return " ".join(self.sections[section].split())
