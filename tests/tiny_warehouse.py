"""A warehouse small enough to check by eye: two published nights' worth of lists for the fixed cast.

ann is active, bob had one session in January, cat is new; dee never did anything, fay neither and has opted out.  Night 2024-03-01
was published, 2024-03-02 held, 2024-03-03 held by the audit and released by a person; the list `mail` was made on the first night only.
"""
from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recs.report.views import duckdb_type
from recs.schemas import (
    EVENTS,
    ITEM_HOURS,
    ITEM_VOCABULARY,
    ITEMS,
    METRICS,
    NIGHTS,
    OUTCOMES,
    QUARANTINE,
    RECOMMENDATIONS,
    SEQUENCES,
    USERS,
    Table,
)
from recs.tables import Lake, predicate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FIRST, HELD, LAST = date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 3)


def at(text: str) -> datetime:
    """`2024-03-01 07:00` as an instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


TEA_DRUNK = at("2024-02-28 05:00")      # ann, earlier in the day than lists are used; tea had its first name
POT_SEEN = at("2024-01-05 09:30")       # bob, before the catalogue first names the pot

LISTS = (
    # run_date, list, audience, user, rank, item, score, source, reason, evidence
    (FIRST, "main", "user", "ann", 1, "tea", 0.9, "model", "repeat", "tea", TEA_DRUNK),
    (FIRST, "main", "user", "ann", 2, "mug", 0.5, "model", "neighbour", "tea", TEA_DRUNK),
    (FIRST, "main", "user", "ann", 3, "pot", 0.1, "model", "popular", None, None),
    (FIRST, "main", "user", "bob", 1, "mug", 0.4, "model", "neighbour", "pot", POT_SEEN),
    (FIRST, "main", "user", "bob", 2, "tea", 0.2, "fallback", "popular", None, None),
    (FIRST, "main", "segment", "all", 1, "tea", 7.0, "segment", "popular", None, None),
    (FIRST, "main", "segment", "all", 2, "pot", 3.0, "segment", "popular", None, None),
    (FIRST, "mail", "user", "ann", 1, "pot", 0.3, "model", "popular", None, None),      # current for `mail`
    (LAST, "main", "user", "ann", 1, "mug", 0.8, "model", "neighbour", "tea", TEA_DRUNK),   # up from 2
    (LAST, "main", "user", "ann", 2, "tea", 0.7, "model", "repeat", "tea", TEA_DRUNK),      # down from 1; has a new title
    (LAST, "main", "user", "ann", 3, "lid", 0.6, "model", "taste", None, None),             # entered; the pot left
    (LAST, "main", "user", "cat", 1, "tea", 0.2, "fallback", "popular", None, None),        # her first list
    (LAST, "main", "user", "cat", 2, "pot", 0.1, "fallback", "popular", None, None),
    (LAST, "main", "segment", "all", 1, "tea", 8.0, "segment", "popular", None, None),      # kept its rank; bob is dormant: this is his
    (LAST, "main", "segment", "all", 2, "mug", 4.0, "segment", "popular", None, None),
)

ITEM_ROWS = (
    # item, valid_from, title, category
    ("tea", at("2024-01-01"), "Green tea", "drinks"),
    ("tea", at("2024-03-02"), "Sencha", "drinks/green"),    # renamed between the nights
    ("mug", at("2024-01-01"), "Mug", "kitchen"),
    ("pot", at("2024-02-01"), "Tea pot", "kitchen"),
    ("lid", at("2024-03-02"), None, "kitchen"),             # no title, never met, but listed
    ("jar", at("2024-01-15"), "Glass", "kitchen"),          # never met, never listed
    ("jar", at("2024-03-02"), "Jar", "kitchen"),
)

USER_ROWS = (
    # user, valid_from, zone, segment, opt_out; cat is not in the table
    ("ann", at("2024-01-01"), "America/New_York", "north", False),
    ("ann", at("2024-03-02"), "Asia/Shanghai", "south", False),     # moved between the nights
    ("bob", at("2024-01-01"), None, None, False),
    ("dee", at("2024-03-01"), "Europe/Amsterdam", "north", False),  # a segment without a list: gets everybody's
    ("fay", at("2024-03-01"), None, None, True),
)

EVENT_ROWS = (
    # user, item, instant, event type, place in a tie
    ("ann", "pot", at("2024-01-20 18:00"), "view", 1),
    ("ann", "tea", at("2024-02-20 06:30"), "view", 1),
    ("ann", "mug", at("2024-02-26 20:15"), "view", 1),
    ("ann", "mug", at("2024-02-26 20:20"), "cart", 2),
    ("ann", "tea", TEA_DRUNK, "view", 1),
    ("ann", "tea", TEA_DRUNK, "purchase", 2),       # in the same second as the view: the last of a tie speaks
    ("bob", "pot", POT_SEEN, "view", 1),
    ("cat", "mug", at("2024-03-02 21:00"), "view", 1),
)
REFUSED = ("ann;tea;yesterday;view", "bad_time")

NIGHT_ROWS = (
    # run_date, list, decision, by, reason, rows, decided
    (FIRST, "main", "started", "night", "", 0, at("2024-03-01 01:00")),
    (FIRST, "main", "published", "audit", "all checks passed", 7, at("2024-03-01 02:00")),
    (FIRST, "mail", "published", "audit", "all checks passed", 1, at("2024-03-01 02:01")),
    (HELD, "main", "held", "audit", "fallback_share is 0.9, limit 0.5", 6, at("2024-03-02 02:00")),
    (LAST, "main", "held", "audit", "overlap is 0.01, limit 0.02", 7, at("2024-03-03 02:00")),
    (LAST, "main", "released", "eve", "new catalogue", 7, at("2024-03-03 09:00")),
    (date(2024, 3, 4), "main", "started", "night", "", 0, at("2024-03-04 01:00")),      # killed, or still running
)


OUTCOME_ROWS = (
    # served on, night of the lists, whole, served, active, judged
    (FIRST, FIRST, True, 100, 50, 40), (HELD, FIRST, True, 100, 50, 40), (LAST, LAST, False, 110, 20, 10),
)

FIGURE_ROWS = (
    # served on, model, versus, name, slice, value, low, high, p, n
    (FIRST, "published", "", "ndcg@10", "", 0.5, 0.4, 0.6, None, 40),
    (FIRST, "popularity_yesterday", "", "ndcg@10", "", 0.25, 0.2, 0.3, None, 40),
    (FIRST, "published", "popularity_yesterday", "ndcg@10", "", 0.25, 0.1, 0.4, 0.02, 40),
    (FIRST, "published", "", "ndcg@10", "segment=north=east", 0.75, 0.5, 1.0, None, 3),
    (FIRST, "published", "", "came_true@10", "", 0.2, 0.1, 0.3, None, 100),
    (HELD, "published", "", "ndcg@10", "", 0.25, 0.2, 0.3, None, 40),
    (HELD, "popularity_yesterday", "", "ndcg@10", "", 0.25, 0.2, 0.3, None, 40),
    (HELD, "published", "popularity_yesterday", "ndcg@10", "", 0.0, -0.1, 0.1, 1.0, 40),
    (LAST, "published", "", "ndcg@10", "", 0.75, 0.7, 0.8, None, 10),
)


# what a column that no test looks at holds
PLAIN = {"string": "-", "boolean": False, "int": 1, "bigint": 1, "double": 0.0, "timestamp": at("2024-03-01"), "date": FIRST}


def frame(lake: Lake, table: Table, rows: Iterable[dict]) -> DataFrame:
    """Rows given as some of the columns; the others are NULL where they may be, else something plain."""
    return lake.spark.createDataFrame(filled(table, rows), table.ddl).coalesce(1)      # one file each: a dozen rows need no more


def filled(table: Table, rows: Iterable[dict]) -> list[tuple]:
    """All columns, in their order."""
    return [tuple(r.get(c.name, None if c.nullable else PLAIN.get(c.type)) for c in table.columns) for r in rows]


def write(lake: Lake) -> None:
    """All tables of the cast, through the same calls as the jobs; one commit per published night and list."""
    for night, name in ((FIRST, "main"), (FIRST, "mail"), (LAST, "main")):
        rows = frame(lake, RECOMMENDATIONS, (list_row(r) for r in LISTS if r[:2] == (night, name)))
        lake.replace(rows, RECOMMENDATIONS, predicate(run_date=night, list_name=name), {"run_date": str(night)})
    for table, rows in facts():
        lake.append(frame(lake, table, rows), table, {})


def write_without_spark(root: Path) -> None:
    """The same rows by deltalake, for tests that need no JVM."""
    for table, rows in [(RECOMMENDATIONS, [list_row(r) for r in LISTS]), *facts()]:
        append_without_spark(root, table, rows)
    raw = root / "_demo_log" / "events" / "arrival=2024-03-01"      # where the raw log of the embedded default lies
    raw.mkdir(parents=True)
    lines = [json.dumps({"visitor": u, "item": i, "at": int(t.timestamp() * 1000), "action": kind}) for u, i, t, kind, _ in EVENT_ROWS]
    (raw / "part-00000.json").write_text("\n".join([*lines, REFUSED[0]]) + "\n")


def append_without_spark(root: Path, table: Table, rows: Iterable[dict]) -> None:
    """Further rows of a table, which need not be there yet."""
    import duckdb
    from deltalake import write_deltalake

    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"CREATE TABLE t ({', '.join(f'{c.name} {duckdb_type(c.type)}' for c in table.columns)})")
        con.executemany(f"INSERT INTO t VALUES ({', '.join('?' for _ in table.columns)})", filled(table, rows))
        arrow = con.sql("FROM t").to_arrow_table()
    write_deltalake(root / table.name, arrow, partition_by=list(table.partitions) or None, mode="append")


def facts() -> list[tuple[Table, list[dict]]]:
    """What the tables beside `recommendations` hold."""
    living = [{"item_id": item, "item_index": i} for i, item in enumerate(("tea", "mug", "pot", "lid", "jar"))]
    withdrawn = [{"item_id": "old", "item_index": 5, "tombstoned_on": date(2024, 2, 1)}]
    met = [("tea", TEA_DRUNK), ("mug", TEA_DRUNK), ("pot", POT_SEEN)]
    return [
        (ITEMS, [dict(zip(("item_id", "valid_from", "title", "category"), r, strict=True)) for r in ITEM_ROWS]),
        (USERS, [dict(zip(("user_id", "valid_from", "zone", "segment", "opt_out"), r, strict=True)) for r in USER_ROWS]),
        (NIGHTS, [_night_row(*r) for r in NIGHT_ROWS]),
        (ITEM_VOCABULARY, living + withdrawn),
        (ITEM_HOURS, [{"item_id": i, "hour": t.replace(minute=0), "n_by_type": {"view": 1}, "event_date": t.date()} for i, t in met]),
        (OUTCOMES, [_outcome_row(*r) for r in OUTCOME_ROWS]),
        (METRICS, [_figure_row(*r) for r in FIGURE_ROWS]),
        (EVENTS, [_event_row(n, *r) for n, r in enumerate(EVENT_ROWS)]),
        (QUARANTINE, [dict(zip(("raw", "reason"), REFUSED, strict=True))]),
        (SEQUENCES, [_history(user) for user in ("ann", "bob", "cat")]),
    ]


def list_row(row: tuple) -> dict:
    """A row of LISTS with the columns of `recommendations` that follow from its night."""
    names = (
        "run_date", "list_name", "audience", "user_id", "rank", "item_id", "score", "source", "reason_code", "evidence_item_id",
        "evidence_ts",
    )
    return dict(zip(names, row, strict=True)) | _instants(row[0])


def _event_row(n: int, user: str, item: str, ts: datetime, event_type: str, place: int) -> dict:
    return {
        "event_id": f"e{n}", "user_id": user, "item_id": item, "ts": ts, "event_type": event_type, "source_seq": place,
        "event_date": ts.date(),
    }


def _history(user: str) -> dict:
    """How many events and when; the arrays stay empty."""
    mine = [ts for who, _, ts, _, _ in EVENT_ROWS if who == user]
    return {"user_id": user, "n_events": len(mine), "first_ts": min(mine), "last_ts": max(mine)} | {
        c.name: [] for c in SEQUENCES.columns if c.type.startswith("array")}


def _night_row(run_date: date, list_name: str, decision: str, by: str, reason: str, n_rows: int, decided: datetime) -> dict:
    return {
        "run_date": run_date, "list_name": list_name, "decision": decision, "decided_by": by, "reason": reason, "n_rows": n_rows,
        "decided_at": decided, "audit": '{"ranks": {"ok": true}}', **_instants(run_date),
    }


def _outcome_row(served_on: date, run_date: date, is_whole: bool, n_lists: int, n_active: int, n_judged: int) -> dict:
    end = at(f"{served_on} 23:59")
    return {
        "served_on": served_on, "list_name": "main", "run_date": run_date, "is_whole": is_whole, "n_lists": n_lists, "n_active": n_active,
        "n_judged": n_judged, "n_shared": 0, "headline": "ndcg@10", "run": f"outcome-main-{served_on}",
        "used_from": at(f"{served_on} 07:00"), "used_until": end, "counted_until": end,
    }


def _figure_row(served_on: date, *facts: object) -> dict:
    names = ("model", "versus", "name", "slice", "value", "low", "high", "p", "n")
    return {"run": f"outcome-main-{served_on}", **dict(zip(names, facts, strict=True))}


def _instants(run_date: date) -> dict[str, datetime]:
    """The cut at midnight UTC, the lists used at seven."""
    midnight = datetime(run_date.year, run_date.month, run_date.day, tzinfo=UTC)
    return {"as_of": midnight, "scored_as_of": midnight, "serve_at": midnight.replace(hour=7)}
