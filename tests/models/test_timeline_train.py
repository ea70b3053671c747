"""The command that trains the network by itself: one process, several, the same weights but for rounding."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from local_replay import LocalReplay, question
from safetensors.numpy import load_file
from test_timeline import CUT, QUICK, rhythmic_log

from recs.clock import DAY
from recs.models.base import Setting
from recs.models.timeline import Timeline
from recs.models.timeline_examples import examples_of, write_book
from recs.models.timeline_train import main

# sums of gradients in another order are another rounding: without dropout and momentum it stays one
PLAIN = {**QUICK, "network": {"dropout": 0.0, "item_dropout": 0.0}, "train": {"precision": "fp32", "optimizer": "sgd", "reader": "arrow"}}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, log = tmp_path_factory.mktemp("examples"), rhythmic_log()
    kinds, cuts = tuple(sorted(Timeline.needs(Timeline.grid(Setting())[0]))), tuple(CUT - n * DAY for n in range(4))
    replay = LocalReplay({n: question(log, c, folder / f"cut-{n}", kinds) for n, c in enumerate(cuts)}, cuts, rows_per_file=40)
    nights = examples_of(Timeline.grid(Setting())[0] | PLAIN, Setting(), replay, folder / "kept")
    return Path(write_book(nights, replay, folder / "kept")["book"])


def trained(out: Path) -> tuple[dict[str, np.ndarray], dict]:
    return load_file(out / "weights.safetensors"), json.loads((out / "record.json").read_text())


def test_one_process_trains_and_says_how(book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(book), "--out", str(tmp_path), "--set", "epochs=1", "--set", "lr=0.05"]) == 0
    weights, record = trained(tmp_path)
    assert capsys.readouterr().out.startswith(f"1 processes · {record['steps']} steps")
    assert (record["processes"], record["epochs"], record["why"]) == (1, 1.0, "epochs") and record["metrics"]["ndcg@10"] > 0
    assert weights["network.quantiles.edges"].shape[0] == record["sizes"]["evidence"]


@pytest.mark.parametrize(("more", "told"), [(["--set", "epoch=1"], "epoch"), (["--set", "epochs"], "KEY=VALUE")])
def test_a_setting_that_is_none_is_named(book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str):
    assert main([str(book), "--out", str(tmp_path), *more]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(book: Path, tmp_path: Path):
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")} | {"OMP_NUM_THREADS": "1"}
    settings = ["--set", "epochs=1", "--set", "shards=2", "--set", "threads=1"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "recs.models.timeline_train"]
    command = [*torchrun, str(book), "--out", str(tmp_path / "two"), *settings]
    two = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("2 processes") == 1
    assert main([str(book), "--out", str(tmp_path / "one"), *settings]) == 0
    (mine, one), (theirs, both) = trained(tmp_path / "one"), trained(tmp_path / "two")
    assert (one["steps"], one["examples"], both["processes"]) == (both["steps"], both["examples"], 2)
    for name, array in mine.items():
        np.testing.assert_allclose(theirs[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    assert both["metrics"]["ndcg@10"] == pytest.approx(one["metrics"]["ndcg@10"], abs=1e-3)
