"""A warehouse small enough to check by eye: two published nights' worth of lists for the fixed cast.

ann is active, bob had one session in January, cat is new.  Night 2024-03-01 was published, 2024-03-02 held, 2024-03-03 held by the
audit and released by a person; the list `mail` was made on the first night only.
"""
from __future__ import annotations

from datetime import UTC, date, datetime

from recs.schemas import ITEM_HOURS, ITEM_VOCABULARY, ITEMS, NIGHTS, RECOMMENDATIONS, USERS
from recs.tables import Lake, predicate

FIRST, HELD, LAST = date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 3)


def at(text: str) -> datetime:
    """`2024-03-01 07:00` as an instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


TEA_DRUNK = at("2024-02-28 20:00")      # ann, after the catalogue first names tea
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
    ("jar", at("2024-03-02"), "Jar", "kitchen"),            # never met, never listed
)

USER_ROWS = (
    # user, valid_from, segment; cat is not in the table
    ("ann", at("2024-01-01"), "north"),
    ("ann", at("2024-03-02"), "south"),     # moved between the nights
    ("bob", at("2024-01-01"), None),
)

NIGHT_ROWS = (
    # run_date, list, decision, by, reason, rows, decided
    (FIRST, "main", "published", "audit", "all checks passed", 7, at("2024-03-01 02:00")),
    (FIRST, "mail", "published", "audit", "all checks passed", 1, at("2024-03-01 02:01")),
    (HELD, "main", "held", "audit", "fallback_share is 0.9, limit 0.5", 6, at("2024-03-02 02:00")),
    (LAST, "main", "held", "audit", "overlap is 0.01, limit 0.02", 7, at("2024-03-03 02:00")),
    (LAST, "main", "released", "eve", "new catalogue", 7, at("2024-03-03 09:00")),
)


def write(lake: Lake) -> None:
    """All tables of the cast, through the same calls as the jobs; one commit per published night."""
    def frame(rows, table):
        return lake.spark.createDataFrame(list(rows), table.ddl)

    for night in (FIRST, LAST):
        for name in ("main", "mail"):
            rows = [list_row(r) for r in LISTS if r[:2] == (night, name)]
            if rows:
                lake.replace(frame(rows, RECOMMENDATIONS), RECOMMENDATIONS, predicate(run_date=night, list_name=name), {"run_date": str(night)})
    lake.append(frame(((i, f, None, t, None, c, None, None, None, None, None, None, None, 1) for i, f, t, c in ITEM_ROWS), ITEMS), ITEMS, {})
    lake.append(frame(((u, f, None, None, s, None, False, 1) for u, f, s in USER_ROWS), USERS), USERS, {})
    lake.append(frame((_night_row(*r) for r in NIGHT_ROWS), NIGHTS), NIGHTS, {})
    living = [(item, i, None, 1) for i, item in enumerate(("tea", "mug", "pot", "lid", "jar"))]
    withdrawn = [("old", 5, date(2024, 2, 1), 1)]
    lake.append(frame(living + withdrawn, ITEM_VOCABULARY), ITEM_VOCABULARY, {})
    hours = [("tea", 0, TEA_DRUNK), ("mug", 1, TEA_DRUNK), ("pot", 2, POT_SEEN)]
    lake.append(
        frame(((i, n, t.replace(minute=0), "", 2, {"view": 2}, 1, 1, 1, 0.0, t.date()) for i, n, t in hours), ITEM_HOURS), ITEM_HOURS, {}
    )


def list_row(row: tuple) -> tuple:
    """A row of LISTS with the columns of `recommendations` that follow from its night."""
    run_date = row[0]
    midnight = datetime(run_date.year, run_date.month, run_date.day, tzinfo=UTC)
    return (*row, "blend-1", midnight, midnight.replace(hour=7))


def _night_row(run_date: date, list_name: str, decision: str, by: str, reason: str, n_rows: int, decided: datetime) -> tuple:
    midnight = datetime(run_date.year, run_date.month, run_date.day, tzinfo=UTC)
    version = None if decision == "held" else 1
    return (
        run_date, list_name, 1, midnight, midnight.replace(hour=7), 1, "cut-1", "blend-1", decision, by, reason, '{"ranks": {"ok": true}}',
        3, n_rows, "c0ffee", version, "cfg", "0.1.0", decided,
    )
