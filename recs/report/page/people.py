"""Ten users to look at: what they did lately, the list they have, and why each item stands there.

Users with short and long histories take turns, picked by a hash of the id so that mostly the same ones show up night after night; the last
place is kept for somebody without a list of their own.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from recs.clock import ClockError, parse_zone

from ..phrases import Phrases
from ..sentences import names_of, reason_sentence
from ..show import Row, ShowError, rows
from ..told import told_rows
from .facts import Night

if TYPE_CHECKING:
    import duckdb

# histories as `sequences` has them now; users it does not know come first
OWN = """
    WITH own AS (
        SELECT r.user_id, coalesce(s.n_events, 0) AS n FROM recommendations AS r LEFT JOIN sequences AS s ON s.user_id = r.user_id
        WHERE r.run_date = $run_date AND r.list_name = $list_name AND r.audience = 'user' AND r.rank = 1
    ), banded AS (SELECT user_id, CASE WHEN n < 5 THEN 0 WHEN n < 20 THEN 1 WHEN n < 100 THEN 2 ELSE 3 END AS band FROM own),
    placed AS (SELECT *, row_number() OVER (PARTITION BY band ORDER BY md5(user_id)) AS turn FROM banded)
    SELECT user_id FROM (SELECT * FROM placed ORDER BY turn, band LIMIT $n) ORDER BY band, turn"""
# somebody who did something before, is not opted out, and has no list of their own
DORMANT = """
    SELECT s.user_id FROM sequences AS s
    LEFT JOIN user_segments AS u ON u.user_id = s.user_id AND u.segment_until IS NULL
    WHERE NOT coalesce(u.opt_out, false) AND s.user_id NOT IN (
        SELECT user_id FROM recommendations WHERE run_date = $run_date AND list_name = $list_name AND audience = 'user')
    ORDER BY md5(s.user_id) LIMIT $n"""
PAST = """
    WITH mine AS (
        SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY ts DESC, source_seq DESC, event_id DESC) AS back,
            count(*) OVER (PARTITION BY user_id) AS n_events
        FROM events WHERE user_id IN (SELECT unnest($users)) AND ts < $as_of
    )
    SELECT m.user_id, m.item_id, m.event_type, m.ts, m.back, m.n_events, t.title
    FROM mine AS m
    LEFT JOIN item_titles AS t ON t.item_id = m.item_id
        AND (t.title_from IS NULL OR t.title_from <= m.ts) AND (t.title_until IS NULL OR m.ts < t.title_until)
    WHERE m.back <= $n ORDER BY m.user_id, m.back"""


@dataclass(frozen=True)
class Listed:
    """One item in a list, in words."""

    rank: int
    name: str
    why: str
    source: str
    event: tuple[str, datetime] | None      # item and instant of the event behind it


@dataclass(frozen=True)
class Person:
    """One user: newest events first, the list by rank."""

    user_id: str
    whose: str              # `user`: a list of their own; else whose list it is
    zone: ZoneInfo
    n_events: int           # before the cut
    past: tuple[Row, ...]   # item_id, name, event_type, did (the type as a verb), ts; the newest ones
    listed: tuple[Listed, ...]
    serve_at: datetime


def people_of(
    con: duckdb.DuckDBPyConnection, night: Night, phrases: Phrases, zone: str, n: int = 10, items: int = 8, events: int = 60,
) -> list[Person]:
    """Up to `n` users of the night whose lists stand; none where nothing was published yet."""
    if night.standing is None:
        return []
    at = {"run_date": night.standing, "list_name": night.list_name}
    own = [r["user_id"] for r in rows(con, OWN, n=n, **at)]
    dormant = [r["user_id"] for r in rows(con, DORMANT, n=max(n - len(own), 1), **at)]
    users = [*own[: n - len(dormant[:1])], *dormant][:n]
    lists = {}
    for user in users:
        try:
            lists[user] = told_rows(con, user, night.list_name, night.standing)[:items]
        except ShowError:       # no segment's list either
            continue
    past: dict[str, list[Row]] = {user: [] for user in lists}
    if lists:
        as_of = next(iter(lists.values()))[0]["scored_as_of"]
        for r in rows(con, PAST, users=list(lists), as_of=as_of, n=events):
            past[r["user_id"]].append(r | {"name": names_of([r], phrases)[0], "did": phrases.verb(r["event_type"])})
    return [_person(user, lists[user], past[user], phrases, zone) for user in lists]


def _person(user: str, listed: Sequence[Row], past: Sequence[Row], phrases: Phrases, zone: str) -> Person:
    first = listed[0]
    whose = "user" if first["audience"] == "user" else f"everybody in {first['user_id']!r}"
    told = tuple(
        Listed(r["rank"], names_of([r], phrases)[0], reason_sentence(r, phrases, zone), r["source"],
               (r["evidence_item_id"], r["evidence_ts"]) if r["evidence_ts"] else None)
        for r in listed)
    return Person(user, whose, _zone(first["zone"] or zone), past[0]["n_events"] if past else 0, tuple(past), told, first["serve_at"])


def _zone(name: str) -> ZoneInfo:
    try:
        return parse_zone(name)
    except ClockError:      # a user's row may hold anything; the page must not fail on it
        return ZoneInfo("UTC")
