"""How a network is trained: the validated settings (no torch here, so that a configuration can be read without it)."""
from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainConfig(BaseModel):
    """Every key is checked; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # steps
    batch_size: int = Field(128, ge=1)              # examples of one backward pass, over all ranks together
    accumulate: int = Field(1, ge=1)                # backward passes per step of the optimizer
    epochs: int = Field(20, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)        # .98: embeddings of rare items see few gradients, .999 remembers them for too long
    momentum: float = Field(0.9, ge=0, lt=1)        # of sgd
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0)               # below 1: share of all steps; from 1 on: steps
    lr_end: float = Field(0.0, ge=0, le=1)          # share of `lr` at the last step
    weight_decay: float = Field(0.01, ge=0)         # of matrices; never of norms and biases
    decay_embeddings: bool = False                  # a rare item's row would be decayed at every step and trained at few
    clip_norm: float | None = Field(1.0, gt=0)
    # when to stop
    metric: str = "ndcg@10"                         # of `evaluate`; greater is better, except `loss`
    patience: int | None = Field(3, ge=1)           # evaluations without a new best
    evaluations_per_epoch: int = Field(1, ge=1)
    max_minutes: float | None = Field(None, gt=0)   # over all resumed runs: evaluates, keeps the best and ends
    explode: float = Field(100.0, gt=1)             # a loss this many times the mean of the first 20 that are not 0 ends the run
    # where and how exactly
    seed: int = Field(1, ge=0)
    device: str = "auto"                            # cuda where there is one
    precision: Literal["auto", "fp32", "bf16"] = "auto"     # auto: bf16 where the hardware is fast at it
    threads: int | None = Field(None, ge=1)         # of torch on a CPU; default: its own choice
    # reading
    reader: Literal["petastorm", "arrow"] = "petastorm"
    pool: Literal["dummy", "thread"] = "dummy"      # of petastorm; threads do not keep the order, so no run repeats exactly
    shards: int | None = Field(None, ge=1)          # streams the data is cut into; default: one per rank
    mix_files: int = Field(4, ge=1)                 # files whose rows are shuffled together; bounds memory
    prefetch: int = Field(4, ge=1)                  # batches read ahead
    stall_minutes: float = Field(5.0, gt=0)
    # what is kept
    checkpoint_minutes: float = Field(10.0, ge=0)   # within an epoch; at every evaluation anyhow
    tensorboard: bool = True                        # its import alone costs some seconds
