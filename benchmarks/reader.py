"""Is reading what training waits for?  Rows/s and MB/s of both readers, and the waiting share of a SASRec trained through each.

    python benchmarks/reader.py [--rows 20000] [--events 200] [--candidates 128] [--features 40] [--dim 64] [--threads 2]

The data are made up but have the shapes of a nightly example: a history (items, instants, types), candidates with half-precision
evidence, labels; 1,000 rows to a row group, 5,000 to a file.  Files were just written, so they come from the page cache: this is
what decoding costs, not the disk.  CPU seconds stand beside wall seconds because a shared machine stretches the wall clock.
Prints one line of JSON.
"""
from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recs.nn.hardware import product_rate
from recs.nn.reader import Reader
from recs.nn.settings import TrainConfig
from recs.nn.staged import Staged, fields_of, write_manifest, write_part
from recs.nn.train import train
from recs.nn.zoo.sasrec import SASRec, SASRecConfig

N_ITEMS = 10_000
KINDS = ("petastorm", "arrow")


def stage(folder: Path, rows: int, events: int, candidates: int, features: int, rows_per_file: int = 5_000) -> Staged:
    """Made-up examples; item ids are Zipf-like and evidence is smooth, so that they compress as real ones do."""
    rng, files = np.random.default_rng(0), []
    for number, lo in enumerate(range(0, rows, rows_per_file)):
        n = min(rows_per_file, rows - lo)
        columns = {
            "user": np.arange(lo, lo + n, dtype=np.int64),
            "h_item": np.minimum(rng.zipf(1.3, (n, events)), N_ITEMS).astype(np.int32),
            "h_len": np.full(n, events, np.int32),
            "h_ts": np.cumsum(rng.integers(0, 10**10, (n, events)), axis=1),
            "h_type": rng.integers(0, 4, (n, events)).astype(np.uint8),
            "c_item": np.minimum(rng.zipf(1.3, (n, candidates)), N_ITEMS).astype(np.int32),
            "evidence": rng.standard_normal((n, candidates, features)).round(2).astype(np.float16),
            "label": (rng.random((n, candidates)) < 0.02).astype(np.uint8),
            "follow": np.broadcast_to(np.arange(events) < events - 1, (n, events)).astype(np.uint8),
            "target": rng.integers(1, N_ITEMS + 1, (n, 1)).astype(np.int32),
        }
        fields = fields_of(columns)
        files.append(write_part(folder, number, columns, fields, row_group_rows=1_000))
    return write_manifest(folder, fields, files)


def read(staged: Staged, kind: str, batch_size: int) -> dict[str, float]:
    """One epoch, shuffled, nothing else done with it."""
    reader = Reader(staged, batch_size, kind=kind)
    with reader.epoch(0) as batches:
        next(batches)           # the first one pays for imports
    wall, cpu, rows = time.perf_counter(), time.process_time(), 0
    for batch in reader.epoch(1):
        rows += len(batch["user"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "rows_per_s": round(rows / wall), "rows_per_cpu_s": round(rows / cpu),
        "mb_per_s": round(rows * staged.row_bytes / wall / 1e6), "mb_per_cpu_s": round(rows * staged.row_bytes / cpu / 1e6),
    }


def waiting(staged: Staged, kind: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One epoch of SASRec over the histories, all fields read as `timeline` would."""
    model = SASRec(N_ITEMS, SASRecConfig(length=args.events, dim=args.dim, loss="sampled"))
    config = TrainConfig(epochs=1, batch_size=args.batch_size, reader=kind, threads=args.threads, tensorboard=False)
    trained = train(model, staged, None, config, folder, check_hashes=False)
    return {"examples_per_s": round(trained.examples / trained.seconds), "waiting_share": round(trained.waiting_share, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = {"rows": 20_000, "events": 200, "candidates": 128, "features": 40, "dim": 64, "batch-size": 128, "threads": 2}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        staged = stage(Path(folder) / "staged", args.rows, args.events, args.candidates, args.features)
        shown: dict[str, Any] = vars(args) | {
            "row_bytes": staged.row_bytes, "file_bytes_per_row": round(sum(f.bytes for f in staged.files) / staged.rows),
            "product_gflops": round(product_rate(torch.device("cpu")) / 1e9),
        }
        for kind in KINDS:
            shown[kind] = read(staged, kind, args.batch_size) | waiting(staged, kind, Path(folder) / kind, args)
    print(json.dumps(shown))


if __name__ == "__main__":
    main()
