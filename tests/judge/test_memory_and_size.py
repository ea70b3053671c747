"""What a model costs: memory of this process and those under it but for a JVM's own, and numbers it has learned."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recs.judge.memory import PROC, Peak, machine
from recs.models import make
from recs.models.size import n_learned

needs_proc = pytest.mark.skipif(not (PROC / "self" / "smaps_rollup").exists(), reason="there is no /proc that tells")
MB = 1_000_000
HOLDS = "import sys; held = bytes(1) * 60_000_000; held = bytearray(held); print('held', flush=True); sys.stdin.read()"


def held_by(program: str, *args: str) -> subprocess.Popen:
    child = subprocess.Popen([program, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    return child


@needs_proc
def test_the_peak_is_seen_though_it_is_gone_at_the_end():
    from time import sleep

    with Peak() as peak:
        held = np.ones(25 * MB)     # 200 MB
        while peak._most - peak._began < 190 * MB:      # until the thread has looked
            sleep(0.05)
        del held
    assert 190 < peak.mb < 400


@needs_proc
def test_what_was_there_before_does_not_count():
    before = np.ones(25 * MB)
    with Peak() as peak:
        pass
    assert before[-1] == 1 and peak.mb < 100


@needs_proc
def test_workers_count_and_a_jvm_does_not_but_its_children_do(tmp_path: Path):
    java = tmp_path / "java"        # a process is known by the name of its file
    java.symlink_to(sys.executable)
    with Peak() as peak:
        child = held_by(sys.executable, "-c", HOLDS)
    child.communicate()
    assert peak.mb > 60
    with Peak() as peak:
        child = held_by(str(java), "-S", "-c", HOLDS)
    child.communicate()
    assert peak.mb < 30
    starts = f"import subprocess, sys; subprocess.run([{sys.executable!r}, '-c', {HOLDS!r}])"
    with Peak() as peak:
        child = held_by(str(java), "-S", "-c", starts)
    child.communicate()
    assert peak.mb > 60


def test_the_machine_is_named():
    assert "CPU" in machine() and "GPU" in machine()


def test_learned_numbers_are_those_of_training():
    assert n_learned(make("popularity", {"stat": "users_all"})) == 0
    assert n_learned(make("blend", {"weights": {"popular@users_all": 0.5, "own@14d": 1.0}})) == 2


def test_a_networks_numbers_are_its_parameters_and_no_maps_or_texts():
    from recs.models import model_class
    from recs.models.base import Setting
    from recs.models.network_arrays import arrays_of
    from recs.models.sequence_network import NUMBER, RAREST, make_network

    params = model_class("gru4rec").grid(Setting(n_items=9))[0] | {"length": 4, "network": {"dim": 8}}
    net = make_network("gru4rec", params, 9, said=5)        # texts of 5 numbers an item are read, not learned
    arrays = arrays_of(net) | {NUMBER: np.arange(1, 10, dtype=np.int32), RAREST: np.array([1], np.int32)}
    assert arrays["network.item.said"].size == 50
    assert n_learned(make("gru4rec", params, arrays)) == sum(p.numel() for p in net.parameters())


def test_trees_count_thresholds_and_leaves():
    pytest.importorskip("lightgbm")
    from recs.models.trees import train_trees

    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(2_000, 3)).astype(np.float32), rng.integers(0, 2, 2_000)
    weights = train_trees(x[:, :2], x[:, 2], label, np.full(100, 20), rounds=2, seed=1, start=0)
    model = make("timeline", {"prior": {"weights": {"popular@users_all": 1.0}}}, weights)
    text = weights["trees"].tobytes().decode()
    leaves = [int(line.split("=")[1]) for line in text.splitlines() if line.startswith("num_leaves=")]
    assert len(leaves) == 2 and n_learned(model) == 1 + sum(2 * n - 1 for n in leaves)
