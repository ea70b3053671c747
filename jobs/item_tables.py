"""Build item statistics and neighbours as of a cut: the files that every model reads.

reads   item_hours, sequences, item_vocabulary, items, text_vectors
writes  a folder per cut: ROOT/item_tables/<cut>-batch<highest batch>, or --out

    recs item-tables --root warehouse --cut 2024-03-31T00:00:00Z
    spark-submit jobs/item_tables.py --config my.yaml --root /data/recs --cut 2024-03-24T00:00:00Z --kinds cooc ease:300

The folder is written by the driver, on its own disk: where ROOT is a URL, say --out.  A folder that was made from the same state
and configuration, and has the kinds, is taken as it is.
"""
from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recs.batches import known_rows
from recs.clock import from_micros, micros, parse_instant
from recs.config import Config
from recs.etl.item_tables import Sources, build_at_cuts
from recs.etl.news import State
from recs.etl.text_vectors import Texts
from recs.evidence.item_kinds import TEXT
from recs.evidence.item_tables import ItemTables
from recs.jobs._cli import RunRecord, _typed, load, parser, run_job
from recs.schemas import ITEM_HOURS, ITEM_VOCABULARY, ITEMS, SEQUENCES, TEXT_VECTORS
from recs.session import start
from recs.tables import Lake, TableError, lease

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recs.serve.inputs import Readable


def standing(lake: Lake) -> State:
    """The state that sequences and item_hours stand at.  Raises TableError unless it is the same."""
    notes = {t.name: lake.note(t) for t in (SEQUENCES, ITEM_HOURS)}
    states = {name: State.from_note(note) if note else None for name, note in notes.items()}
    if None in states.values() or len(set(states.values())) > 1:
        how = "; ".join(f"{name}: {state or 'never built'}" for name, state in states.items())
        raise TableError(f"{lake.root}: sequences and item_hours must stand at one state ({how}); run recs item-hours and recs sequences")
    return states[SEQUENCES.name]


def folder(root: str | Path, cut: datetime, state: State) -> Path:
    """Where the item tables of a cut go that are built from tables at this state.  Raises TableError for a root that is a URL."""
    if "://" in str(root):
        raise TableError(f"{root} is a URL and item tables are files of the driver: say where with --out")
    later = "" if state.as_of_us == micros(cut) else f"-from{_compact(from_micros(state.as_of_us))}"
    return Path(root) / "item_tables" / f"{_compact(cut)}-batch{state.max_batch}{later}"


def _compact(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ" if not instant.microsecond else "%Y%m%dT%H%M%S.%fZ")


def default_kinds(config: Config) -> tuple[str, ...]:
    """The kinds built when none are named: all but ALS."""
    return ("cooc", "transitions", "adopters", f"ease:{config.item_tables.ease_lambda:g}")


def run(
    spark: SparkSession, lake: Lake, config: Config, cut: datetime, kinds: Iterable[str],
    *, derived: Readable | None = None, state: State | None = None, out: str | Path | None = None,
) -> ItemTables:
    """The item tables of a cut, from `derived` (sequences and item_hours at `state`; default: the lake's newest) into `out`.

    The state may lie beyond the cut: nothing at or after the cut is read.  Raises TableError when it lies before.
    """
    state = state or standing(lake)
    return run_many(lake, config, {cut: Path(out or folder(lake.root, cut, state))}, kinds, derived or lake, state)[0]


def run_many(
    lake: Lake, config: Config, outs: Mapping[datetime, Path], kinds: Iterable[str], derived: Readable, state: State,
) -> list[ItemTables]:
    """The item tables of several cuts, in the same Spark jobs, each into its folder."""
    for cut in outs:
        if state.as_of_us < micros(cut):
            raise TableError(f"sequences and item_hours stand at {state}, before the cut {cut.isoformat()}; bring them forward first")
    vocabulary = lake.read(ITEM_VOCABULARY).where(f"batch_id <= {state.max_batch}")
    items = known_rows(lake.read(ITEMS), "item_id", state.max_batch)
    codes = {name: t.code for name, t in config.log.events.event_types.items()}
    texts = Texts(items, lake.read(TEXT_VECTORS), config.text) if config.text and config.log.items else None
    sources = Sources(derived.read(ITEM_HOURS), derived.read(SEQUENCES), vocabulary, items if config.log.items else None, codes, texts)
    facts = {"text": config.text.model_dump(mode="json")} if texts and TEXT in (kinds := set(kinds)) else {}
    return build_at_cuts(
        sources, outs, kinds, config.item_tables, **facts, as_of_us=state.as_of_us, max_batch=state.max_batch,
        max_events=config.sequences.max_events, session_gap_s=config.sessions.gap.total_seconds(),
    )


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = parser(__doc__)
    p.add_argument("--cut", type=_typed(parse_instant), required=True, metavar="INSTANT", help="nothing at or after it is read")
    kinds = "cooc, transitions, adopters, ease:LAMBDA, als:FACTORS:REG:ALPHA (default: all but als; none: statistics only)"
    p.add_argument("--kinds", nargs="*", metavar="KIND", help=kinds)
    p.add_argument("--out", metavar="DIR", help="the folder to write (default: ROOT/item_tables/<cut>-batch<highest batch>)")
    args = p.parse_args(argv)

    def body() -> None:
        config = load(args.config)
        record = RunRecord("item_tables", args.root, config)
        with lease(args.root):
            lake = Lake(start("recs item_tables", config.spark), args.root)
            began = time.monotonic()
            kinds = default_kinds(config) if args.kinds is None else args.kinds
            tables = run(lake.spark, lake, config, args.cut, kinds, out=args.out)
        counts = {"items": tables.n_items, "users": tables.manifest["n_users"]}
        record.step("item_tables", time.monotonic() - began, **counts)
        record.write(item_tables=tables.version)
        facts = {"job": "item_tables", "version": tables.version, "folder": str(tables.path), "kinds": sorted(tables.kinds)}
        print(json.dumps({**facts, "left_out": tables.manifest["left_out"], **counts}))

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
