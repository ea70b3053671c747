"""Which list a user could see on a day, and for how long: what the book of nights says was really served.

    2024-03-30   published                      its own lists, from serve_at
    2024-03-31   held                           the lists of 30 March, served again
    2024-04-01   held, released at 09:00        its own lists, from 09:00
    2024-04-02   published, refreshed at noon   the second attempt’s lists, from noon
    2024-04-03   withdrawn at 10:00             the lists of 2 April, from 10:00
    2024-04-04   nothing was begun              the lists of 2 April, served again

A day counts with the lists that stood last on it, from the moment since which they stood, until the night’s horizon ends (its cut and
`horizon`: with a horizon of a day the next midnight, so that the next night can tell).  A decision that fell later changed nothing that
anybody saw.  A night that was begun only after its own day had ended is a replay: it counts as if it had been served when it was due.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from recs.clock import Night, from_micros
from recs.schemas import RECOMMENDATIONS

from .nights import GONE, STANDS, Attempt

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recs.config import ZoneConfig
    from recs.tables import Lake


@dataclass(frozen=True)
class Served:
    """A day and the lists that stood on it: `row` of `nights` says which; they were used in [from_us, until_us)."""

    night: Night            # of the day: where its cut is and when lists are used
    row: dict[str, Any]
    from_us: int
    until_us: int

    @property
    def day(self) -> date:
        """The local date."""
        return self.night.run_date

    @property
    def again(self) -> bool:
        """Are they the lists of an earlier night?"""
        return self.row["run_date"] < self.day

    @property
    def attempt(self) -> Attempt:
        """What the day could have known: that of its own night; on a day without one, every batch there is."""
        own = not self.again
        batch, started = (self.row["max_batch"], self.row["decided_at_us"]) if own else (1 << 62, self.from_us)
        return Attempt(self.night, self.row["list_name"], self.row["attempt"], batch, started, self.row["config_hash"], "")


def served_days(rows: Sequence[dict[str, Any]], clock: ZoneConfig, horizon_us: int, last: date) -> list[Served]:
    """Every day from the first published night to `last`, ascending.  `rows`: of one list, as `nights.rows_of` gives them."""
    booked: dict[date, list[dict[str, Any]]] = {}
    for row in rows:
        booked.setdefault(row["run_date"], []).append(row)
    windows = {day: _window(day, mine, clock, horizon_us) for day, mine in booked.items()}
    changes = sorted(
        ((_when(row, mine, *windows[day][1:]), n, row) for day, mine in booked.items() for n, row in enumerate(mine)
         if row["decision"] in STANDS + GONE), key=lambda c: c[:2])
    day = min((row["run_date"] for _, _, row in changes), default=None)
    out: list[Served] = []
    while day is not None and day <= last:
        night, from_us, until_us = windows.get(day) or _window(day, [], clock, horizon_us)
        row, since_us = _standing([c for c in changes if c[0] < until_us and c[2]["run_date"] <= day])
        out += [Served(night, row, max(from_us, since_us), until_us)] if row else []
        day += timedelta(days=1)
    return out


def _window(day: date, mine: Sequence[dict[str, Any]], clock: ZoneConfig, horizon_us: int) -> tuple[Night, int, int]:
    """The day’s own night (`mine`: the rows about it), when its lists are due, and when its horizon ends."""
    night = Night.of(day, clock.zone, clock.lead)
    if mine:
        night = Night(day, *(from_micros(mine[-1][f"{at}_us"]) for at in ("as_of", "serve_at")))
    end_us = night.as_of_us + horizon_us
    return night, night.serve_at_us, end_us if end_us > night.serve_at_us else night.serve_at_us + horizon_us     # a horizon of hours


def _when(row: dict[str, Any], mine: Sequence[dict[str, Any]], due_us: int, end_us: int) -> int:
    """When readers saw what the row decided."""
    is_replay = mine[0]["decided_at_us"] >= end_us
    return due_us if is_replay else row["decided_at_us"]


def _standing(changes: Sequence[tuple[int, int, dict[str, Any]]]) -> tuple[dict[str, Any] | None, int]:
    """The row of the newest night in `recommendations` after these changes (None: there is none), and since when it was that."""
    there: dict[date, dict[str, Any]] = {}
    stands, since_us = None, 0
    for at_us, _, row in changes:
        if row["decision"] in STANDS:
            there[row["run_date"]] = row
        else:
            there.pop(row["run_date"], None)
        now = there[max(there)] if there else None
        if now is not stands:
            stands, since_us = now, at_us
    return stands, since_us


def rows_served(lake: Lake, served: Served, rows: Sequence[dict[str, Any]]) -> DataFrame | None:
    """The rows of `recommendations` that were served; None where the table no longer holds them.

    What was replaced or taken back since is read at the version that held it, as long as Delta keeps that.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    row = served.row
    mine = (F.col("run_date") == F.lit(row["run_date"])) & (F.col("list_name") == row["list_name"])
    changes = [r for r in rows if r["run_date"] == row["run_date"] and r["decision"] in STANDS + GONE]
    if changes[-1] == row:
        return lake.read(RECOMMENDATIONS).where(mine)
    try:
        then = lake.read(RECOMMENDATIONS, row["delta_version"]).where(mine)
        return None if then.isEmpty() else then
    except PySparkException:        # versions go after a month (recs compact)
        return None
