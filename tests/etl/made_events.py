"""Rows for the tests of sessions, item_hours and sequences: literals, and a small numpy-made log with every kind of trouble."""
from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from recs.schemas import EVENTS, USERS


def at(text: str, year: int = 2024) -> datetime:
    """`03-01 09:00[:30[.000001]]` of 2024, UTC."""
    return datetime.fromisoformat(f"{year}-{text}").replace(tzinfo=UTC)


def event(user: str, when: str | datetime, item: str = "a", **more: Any) -> dict[str, Any]:
    """One row of `events`; items a, b, c, … have the integers 0, 1, 2, …; the id follows from user, instant, item and order."""
    ts = at(when) if isinstance(when, str) else when
    seq = more.get("source_seq", 0)
    row = {
        "event_id": f"{user}-{ts:%m%dT%H%M%S%f}-{item}-{seq}", "user_id": user, "item_id": item, "item_index": ord(item[0]) - ord("a"),
        "ts": ts, "event_type": "view", "type_code": 1, "value": None, "dwell_s": None, "lat": None, "lon": None, "context": None,
        "source_seq": seq, "batch_id": 1, "event_date": ts.date(),
    }
    return row | more


def events_frame(spark, rows: list[dict[str, Any]]):
    """Literal rows as a frame with the types of `events`."""
    ordered = [[(row[c].replace(tzinfo=None) if c == "ts" else row[c]) for c in EVENTS.column_names] for row in rows]
    return utc(spark, ordered, EVENTS.ddl)


def users_frame(spark, *rows: tuple[str, str, str | None, str | None, str | None, int]):
    """(user, valid_from, valid_to, zone, segment, batch) as a frame with the types of `users`."""
    def instant(text: str | None) -> datetime | None:
        return text and datetime.fromisoformat(text)

    return utc(spark, [(u, instant(a), instant(b), z, s, None, False, n) for u, a, b, z, s, n in rows], USERS.ddl)


def utc(spark, rows: list, ddl: str):
    """createDataFrame reads naive datetimes in the machine's zone; these are UTC."""
    aware = [tuple(v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for v in row) for row in rows]
    return spark.createDataFrame(aware, ddl)


def made_log(n: int, n_users: int = 40, n_items: int = 25, days: int = 12, seed: int = 1, start: datetime | None = None) -> pd.DataFrame:
    """`n` events in bursts, with ties in time, gaps of exactly 30 min, missing values, and one user with a tenth of all events."""
    rng = np.random.default_rng(seed)
    start_us = int((start or at("03-01 00:00")).timestamp()) * 1_000_000
    user = np.where(rng.random(n) < 0.1, 0, rng.integers(0, n_users, n))
    # bursts start on full half hours, so that exact 30 min gaps are common
    burst = rng.integers(0, days * 48, n) * 1800
    ts = start_us + (burst + rng.choice([0, 0, 5, 600, 1800], n)) * 1_000_000
    item = rng.integers(0, n_items, n)
    day = ts // 86_400_000_000
    return pd.DataFrame({
        "event_id": [f"{i:032x}" for i in rng.permutation(n)],
        "user_id": [f"u{u:05d}" for u in user], "item_id": [f"i{i:04d}" for i in item],
        "item_index": item.astype(np.int32), "ts": ts, "event_type": rng.choice(["view", "buy"], n, p=[0.8, 0.2]), "type_code": np.int32(1),
        "value": np.where(rng.random(n) < 0.3, np.nan, rng.integers(1, 10_000, n) / 100),
        "dwell_s": np.where(rng.random(n) < 0.5, np.nan, rng.exponential(30, n)),
        "source_seq": rng.integers(0, 3, n), "batch_id": np.int64(1), "day": day.astype(np.int32),
    })


def as_events(spark, made: pd.DataFrame):
    """A made log as a frame with the types of `events`."""
    columns = {
        "ts": "timestamp_micros(ts)", "event_date": "date_from_unix_date(day)", "context": "cast(NULL AS string)",
        "lat": "cast(NULL AS double)", "lon": "cast(NULL AS double)", "value": "nanvl(value, NULL)", "dwell_s": "nanvl(dwell_s, NULL)",
    }
    return spark.createDataFrame(made).selectExpr(*(f"{columns.get(c, c)} AS {c}" for c in EVENTS.column_names))


def rows_of(df, key: str) -> list[dict[str, Any]]:
    """All rows as plain values in the order of a key; NaN written as text, so that it equals itself."""
    def plain(v: Any) -> Any:
        if isinstance(v, float) and v != v:
            return "NaN"
        if isinstance(v, list):
            return tuple(plain(x) for x in v)
        return tuple(sorted(v.items())) if isinstance(v, dict) else v

    rows = [{k: plain(v) for k, v in r.asDict().items()} for r in df.collect()]
    return sorted(rows, key=lambda r: str(r[key]))
