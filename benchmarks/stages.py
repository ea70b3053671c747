"""How fast is each stage, and what does a night cost that changes little?

    python benchmarks/stages.py --workdir /tmp/stages --events 100000 1000000 10000000 --out benchmarks/stages.csv
    python benchmarks/stages_report.py benchmarks/stages.csv                    # the table of the README, and the plot

Per size, in a process of its own (so that start and peak memory are that size's): a generated shop log of 90 days, then

    full    every stage on an empty root, from the raw files of all days but the last
    night   the same stages for the next day, on which 1 % of the users are active

Session start is a row apart.  Beside the wall clock stand the CPU seconds of all processes of the run (driver, JVM, Python workers):
on a machine that others use too the wall clock is an upper bound, CPU seconds say what the work costs.  Users per second of
recommend stand beside what a plain fp32 matrix product [256, 64] x [64, items] reaches in the same run.
"""
from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from recs.clock import Night, parse_date

ACTIVE = 0.01       # share of the users that are active in the small night
LAST = "publish"    # the stages of a night end with it

MODEL = "blend"     # whose lists are made: fitted models cost the same whatever their parameters


@dataclass(frozen=True)
class Row:
    """One measured stage.  `amount`: events (or users) of the whole log for `full`, those that are new for `night`."""

    events: int
    stage: str
    mode: str
    amount: int
    unit: str
    seconds: float
    cpu_s: float
    peak_mb: int
    load: float         # of the machine when the stage ended, one minute's average


class Watch:
    """Peak memory and CPU seconds of this process and all below it, sampled five times a second.

    Memory is that of the driver, the JVM and the Python workers; of these, which are forks, their own share of the common pages.
    Other children of the JVM live for a millisecond (chmod), show the JVM's own pages until they run, and are not counted.
    A process that has ended keeps the CPU seconds it was last seen with: Spark lets idle workers go.
    """

    def __init__(self) -> None:
        self._peak, self._cpu, self._lock = 0.0, {}, threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self._sample()
            time.sleep(0.2)

    def _sample(self) -> None:
        me, total = psutil.Process(), 0
        with self._lock:
            for p in [me, *me.children(recursive=True)]:
                try:
                    self._cpu[p.pid, p.create_time()] = sum(p.cpu_times()[:2])
                    if "pyspark.daemon" in p.cmdline():
                        total += p.memory_full_info().pss
                    elif p == me or p.ppid() == me.pid:
                        total += p.memory_info().rss
                except psutil.Error:
                    continue
            self._peak = max(self._peak, total / 2**20)

    def peak_mb(self) -> int:
        """The peak since the last call."""
        peak, self._peak = self._peak, 0.0
        return round(peak)

    def cpu_s(self) -> float:
        """User and system time so far."""
        self._sample()
        return sum(self._cpu.values())


class Meter:
    """Runs stages and keeps a row for each."""

    def __init__(self, events: int) -> None:
        self.events, self.rows, self._watch = events, [], Watch()

    def __call__(self, stage: str, mode: str, work: Callable[[], Any], amount: Callable[[Any], int], unit: str = "events") -> Any:
        """What `work` gives back; `amount` says of it how much was done, and is not measured."""
        self._watch.peak_mb()
        began, cpu = time.perf_counter(), self._watch.cpu_s()
        result = work()
        seconds, cpu, peak = time.perf_counter() - began, self._watch.cpu_s() - cpu, self._watch.peak_mb()
        row = Row(self.events, stage, mode, amount(result), unit, round(seconds, 2), round(cpu, 2), peak, round(os.getloadavg()[0], 1))
        self.rows.append(row)
        per_s = f"{row.amount / seconds:>10,.0f} {unit}/s" if row.amount else " " * 18
        print(f"{self.events:>11,}  {stage:<12} {mode:<6} {seconds:8.1f} s  {cpu:8.1f} CPU s  {per_s}  {peak:>6,} MB", flush=True)
        return result


def matrix_rate(n_items: int, batch: int = 256, width: int = 64, seconds: float = 2.0) -> float:
    """Users per second of a plain fp32 product [batch, width] x [width, items], all cores."""
    rng = np.random.default_rng(0)
    users, items = rng.random((batch, width), np.float32), rng.random((width, n_items), np.float32)
    out = users @ items
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        np.matmul(users, items, out=out)
        done += batch
    return done / (time.perf_counter() - began)


def measure(events: int, workdir: Path) -> list[Row]:
    """All rows of one size.  The log stays in `workdir` and is used again; the tables are made anew."""
    from recs.config import SparkConfig, load
    from recs.generate import generate, make_config
    from recs.session import start
    from recs.tables import Lake

    meter, config = Meter(events), load("default")
    # as for a log of one's own: the default configuration spares the demo Java's optimising compiler
    spark = meter("start", "full", lambda: start("stages", SparkConfig()), lambda _: 0, "")
    log, root = workdir / f"log-{events}", workdir / f"lake-{events}"
    shutil.rmtree(root, ignore_errors=True)
    # one rollout: the oracle's lists are not wanted here
    made = make_config(preset="shop", n_events=events, days=90, seed=7, rollouts=1)
    meter("generate", "full", lambda: generate(spark, str(log), made), lambda _: events)
    nights = [Night.of(day, config.clock.zone, config.clock.lead) for day in (made.end_date, made.end_date + timedelta(days=1))]
    before = [str(p) for p in sorted((log / "events").glob("arrival=*")) if _arrival(p) < made.end_date]
    one = OneNight(meter, Lake(spark, root), config, log)
    one.run(nights[0], before, "full")
    one.run(nights[1], [str(small_day(spark, log, made.end_date))], "night")
    return meter.rows


class OneNight:
    """The stages of one night after another, each measured."""

    def __init__(self, meter: Meter, lake: Any, config: Any, log: Path) -> None:
        self.meter, self.lake, self.config, self.log = meter, lake, config, log

    def run(self, night: Night, inputs: list[str], mode: str) -> None:
        """`inputs`: the raw event files of the batch; `mode`: full or night."""
        from recs.etl.news import State
        from recs.jobs import derive, ingest, item_tables, publish, recommend
        from recs.models import make, model_class
        from recs.models.base import Setting
        from recs.serve import nights

        lake, config, spark, meter = self.lake, self.config, self.lake.spark, self.meter
        got = meter("ingest", mode, lambda: ingest.run(
            spark, lake, config, inputs, [f"{self.log}/items"], [f"{self.log}/users"], now=night.serve_at), lambda r: r.tally.rows_in)
        attempt = nights.plan(lake, night, config.lists.name, config_hash=config.hash, code_version="benchmark")
        for name, _table, stage in derive.STAGES:
            meter(name, mode, lambda run=stage: run(spark, lake, config, night.as_of, attempt.max_batch), lambda _: got.tally.accepted)
        derived = derive.bring(lake, config, night.as_of, attempt.max_batch, lambda _name: nullcontext({}))
        cls = model_class(MODEL)
        model = make(MODEL, cls.grid(Setting())[0])
        folder = Path(lake.root) / "model"
        model.save(folder)
        state = State(night.as_of_us, attempt.max_batch)
        tables = meter("item_tables", mode, lambda: item_tables.run(
            spark, lake, config, night.as_of, cls.needs(model.params), derived=derived, state=state), lambda _: got.tally.accepted)
        made, _ = meter("recommend", mode, lambda: recommend.run(
            spark, lake, config, attempt, model_path=folder, model_version=f"{MODEL}-benchmark", tables_path=tables.path,
            derived=derived, changed_only=mode == "night"), lambda r: self._scored(r[0]), "users")
        decision = meter(
            "publish", mode, lambda: publish.run(spark, lake, config, made, derived=derived), lambda d: d.content.n_lists, "lists")
        print(decision.line, flush=True)
        if mode == "full":
            rate = matrix_rate(tables.n_items)
            meter.rows.append(Row(meter.events, "matrix_product", mode, round(rate), "users", 1.0, 0.0, 0, round(os.getloadavg()[0], 1)))
            print(f"{meter.events:>11,}  plain fp32 product over {tables.n_items:,} items: {rate:,.0f} users/s", flush=True)

    def _scored(self, attempt: Any) -> int:
        """Users whose list was made now; the others' lists were carried over."""
        lists = self.lake.read(attempt.table).where("audience = 'user'").select("user_id", "scored_as_of").distinct()
        return lists.where(lists.scored_as_of == attempt.night.as_of).count()


def _arrival(folder: Path) -> date:
    return parse_date(folder.name.split("=")[1])


def small_day(spark: Any, log: Path, day: date) -> Path:
    """The raw lines that arrive on `day`, of so many of that day's users that they are ACTIVE of all users."""
    from pyspark.sql import functions as F

    out = log.with_name(f"{log.name}-day")
    if not (out / "_SUCCESS").exists():
        lines = spark.read.text(f"{log}/events/arrival={day}").withColumn("user_id", F.get_json_object("value", "$.visitor"))
        n = max(1, round(ACTIVE * spark.read.json(f"{log}/users").select("visitor").distinct().count()))
        active = lines.select("user_id").distinct().orderBy(F.xxhash64("user_id")).limit(n)
        lines.join(active, "user_id", "left_semi").select("value").coalesce(1).write.mode("overwrite").text(str(out))
    return out


def main() -> int:
    """Each size in its own process; then one CSV."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("--events", type=int, nargs="+", default=[100_000, 1_000_000])
    p.add_argument("--workdir", type=Path, required=True, help="folder for logs and tables; logs found there are used again")
    p.add_argument("--out", type=Path, help="CSV of all rows; rows of other sizes in it are kept")
    p.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.one:
        print("ROWS " + json.dumps([asdict(row) for row in measure(args.events[0], args.workdir)]))
        return 0
    for n in args.events:
        child = [sys.executable, __file__, "--one", "--events", str(n), "--workdir", str(args.workdir)]
        with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                if not line.startswith("ROWS "):
                    print(line, end="", flush=True)
                elif args.out:
                    write(args.out, n, json.loads(line[5:]))
        if process.returncode:
            return process.returncode
    return 0


def write(path: Path, events: int, rows: list[dict[str, Any]]) -> None:
    """Put the rows of one size into the CSV, in the order of the sizes."""
    kept = []
    if path.exists():
        with path.open(newline="") as f:
            kept = [r for r in csv.DictReader(f) if int(r["events"]) != events]
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, list(Row.__annotations__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *rows], key=lambda r: int(r["events"])))


if __name__ == "__main__":
    raise SystemExit(main())
