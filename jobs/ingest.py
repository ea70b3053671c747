"""Read raw files into events, items and users: rows that break the contract go to the quarantine, files read before are skipped.

reads   the files named by --input, --items, --users, as the mapping of the configuration's log says (docs/mappings.md)
writes  input_files, items, users, item_vocabulary, events, events_quarantine; batches last: what is not in it did not happen

    recs ingest --config my.yaml --root warehouse --input 'raw/2024-03-30/*.json.gz' --items raw/items.csv
    spark-submit jobs/ingest.py --config my.yaml --root /data/recs --input hdfs:///raw/2024-03-30 --now 2024-03-31T02:00:00Z
"""
from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from recs import batches
from recs.clock import parse_instant
from recs.config import Config
from recs.etl import sources
from recs.etl.ingest import Tally
from recs.etl.lookups import with_lookup_fingerprints
from recs.etl.mapping import MappingError
from recs.jobs._batch import Batch
from recs.jobs._cli import RunRecord, _typed, add_wait, load, parser, run_job
from recs.session import start
from recs.tables import Lake, lease

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class IngestResult:
    """What one run did.  `batch_id` None: every file had been read before, nothing was written."""

    batch_id: int | None = None
    tally: Tally = field(default_factory=Tally)
    n_files: int = 0
    n_new_items: int = 0                                        # items that got an integer
    table_rows: dict[str, int] = field(default_factory=dict)    # intervals written to items and users
    took_back: bool = False                                     # an earlier run had died; its rows were removed first

    def counts(self) -> dict[str, Any]:
        """For the run record and the summary; names as in `batches`."""
        if self.batch_id is None:
            return {"batch_id": None, "new_files": 0}
        t = self.tally
        rows = {"rows_in": t.rows_in, "rows_accepted": t.accepted, "rows_quarantined": t.quarantined, "rows_duplicate": t.duplicate}
        written = {"new_items": self.n_new_items, **{f"{name}_written": n for name, n in self.table_rows.items()}}
        return {"batch_id": self.batch_id, "new_files": self.n_files, **rows, "reasons": t.reasons, **written}


def run(
    spark: SparkSession, lake: Lake, config: Config, inputs: Sequence[str], items: Sequence[str] = (), users: Sequence[str] = (),
    backfill: bool = False, now: datetime | None = None,
) -> IngestResult:
    """Read what is new in these files, folders and globs as one batch.  The caller holds the lease on the root.

    `now`: the clock against which future events are refused, and from which changed catalogue rows hold (default: the real one).
    `backfill`: old events are welcome.  Raises IngestError, MappingError or SourceError before anything is written.
    """
    before = batches.progress(lake)
    took_back = batches.take_back_unfinished(lake, before.last)
    files = _new_files(lake, config, {"events": inputs, "items": items, "users": users})
    if not any(f.files for f in files.values()):
        return IngestResult(took_back=took_back)
    with sources.fixed_splits(spark), ExitStack() as stack:
        batch = Batch(lake, config, before, now or datetime.now(UTC), backfill, stack)
        batch.read(files)
        n_new_items, table_rows = batch.write(files)
    return IngestResult(batch.id, batch.tally, sum(len(f.files) for f in files.values()), n_new_items, table_rows, took_back)


def _new_files(lake: Lake, config: Config, paths: dict[str, Sequence[str]]) -> dict[str, batches.Unread]:
    there = {}
    for part, given in paths.items():
        mapping = getattr(config.log, part)
        if given and mapping is None:
            raise MappingError(f"mapping {config.log.name} says nothing about {part}: add `{part}:` to it, or leave --{part} out")
        there[part] = sources.list_files(lake.spark, given, mapping.source) if given else []
        if there[part] and part != "events":
            there[part] = with_lookup_fingerprints(lake.spark, there[part], mapping)
    return batches.unread(lake, there)


def main(argv: list[str] | None = None) -> int:
    """The command; one line of JSON says what was done."""
    p = parser(__doc__)
    p.add_argument("--input", nargs="+", required=True, metavar="PATH", help="event files, folders, globs; a Delta table: PATH or PATH@v7")
    p.add_argument("--items", nargs="+", default=[], metavar="PATH", help="catalogue files")
    p.add_argument("--users", nargs="+", default=[], metavar="PATH", help="user files")
    p.add_argument("--backfill", action="store_true", help="accept events older than the lookback (ingest.lookback)")
    p.add_argument("--now", type=_typed(parse_instant), metavar="INSTANT", help="the batch's clock, for replays (default: the real one)")
    add_wait(p)
    args = p.parse_args(argv)

    def body() -> None:
        config = load(args.config)
        record = RunRecord("ingest", args.root, config)
        with lease(args.root, wait_s=args.wait):
            lake = Lake(start("recs ingest", config.spark), args.root)
            began = time.monotonic()
            result = run(lake.spark, lake, config, args.input, args.items, args.users, args.backfill, args.now)
        record.step("ingest", time.monotonic() - began, **result.counts())
        record.write()
        print(json.dumps({"job": "ingest", **result.counts()}))

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
