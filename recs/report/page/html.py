"""From facts to one HTML file: templates beside this module, everything escaped unless it is markup already, the style inside the page."""
from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from .charts import share


def page(template: str, **facts: Any) -> str:
    """The page of a template.  A name that a template does not get is an error."""
    return _environment().get_template(template).render(style=Markup(_text("style.css")), **facts)


def plain(value: Any) -> str:
    """A number as one reads it: 1,234 or 0.1235; texts as they are, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def interval(value: float | None, low: float | None = None, high: float | None = None, signed: bool = False, digits: int = 4) -> str:
    """`0.2431 [0.2310, 0.2552]`; the sign is said of differences."""
    if value is None:
        return ""
    form = f"{'+' if signed else ''}.{digits}f"
    return f"{value:{form}}" + ("" if low is None or high is None else f" [{low:{form}}, {high:{form}}]")


def seconds(value: float) -> str:
    """`48 s`, `3 min 05 s`."""
    return f"{value:.1f} s" if value < 60 else f"{value // 60:.0f} min {value % 60:02.0f} s"


def day(value: date) -> str:
    """`Sunday 31 March 2024`."""
    return f"{value:%A} {value.day} {value:%B %Y}"


def instant(value: datetime) -> str:
    """`2024-03-31 05:00 UTC`; the connection of the views gives UTC."""
    return f"{value:%Y-%m-%d %H:%M} UTC"


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@lru_cache(1)
def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"plain": plain, "share": share, "seconds": seconds, "day": day, "instant": instant}
    made.globals["interval"] = interval
    return made
