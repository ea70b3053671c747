"""What users do lately against what they did before: categories, items that rise and fall, how far a week lies from the one before.

Days are counted back from the night's cut: day 0 is the 24 hours before it.  Counts are of `item_hours` (events), so nothing later than
the cut is in them.  The distance of two weeks is the total variation: the share of one week's events that would have to be elsewhere.
"""
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..show import Row, rows
from .facts import Night

if TYPE_CHECKING:
    import duckdb

WEEK, BEFORE, TREND = 7, 28, 14      # days: lately, what it is held against, how many distances are shown
NOWHERE = "(no category)"
DAILY = f"""
    CREATE OR REPLACE TEMP TABLE daily AS
    WITH counted AS (
        SELECT item_id, CAST(floor((epoch($as_of) - epoch(hour)) / 86400 - 1e-9) AS INT) AS day, sum(n_events) AS n
        FROM item_hours
        WHERE event_date BETWEEN CAST($as_of AS DATE) - {WEEK + BEFORE + 1} AND CAST($as_of AS DATE) AND hour < $as_of
        GROUP BY ALL
    ), named AS (
        SELECT item_id, title, category FROM item_titles
        WHERE (title_from IS NULL OR title_from <= $as_of) AND (title_until IS NULL OR $as_of < title_until)
    )
    SELECT c.item_id, c.day, c.n, t.title, coalesce(nullif(split_part(t.category, '/', 1), ''), '{NOWHERE}') AS category
    FROM counted AS c LEFT JOIN named AS t USING (item_id) WHERE c.day BETWEEN 0 AND {WEEK + BEFORE - 1}"""
CATEGORIES = f"""
    SELECT category AS name, sum(n) FILTER (WHERE day < {WEEK}) AS lately, sum(n) FILTER (WHERE day >= {WEEK}) AS before
    FROM daily GROUP BY ALL"""
LISTED = f"""
    SELECT coalesce(nullif(split_part(t.category, '/', 1), ''), '{NOWHERE}') AS name, count(*) AS n
    FROM recommendations AS r
    LEFT JOIN item_titles AS t ON t.item_id = r.item_id
        AND (t.title_from IS NULL OR t.title_from <= r.serve_at) AND (t.title_until IS NULL OR r.serve_at < t.title_until)
    WHERE r.list_name = $list_name AND r.run_date = $run_date AND r.audience = 'user' GROUP BY ALL"""
ITEMS = f"""
    SELECT
        item_id, any_value(title) AS title, any_value(category) AS category,
        coalesce(sum(n) FILTER (WHERE day < {WEEK}), 0) AS lately,
        coalesce(sum(n) FILTER (WHERE day >= {WEEK}), 0) / ($days / {WEEK}) AS before
    FROM daily GROUP BY item_id
    ORDER BY $sign * (lately / $lately - before / $before) DESC, item_id LIMIT $n"""
TOTALS = f"""
    SELECT
        coalesce(sum(n) FILTER (WHERE day < {WEEK}), 0) AS lately, coalesce(sum(n) FILTER (WHERE day >= {WEEK}), 0) AS before,
        coalesce(max(day), 0) + 1 AS days,
        count(DISTINCT item_id) FILTER (WHERE day < {WEEK}) AS items,
        count(DISTINCT item_id) FILTER (WHERE day < {WEEK} AND item_id NOT IN (SELECT item_id FROM daily WHERE day >= {WEEK})) AS new_items
    FROM daily"""
# for every day back: the week that ends there against the week before it; a pair is shown when both weeks have events
DISTANCES = f"""
    WITH ends AS (SELECT unnest(range({TREND})) AS back),
    weeks AS (
        SELECT e.back, d.{{what}} AS what,
            sum(d.n) FILTER (WHERE d.day < e.back + {WEEK}) AS lately, sum(d.n) FILTER (WHERE d.day >= e.back + {WEEK}) AS before
        FROM ends AS e JOIN daily AS d ON d.day >= e.back AND d.day < e.back + {2 * WEEK} GROUP BY ALL
    ), totals AS (SELECT back, sum(lately) AS lately, sum(before) AS before FROM weeks GROUP BY back)
    SELECT w.back, 0.5 * sum(abs(coalesce(w.lately, 0) / t.lately - coalesce(w.before, 0) / t.before)) AS distance
    FROM weeks AS w JOIN totals AS t USING (back)
    WHERE t.lately > 0 AND t.before > 0 AND w.back + {2 * WEEK} <= $days GROUP BY w.back ORDER BY w.back DESC"""


@dataclass(frozen=True)
class Drift:
    """Shares are of events, except `listed`: of the places in the users' lists that stand on this night."""

    days: int                       # days of events before the cut that were found, 35 at most
    events: int                     # in the last week
    items: int                      # met in the last week
    new_items: int                  # of these: not met in the days before
    categories: tuple[Row, ...]     # name, lately, before, listed
    rising: tuple[Row, ...]         # item_id, title, category, lately, before: events a week
    falling: tuple[Row, ...]
    distances: dict[str, dict[int, float]]      # items, categories -> days back -> distance


def drift_of(con: duckdb.DuckDBPyConnection, night: Night, n_items: int = 6, n_categories: int = 12) -> Drift | None:
    """The weeks before the night's cut; None without events in the last week, or none before."""
    as_of: datetime = night.last["as_of"]
    con.execute(DAILY, {"as_of": as_of})
    total = rows(con, TOTALS)[0]
    if not total["lately"] or not total["before"]:
        return None
    earlier = total["days"] - WEEK
    rate = {"lately": float(total["lately"]), "before": float(total["before"]) * WEEK / earlier, "days": float(earlier), "n": n_items}
    moving = {sign: rows(con, ITEMS, sign=sign, **rate) for sign in (1, -1)}
    up = [r for r in moving[1] if r["lately"] / rate["lately"] > r["before"] / rate["before"]]
    down = [r for r in moving[-1] if r["lately"] / rate["lately"] < r["before"] / rate["before"]]
    distances = {
        name: {r["back"]: r["distance"] for r in rows(con, DISTANCES.format(what=column), days=total["days"])}
        for name, column in (("items", "item_id"), ("categories", "category"))
    }
    return Drift(
        total["days"], int(total["lately"]), total["items"], total["new_items"], tuple(_categories(con, night, total, n_categories)),
        tuple(up), tuple(down), distances)


def _categories(con: duckdb.DuckDBPyConnection, night: Night, total: Row, n: int) -> list[Row]:
    """The largest categories by either share, and the others together."""
    listed = {}
    if night.standing:
        listed = {r["name"]: r["n"] for r in rows(con, LISTED, list_name=night.list_name, run_date=night.standing)}
    places = sum(listed.values())
    met = {r["name"]: r for r in rows(con, CATEGORIES)}
    every = [{
        "name": name, "lately": float((met.get(name, {}).get("lately") or 0) / total["lately"]),
        "before": float((met.get(name, {}).get("before") or 0) / total["before"]),
        "listed": listed.get(name, 0) / places if places else None,
    } for name in {*met, *listed}]
    every.sort(key=lambda r: (-max(r["lately"], r["before"], r["listed"] or 0), r["name"]))
    if len(every) > n:
        rest = every[n - 1:]
        sums = {c: sum(r[c] or 0 for r in rest) for c in ("lately", "before", "listed")}
        every = [*every[: n - 1], {"name": f"{len(rest)} others", **sums} | ({} if places else {"listed": None})]
    return every
