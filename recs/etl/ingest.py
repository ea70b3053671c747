"""Mapped rows -> accepted events, refused rows, duplicates: every row is exactly one of the three.

The rows in order: what the mapping refused (recs/etl/mapping.py) goes to the quarantine; sound rows with equal event ids are
merged into one event, in source order; an event whose id came with an earlier batch is a duplicate, even when it is old; an
event older than the lookback that is not known is refused as too_late; the rest is accepted.

A late row is looked up before it is refused because files grow: of a log that is appended to and read again, the old lines are
known, not late.  Known ids are read from the days the batch touches, not from the whole table.

    event_id  position  value                event_id  value  n_merged  fate
    a         0         6          merge:    a         8      2         accepted
    a         3         2      ->  value sum b         1      1         duplicate (came with an earlier batch)
    b         1         1
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from recs.clock import from_micros
from recs.config import EventMapping

from .instants import utc_date
from .mapping import Arrival, code_of

ACCEPTED, DUPLICATE, TOO_LATE = "accepted", "duplicate", "too_late"
KEPT_IF_REFUSED = ("raw", "row_hash", "source_file")
REFUSED = ("row_hash", "raw", "reason", "source_file")


class IngestError(ValueError):
    """A batch is not written; the message says why and what to do."""


class LostRowsError(RuntimeError):
    """Rows in are not accepted + quarantined + duplicates: a defect.  The batch does not count; the next run takes it back."""


@dataclass(frozen=True)
class Tally:
    """What became of the rows of one batch.  `reasons`: refused rows by reason code, repeated ones included."""

    rows_in: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicate: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    min_ts: datetime | None = None
    max_ts: datetime | None = None

    def with_quarantined(self, n: int) -> Tally:
        """The same rows, of whose refused ones only `n` are new: the others came before, as duplicates do."""
        return replace(self, quarantined=n, duplicate=self.duplicate + self.quarantined - n)

    def check(self) -> None:
        """Rows in = accepted + quarantined + duplicates, or LostRowsError."""
        if self.rows_in != self.accepted + self.quarantined + self.duplicate:
            raise LostRowsError(
                f"{self.rows_in} rows in, but {self.accepted} accepted + {self.quarantined} quarantined + {self.duplicate} duplicates = "
                f"{self.accepted + self.quarantined + self.duplicate}: rows were lost or doubled; the batch does not count"
            )

    def check_share(self, limit: float) -> None:
        """Refused rows are at most the share `limit` of the rows in, or IngestError with the counts by reason."""
        refused = sum(self.reasons.values())
        if self.rows_in and refused > limit * self.rows_in:
            by_reason = ", ".join(f"{reason} {n}" for reason, n in sorted(self.reasons.items(), key=lambda r: (-r[1], r[0])))
            raise IngestError(
                f"{refused} of {self.rows_in} rows would be refused, more than ingest.max_quarantine_share = {limit:g} allows: "
                f"{by_reason}; correct the mapping or the input, or raise the limit; nothing was written"
            )


def count_rows(rows: DataFrame) -> tuple[dict[str | None, int], list[date]]:
    """Mapped rows by reason (None: sound), and the UTC dates of the sound ones: some thousand numbers at most."""
    sound_date = F.when(F.col("reason").isNull(), F.col("event_date"))
    counts = rows.groupBy("reason", sound_date.alias("day")).count().collect()
    by_reason: dict[str | None, int] = {}
    for row in counts:
        by_reason[row["reason"]] = by_reason.get(row["reason"], 0) + row["count"]
    return by_reason, sorted(row["day"] for row in counts if row["day"] is not None)


def days_to_search(days: Iterable[date], mapping: EventMapping, lookback: timedelta) -> list[date]:
    """Days on which an earlier batch can hold the same events.

    With the usual merge keys the instant is part of the id: the days themselves.  With keys of the mapping's own the same event
    may have come with another time: the days within the lookback too.
    """
    reach = lookback.days if mapping.merge_keys else 0
    return sorted({day + timedelta(days=d) for day in days for d in range(-reach, reach + 1)})


def judge(rows: DataFrame, mapping: EventMapping, known: DataFrame | None, arrival: Arrival) -> DataFrame:
    """Sound rows, one per event, with `n_merged` (rows it was made of) and `fate`: accepted, duplicate or too_late.

    `known`: event_id of earlier batches, unique; None on the first load.
    """
    events = merge_repeats(rows.where("reason IS NULL"), mapping)
    late = F.when(arrival.is_late(F.col("ts")), TOO_LATE)
    if known is None:
        return events.withColumn("fate", F.coalesce(late, F.lit(ACCEPTED)))
    marked = events.join(known.select("event_id", F.lit(True).alias("is_known")), "event_id", "left")
    return marked.withColumn("fate", F.coalesce(F.when(F.col("is_known"), DUPLICATE), late, F.lit(ACCEPTED))).drop("is_known")


def merge_repeats(rows: DataFrame, mapping: EventMapping) -> DataFrame:
    """One row per event_id: the first in source order, the columns of `mapping.merge` aggregated in that order."""
    in_order = Window.partitionBy("event_id").orderBy("position", "source_seq")
    group = in_order.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    merged = {c: _aggregate(how, c).over(group) for c, how in mapping.merge.items()}
    # a later row of the group may be the late one that the quarantine must show
    shown = {c: F.first(c, ignorenulls=True).over(group) for c in KEPT_IF_REFUSED}
    numbered = rows.withColumns({**merged, **shown, "n_merged": F.count("*").over(group), "row_number": F.row_number().over(in_order)})
    first = numbered.where("row_number = 1").drop("row_number")
    return first.withColumns({"type_code": code_of(F.col("event_type"), mapping), "event_date": utc_date(F.col("ts"))})


def _aggregate(how: str, column: str) -> Column:
    return {"first": F.first, "last": F.last, "min": F.min, "max": F.max, "sum": F.sum}[how](column)


def refusals(rows: DataFrame, judged: DataFrame) -> DataFrame:
    """What the quarantine gets of a batch (REFUSED): refused rows, and events that came too late."""
    late = judged.where(F.col("fate") == TOO_LATE).withColumn("reason", F.lit(TOO_LATE))
    return rows.where("reason IS NOT NULL").select(*REFUSED).unionByName(late.select(*REFUSED))


def new_refusals(refused: DataFrame, quarantine: DataFrame) -> DataFrame:
    """Those of `refused` that `quarantine` lacks, each once."""
    return refused.select(*REFUSED).dropDuplicates(["row_hash"]).join(quarantine.select("row_hash"), "row_hash", "left_anti")


def tally(rows_in: int, by_reason: dict[str | None, int], fates: list[Row]) -> Tally:
    """Counts of a batch, all refused rows being new to the quarantine.  `fates`: rows of `count_fates`."""
    of = {row["fate"]: row for row in fates}
    late = of[TOO_LATE]["n"] if TOO_LATE in of else 0
    reasons = {r: n for r, n in {**by_reason, TOO_LATE: late}.items() if r is not None and n}
    repeats = sum(row["n_rows"] - (0 if fate == DUPLICATE else row["n"]) for fate, row in of.items())
    if ACCEPTED not in of:
        return Tally(rows_in, 0, sum(reasons.values()), repeats, reasons)
    accepted = of[ACCEPTED]
    ends = (from_micros(accepted["min_us"]), from_micros(accepted["max_us"]))
    return Tally(rows_in, accepted["n"], sum(reasons.values()), repeats, reasons, *ends)


def count_fates(judged: DataFrame) -> list[Row]:
    """fate, n (events), n_rows (rows they were made of), min_us, max_us: at most three rows."""
    ends = (F.unix_micros(F.min("ts")).alias("min_us"), F.unix_micros(F.max("ts")).alias("max_us"))
    return judged.groupBy("fate").agg(F.count("*").alias("n"), F.sum("n_merged").alias("n_rows"), *ends).collect()


def numbered_events(accepted: DataFrame, vocabulary: DataFrame, batch_id: int) -> DataFrame:
    """Accepted events in the shape of the table, with the integers of `vocabulary` (item_id, item_index)."""
    events = accepted.join(vocabulary.select("item_id", "item_index"), "item_id")
    # few large files per day instead of one per task and day
    return events.withColumn("batch_id", F.lit(batch_id).cast("bigint")).hint("rebalance", F.col("event_date"))
