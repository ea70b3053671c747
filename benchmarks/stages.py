"""How fast is each stage, and what does a night cost that changes little?

    python benchmarks/stages.py --workdir /tmp/stages --events 100000 1000000 10000000 --out benchmarks/stages.csv

Per size, in a process of its own (so that peak memory is that size's): a generated shop log, then every stage on an empty root, then
the same stages for the next day, on which about 1 % of the users are active.  Session start is apart.  Users per second of recommend
stand beside what a plain fp32 matrix product [batch, 64] x [64, items] reaches in the same run.  Prints lines and writes CSV rows.
"""
from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from recs.clock import Night, parse_date
from recs.config import Config, load

HEAD = ("events", "stage", "mode", "seconds", "rate_per_s", "unit", "peak_mb")


class PeakMemory:
    """Highest resident memory of this process and its children (JVM, Python workers), sampled ten times a second."""

    def __init__(self) -> None:
        self.mb = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        me = psutil.Process()
        while True:
            total = 0
            for p in [me, *me.children(recursive=True)]:
                try:
                    total += p.memory_info().rss
                except psutil.Error:
                    continue
            self.mb = max(self.mb, total / 2**20)
            time.sleep(0.1)

    def take(self) -> float:
        """The peak since the last call."""
        peak, self.mb = self.mb, 0.0
        return round(peak)


def matrix_rate(n_items: int, batch: int = 256, width: int = 64, seconds: float = 2.0) -> float:
    """Users per second of a plain fp32 product [batch, width] x [width, items], all cores."""
    rng = np.random.default_rng(0)
    users, items = rng.random((batch, width), np.float32), rng.random((width, n_items), np.float32)
    users @ items
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        users @ items
        done += batch
    return done / (time.perf_counter() - began)


def measure(events: int, workdir: Path) -> list[dict[str, Any]]:
    """All rows of one size."""
    from recs.etl.news import State
    from recs.generate import generate, make_config
    from recs.jobs import derive, ingest, item_tables, recommend
    from recs.models import make, model_class
    from recs.models.base import Setting
    from recs.serve import nights
    from recs.session import start
    from recs.tables import Lake

    config, memory, rows = _config(), PeakMemory(), []

    def timed(stage: str, mode: str, work: Callable[[], Any], amount: Callable[[Any], int], unit: str = "events") -> Any:
        memory.take()
        began = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - began
        rate, peak = round(amount(result) / seconds), memory.take()
        rows.append(dict(zip(HEAD, (events, stage, mode, round(seconds, 2), rate, unit, peak), strict=True)))
        print(f"{events:>11,}  {stage:<12} {mode:<6} {seconds:8.1f} s  {rate:>10,} {unit}/s  {peak:>6,} MB", flush=True)
        return result

    spark = timed("start", "full", lambda: start("stages", config.spark), lambda _: 0)
    log = workdir / f"log-{events}"
    made = make_config(**(config.demo or {}) | {"n_events": events, "dirt": 0.0})
    timed("generate", "full", lambda: generate(spark, str(log), made), lambda _: events)
    lake = Lake(spark, workdir / f"lake-{events}")
    first = Night.of(made.end_date, config.clock.zone, config.clock.lead)
    second = Night.of(made.end_date + timedelta(days=1), config.clock.zone, config.clock.lead)

    def one_night(night: Night, inputs: list[str], mode: str) -> None:
        got = timed("ingest", mode, lambda: ingest.run(
            spark, lake, config, inputs, [f"{log}/items"], [f"{log}/users"], now=night.serve_at), lambda r: r.tally.rows_in)
        attempt = nights.plan(lake, night, config.lists.name, config_hash=config.hash, code_version="benchmark", refresh=True)
        for name, _table, run in derive.STAGES:
            timed(name, mode, lambda run=run: run(spark, lake, config, night.as_of, attempt.max_batch), lambda _: got.tally.accepted)
        derived = derive.bring(lake, config, night.as_of, attempt.max_batch, _silent)
        name = config.models[-1]
        cls = model_class(name)
        model = make(name, cls.grid(Setting())[0])
        folder = workdir / f"model-{events}"
        model.save(folder)
        state = State(night.as_of_us, attempt.max_batch)
        tables = timed("item_tables", mode, lambda: item_tables.run(
            spark, lake, config, night.as_of, cls.needs(model.params), derived=derived, state=state), lambda _: events)
        _, counts = timed("recommend", mode, lambda: recommend.run(
            spark, lake, config, attempt, model_path=folder, model_version="benchmark", tables_path=tables.path, derived=derived,
            changed_only=mode == "night"), lambda r: r[1]["rows_staged"] // config.lists.k, "users")
        if mode == "full":
            plain = matrix_rate(tables.n_items)
            rows.append(dict(zip(HEAD, (events, "matrix_product", mode, 0, round(plain), "users", 0), strict=True)))
            print(f"{events:>11,}  plain fp32 product over {tables.n_items:,} items: {plain:,.0f} users/s", flush=True)

    one_night(first, [str(p) for p in sorted((log / "events").glob("arrival=*")) if _arrival(p) < made.end_date], "full")
    one_night(second, [str(_small_day(log, made.end_date, events, spark))], "night")
    return rows


def _config() -> Config:
    return load("default")


def _silent(_name: str):
    from contextlib import nullcontext

    return nullcontext({})


def _arrival(folder: Path):
    return parse_date(folder.name.split("=")[1])


def _small_day(log: Path, day, events: int, spark) -> Path:
    """The raw lines of one day, of 1 % of all users only."""
    from pyspark.sql import functions as F

    out = log.with_name(f"{log.name}-day")
    if not out.exists():
        lines = spark.read.text([str(p) for p in (log / "events").glob("arrival=*") if _arrival(p) == day])
        user = F.get_json_object("value", "$.visitor")
        users = spark.read.json(f"{log}/users").select("user_id").where(F.pmod(F.xxhash64("user_id"), F.lit(100)) == 0)
        lines.withColumn("user_id", user).join(users, "user_id", "left_semi").select("value").write.text(str(out))
    return out


def main() -> int:
    """Each size in its own process; then one table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("--events", type=int, nargs="+", default=[100_000, 1_000_000])
    p.add_argument("--workdir", type=Path, required=True, help="folder for logs and tables; logs found there are used again")
    p.add_argument("--out", type=Path, help="CSV of all rows")
    p.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.one:
        print("ROWS " + json.dumps(measure(args.events[0], args.workdir)))
        return 0
    rows: list[dict[str, Any]] = []
    for n in args.events:
        child = [sys.executable, __file__, "--one", "--events", str(n), "--workdir", str(args.workdir)]
        with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                if line.startswith("ROWS "):
                    rows += json.loads(line[5:])
                else:
                    print(line, end="", flush=True)
        if process.returncode:
            return process.returncode
    if args.out:
        with args.out.open("w", newline="") as f:
            writer = csv.DictWriter(f, HEAD)
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
