"""What the lists of the last nights are like: how many, made of what, how much of the catalogue, how unevenly.

One pass over the places of `nights` nights; Python sees a row per night and number of listings, never users or items.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from ..show import Row, rows
from .facts import Night

if TYPE_CHECKING:
    import duckdb

NIGHTS = """
    SELECT run_date FROM published_nights WHERE list_name = $list_name AND run_date <= $run_date ORDER BY run_date DESC LIMIT $n"""
MADE_OF = """
    SELECT
        run_date,
        count(*) FILTER (WHERE rank = 1 AND audience = 'user') AS n_user_lists,
        count(*) FILTER (WHERE rank = 1 AND audience = 'segment') AS n_segment_lists,
        count(*) FILTER (WHERE audience = 'user') AS places,
        count(*) FILTER (WHERE audience = 'segment') AS shared_places,
        count(*) FILTER (WHERE audience = 'user' AND source <> 'model') AS not_model
    FROM recommendations WHERE list_name = $list_name AND run_date BETWEEN $first AND $last GROUP BY run_date ORDER BY run_date"""
MIX = """
    SELECT run_date, source, reason_code, count(*) AS n FROM recommendations
    WHERE list_name = $list_name AND run_date BETWEEN $first AND $last AND audience = 'user' GROUP BY ALL ORDER BY ALL"""
# how many items stand in how many users' lists: few rows however many items there are
LISTINGS = """
    SELECT run_date, n, count(*) AS items FROM (
        SELECT run_date, item_id, count(*) AS n FROM recommendations
        WHERE list_name = $list_name AND run_date BETWEEN $first AND $last AND audience = 'user' GROUP BY run_date, item_id)
    GROUP BY run_date, n ORDER BY run_date, n DESC"""
CATALOGUE = "SELECT count(*) AS n FROM item_vocabulary WHERE tombstoned_on IS NULL"
SEGMENTS = """
    SELECT
        coalesce(u.segment, 'all') AS segment,
        count(*) FILTER (WHERE r.rank = 1) AS n_lists,
        count(DISTINCT r.item_id) AS n_items,
        avg(CASE WHEN r.source = 'model' THEN 0.0 ELSE 1.0 END) AS fallback_share
    FROM recommendations AS r
    LEFT JOIN user_segments AS u ON u.user_id = r.user_id
        AND (u.segment_from IS NULL OR u.segment_from <= r.serve_at) AND (u.segment_until IS NULL OR r.serve_at < u.segment_until)
    WHERE r.list_name = $list_name AND r.run_date = $run_date AND r.audience = 'user'
    GROUP BY ALL ORDER BY n_lists DESC, segment LIMIT 12"""


@dataclass(frozen=True)
class Spread:
    """How places are spread over the catalogue on one night: (listings of an item, how many items have so many), most listed first."""

    steps: tuple[tuple[int, int], ...]
    catalogue: int      # items that could be listed, those in the lists at least

    @property
    def items(self) -> int:
        """Different items in users' lists."""
        return sum(n for _, n in self.steps)

    @property
    def places(self) -> int:
        """Places in users' lists."""
        return sum(listed * n for listed, n in self.steps)

    def held_by_top(self, items: float) -> float:
        """Share of the places that the most listed `items` items take; 0 without places."""
        left, held = items, 0.0
        for listed, n in self.steps:
            held += listed * min(n, left)
            left -= min(n, left)
        return held / self.places if self.places else 0.0

    @property
    def gini(self) -> float | None:
        """0 when every catalogue item has as many places, nearly 1 when one item has them all; None without places."""
        if not self.places:
            return None
        below, area = self.catalogue - self.items, 0.0      # items that are nowhere come first
        for listed, n in reversed(self.steps):
            area += listed * (n * below + n * (n + 1) / 2)
            below += n
        return 2 * area / (self.catalogue * self.places) - (self.catalogue + 1) / self.catalogue

    def curve(self, n: int = 60) -> list[tuple[float, float]]:
        """(share of the catalogue, most listed first; share of the places it takes)."""
        return [(i / n, self.held_by_top(i / n * self.catalogue)) for i in range(n + 1)]


@dataclass(frozen=True)
class Lists:
    """The last published nights up to this one, ascending."""

    made_of: tuple[Row, ...]
    mix: dict[date, dict[tuple[str, str], int]]     # night -> (source, reason code) -> places
    spread: dict[date, Spread]
    segments: tuple[Row, ...]                       # of the newest of these nights

    def reasons(self) -> list[str]:
        """Reason codes, the most used first."""
        total: dict[str, int] = {}
        for of in self.mix.values():
            for (_, code), n in of.items():
                total[code] = total.get(code, 0) + n
        return sorted(total, key=lambda c: (-total[c], c))

    def reason_shares(self, code: str, days: Sequence[date]) -> list[float | None]:
        """Share of the places of each day that this reason has; None where no list was published."""
        return [self._share(self.mix[d], code) if d in self.mix else None for d in days]

    @staticmethod
    def _share(of: dict[tuple[str, str], int], code: str) -> float:
        return sum(n for (_, c), n in of.items() if c == code) / sum(of.values())


def lists_of(con: duckdb.DuckDBPyConnection, night: Night, n: int = 14) -> Lists:
    """The newest `n` published nights up to this one."""
    days = [r["run_date"] for r in rows(con, NIGHTS, list_name=night.list_name, run_date=night.run_date, n=n)]
    if not days:
        return Lists((), {}, {}, ())
    span = {"list_name": night.list_name, "first": days[-1], "last": days[0]}
    mix: dict[date, dict[tuple[str, str], int]] = {}
    for r in rows(con, MIX, **span):
        mix.setdefault(r["run_date"], {})[r["source"], r["reason_code"]] = r["n"]
    steps: dict[date, list[tuple[int, int]]] = {}
    for r in rows(con, LISTINGS, **span):
        steps.setdefault(r["run_date"], []).append((r["n"], r["items"]))
    living = rows(con, CATALOGUE)[0]["n"]
    spread = {d: Spread(tuple(s), max(living, sum(k for _, k in s))) for d, s in steps.items()}
    segments = rows(con, SEGMENTS, list_name=night.list_name, run_date=days[0])
    return Lists(tuple(rows(con, MADE_OF, **span)), mix, spread, tuple(segments))
