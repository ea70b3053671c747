"""Checkpoints that are whole or not there.

    checkpoints/
      step-00000120/           one state of the run, never changed once it has this name
        weights.safetensors
        optimizer.safetensors
        state.json             position (epoch, batch), history of metrics, seconds spent, which checkpoint is the best so far
        manifest.json          SHA-256 of the three, written last
      step-00000160/

A checkpoint is written beside its place and renamed; a reader takes the newest whose hashes are right, so that a torn or rotten
one costs the steps since the one before, never the run (torch.load accepts a flipped byte; and nothing here is a pickle).  Two
newest and the best are kept.  Random states are not kept: every step seeds anew from (seed, step).
"""
from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

from recs.nn import faults

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
PREFIX = "step-"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message names file and reason."""


@dataclass(frozen=True)
class Checkpoint:
    """One state of a run, read and verified."""

    name: str
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in `folder`."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._written = 0

    @staticmethod
    def name_of(step: int) -> str:
        """Of the checkpoint after `step` optimizer steps."""
        return f"{PREFIX}{step:08d}"

    def names(self) -> list[str]:
        """Oldest first."""
        return sorted(p.name for p in self.folder.glob(f"{PREFIX}*") if p.is_dir())

    def write(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any], best: str | None) -> str:
        """Save step `step`; keep it, the one before it and `best`.  Returns its name."""
        name = self.name_of(step)
        self._written += 1
        half = self.folder / f".{name}.{os.getpid()}"
        for old in self.folder.glob(f".{PREFIX}*"):     # of runs that died while writing
            shutil.rmtree(old)
        half.mkdir()
        files = {
            "weights.safetensors": save(_on_cpu(model.state_dict())),
            "optimizer.safetensors": save(_on_cpu(flat_optimizer(model, optimizer))),
            "state.json": json.dumps(state, indent=1, allow_nan=False).encode(),
        }
        for file, data in files.items():
            _write(half / file, data)
            if file.startswith("weights"):
                faults.crash("in_checkpoint", self._written)
        _write(half / MANIFEST, json.dumps({f: hashlib.sha256(d).hexdigest() for f, d in files.items()}, indent=1).encode())
        place = self.folder / name
        if place.exists():      # the same step again, after a resume from before it
            shutil.rmtree(place)
        half.rename(place)
        _sync(self.folder)
        for old in set(self.names()[:-2]) - {best}:
            shutil.rmtree(self.folder / old)
        return name

    def newest(self) -> Checkpoint | None:
        """The newest that is whole; damaged ones are passed over with a warning."""
        for name in reversed(self.names()):
            try:
                return self.read(name)
            except CheckpointError as error:
                log.warning("%s; going back to the one before", error)
        return None

    def read(self, name: str) -> Checkpoint:
        """One checkpoint, verified."""
        place = self.folder / name
        try:
            promised = json.loads((place / MANIFEST).read_bytes())
            data = {file: (place / file).read_bytes() for file in promised}
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{place}: not whole ({error})") from None
        for file, sha in promised.items():
            if hashlib.sha256(data[file]).hexdigest() != sha:
                raise CheckpointError(f"{place / file}: sha256 is not the manifest's")
        return Checkpoint(name, load(data["weights.safetensors"]), load(data["optimizer.safetensors"]), json.loads(data["state.json"]))


def flat_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """`{"layer.weight/exp_avg": …}`: the optimizer's tensors under the names of their parameters."""
    names = {p: name for name, p in model.named_parameters()}
    return {f"{names[p]}/{key}": value for p, entry in optimizer.state.items() for key, value in entry.items() if torch.is_tensor(value)}


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, flat: dict[str, torch.Tensor]) -> None:
    """The inverse: `optimizer` goes on as the one that was saved."""
    known = dict(model.named_parameters())
    for full, value in flat.items():
        name, key = full.rsplit("/", 1)
        p = known[name]
        # AdamW counts its steps in a scalar that stays on the CPU
        optimizer.state[p][key] = value.clone() if value.ndim == 0 and p.ndim else value.to(p.device, copy=True)


def _on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous copies that share no memory (tied tensors would be refused)."""
    return {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
