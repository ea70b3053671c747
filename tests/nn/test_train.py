"""The trainer: it learns, it repeats itself, it stops for a reason, and what it keeps can be trusted."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nn_made import Line, line, settings
from pydantic import ValidationError
from torch import Tensor, nn

from recs.nn.checkpoints import CheckpointError, Checkpoints
from recs.nn.optimizers import decay_groups, lr_at
from recs.nn.reader import Reader, ReaderError
from recs.nn.settings import TrainConfig
from recs.nn.staged import Staged, write_staged
from recs.nn.train import Trained, TrainingError, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Staged, Staged]:
    folder = tmp_path_factory.mktemp("line")
    return line(folder / "train"), line(folder / "validation", rows=100)


def run(data: tuple[Staged, Staged], folder: Path, model: nn.Module | None = None, **other: object) -> tuple[nn.Module, Trained]:
    model = model or Line()
    return model, train(model, *data, settings(**other), folder)


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_steady_best_is_no_spike():
    def run(*ndcg: float) -> Trained:
        history = [{"epoch": max(n - 1, 0), "step": 10 * n, "metrics": {"ndcg": v}} for n, v in enumerate(ndcg)]
        return Trained({}, history, "epochs", len(ndcg) - 1, 10 * (len(ndcg) - 1), 0, 0.0, 0.0, "fp32", "cpu")

    assert run(0.0, 0.9, 0.1, 0.3, 0.5, 0.4, 0.2).steady("ndcg") == (5, 0.4)
    assert run(0.0, 0.1, 0.2, 0.3).steady("ndcg") == (3, 0.2)
    assert run(0.5, 0.1).steady("ndcg") == (1, 0.1)
    assert run(0.5).steady("ndcg") == (1, 0.5)


def test_it_learns_and_says_how(data: tuple[Staged, Staged], tmp_path: Path):
    _, trained = run(data, tmp_path, epochs=8, lr=0.03)
    assert trained.history[0]["step"] == 0                  # evaluated before the first step
    assert trained.metrics["loss"] < 0.2 * trained.history[0]["metrics"]["loss"]
    assert trained.metrics["loss"] == min(h["metrics"]["loss"] for h in trained.history)
    assert (trained.why, trained.steps, trained.examples) == ("epochs", 8 * 19, 8 * 600)
    assert 0 < trained.waiting_share < 1


def test_settings_data_and_seed_decide_the_weights(data: tuple[Staged, Staged], tmp_path: Path):
    a, b = run(data, tmp_path / "a")[0], run(data, tmp_path / "b")[0]
    assert equal(a, b)
    assert not equal(a, run(data, tmp_path / "c", seed=2)[0])


def test_petastorm_and_arrow_train_to_the_same_weights(data: tuple[Staged, Staged], tmp_path: Path):
    assert equal(run(data, tmp_path / "a", epochs=1)[0], run(data, tmp_path / "b", epochs=1, reader="petastorm")[0])


def test_the_best_weights_come_back_and_patience_ends(data: tuple[Staged, Staged], tmp_path: Path):
    model, trained = run(data, tmp_path, epochs=50, lr=0.5, clip_norm=None, schedule="constant", patience=2)     # too fast to settle
    assert trained.why == "patience"
    best = min(range(len(trained.history)), key=lambda i: trained.history[i]["metrics"]["loss"])
    assert len(trained.history) == best + 3
    with torch.no_grad():
        again = sum(float(model.evaluate(b)["loss"]) for b in _validation(data)) / 100
    assert again == pytest.approx(trained.metrics["loss"], rel=1e-6)


def _validation(data: tuple[Staged, Staged]) -> list[dict[str, Tensor]]:
    reader = Reader(data[1], 100, even=False, kind="arrow")
    return [{k: torch.from_numpy(a) for k, a in b.items()} for b in reader.epoch(0)]


def test_a_warm_start_never_ends_below_its_start(data: tuple[Staged, Staged], tmp_path: Path):
    good, first = run(data, tmp_path / "a", epochs=8, lr=0.03)
    before = {k: v.clone() for k, v in good.state_dict().items()}
    _, second = run(data, tmp_path / "b", model=good, epochs=1, lr=5.0, clip_norm=None, warmup=0)      # ruins it
    assert second.history[1]["metrics"]["loss"] > first.metrics["loss"]
    assert second.metrics == second.history[0]["metrics"]
    assert all(torch.equal(before[k], v) for k, v in good.state_dict().items())


def test_without_a_validation_set_the_last_weights_are_the_result(data: tuple[Staged, Staged], tmp_path: Path):
    with_one, _ = run(data, tmp_path / "a", epochs=2)
    model = Line()
    trained = train(model, data[0], None, settings(epochs=2), tmp_path / "b")
    assert (trained.metrics, trained.why) == ({}, "epochs")
    assert equal(model, with_one)       # whose last epoch was its best


def test_a_finished_run_is_not_run_again(data: tuple[Staged, Staged], tmp_path: Path):
    a, first = run(data, tmp_path)
    b, second = run(data, tmp_path)
    assert first == second
    assert equal(a, b)


def test_time_that_is_up_ends_with_an_evaluation(data: tuple[Staged, Staged], tmp_path: Path):
    _, trained = run(data, tmp_path, epochs=10_000, max_minutes=0.01)
    assert trained.why == "max_minutes"
    assert trained.history[-1]["step"] == trained.steps
    assert trained.steps < 10_000 * 19


def test_accumulated_steps_are_steps_of_the_larger_batch(data: tuple[Staged, Staged], tmp_path: Path):
    """Two streams of 16 or their batches of 32: the same examples per step, the same gradients but for rounding."""
    class Plain(Line):
        def __init__(self) -> None:
            super().__init__(dropout=0.0)

    a, one = run(data, tmp_path / "a", Plain(), epochs=2, batch_size=32, mix_files=100, optimizer="sgd")
    b, two = run(data, tmp_path / "b", Plain(), epochs=2, batch_size=16, accumulate=2, mix_files=100, optimizer="sgd")
    assert one.steps == two.steps
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_several_evaluations_per_epoch(data: tuple[Staged, Staged], tmp_path: Path):
    _, trained = run(data, tmp_path, epochs=2, evaluations_per_epoch=3)
    assert [h["step"] for h in trained.history] == [0, 6, 13, 19, 25, 32, 38]


# -- what goes wrong ----------------------------------------------------------------------------------------------------------
def test_a_loss_that_is_no_number_names_its_place(data: tuple[Staged, Staged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RECS_FAULT", "poison_step:24")
    with pytest.raises(TrainingError, match=r"loss nan.* in epoch 1, step 24, batch 5, from part-0000\d.parquet"):
        run(data, tmp_path)
    kept = Checkpoints(tmp_path / "checkpoints").newest()
    assert kept.state["position"]["step"] == 19
    assert all(torch.isfinite(t).all() for t in kept.weights.values())


def test_the_field_that_poisons_a_batch_is_named(data: tuple[Staged, Staged], tmp_path: Path):
    x, y = np.ones((64, 4), np.float16), np.ones(64, np.float32)
    x[40, 2] = np.nan
    staged = write_staged(tmp_path / "bad", {"x": x, "y": y})
    with pytest.raises(TrainingError, match=r"not finite: x\)"):
        train(Line(), staged, None, settings(), tmp_path / "run")


def test_an_exploding_loss_ends_the_run(data: tuple[Staged, Staged], tmp_path: Path):
    class Bomb(Line):
        step = 0

        def loss(self, batch: dict[str, Tensor]) -> Tensor:
            self.step += 1
            return super().loss(batch) * (1e6 if self.step == 30 else 1.0)

    with pytest.raises(TrainingError, match="exploded.* step 29"):
        run(data, tmp_path, Bomb())


def test_steps_without_anything_to_learn_say_nothing_of_what_is_usual(data: tuple[Staged, Staged], tmp_path: Path):
    class Late(Line):
        step = 0

        def loss(self, batch: dict[str, Tensor]) -> Tensor:
            self.step += 1
            return super().loss(batch) * (1e3 if self.step > 25 else 0.0)

    assert run(data, tmp_path, Late())[1].why == "epochs"


def test_a_metric_that_is_not_there_is_named_at_once(data: tuple[Staged, Staged], tmp_path: Path):
    with pytest.raises(TrainingError, match="no metric 'ndcg@10' in what the network evaluates: loss"):
        run(data, tmp_path, metric="ndcg@10")


@pytest.mark.parametrize(("total", "n", "told"), [(math.nan, 5, "no numbers after step 0: loss nan"), (1.0, 0, "no example of it counts")])
def test_an_evaluation_that_says_nothing_ends_the_run(data: tuple[Staged, Staged], tmp_path: Path, total: float, n: int, told: str):
    class Odd(Line):
        def evaluate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": torch.tensor(total), "n": torch.tensor(n)}

    with pytest.raises(TrainingError, match=told):
        run(data, tmp_path, Odd())


def test_the_trainer_counts_the_rows_of_each_epoch(data: tuple[Staged, Staged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A reader that hands out a batch too many is found out, though the trainer never asked for that batch."""
    monkeypatch.setattr(Reader, "batches", property(lambda self: 5))
    with pytest.raises(ReaderError, match="more than 5 batches in epoch 0"):
        train(Line(), data[0], None, settings(), tmp_path)


def test_a_folder_of_another_run_is_refused(data: tuple[Staged, Staged], tmp_path: Path):
    run(data, tmp_path)
    with pytest.raises(CheckpointError, match=r"settings: lr 0.01 -> 0.02"):
        run(data, tmp_path, lr=0.02)


@pytest.mark.parametrize("damage", ["cut", "flip", "no manifest"])
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(data: tuple[Staged, Staged], tmp_path: Path, damage: str):
    a, _ = run(data, tmp_path / "a")
    run(data, tmp_path / "b")
    kept = Checkpoints(tmp_path / "b" / "checkpoints")
    newest = kept.folder / kept.names()[-1]
    weights = newest / "weights.safetensors"
    blob = bytearray(weights.read_bytes())
    if damage == "cut":
        weights.write_bytes(blob[:-10])
    elif damage == "flip":
        blob[len(blob) // 2] ^= 1
        weights.write_bytes(blob)
    else:
        (newest / "manifest.json").unlink()
    assert kept.newest().name == kept.names()[-2]
    assert equal(a, run(data, tmp_path / "b")[0])


def test_data_that_changed_since_it_was_staged_is_not_trained_on(tmp_path: Path):
    staged = line(tmp_path / "train")
    path = tmp_path / "train" / "part-00002.parquet"
    blob = bytearray(path.read_bytes())
    blob[50] ^= 1
    path.write_bytes(blob)
    with pytest.raises(ValueError, match="part-00002.parquet: sha256"):
        train(Line(), staged, None, settings(), tmp_path / "run")


# -- settings -------------------------------------------------------------------------------------------------------------------
def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError, match="learning_rate"):
        TrainConfig(learning_rate=1.0)


def test_the_learning_rate_warms_up_and_decays():
    config = TrainConfig(lr=1.0, warmup=0.1, lr_end=0.1, schedule="cosine")
    rates = [lr_at(s, 101, config) for s in range(101)]
    assert rates[0] < rates[5] < rates[10]
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(rates[11:], rates[12:], strict=False))
    linear = TrainConfig(lr=1.0, warmup=10, schedule="linear")
    assert lr_at(55, 101, linear) == pytest.approx(0.5)
    assert lr_at(0, 101, linear) == pytest.approx(1 / 11)
    assert lr_at(90, 101, TrainConfig(lr=1.0, warmup=10, schedule="constant")) == 1.0


def test_weight_decay_spares_norms_biases_and_embeddings():
    model = nn.ModuleDict({"table": nn.Embedding(5, 3), "line": nn.Linear(3, 2), "norm": nn.LayerNorm(3)})
    decayed, rest = decay_groups(model, embeddings=False)
    assert [p.shape for p in decayed] == [(2, 3)]
    assert len(rest) == 4
    assert len(decay_groups(model, embeddings=True)[0]) == 2


def test_bf16_on_a_cpu_needs_hardware_that_has_it(monkeypatch: pytest.MonkeyPatch):
    from recs.nn import hardware

    monkeypatch.setattr(hardware, "_cpu_has", lambda flag: False)
    assert hardware.pick_precision(TrainConfig(), torch.device("cpu")) == "fp32"
    assert hardware.pick_precision(TrainConfig(precision="bf16"), torch.device("cpu")) == "bf16"
    monkeypatch.setattr(hardware, "_cpu_has", lambda flag: True)
    assert hardware.pick_precision(TrainConfig(), torch.device("cpu")) == "bf16"
    assert hardware.pick_precision(TrainConfig(precision="fp32"), torch.device("cpu")) == "fp32"


def test_bf16_trains_too(data: tuple[Staged, Staged], tmp_path: Path):
    _, trained = run(data, tmp_path, epochs=8, lr=0.03, precision="bf16")
    assert trained.precision == "bf16"
    assert math.isfinite(trained.metrics["loss"])
    assert trained.metrics["loss"] < 0.3 * trained.history[0]["metrics"]["loss"]
