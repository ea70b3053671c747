"""The book of outcomes: which served days are to be counted (again), what was found, what people read of it.

    signature      of a day: the lists that stood, its window as far as the log reaches, the rules, and the events in it.  A day whose
                   signature is in the book is left alone; a late event changes it, and the day is counted again
    written        the figures of all counted days in one commit on `metrics` (they replace those of the same runs), then the days’ rows
                   in `outcomes`; who dies in between counts them again

What a day could have known (item_hours, users, blocks) is read as it stands and is no part of the signature.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from recs.clock import from_micros
from recs.config import ConfigError
from recs.local_frame import local_frame
from recs.schemas import EVENTS, METRICS, NIGHTS, OUTCOMES
from recs.serve.served import Served
from recs.tables import Lake, any_of

from .comparison import ALL, Figure
from .outcomes import PUBLISHED, Outcome
from .yesterday import NAME as POPULARITY

if TYPE_CHECKING:
    from recs.config import Config

METHOD = 1      # of counting: another number counts every day again that is looked at


@dataclass(frozen=True)
class Due:
    """A served day that is to be counted up to `counted_us`."""

    served: Served
    counted_us: int
    signature: str

    @property
    def is_whole(self) -> bool:
        """Does the log reach the end of the window?"""
        return self.counted_us == self.served.until_us

    @property
    def run(self) -> str:
        """As in `metrics`."""
        return f"outcome-{self.served.row['list_name']}-{self.served.day}"


@dataclass(frozen=True)
class Day:
    """What the book says about a day.  `value`, `popularity`: the headline of the lists and of yesterday’s popularity, None without any."""

    served_on: date
    run_date: date
    model_version: str
    is_whole: bool
    n_lists: int
    n_active: int
    n_judged: int
    headline: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    popularity: float | None = None
    gain: tuple[float, float | None, float | None] | None = None    # the paired difference of the two with its interval
    slices: tuple[tuple[str, float], ...] = ()


def targets_and_shown(config: Config) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Codes of the event types that lists should bring about, and of those that say an item was shown.  ConfigError for unknown names."""
    types = config.log.events.event_types
    if unknown := sorted(set(config.outcomes.shown_by) - set(types)):
        raise ConfigError(f"outcomes.shown_by: unknown event types {unknown}; the log has {sorted(types)}")
    return tuple(t.code for t in types.values() if t.target), tuple(types[name].code for name in config.outcomes.shown_by)


def reach_us(lake: Lake) -> int:
    """How far the log reaches: the newest cut a night was made with, or the newest event where it lies after that; 0 without either."""
    from pyspark.sql import functions as F

    cut = lake.read(NIGHTS).agg(F.max(F.unix_micros("as_of"))).first()[0]
    newest = lake.read(EVENTS).agg(F.max(F.unix_micros("ts"))).first()[0]
    return max(cut or 0, newest + 1 if newest is not None else 0)


def due(lake: Lake, config: Config, days: Sequence[Served], reach: int) -> list[Due]:
    """Those of the served days that began before the log ends and are not in the book as they are now."""
    begun = [Due(d, min(reach, d.until_us), "") for d in days if d.from_us < min(reach, d.until_us)]
    if not begun:
        return []
    events = _events(lake, config, begun)
    booked = _booked(lake, config.lists.name)
    rules = [METHOD, config.fit.k, *map(list, targets_and_shown(config)), config.lists.rules.model_dump(mode="json")]
    out = []
    for d in begun:
        lists = [d.served.row[c] for c in ("attempt", "content_hash")] + [str(d.served.row["run_date"])]
        body = json.dumps([rules, lists, d.served.from_us, d.counted_us, events.get(str(d.served.day), [0, 0])], sort_keys=True)
        signed = replace(d, signature=hashlib.sha256(body.encode()).hexdigest()[:16])
        known, counted_us = booked.get(d.served.day, ("", 0))
        if signed.signature != known and counted_us <= d.counted_us:    # never back to a shorter look
            out.append(signed)
    return out


def _booked(lake: Lake, list_name: str) -> dict[date, tuple[str, int]]:
    """By day: signature, and how far it was counted."""
    from pyspark.sql import functions as F

    mine = lake.read(OUTCOMES).where(F.col("list_name") == list_name)
    return {r[0]: (r[1], r[2]) for r in mine.select("served_on", "signature", F.unix_micros("counted_until")).collect()}


def _events(lake: Lake, config: Config, days: Sequence[Due]) -> dict[str, list[int]]:
    """By day: how many events its window holds and an order-free hash of them.  One pass over the days’ partitions."""
    from pyspark.sql import functions as F

    codes = [c for group in targets_and_shown(config) for c in group]
    spans = [(str(d.served.day), d.served.from_us, d.counted_us) for d in days]
    windows = local_frame(lake.spark, spans, "day string, from_us bigint, until_us bigint")
    first, last = (F.timestamp_micros(F.lit(us)) for us in (min(s[1] for s in spans), max(s[2] for s in spans)))
    near = F.col("event_date").between(F.to_date(first), F.to_date(last)) & F.col("type_code").isin(codes)
    at = F.unix_micros("ts")
    events = lake.read(EVENTS).where(near).crossJoin(F.broadcast(windows)).where((at >= F.col("from_us")) & (at < F.col("until_us")))
    found = events.groupBy("day").agg(F.count(F.lit(1)), F.bit_xor(F.xxhash64("event_id"))).collect()
    return {day: [n, content] for day, n, content in found}


def write(lake: Lake, found: Sequence[tuple[Due, Outcome]], k: int) -> None:
    """The figures, then the days."""
    now, note = datetime.now(UTC), {"stage": "score_outcomes", "runs": [d.run for d, _ in found]}
    figures = [(d.run, *_of(f), now) for d, o in found for f in o.figures]
    lake.replace(local_frame(lake.spark, figures, METRICS.ddl).coalesce(1), METRICS, any_of("run", note["runs"]), note)
    rows = [_row(d, o, f"ndcg@{k}", now) for d, o in found]
    lake.merge(local_frame(lake.spark, rows, OUTCOMES.ddl).coalesce(1), OUTCOMES, note)


def _of(f: Figure) -> tuple[Any, ...]:
    return f.model, f.versus, f.name, f.slice, f.value, f.low, f.high, f.p, f.n


def _row(d: Due, o: Outcome, headline: str, now: datetime) -> tuple[Any, ...]:
    s = d.served
    instants = [from_micros(us) for us in (s.from_us, s.until_us, d.counted_us)]
    return (
        s.day, s.row["list_name"], s.row["run_date"], s.row["attempt"], s.row["model_version"], *instants, d.is_whole,
        o.n_lists, o.n_active, o.n_judged, o.n_shared, headline, d.run, d.signature, now,
    )


def days_of(lake: Lake, list_name: str, last: int) -> list[Day]:
    """The newest `last` days in the book, ascending."""
    from pyspark.sql import functions as F

    columns = ("served_on", "run_date", "model_version", "is_whole", "n_lists", "n_active", "n_judged", "headline")
    mine = lake.read(OUTCOMES).where(F.col("list_name") == list_name).orderBy(F.desc("served_on")).limit(last)
    rows = sorted(mine.select(*columns, "run").collect(), key=lambda r: r["served_on"])
    wanted = F.col("run").isin([r["run"] for r in rows]) & F.col("name").isin([r["headline"] for r in rows])
    figures: dict[tuple, Any] = {}
    for f in lake.read(METRICS).where(wanted).collect() if rows else ():
        figures[f["run"], f["name"], f["model"], f["versus"], f["slice"]] = f
    return [_day(tuple(r[c] for c in columns), r["run"], figures) for r in rows]


def _day(facts: tuple[Any, ...], run: str, figures: dict[tuple, Any]) -> Day:
    name = facts[-1]
    ours, popular = (figures.get((run, name, model, "", ALL)) for model in (PUBLISHED, POPULARITY))
    gain = figures.get((run, name, PUBLISHED, POPULARITY, ALL))
    of_ours = [(key[4], f["value"]) for key, f in figures.items() if key[:4] == (run, name, PUBLISHED, "") and key[4] != ALL]
    return Day(
        *facts, *((ours["value"], ours["low"], ours["high"]) if ours else (None, None, None)), popular["value"] if popular else None,
        (gain["value"], gain["low"], gain["high"]) if gain else None, tuple(sorted(of_ours)),
    )
