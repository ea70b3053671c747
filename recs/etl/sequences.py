"""Events -> sequences: one row per user, the newest N events as arrays of one length, and the rhythm they show.

    events of bob, N = 3             row of bob
    Mon 09:00  item a                (outside: only the newest N)
    Tue 09:00  item b                item_index        [ b,    c,     a    ]
    Tue 09:10  item c                gap_s             [ -1,   600,   86100]
    Wed 09:05  item a                session_position  [ 0,    1,     0    ]

Each event first learns its user's time zone and segment as they were at that instant.  Spark ranks a user's events, newest first, and keeps
N of them; already the tasks that read the events keep no more than N of a user, so one with a million events sends as few over
the network as others.  The sorted rows then stream through Python in Arrow batches, which cuts them into users and computes
gaps, clocks and rhythm for the whole batch at once (recs/evidence/rhythm.py); a task holds one batch and the N rows of
one user, whatever the log.

A row is a function of the user's newest N events before the cut and of the zones and segments he was in.  So an update takes the events out
of the old row, adds the new ones and does the same again, and equals a full rebuild to the bit.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recs.schemas import SEQUENCES

from .news import before
from .users_at import changed_users, with_fact

if TYPE_CHECKING:
    import pyarrow as pa

# what a row keeps of each event, and the type it has there
_KEPT = {
    "event_id": "string", "item_index": "int", "type_code": "int", "ts": "bigint", "source_seq": "bigint",
    "value": "float", "dwell_s": "float", "lat": "float", "lon": "float",
}
_MAY_MISS = ("value", "dwell_s", "lat", "lon")


@dataclass(frozen=True)
class SequenceRule:
    """What a row depends on beside its events.  `zone` is of users whose own is not known; `clock` false: `ts` is an order, a
    step is a day, and hours mean nothing (hour and weekday are 0, strengths 0, phases NaN)."""

    max_events: int
    session_gap_us: int
    zone: str
    clock: bool = True


def _kept_of_events(events: DataFrame) -> DataFrame:
    """The columns a row keeps, one line per event; missing numbers become NaN."""
    us = events.withColumn("ts", F.unix_micros("ts"))
    return us.select("user_id", *(
        F.coalesce(F.col(c).cast(t), F.lit(float("nan")).cast(t)).alias(c) if c in _MAY_MISS else F.col(c).cast(t).alias(c)
        for c, t in _KEPT.items()
    ))


def _kept_of_rows(sequences: DataFrame) -> DataFrame:
    """The same, out of the arrays of existing rows."""
    arrays = ["event_ids", *list(_KEPT)[1:]]
    return sequences.select("user_id", F.inline(F.arrays_zip(*arrays))).withColumnRenamed("event_ids", "event_id")


def _newest(kept: DataFrame, n: int) -> DataFrame:
    """The newest n events of each user, newest first; ties in time by source_seq, then event_id."""
    newest_first = Window.partitionBy("user_id").orderBy(F.desc("ts"), F.desc("source_seq"), F.desc("event_id"))
    return kept.withColumn("place", F.row_number().over(newest_first)).where(F.col("place") <= n).drop("place")


def _as_rows(kept: DataFrame, users: DataFrame, rule: SequenceRule) -> DataFrame:
    """Kept events of whole users -> SEQUENCES rows."""
    newest = _newest(kept, rule.max_events).withColumn("us", F.col("ts")).withColumn("ts", F.timestamp_micros("us"))
    zoned = with_fact(with_fact(newest, users, "zone", rule.zone), users, "segment", "").withColumn("ts", F.col("us")).drop("us")
    coded = zoned.withColumn("segment_code", F.crc32("segment").bitwiseAND(2**31 - 1).cast("int")).drop("segment")
    # already in this order after the window (and then not sorted again), unless a join with users had to shuffle
    in_order = coded.sortWithinPartitions("user_id", F.desc("ts"), F.desc("source_seq"), F.desc("event_id"))
    schema = ", ".join(f"{c.name} {c.type}" for c in SEQUENCES.columns)
    return SEQUENCES.conform(in_order.mapInArrow(partial(_rows_of_batches, rule=rule), schema))


def _rows_of_batches(batches: Iterator[pa.RecordBatch], rule: SequenceRule) -> Iterator[pa.RecordBatch]:
    """On the workers: a stream of events, sorted by user and newest first -> a stream of rows."""
    for table in _whole_users(batches):
        yield _rows(table, rule)


def _whole_users(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables that hold no half user: the last user of a batch waits for the next one."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        begins = _begins(batch.column("user_id"))
        last = int(begins[-1])
        another = bool(held) and held[-1].column("user_id")[0] != batch.column("user_id")[0]
        if last or another:
            yield pa.Table.from_batches([*held, batch.slice(0, last)]).combine_chunks()
            held = []
        held.append(batch.slice(last))
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _begins(user_id: pa.Array):
    """Places at which another user begins, 0 included."""
    import numpy as np
    import pyarrow.compute as pc

    other = pc.not_equal(user_id[1:], user_id[:-1]).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(other) + 1])


def _rows(table: pa.Table, rule: SequenceRule) -> pa.RecordBatch:
    """Events of whole users, newest first -> one row per user, oldest event first."""
    import numpy as np
    import pyarrow as pa

    from recs.evidence import rhythm

    begins = _begins(table.column("user_id").chunk(0))
    offsets = np.append(begins, table.num_rows).astype(np.int64)
    # turn every user's stretch around: place i of user u comes from the mirrored place
    mirrored = np.repeat(offsets[:-1] + offsets[1:] - 1, np.diff(offsets)) - np.arange(table.num_rows)
    events = table.take(pa.array(mirrored)).combine_chunks()
    flat = {c: events.column(c).chunk(0) for c in (*_KEPT, "segment_code")}
    ts, dwell = flat["ts"].to_numpy(), flat["dwell_s"].to_numpy()

    gap = rhythm.gap_us(ts, offsets)
    zones = events.column("zone").chunk(0).dictionary_encode()
    wall = rhythm.local_us(ts, zones.indices.to_numpy(), zones.dictionary.to_pylist(), rule.zone) if rule.clock else np.zeros_like(ts)
    flat |= {
        "gap_s": np.where(gap < 0, -1, gap / 1e6).astype(np.float32),
        "session_position": rhythm.session_position(gap, rule.session_gap_us),
        # an order has neither hours nor weeks
        "local_hour": rhythm.hour_of_day(wall), "local_weekday": rhythm.weekday(wall) if rule.clock else np.zeros(len(ts), np.int32),
    }
    flat["event_ids"] = flat.pop("event_id")
    ends = pa.array(offsets.astype(np.int32))
    arrays = {c: pa.ListArray.from_arrays(ends, pa.array(values)) for c, values in flat.items()}

    mean, std = rhythm.gap_mean_std(gap, offsets)
    day, week = rhythm.day_rhythm(wall, offsets), rhythm.week_rhythm(wall, offsets)
    if not rule.clock:
        day = week = rhythm.Rhythm(np.zeros(len(begins)), np.full(len(begins), np.nan))
    per_user = {
        "user_id": table.column("user_id").take(pa.array(begins)).combine_chunks(),
        "n_events": np.diff(offsets),
        "browsing_s": rhythm.sum_by_user(np.nan_to_num(dwell.astype(np.float64)), offsets),
        "gap_mean_s": mean, "gap_std_s": std,
        "day_strength": day.strength, "day_phase_h": day.phase / rhythm.HOUR,
        "week_strength": week.strength, "week_phase_d": week.phase / rhythm.DAY,
        "first_ts": pa.array(ts[offsets[:-1]], pa.timestamp("us", "UTC")),
        "last_ts": pa.array(ts[offsets[1:] - 1], pa.timestamp("us", "UTC")),
    }
    columns = {**arrays, **{c: v if isinstance(v, pa.Array) else pa.array(v) for c, v in per_user.items()}}
    return pa.RecordBatch.from_arrays([columns[c] for c in SEQUENCES.column_names], names=list(SEQUENCES.column_names))


def changed_sequences(
    sequences: DataFrame, news: DataFrame, users_before: DataFrame | None, users_after: DataFrame, rule: SequenceRule,
) -> DataFrame:
    """Rows of the users with new events, or about whose zones or segments the users table says something else than before.

    `sequences`: the table at the old state; `news`: the events it does not know; `users_before`, `users_after`: users as each of the
    two states knows them, None when they know the same.
    """
    touched = news.select(F.col("user_id").alias("touched_user"))
    if users_before is not None:
        for fact in ("zone", "segment"):
            touched = touched.union(changed_users(users_before, users_after, fact))
    old = sequences.join(touched.distinct(), sequences.user_id == F.col("touched_user"), "left_semi")
    return _as_rows(_kept_of_rows(old).unionByName(_kept_of_events(news)), users_after, rule)


def sequences(events: DataFrame, users: DataFrame, as_of: datetime, rule: SequenceRule) -> DataFrame:
    """SEQUENCES rows of all users with an event before `as_of`: the full rebuild that every update is tested against."""
    return _as_rows(_kept_of_events(before(events, as_of)), users, rule)
