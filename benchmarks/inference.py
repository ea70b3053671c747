"""How fast lists are made: users/s of the nightly inference, and its share of a plain fp32 matrix product measured in the same run.

    python benchmarks/inference.py [--users 10000] [--items 10000] [--model personal] [--k 20] [--events 50]

The yardstick is what the arithmetic alone would cost: numpy's product of [batch, 64] by [64, items] in float32, one thread, which
gives every user a score for every item.  `share` = users per CPU second of the inference on one thread / that of the product: CPU
time, because a shared machine stretches the wall clock.  Inference is everything else too: reading histories, scoring, rules, the
running top-K, reasons, ids, rows.  Prints one line of JSON.
"""
from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from recs.clock import DAY, HOUR
from recs.evidence.histories import SEQUENCE_COLUMNS
from recs.evidence.item_tables import FOREVER_US, HALF_LIVES, WINDOWS, write_manifest
from recs.models import NAMES, make
from recs.serve.artifacts import model_artifact, opened, tables_artifact
from recs.serve.rules import Rules
from recs.serve.score import Plan, batches, lists_of

CUT = 20_000 * DAY
FACTORS = 64


def item_tables(folder: Path, n_items: int, kinds: frozenset[str], rng: np.random.Generator) -> Path:
    """Item tables of made-up items: popularity falls with the number, neighbours are random, 50 an item."""
    texts = [f"i{n:08d}".encode() for n in range(n_items)]
    popular = (1e6 / np.arange(1, n_items + 1)).astype(np.float32)
    names = ["events_all", *(f"users_{w}" for w in WINDOWS), *(f"decay_{h}" for h in HALF_LIVES)]
    arrays = {
        "item_index": np.arange(n_items, dtype=np.int32), "category": (np.arange(n_items) % 50).astype(np.int32),
        "item_ids.bytes": np.frombuffer(b"".join(texts), np.uint8), "item_ids.ends": np.cumsum([len(t) for t in texts]),
        "available_from": np.zeros(n_items, np.int64), "available_until": np.full(n_items, FOREVER_US),
        **{f"stat.{name}": popular for name in names},
        "stat.first_h": np.full(n_items, 1000, np.float32), "stat.last_h": np.full(n_items, 1, np.float32),
    }
    for kind in kinds:
        if kind.startswith("ease"):
            arrays[f"{kind}.dense"] = rng.standard_normal((n_items, n_items), np.float32)
        elif kind.startswith("als"):
            arrays[f"{kind}.dense"] = rng.standard_normal((n_items, int(kind.split(":")[1])), np.float32)
        else:
            arrays |= {
                f"{kind}.indptr": np.arange(n_items + 1, dtype=np.int64) * 50, f"{kind}.values": rng.random(n_items * 50, np.float32),
                f"{kind}.indices": np.sort(rng.integers(0, n_items, (n_items, 50)), axis=1).astype(np.int32).ravel(),
            }
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    write_manifest(folder, cut_us=CUT, n_items=n_items, kinds=sorted(kinds))
    return folder


def histories(n_users: int, n_items: int, n_events: int, rng: np.random.Generator) -> pd.DataFrame:
    """`n_events` on average, geometric; items by popularity."""
    rows = []
    for u, n in enumerate(rng.geometric(1 / n_events, n_users)):
        missing = np.full(n, np.nan, np.float32)
        items = np.minimum(rng.zipf(1.3, n), n_items).astype(np.int32) - 1
        times = np.sort(CUT - rng.integers(1, 60 * DAY, n))
        numbers = missing, missing, missing, missing, np.zeros(n, np.int32)
        rows.append((f"u{u:08d}", items, np.ones(n, np.int32), times, *numbers, CUT + 7 * HOUR, None))
    return pd.DataFrame(rows, columns=[*SEQUENCE_COLUMNS, "request_us", "blocked"])


def product_rate(batch: int, n_items: int, rng: np.random.Generator, repeats: int = 20) -> float:
    """Users per CPU second of a plain matrix product."""
    users, items = rng.standard_normal((batch, FACTORS), np.float32), rng.standard_normal((FACTORS, n_items), np.float32)
    out = users @ items
    start = time.process_time()
    for _ in range(repeats):
        np.matmul(users, items, out=out)
    return batch * repeats / (time.process_time() - start)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("--users", type=int, default=10_000)
    p.add_argument("--items", type=int, default=10_000)
    p.add_argument("--events", type=int, default=50, help="mean length of a history")
    p.add_argument("--model", choices=NAMES, default="personal")
    p.add_argument("--k", type=int, default=20)
    args = p.parse_args()
    rng, model = np.random.default_rng(7), make(args.model)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        tables = item_tables(Path(folder) / "tables", args.items, model.needs(model.params), rng)
        model.save(Path(folder) / "model")
        plan = Plan(model_artifact(Path(folder) / "model"), tables_artifact(tables), args.k, Rules(hidden_us={1: DAY}))
        ready, requests = opened(plan.model, plan.tables), histories(args.users, args.items, args.events, rng)
        plain = product_rate(plan.batch_users, args.items, rng)
        start, cpu = time.perf_counter(), time.process_time()
        rows = sum(len(lists_of(batch, plan, ready)) for batch in batches(iter([requests]), plan.batch_users))
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({
        "model": args.model, "users": args.users, "items": args.items, "events_per_user": args.events, "rows": rows,
        "users_per_s": round(args.users / wall, 1), "users_per_cpu_s": round(args.users / cpu, 1),
        "product_users_per_cpu_s": round(plain, 1), "share": round(args.users / cpu / plain, 4),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }))


if __name__ == "__main__":
    main()
