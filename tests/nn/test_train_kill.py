"""Killed, terminated, or cut into two processes: training comes to the weights of an undisturbed run.

The processes that are cut off are forks of one (train_worker.py).
"""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from nn_made import Line, line, settings
from torch import nn

from recs.nn.checkpoints import Checkpoints
from recs.nn.staged import Staged, open_staged
from recs.nn.train import train

HERE = Path(__file__).parent
# name of a run -> (what RECS_FAULT says, its settings)
RUNS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "killed": ("train_step:25", {}),                                        # resumes at the evaluation after step 19
    "killed_inside": ("train_step:25", {"checkpoint_minutes": 0}),          # resumes at step 25, six batches into epoch 1
    "killed_saving": ("in_checkpoint:3", {}),                               # at the evaluation after step 38
    "terminated": (None, {"term_after": 30}),
}
TWO = {"optimizer": "sgd", "lr": 0.05, "dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    line(folder / "train"), line(folder / "validation", rows=101)
    return folder


@pytest.fixture(scope="module")
def ended(folder: Path) -> dict[str, int]:
    """Exit code of every run."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    groups = [{name: (name, options, {"RECS_FAULT": fault} if fault else {})} for name, (fault, options) in RUNS.items()]
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    groups.append({f"rank{r}": ("two", TWO, {**where, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(2)})
    env = {k: v for k, v in os.environ.items() if k not in ("RECS_FAULT", "RANK", "WORLD_SIZE")} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "train_worker.py"), str(folder), json.dumps(groups)]
    told = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def said(folder: Path, name: str) -> str:
    return "".join(p.read_text() for p in sorted((folder / name).glob("out*.txt")))


def data(folder: Path) -> tuple[Staged, Staged]:
    return open_staged(folder / "train"), open_staged(folder / "validation")


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> nn.Module:
    model = Line()
    train(model, *data(folder), settings(), folder / "undisturbed")
    return model


@pytest.mark.parametrize(("name", "saved_at"), [("killed", 19), ("killed_inside", 25), ("killed_saving", 19), ("terminated", 31)])
def test_a_run_that_was_cut_off_ends_with_the_same_weights(
    folder: Path, ended: dict[str, int], undisturbed: nn.Module, name: str, saved_at: int,
):
    assert ended[name] == (143 if name == "terminated" else -signal.SIGKILL), said(folder, name)
    kept = Checkpoints(folder / name / "checkpoints")
    assert kept.newest().state["position"]["step"] == saved_at
    if name == "killed_saving":
        assert any(p.name.startswith(".step-00000038") for p in kept.folder.iterdir())      # half a checkpoint, without its name
    model = Line()
    trained = train(model, *data(folder), settings(), folder / name)
    assert trained.steps == 57
    assert not any(p.name.startswith(".") for p in kept.folder.iterdir())
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_sigterm_says_where_it_stopped(folder: Path, ended: dict[str, int]):
    assert ended["terminated"] == 143, said(folder, "terminated")
    assert "SIGTERM in epoch 1 after step 31: step-00000031 is written" in said(folder, "terminated")


def test_two_processes_train_to_the_weights_of_one(folder: Path, ended: dict[str, int]):
    """Gradients are summed in another order: weights differ by rounding, 1e-5 after 57 steps of SGD."""
    assert (ended["rank0"], ended["rank1"]) == (0, 0), said(folder, "two")
    options = {k: v for k, v in TWO.items() if k != "dropout"}
    model = Line(dropout=0.0)
    trained = train(model, *data(folder), settings(**options, shards=2), folder / "one")
    two = torch.load(folder / "two" / "result.pt")
    for key, value in model.state_dict().items():
        torch.testing.assert_close(two["weights"][key], value, rtol=1e-5, atol=1e-6)
    for a, b in zip(two["history"], trained.history, strict=True):
        assert a["metrics"]["loss"] == pytest.approx(b["metrics"]["loss"], rel=1e-5)
