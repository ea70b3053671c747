"""Train a network from a staged data set, and be able to say exactly what happened.

    trained = train(model, open_staged("…/train"), open_staged("…/validation"), TrainConfig(), "…/run")
    torchrun --nproc-per-node 2 my_job.py …         # the same call in each process

A network is any `torch.nn.Module` with

    loss(batch) -> scalar             mean over the examples of the batch; `batch` is field -> tensor [rows, *shape]
    evaluate(batch) -> {name: sum}    sums over the examples and their number `n`; a metric is its sum / n

(half-precision fields arrive as float16: the network casts them).  The story of a run: evaluate once before the first step, so that
a warm start never ends below its start; then epochs of optimizer steps; at each evaluation a checkpoint; the best weights at the
end.  The run is a function of (settings, data, seed, first weights): the order of examples is drawn from (seed, epoch), dropout
and negatives from (seed, step, rank), so a run that was killed goes on from its newest checkpoint to the same weights, bit for bit.
On GPUs sums are not ordered, and equal runs agree to about 1e-5 instead.  Networks must draw from torch's generators only.
"""
from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recs.nn import faults
from recs.nn.checkpoints import CheckpointError, Checkpoints, restore_optimizer
from recs.nn.evaluating import TrainingError, evaluate
from recs.nn.hardware import pick_device, pick_precision
from recs.nn.optimizers import lr_at, make_optimizer
from recs.nn.progress import Watch
from recs.nn.ranks import Ranks, ranks
from recs.nn.reader import Batch, Reader, ReaderError
from recs.nn.records import Position, Trained
from recs.nn.settings import TrainConfig
from recs.nn.staged import Staged, verify

log = logging.getLogger(__name__)
TELL_EVERY_S = 0.5
AGREE_EVERY = 16        # steps between the ranks' exchanges about time and signals
# settings that may change between a run and its resumption (another device or number of threads rounds otherwise)
FREE = {"device", "threads", "max_minutes", "reader", "prefetch", "stall_minutes", "checkpoint_minutes", "tensorboard"}


class TrainingStopped(RuntimeError):
    """SIGTERM: a checkpoint is written, the same call goes on from it."""


def train(
    model: nn.Module, training: Staged, validation: Staged | None, config: TrainConfig, folder: str | Path, check_hashes: bool = True,
) -> Trained:
    """Train `model` in place; checkpoints and TensorBoard's files go to `folder`, where a run that did not end goes on.

    Without `validation` the last weights are the result.  Give a `folder` of its own to each run.
    """
    with ranks() as us:
        if check_hashes and us.first:
            for staged in (training, validation):
                if staged is not None:
                    verify(staged)
        return _Run(model, training, validation, config, Path(folder), us).whole()


class _Pending(NamedTuple):
    """A step whose loss has not been looked at (on a GPU looking means waiting)."""

    step: int
    epoch: int
    batch: int
    file: str
    loss: Tensor
    norm: Tensor


class _LossOf(nn.Module):
    """`loss` as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.model.loss(batch)


class _Run:
    def __init__(self, model: nn.Module, training: Staged, validation: Staged | None, config: TrainConfig, folder: Path, us: Ranks) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.config, self.us, self.folder = config, us, folder
        self.device = pick_device(config, us.local_rank)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        picked = pick_precision(config, self.device)
        self.bf16 = bool(us.same(int(picked == "bf16"), self.device))
        self.model = model.to(self.device)
        self.optimizer = make_optimizer(model, config)
        shared = {
            "rank": us.rank, "world_size": us.world_size, "shards": config.shards, "kind": config.reader, "pool": config.pool,
            "mix_files": config.mix_files, "prefetch": config.prefetch, "stall_s": config.stall_minutes * 60,
        }
        self.reader = Reader(training, config.batch_size, seed=config.seed, **shared)
        self.validation = None
        if validation is not None:
            self.validation = Reader(validation, config.batch_size, shuffle=False, even=False, **shared)
        self.steps_per_epoch = -(-self.reader.batches // config.accumulate)
        self.steps = config.epochs * self.steps_per_epoch
        e = config.evaluations_per_epoch
        self.evaluate_at = {max(1, round(self.steps_per_epoch * (i + 1) / e)) for i in range(e)}
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.at = Position()
        self.pending: list[_Pending] = []
        self.told: list[float] = []
        self.evaluation_s = 0.0
        self.identity = {
            "settings": config.model_dump(mode="json", exclude=FREE), "training": training.content_hash,
            "validation": validation.content_hash if validation else None, "ranks": us.world_size if config.shards is None else None,
            "bf16": self.bf16, "weights": {name: list(p.shape) for name, p in model.named_parameters()},
        }

    # -- the whole run ----------------------------------------------------------------------------------------------------
    def whole(self) -> Trained:
        self._resume()
        self._started, self._before = time.monotonic(), self.at.seconds
        loss_of: nn.Module = _LossOf(self.model)
        if self.us.world_size > 1:
            loss_of = DistributedDataParallel(loss_of, device_ids=[self.device.index] if self.device.type == "cuda" else None)
        watch = Watch(self.folder / "tensorboard" if self.config.tensorboard else None, self.steps, self.at.step, quiet=not self.us.first)
        self._tell_from = (time.monotonic(), self.at.examples, self.at.waited_s)
        try:
            with _sigterm() as self._asked_to_stop:
                if self.at.step == 0 and not self.at.history:
                    self._evaluate(watch)
                while self.at.done is None:
                    self._epoch(loss_of, watch)
        finally:
            watch.close()
        return self._result()

    def _epoch(self, loss_of: nn.Module, watch: Watch) -> None:
        """The rest of the epoch the run stands in."""
        at, config = self.at, self.config
        with self.reader.epoch(at.epoch, at.batch) as batches:
            waited = at.waited_s
            while at.batch < self.reader.batches:
                numbers = range(at.batch, min(at.batch + config.accumulate, self.reader.batches))
                self._step(loss_of, batches, numbers)
                at.batch = numbers.stop
                at.waited_s = waited + batches.waited_s
                at.seconds = self._before + time.monotonic() - self._started
                self._look(watch)
                in_epoch = -(-at.batch // config.accumulate)
                late, stop = self._time_is_up(), self._asked_to_stop.is_set()
                if self.us.world_size > 1:
                    ask = at.step % AGREE_EVERY == 0 or in_epoch == self.steps_per_epoch
                    late, stop = (self.us.any(flag, self.device) if ask else False for flag in (late, stop))
                if in_epoch == self.steps_per_epoch:
                    self._count_rows(batches)
                if in_epoch in self.evaluate_at or late:
                    self._evaluate(watch, ended=in_epoch == self.steps_per_epoch, late=late)
                elif in_epoch == self.steps_per_epoch:
                    self._next_epoch()
                elif stop or self._checkpoint_due():
                    self._checkpoint()
                if stop and at.done is None:
                    raise TrainingStopped(f"SIGTERM in epoch {at.epoch} after step {at.step}: {self.checkpoints.names()[-1]} is written")
                if at.done is not None:
                    return
                faults.crash("train_step", at.step)
                if at.batch == 0:
                    return      # of the next epoch

    def _count_rows(self, batches: Iterator[Batch]) -> None:
        """The epoch is over for us: is it for the reader?  Asked for more, it counts what it delivered."""
        if next(batches, None) is not None:
            raise ReaderError(f"{self.reader.staged.folder}: more than {self.reader.batches} batches in epoch {self.at.epoch}")

    def _step(self, loss_of: nn.Module, batches: Iterator[Batch], numbers: range) -> None:
        """One optimizer step over the batches `numbers` of the epoch."""
        at, config = self.at, self.config
        rate = lr_at(at.step, self.steps, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = sum(self.reader.rows_in_batch(b) for b in numbers)      # examples of the step, over all ranks
        mean = torch.zeros((), device=self.device)
        for b in numbers:
            batch = self._on_device(next(batches))
            torch.manual_seed(_mixed(config.seed, at.step, b, self.us.rank))
            last = b == numbers[-1]
            with _no_sync(loss_of, self.us.world_size > 1 and not last), self._autocast():
                loss = loss_of(batch)
                # the mean over this rank's rows -> its part of the mean over all; DistributedDataParallel averages over ranks
                part = loss * (self.reader.rows_in_batch(b, everywhere=False) / total)
                if faults.at("poison_step", at.step):
                    part = part * math.nan
                (part * self.us.world_size).backward()
            mean += part.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm or math.inf)
        self.optimizer.step()
        self.pending.append(_Pending(at.step, at.epoch, numbers.start, batches.file, self.us.sum(mean), norm))
        at.step += 1
        at.examples += total

    # -- looking ----------------------------------------------------------------------------------------------------------
    def _look(self, watch: Watch) -> None:
        """Losses are checked at once on a CPU, every 20 steps on a GPU, and always before weights are kept."""
        since = time.monotonic() - self._tell_from[0]
        if self.device.type == "cpu" or len(self.pending) >= 20 or since > TELL_EVERY_S:
            norm = self._check_losses()
            if since > TELL_EVERY_S and self.told:
                _, examples, waited = self._tell_from
                watch.step(
                    self.at.step, float(np.mean(self.told)), (self.at.examples - examples) / since, (self.at.waited_s - waited) / since,
                    lr=self.optimizer.param_groups[0]["lr"], gradient_norm=norm,
                )
                self.told, self._tell_from = [], (time.monotonic(), self.at.examples, self.at.waited_s)

    def _check_losses(self) -> float:
        """TrainingError at the first step whose loss or gradient is no number, or whose loss exploded; the newest gradient norm."""
        value = 0.0
        for p in self.pending:
            loss, value = p.loss.item(), p.norm.item()
            first = self.at.first_losses
            if len(first) < 20 and loss:        # none: there was nothing to learn in that step
                first.append(loss)
            limit = self.config.explode * max(float(np.mean(first or [loss])), 1e-3)
            if not (math.isfinite(loss) and math.isfinite(value)) or loss > limit:
                raise TrainingError(
                    f"loss {loss:g}, gradient norm {value:g} (a loss above {limit:.3g} counts as exploded) in epoch {p.epoch}, "
                    f"step {p.step}, batch {p.batch}, from {p.file} or the files mixed with it{self._odd_fields(p)}; nothing of it is kept"
                )
            self.told.append(loss)
        self.pending.clear()
        return value

    def _odd_fields(self, p: _Pending) -> str:
        """Fields of this rank's part of a batch that hold values that are no numbers: read again, to be named."""
        with self.reader.epoch(p.epoch, p.batch) as batches:
            batch = next(batches)
        odd = [name for name, a in batch.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
        return f" (fields with values that are not finite: {', '.join(odd)})" if odd else ""

    def _evaluate(self, watch: Watch, ended: bool = False, late: bool = False) -> None:
        """Metrics of the validation set, a checkpoint, and whether the run is over."""
        at, config = self.at, self.config
        self._check_losses()
        metrics, better = {}, True
        if self.validation is not None:
            started = time.monotonic()
            metrics = evaluate(self.model, self.validation, self.us, self.device, self.bf16)
            self.evaluation_s = time.monotonic() - started
            if config.metric not in metrics:
                raise TrainingError(f"no metric {config.metric!r} in what the network evaluates: {', '.join(sorted(metrics))}")
            if odd := [f"{name} {value:g}" for name, value in metrics.items() if not math.isfinite(value)]:
                raise TrainingError(f"metrics that are no numbers after step {at.step}: {', '.join(odd)}; nothing of it is kept")
            value = metrics[config.metric] * (-1 if config.metric == "loss" else 1)
            better = at.best_value is None or value > at.best_value
            at.best_value = value if better else at.best_value
            at.since_best = 0 if better else at.since_best + 1
        at.history.append({"epoch": at.epoch, "step": at.step, "metrics": metrics})
        at.seconds = self._before + time.monotonic() - self._started
        if ended:
            self._next_epoch()
        if late:
            at.done = "max_minutes"
        elif at.epoch >= config.epochs:
            at.done = "epochs"
        elif config.patience is not None and at.since_best >= config.patience:
            at.done = "patience"
        watch.evaluation(at.step, at.history[-1]["epoch"], metrics, better)
        self._checkpoint(best=better)
        self._tell_from = (time.monotonic(), at.examples, at.waited_s)

    def _next_epoch(self) -> None:
        self.at.epoch, self.at.batch = self.at.epoch + 1, 0

    def _time_is_up(self) -> bool:
        """Is there only time for one more evaluation?"""
        limit = self.config.max_minutes
        return limit is not None and self.at.seconds + 1.2 * self.evaluation_s >= limit * 60

    # -- keeping ----------------------------------------------------------------------------------------------------------
    def _checkpoint_due(self) -> bool:
        if self.us.world_size > 1 and self.at.step % AGREE_EVERY:
            return False
        due = time.monotonic() - self._kept_at >= self.config.checkpoint_minutes * 60
        return self.us.any(due, self.device)

    def _checkpoint(self, best: bool = False) -> None:
        self._check_losses()
        if best:
            self.at.best = self.checkpoints.name_of(self.at.step)
        if self.us.first:
            state = {"position": asdict(self.at), "identity": self.identity}
            self.checkpoints.write(self.at.step, self.model, self.optimizer, state, self.at.best)
        self._kept_at = time.monotonic()
        self.us.wait()

    def _resume(self) -> None:
        """Go on from the newest whole checkpoint of this very run; the folder must be on storage that all ranks see."""
        self._kept_at = time.monotonic()
        found = self.checkpoints.newest()
        if found is not None:
            have = found.state["identity"]
            if self.config.precision == "auto":     # another machine may have picked another: a run keeps its own
                self.bf16 = self.identity["bf16"] = have["bf16"]
            other = [key for key in self.identity if have.get(key) != self.identity[key]]
            if other:
                told = "; ".join(f"{key}: {_difference(have.get(key), self.identity[key])}" for key in other)
                raise CheckpointError(f"{self.checkpoints.folder} holds another run ({told}); give this one a folder of its own")
            self.model.load_state_dict(found.weights)
            restore_optimizer(self.model, self.optimizer, found.optimizer)
            self.at = Position(**found.state["position"])
            log.info("going on from %s: epoch %d, batch %d", found.name, self.at.epoch, self.at.batch)
        self.us.wait()

    def _result(self) -> Trained:
        """Put the best weights into the model."""
        at = self.at
        best = self.checkpoints.read(at.best)
        self.model.load_state_dict(best.weights)
        self.model.eval()
        step = best.state["position"]["step"]
        metrics = next(h["metrics"] for h in at.history if h["step"] == step)
        return Trained(
            metrics, at.history, at.done, at.step / self.steps_per_epoch, at.step, at.examples, at.seconds,
            at.waited_s / max(at.seconds, 1e-9), "bf16" if self.bf16 else "fp32", str(self.device),
        )

    def _on_device(self, batch: Batch) -> dict[str, Tensor]:
        return {name: torch.from_numpy(a).to(self.device) for name, a in batch.items()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def _mixed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _difference(have: Any, want: Any) -> str:
    if isinstance(have, dict) and isinstance(want, dict):
        return ", ".join(f"{k} {have.get(k)} -> {want.get(k)}" for k in sorted({*have, *want}) if have.get(k) != want.get(k))
    return f"{have} -> {want}"


@contextmanager
def _no_sync(loss_of: nn.Module, off: bool) -> Iterator[None]:
    """Ranks exchange gradients with the last batch of a step only."""
    if not off:
        yield
        return
    with loss_of.no_sync():
        yield


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """Set by SIGTERM while the body runs (signals reach the main thread only; elsewhere the event stays unset)."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
