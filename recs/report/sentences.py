"""What an end user reads beside a list, made when it is read from reason code and evidence event; no row stores it.

    reason_code repeat, evidence Mug viewed 2024-03-03 19:40 Amsterdam, read on the 6th
    en      Because you viewed it on Sunday evening
    zh      因为你周日晚上浏览了它

A row is a mapping with the columns of the view `evidence_events` (or some: `item_id` and `reason_code` at least): title, evidence_item_id,
evidence_title, evidence_type, evidence_ts, zone, serve_at.  Days and their parts are the user's own: `zone` of the row, else the one given.
An instant before NO_CLOCK is a position of a log without a clock: nothing is said about when.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from recs.clock import ClockError, parse_zone

from .phrases import PARTS, Phrases

if TYPE_CHECKING:
    import pandas as pd

NO_CLOCK = datetime(1990, 1, 1, tzinfo=UTC)     # ingest refuses earlier instants, unless a log has no clock


def reason_sentence(row: Mapping[str, Any], phrases: Phrases, zone: str = "UTC", now: datetime | None = None) -> str:
    """Why an item stands in the list; `now` is when the sentence is read (default: the row's serve_at)."""
    said = phrases.reason(str(row["reason_code"]))
    item, at = _given(row, "evidence_item_id"), _instant(row, "evidence_ts")
    if item is None or at is None:
        return said.plain
    template = said.same if item == row["item_id"] and said.same else said.event
    if template is None:
        return said.plain
    read_at = now or _instant(row, "serve_at")
    words = {
        "did": phrases.verb(_given(row, "evidence_type")),
        "item": _short(_given(row, "evidence_title"), phrases) or phrases.something,
        "when": when(at, read_at, _given(row, "zone") or zone, phrases) if read_at else "",
    }
    return _squeezed(template.format(**words))


def when(at: datetime, read_at: datetime, zone: str, phrases: Phrases) -> str:
    """The instant `at` as one says it at `read_at`: both as the calendar of the zone has them; '' for a log without a clock."""
    if at < NO_CLOCK:
        return ""
    there, here = at.astimezone(_zone(zone)), max(at, read_at).astimezone(_zone(zone))
    ago = (here.date() - there.date()).days
    part = max((p for p in PARTS if phrases.hours[p] <= there.hour), key=lambda p: phrases.hours[p], default="night")
    rule = max((d for d in phrases.days if d.since <= ago), key=lambda d: d.since)
    return rule.phrase(part).format(n=ago // rule.per, weekday=phrases.weekdays[there.weekday()], part=phrases.parts[part])


def list_sentence(rows: Iterable[Mapping[str, Any]], phrases: Phrases, limit: int = 5) -> str:
    """The first `limit` items of a list, given by rank, as one sentence; equal titles are said once."""
    names = names_of(rows, phrases, limit)
    return _squeezed(phrases.list.format(items=phrases.joined.join(names))) if names else phrases.empty


def names_of(rows: Iterable[Mapping[str, Any]], phrases: Phrases, limit: int = 5) -> list[str]:
    """What the first `limit` items are called, in their order."""
    called = (_short(_given(r, "title"), phrases) or phrases.untitled.format(item_id=r["item_id"]) for r in rows)
    return list(dict.fromkeys(called))[:limit]


def with_sentences(frame: pd.DataFrame, phrases: Phrases, zone: str = "UTC", now: datetime | None = None) -> pd.DataFrame:
    """The frame and a column `sentence`.  Rows as above; other columns pass through."""
    rows = frame.to_dict("records")
    return frame.assign(sentence=[reason_sentence(r, phrases, zone, now) for r in rows])


def _given(row: Mapping[str, Any], column: str) -> Any:
    """A value, or None where the column is missing, NULL or one of pandas' ways to say so."""
    value = row.get(column)
    if value is None or type(value).__name__ == "NAType" or value != value:      # NaN and NaT differ from themselves
        return None
    return None if value == "" else value


def _instant(row: Mapping[str, Any], column: str) -> datetime | None:
    """An instant with an offset; one without is UTC, as pandas reads Spark's."""
    value = _given(row, column)
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def _short(title: str | None, phrases: Phrases) -> str:
    """A title on one line, cut after a word where it is too long."""
    text = " ".join((title or "").split())
    if len(text) <= phrases.longest:
        return text
    blank = text.rfind(" ", 0, phrases.longest)
    return text[: blank if blank > phrases.longest // 2 else phrases.longest - 1].rstrip(" ,;:-") + "…"


def _squeezed(text: str) -> str:
    """Without the gaps that an empty word leaves."""
    return re.sub(r"\s+([,;.:!?]|$)", r"\1", re.sub(r"  +", " ", text)).strip()


@lru_cache(512)
def _zone(name: str) -> ZoneInfo:
    try:
        return parse_zone(name)
    except ClockError:      # a user's row may hold anything; the sentence must not fail on it
        return ZoneInfo("UTC")
