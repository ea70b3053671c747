"""How fast networks train: sequences/s, the share of the machine's matrix-product rate, the share of time that waits for the reader.

    python benchmarks/training.py [--sizes small full] [--models sasrec hstu timeline] [--seconds 30] [--rounds 3] [--rectools PYTHON]

Made-up histories (items Zipf-like, lengths geometric or all full) are staged as Parquet and trained through Petastorm, as in a fit.
Arithmetic is counted by torch's FlopCounterMode on one batch; the product rate is that of a square matrix product in the precision
trained in, measured in the same run.  PYTHON is an interpreter that has RecTools (benchmarks/rectools_speed.py runs in it): its SASRec
of the same size, loss, batch and precision trains on the same histories, turn by turn with ours.  A line of JSON per model and
size; medians of the rounds, and the least and most of sequences/s.
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from recs.nn.hardware import fast_at_bf16, pick_device, product_rate
from recs.nn.reader import Reader
from recs.nn.settings import TrainConfig
from recs.nn.staged import Staged, fields_of, open_staged, write_manifest, write_part
from recs.nn.train import train
from recs.nn.zoo import network_class
from recs.nn.zoo.timeline import Timeline, TimelineConfig

HERE = Path(__file__).resolve().parent
BATCH, ROWS_PER_FILE = 128, 4_096
EVIDENCE, CANDIDATES = 164, 256         # of an example of `timeline`
PRODUCT = {"cpu": 2_048, "cuda": 8_192}     # side of the matrices


@dataclass(frozen=True)
class Size:
    """Of a network and its data; `mean`: events of a history, None: all are full."""

    users: int
    items: int
    length: int
    dim: int
    blocks: int
    heads: int
    mean: int | None


SIZES = {
    "small": Size(20_000, 12_000, 50, 64, 2, 2, 9),         # Amazon Beauty's
    "full": Size(20_000, 12_000, 50, 64, 2, 2, None),
    "large": Size(20_000, 27_000, 200, 256, 4, 4, None),    # MovieLens-20M's
}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("--sizes", nargs="*", default=["small", "full"], choices=SIZES)
    p.add_argument("--models", nargs="*", default=["sasrec", "hstu", "timeline"])
    p.add_argument("--seconds", type=float, default=30.0, help="of one round")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--rectools", metavar="PYTHON")
    args = p.parse_args()
    config = TrainConfig(batch_size=BATCH, epochs=1_000, tensorboard=False, patience=None, max_minutes=args.seconds / 60)
    device = pick_device(config)
    bf16 = fast_at_bf16(device)
    rate = product_rate(device, torch.bfloat16 if bf16 else torch.float32, PRODUCT[device.type], repeats=20)
    about = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "precision": "bf16" if bf16 else "fp32", "product_tflops": round(rate / 1e12, 3)}
    for name in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            _at_size(name, Path(folder), args, config, about, rate)


def _at_size(name: str, folder: Path, args: argparse.Namespace, config: TrainConfig, about: dict[str, Any], rate: float) -> None:
    size = SIZES[name]
    histories = made_up(size)
    np.savez(folder / "histories.npz", **histories)
    runs: dict[str, Callable[[int], dict[str, float]]] = {}
    for model in args.models:
        staged, make = _timeline(size, histories, folder) if model == "timeline" else _next_item(model, size, histories, folder)
        runs[model] = _ours(make, staged, config, folder / f"run-{model}", rate)
    if args.rectools:
        runs["RecTools SASRec"] = _theirs(args.rectools, size, folder, args.seconds, about["precision"])
    found: dict[str, list[dict[str, float]]] = {model: [] for model in runs}
    for turn in range(args.rounds):
        for model, run in runs.items():
            found[model].append(run(turn))
    for model, turns in found.items():
        speeds = [t["sequences_per_s"] for t in turns]
        middle = {key: float(f"{statistics.median(t[key] for t in turns):.3g}") for key in turns[0]}
        print(json.dumps({"size": name, "model": model, **about, **middle, "least": min(speeds), "most": max(speeds)}), flush=True)


def made_up(size: Size) -> dict[str, np.ndarray]:
    """Items [U, L] from 1, padded with 0 on the left, and their instants in microseconds."""
    rng = np.random.default_rng(0)
    shape = (size.users, size.length)
    lengths = np.full(size.users, size.length) if size.mean is None else np.clip(rng.geometric(1 / size.mean, size.users), 2, size.length)
    there = np.arange(size.length) >= size.length - lengths[:, None]
    items = np.minimum(rng.zipf(1.2, shape), size.items) * there
    return {"items": items.astype(np.int32), "ts": np.cumsum(rng.integers(1, 10**10, shape), axis=1)}


def _next_item(model: str, size: Size, histories: dict[str, np.ndarray], folder: Path) -> tuple[Staged, Callable[[], nn.Module]]:
    """The newest event is the target, as RecTools trains it; every position before it is trained on the next."""
    items, ts = histories["items"], histories["ts"]
    before = np.pad(items[:, :-1], ((0, 0), (1, 0)))
    there = before > 0
    columns = {
        "h_item": before, "h_type": there.astype(np.uint8), "h_ts": np.pad(ts[:, :-1], ((0, 0), (1, 0)), mode="edge"),
        "h_dwell": np.zeros(items.shape, np.float16), "h_len": there.sum(axis=1).astype(np.int32), "request_us": ts[:, -1],
        "follow": (there & (np.arange(items.shape[1]) < items.shape[1] - 1)).astype(np.uint8),
        "target": items[:, -1:], "n_truth": np.ones(len(items), np.int32),
    }
    cls = network_class(model)
    config = {"length": size.length, "dim": size.dim, "dropout": 0.2, "loss": "softmax"}
    if "blocks" in cls.Config.model_fields:
        config |= {"blocks": size.blocks, "heads": size.heads}
    return _staged(folder / "next", columns), lambda: cls(size.items, cls.Config(**config))


def _timeline(size: Size, histories: dict[str, np.ndarray], folder: Path) -> tuple[Staged, Callable[[], nn.Module]]:
    """Lists of candidates with evidence; a few thousand, which a file of a fit holds too."""
    rng, n = np.random.default_rng(1), min(len(histories["items"]), 4_096)
    items, ts = histories["items"][:n], histories["ts"][:n]
    there = (items > 0).astype(np.uint8)
    label = np.zeros((n, CANDIDATES), np.float16)
    label[np.arange(n), rng.integers(0, CANDIDATES, n)] = 1
    columns = {
        "h_item": items - 1, "h_type": there, "h_ts": ts, "h_dwell": np.zeros(items.shape, np.float16), "h_there": there,
        "request_us": ts[:, -1] + 10**9, "item": rng.integers(0, size.items, (n, CANDIDATES), dtype=np.int32),
        "prior": rng.standard_normal((n, CANDIDATES)).astype(np.float16), "label": label,
        "evidence": rng.standard_normal((n, CANDIDATES, EVIDENCE)).round(2).astype(np.float16),
        "there": np.ones((n, CANDIDATES), np.uint8), "n_truth": np.ones(n, np.int32),
    }
    config = TimelineConfig(dim=size.dim, blocks=size.blocks, heads=size.heads)

    def make() -> nn.Module:
        net = Timeline(size.items, size.items, 1, EVIDENCE, size.length, config)
        net.number.copy_(torch.arange(1, size.items + 1))
        net.quantiles.edges.copy_(torch.linspace(-3, 3, net.quantiles.edges.shape[1]).expand_as(net.quantiles.edges))
        return net

    return _staged(folder / "timeline", columns), make


def _staged(folder: Path, columns: dict[str, np.ndarray]) -> Staged:
    if (folder / "manifest.json").exists():
        return open_staged(folder)
    fields, rows = fields_of(columns), len(columns["h_item"])
    parts = [{name: values[lo : lo + ROWS_PER_FILE] for name, values in columns.items()} for lo in range(0, rows, ROWS_PER_FILE)]
    return write_manifest(folder, fields, [write_part(folder, n, part, fields) for n, part in enumerate(parts)])


def _ours(
    make: Callable[[], nn.Module], staged: Staged, config: TrainConfig, folder: Path, rate: float,
) -> Callable[[int], dict[str, float]]:
    per_row = operations(make(), staged, config)

    def run(turn: int) -> dict[str, float]:
        if turn == 0:       # kernels are chosen, memory is asked for
            train(make(), staged, None, config.model_copy(update={"max_minutes": 0.05}), folder / "warm", check_hashes=False)
        how = train(make(), staged, None, config, folder / str(turn), check_hashes=False)
        speed = how.examples / how.seconds
        return {"sequences_per_s": round(speed), "share_of_product": speed * per_row / rate, "waiting_share": how.waiting_share,
                "gflop_per_sequence": per_row / 1e9}

    return run


def operations(net: nn.Module, staged: Staged, config: TrainConfig) -> float:
    """Floating-point operations per example, forward and backward."""
    with Reader(staged, config.batch_size, seed=config.seed, kind=config.reader, pool=config.pool).epoch(0) as batches:
        batch = {name: torch.from_numpy(values) for name, values in next(batches).items()}
    with FlopCounterMode(display=False) as counter:
        net.train().loss(batch).backward()
    return counter.get_total_flops() / config.batch_size


def _theirs(python: str, size: Size, folder: Path, seconds: float, precision: str) -> Callable[[int], dict[str, float]]:
    command = [
        python, str(HERE / "rectools_speed.py"), str(folder / "histories.npz"), "--dim", str(size.dim), "--blocks", str(size.blocks),
        "--heads", str(size.heads), "--batch", str(BATCH), "--seconds", str(seconds), "--precision", precision]

    def run(turn: int) -> dict[str, float]:
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(said.splitlines()[-1])

    return run


if __name__ == "__main__":
    main()
