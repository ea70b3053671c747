"""Sequences/s of RecTools' SASRec (MobileTeleSystems/RecTools 0.19), run by training.py in an interpreter that has RecTools.

    pip install 'rectools[torch]==0.19.0' 'numpy<2'         # into an environment of its own

Softmax over the whole catalogue, the library's own data loader and trainer.  The first batches are left out: they prepare.  Prints one
line of JSON.
"""
from __future__ import annotations

import argparse
import json
import time
import warnings

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet

warnings.filterwarnings("ignore")
DAY_US = 86_400_000_000
WARM = 5        # batches


class Clock(Callback):
    """When the batches ended; stops when the time is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.ends = seconds, []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if len(self.ends) == WARM and torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        trainer.should_stop = len(self.ends) > WARM + 1 and self.ends[-1] - self.ends[WARM] > self.seconds


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("histories")
    for name in ("dim", "blocks", "heads", "batch"):
        p.add_argument(f"--{name}", type=int, required=True)
    p.add_argument("--seconds", type=float, required=True)
    p.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    args = p.parse_args()
    seed_everything(1, workers=True)
    items = np.load(args.histories)["items"]
    user, place = np.nonzero(items)
    events = pd.DataFrame({
        Columns.User: user, Columns.Item: items[user, place], Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(place * DAY_US, unit="us").astype("datetime64[ns]")})

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=1_000, accelerator="auto", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[Clock(args.seconds)],
            precision="bf16-mixed" if args.precision == "bf16" else "32-true")

    model = SASRecModel(
        n_blocks=args.blocks, n_heads=args.heads, n_factors=args.dim, dropout_rate=0.2, session_max_len=items.shape[1] - 1, lr=1e-3,
        batch_size=args.batch, loss="softmax", item_net_block_types=(IdEmbeddingsItemNet,), get_trainer_func=trainer)
    model.fit(Dataset.construct(events))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    clock = next(c for c in model.fit_trainer.callbacks if isinstance(c, Clock))     # the model trains with a copy
    batches, seconds = len(clock.ends) - 1 - WARM, time.perf_counter() - clock.ends[WARM]
    print(json.dumps({"sequences_per_s": round(batches * args.batch / seconds)}))


if __name__ == "__main__":
    main()
