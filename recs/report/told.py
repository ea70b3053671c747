"""One user's list as this user would read it: the facts from the tables without a JVM, the words from the phrases.

    recs show ann --say zh
    推荐给您的商品有：Mug、Sencha、商品lid
    1  Mug      因为你周三凌晨购买了Green tea
"""
from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text

from recs.clock import parse_zone

from .phrases import Phrases, phrases_of
from .polish import Said, polished
from .sentences import list_sentence, names_of, reason_sentence
from .show import Row, list_of, newest_run_date, rows
from .views import connect

if TYPE_CHECKING:
    import duckdb

# of events that share item and instant the last one speaks, in the order of all histories
EVENTS = """
    SELECT item_id, ts, event_type FROM events
    WHERE user_id = $user_id AND event_date BETWEEN $first AND $last ORDER BY ts, source_seq, event_id"""
ZONE = """
    SELECT zone FROM user_segments WHERE user_id = $user_id
    AND (segment_from IS NULL OR segment_from <= $serve_at) AND (segment_until IS NULL OR $serve_at < segment_until)"""
TITLES = "SELECT DISTINCT title FROM item_titles WHERE title IS NOT NULL"


def told_rows(con: duckdb.DuckDBPyConnection, user_id: str, list_name: str, run_date: date) -> list[Row]:
    """The rows of the list a user gets, by rank, with `evidence_type` and `zone` beside the columns of `show.list_of`."""
    listed, _ = list_of(con, user_id, list_name, run_date)
    zone = rows(con, ZONE, user_id=user_id, serve_at=listed[0]["serve_at"])
    types = _event_types(con, user_id, [r["evidence_ts"] for r in listed if r["evidence_ts"]])
    more = {"zone": zone[0]["zone"] if zone else None}
    return [r | more | {"evidence_type": types.get((r["evidence_item_id"], r["evidence_ts"]))} for r in listed]


def _event_types(con: duckdb.DuckDBPyConnection, user_id: str, instants: list[datetime]) -> dict[tuple[str, datetime], str]:
    if not instants:
        return {}
    found = rows(con, EVENTS, user_id=user_id, first=min(instants).date(), last=max(instants).date())
    return {(r["item_id"], r["ts"]): r["event_type"] for r in found}


def user_words(
    root: str | Path, user_id: str, list_name: str, run_date: date | None, limit: int, language: str, zone: str, polish: str | None,
) -> Group:
    """The list's sentence, then every item with its reason."""
    phrases = phrases_of(language)
    parse_zone(zone)
    con = connect(root)
    listed = told_rows(con, user_id, list_name, run_date or newest_run_date(con, list_name))[:limit]
    said = _polished(con, listed, phrases, polish) if polish else Said(list_sentence(listed, phrases), "")
    grid = Grid(box=None, show_header=False, pad_edge=False)
    for row in listed:
        grid.add_row(str(row["rank"]), names_of([row], phrases)[0], reason_sentence(row, phrases, zone))
    parts = [Text(said.text, style="bold"), grid]
    return Group(*parts, Text(f"(the model's wording was not used: {said.refused})", style="dim")) if said.refused else Group(*parts)


def _polished(con: duckdb.DuckDBPyConnection, listed: list[Row], phrases: Phrases, folder: str) -> Said:
    from recs.nn.writer import Writer

    return polished(listed, phrases, Writer(folder), others=[r["title"] for r in rows(con, TITLES)])
