"""One ingest batch on its way from files to tables.

`read` computes and checks everything; `write` then opens the batch in `input_files`, writes items, users, vocabulary, events and
quarantine, compares what Delta says it wrote with the rows that came in, and closes the batch in `batches`.
"""
from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recs import batches
from recs.config import Config
from recs.etl import catalogue, sources, vocabulary
from recs.etl import ingest as stage
from recs.etl.ingest import Tally
from recs.etl.lookups import with_lookups
from recs.etl.mapping import Arrival, MappingError, map_events
from recs.schemas import EVENTS, ITEM_VOCABULARY, ITEMS, QUARANTINE, USERS, Table
from recs.tables import Lake, any_of

TABLES: dict[str, Table] = {"items": ITEMS, "users": USERS}
# Spark's conditions for an expression that fails on a value: the mapping could have said NULL instead.
ON_A_VALUE = (
    "CAST_INVALID_INPUT", "CAST_OVERFLOW", "ARITHMETIC_OVERFLOW", "DIVIDE_BY_ZERO", "INVALID_ARRAY_INDEX", "CANNOT_PARSE_TIMESTAMP",
)


class Batch:
    """Reads and writes one batch.  Frames that are used several times are kept in memory or on disk until `stack` closes."""

    def __init__(self, lake: Lake, config: Config, before: batches.Progress, now: datetime, backfill: bool, stack: ExitStack) -> None:
        self.lake, self.config, self.before, self.now, self.stack = lake, config, before, now, stack
        self.id = before.last + 1
        has_clock = config.log.events.has_clock
        self.arrival = Arrival.of(config.ingest, now, before.newest, backfill) if has_clock else Arrival()
        self.note = {"stage": "ingest", "batch_id": self.id, "config_hash": config.hash}
        self.tally = Tally()
        self.judged: DataFrame | None = None            # events with their fate; None: the batch brings tables only
        self.delivered: dict[str, DataFrame] = {}       # sound rows of items and users
        self.refused: list[DataFrame] = []
        self.n_refused = 0                              # rows of the above

    def read(self, files: dict[str, batches.Unread]) -> None:
        """Judge every row.  Raises before anything is written."""
        if files["events"].files:
            self._read_events(files["events"])
        for part in TABLES:
            if files[part].files:
                self._read_table(part, files[part])

    def write(self, files: dict[str, batches.Unread]) -> tuple[int, dict[str, int]]:
        """Write the batch: number of new items, rows written to items and users."""
        batches.open_batch(self.lake, self.id, files, self.note)
        known = self.lake.read(ITEM_VOCABULARY)
        new = self._keep(vocabulary.unknown(vocabulary.first_seen(self._accepted(), self.delivered.get("items")), known))
        n_new = new.count()
        table_rows = {part: self._write_table(part, new if part == "items" and n_new else None) for part in self.delivered}
        if n_new:
            if "items" not in self.delivered:
                table_rows["items"] = self._write_undescribed(new)
            self._write_new_items(new, known)
        self._write_events()
        self._close()
        return n_new, table_rows

    # ---- read ------------------------------------------------------------------------------------------------------

    def _read_events(self, files: batches.Unread) -> None:
        log = self.config.log
        raw = sources.read_raw(self.lake.spark, files.files, log.events.source, self.before.rows_in)
        rows = self._keep(map_events(raw.frame, log.events, log.name, self.arrival))
        by_reason, days = self._on_values(lambda: stage.count_rows(rows))
        known = self._known_events(stage.days_to_search(days, log.events, self.config.ingest.lookback))
        self.judged = self._keep(stage.judge(rows, log.events, known, self.arrival))
        # rows that explode made were not there to be counted before
        n_rows = sum(by_reason.values()) if log.events.explode else raw.n_rows
        self.tally = stage.tally(n_rows, by_reason, stage.count_fates(self.judged))
        self.tally.check_share(self.config.ingest.max_quarantine_share)
        if self.tally.quarantined:
            # rows that explode made, and equal rows of a Delta table, have their place in common
            shared = bool(log.events.explode) or log.events.source.format == "delta"
            self._refuse(stage.refusals(rows, self.judged), self.tally.quarantined, files.read_before or shared)
            self.tally = self.tally.with_quarantined(self.n_refused)
        self.tally.check()

    def _read_table(self, part: str, files: batches.Unread) -> None:
        table, mapping, label = TABLES[part], getattr(self.config.log, part), f"{self.config.log.name}.{part}"
        raw = sources.read_raw(self.lake.spark, files.files, mapping.source)
        rows = self._keep(catalogue.map_table(with_lookups(raw.frame, files.files, mapping, label), mapping, table, label))
        by_reason = self._on_values(lambda: {r["reason"]: r["count"] for r in rows.groupBy("reason").count().collect()})
        reasons = {r: n for r, n in by_reason.items() if r is not None}
        Tally(rows_in=sum(by_reason.values()), reasons=reasons).check_share(self.config.ingest.max_quarantine_share)
        self.delivered[part] = self._keep(catalogue.newest_per_key(rows, table))
        if reasons:
            self._refuse(rows.where("reason IS NOT NULL"), sum(reasons.values()), files.read_before or mapping.source.format == "delta")

    def _refuse(self, rows: DataFrame, n: int, repeated: bool) -> None:
        """Keep `n` refused rows for the quarantine; when some may be `repeated`, those that it lacks, each once."""
        if repeated:
            rows = self._keep(stage.new_refusals(rows, self.lake.read(QUARANTINE)))
            n = rows.count()
        self.refused.append(rows.select(*stage.REFUSED))
        self.n_refused += n

    def _known_events(self, days: list) -> DataFrame | None:
        """Ids of earlier batches on these days."""
        if not self.before.last or not days:
            return None
        return self.lake.read(EVENTS).where(any_of("event_date", days)).select("event_id")

    def _on_values(self, count):
        """`count()`; an expression of the mapping that fails on a value is an error of the mapping, shown without the value."""
        try:
            return count()
        except PySparkException as e:
            if e.getCondition() not in ON_A_VALUE:
                raise
            where = [c.fragment() for c in e.getQueryContext() or []]
            raise MappingError(
                f"mapping {self.config.log.name}: {' '.join(where) or 'an expression'} fails on a row ({e.getCondition()}); "
                "write try_cast(… AS type) or try_divide, which give NULL there, so that the row is refused and not the batch"
            ) from None

    # ---- write -----------------------------------------------------------------------------------------------------

    def _accepted(self) -> DataFrame:
        return self.lake.read(EVENTS).where("false") if self.judged is None else self.judged.where(F.col("fate") == stage.ACCEPTED)

    def _write_table(self, part: str, new: DataFrame | None) -> int:
        """New and changed intervals; into `items` also a row for each of the `new` items that no table describes."""
        table = TABLES[part]
        is_first, current = not self.lake.exists(table), self.lake.read(table)
        changes = catalogue.changes(self.delivered[part], current, table, self.now, self.id)
        if new is not None:
            changes = changes.unionByName(catalogue.undescribed(new, [current, self.delivered[part]], table, self.id))
        if is_first:
            self.lake.append(changes, table, self.note)
            return self.lake.rows_written(table, self.note) or 0
        changes = self._keep(changes)       # a merge reads its source twice
        if n := changes.count():
            self.lake.merge(changes, table, self.note)
        return n

    def _write_undescribed(self, new: DataFrame) -> int:
        """A row with nothing but the id for each of the `new` items that has none."""
        self.lake.append(catalogue.undescribed(new, [self.lake.read(ITEMS)], ITEMS, self.id), ITEMS, self.note)
        return self.lake.rows_written(ITEMS, self.note) or 0

    def _write_new_items(self, new: DataFrame, known: DataFrame) -> None:
        """Integers for the `new` items."""
        self.lake.append(vocabulary.new_entries(new, vocabulary.check_dense(known), self.id), ITEM_VOCABULARY, self.note)
        vocabulary.check_dense(self.lake.read(ITEM_VOCABULARY))

    def _write_events(self) -> None:
        """What Delta says it wrote takes the place of what was counted, and has to add up again."""
        if self.n_refused:
            refused = reduce(DataFrame.unionByName, self.refused).withColumn("batch_id", F.lit(self.id).cast("bigint"))
            self.lake.append(refused, QUARANTINE, self.note)
            lost = self.n_refused - (self.lake.rows_written(QUARANTINE, self.note) or 0)
            self.tally = replace(self.tally, quarantined=self.tally.quarantined - lost)
        if self.tally.accepted:
            events = stage.numbered_events(self._accepted(), self.lake.read(ITEM_VOCABULARY), self.id)
            self.lake.append(events, EVENTS, self.note)
            self.tally = replace(self.tally, accepted=self.lake.rows_written(EVENTS, self.note) or 0)
        self.tally.check()

    def _close(self) -> None:
        t = self.tally
        row = {
            "batch_id": self.id, "log": self.config.log.name, "rows_in": t.rows_in, "rows_accepted": t.accepted,
            "rows_quarantined": t.quarantined, "rows_duplicate": t.duplicate, "min_ts": t.min_ts, "max_ts": t.max_ts,
            "finished_at": datetime.now(UTC),
        }
        batches.close_batch(self.lake, row, {**self.note, "reasons": t.reasons})

    def _keep(self, frame: DataFrame) -> DataFrame:
        kept = frame.persist()
        self.stack.callback(kept.unpersist)
        return kept
