"""Answer a benchmark split with one of the product's models.

    python benchmarks/run_split.py SPLIT_DIR --model blend --out recs.parquet

The folder is as splits.py of the outside judge writes it (the truth is not needed and never read).  What happens is what happens
every night in the product, with its own functions: histories and item tables as of earlier cuts inside the fit events, parameters
fitted on what followed them, then, cut by cut, item tables rebuilt from that night's history and lists made from it.

    nightly, nightly1d      fitted on earlier cuts, each with a whole horizon before the night, and again when `fit.every` has passed;
                            tables and histories as of each cut
    gts_last                fitted on the last tenth of the fit events (models that train: on earlier windows as long as the requests');
                            tables of the fit events, a history and an instant per user
    loo                     fitted on each user's last fit event; the same

--no-refit keeps the item tables of the first cut for all nights (histories still grow).  --budget bounds the minutes: the first
table builds are measured, then earlier cuts are dropped, and the model is not fitted again when the nights left need the time.
--refreshed (gts_last) lets each request read item tables that were built after the fit events' end, as every night would: from the events
before them that may be looked at.  --set KEY=VALUE holds a parameter of the model fixed (span=14d), or, with a dot, sets a key of the
configuration (item_tables.neighbours=100, fit.nights=4).  --items FILE says what is known of the items, for models that read texts or
places (split_folder.py says how); texts are read by `--set text.model=FOLDER`, hashed words otherwise.  --work DIR keeps item tables
between runs.
"""
from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from split_folder import SplitError, SplitFolder
from split_run import Run, Stopwatch

from recs.config import SparkConfig
from recs.models import NAMES, ModelError, model_class
from recs.models.fitting import SettingError
from recs.session import QUICK_JVM, SessionError, start

log = logging.getLogger("run_split")


def parse_settings(pairs: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """KEY=VALUE -> (parameters of the model, keys of the configuration); values are YAML."""
    parsed = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise SplitError(f"--set {pair}: write KEY=VALUE")
        parsed[key] = yaml.safe_load(value)
    return {k: v for k, v in parsed.items() if "." not in k}, {k: v for k, v in parsed.items() if "." in k}


def write_one_file(folders: list[Path], out: Path) -> int:
    """All lists as one Parquet file; returns the rows."""
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    out.parent.mkdir(parents=True, exist_ok=True)
    partial, rows, writer = out.with_name(out.name + ".partial"), 0, None
    for folder in folders:
        for batch in ds.dataset(sorted(folder.glob("*.parquet"))).to_batches():
            writer = writer or pq.ParquetWriter(partial, batch.schema, compression="zstd")
            writer.write_batch(batch)
            rows += batch.num_rows
    if writer is None:
        raise SplitError("no request has a user with a history: there is nothing to recommend")
    writer.close()
    partial.replace(out)
    return rows


def arg_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("split_dir", type=Path, help="folder written by splits.py")
    p.add_argument("--model", required=True, help=f"one of {', '.join(NAMES)}")
    p.add_argument("--out", type=Path, required=True, help="Parquet file: user_id, night, item_id, rank, score")
    p.add_argument("--k", type=int, default=20, help="length of the lists (20)")
    p.add_argument("--no-refit", action="store_true", help="item tables of the first cut for all nights")
    p.add_argument("--refreshed", action="store_true", help="gts_last: item tables built again and again up to each request")
    p.add_argument("--budget", type=float, default=30.0, metavar="MINUTES", help="time to keep to (30)")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a fixed parameter, or a key of the configuration")
    p.add_argument("--items", type=Path, metavar="FILE", help="Parquet file: item_id and title, category, lat, lon, …")
    p.add_argument("--work", type=Path, help="folder for item tables and lists on their way; kept (a temporary one is removed)")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command."""
    args = arg_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    watch = Stopwatch(args.budget * 60)
    work = args.work or Path(tempfile.mkdtemp(prefix="run-split-"))
    spark = None
    try:
        fixed, keys = parse_settings(args.set)
        model_class(args.model)
        spark = start("recs run_split", SparkConfig(shuffle_partitions=4, java_options=QUICK_JVM))
        split = SplitFolder(args.split_dir, spark, args.items)
        run = Run(split, args.model, split.config(keys), fixed, args.k, not args.no_refit, work.resolve(), watch,
                  refreshed=args.refreshed)
        rows = write_one_file(run.lists(), args.out)
        log.info("%5.0f s  %d rows in %s", watch.spent_s, rows, args.out)
    except (SplitError, ModelError, SettingError, SessionError, ValidationError) as e:
        print(f"run_split: {e}", file=sys.stderr)
        return 2
    finally:
        if spark is not None:
            spark.stop()
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
