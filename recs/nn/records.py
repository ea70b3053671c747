"""What is known about a run: where it stands, and what it came to."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median_low
from typing import Any


@dataclass
class Position:
    """Where the run stands: everything that is neither weights nor optimizer.  Plain values: it is kept as JSON."""

    epoch: int = 0
    batch: int = 0          # batches of this epoch that are done
    step: int = 0           # optimizer steps done, over all epochs
    examples: int = 0
    seconds: float = 0.0    # of training and evaluation, over all resumed runs
    waited_s: float = 0.0   # of these, for the reader
    first_losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)     # {"epoch", "step", "metrics"} of each evaluation
    best: str | None = None             # name of a checkpoint
    best_value: float | None = None
    since_best: int = 0                 # evaluations
    done: str | None = None             # why the run ended


@dataclass(frozen=True)
class Trained:
    """What a run came to.  The model holds the best weights."""

    metrics: dict[str, float]           # of the best weights on the validation set; empty without one
    history: list[dict[str, Any]]
    why: str                            # "epochs", "patience" or "max_minutes"
    epochs: float
    steps: int
    examples: int
    seconds: float
    waiting_share: float                # of the seconds, spent waiting for the reader
    precision: str
    device: str

    @property
    def best_step(self) -> int:
        """The step after which the weights were best on the validation set (the last without one); 0: the first were never beaten."""
        return next(h["step"] for h in self.history if h["metrics"] == self.metrics) if self.metrics else self.steps

    @property
    def best_epochs(self) -> int:
        """The same in epochs, at least one."""
        return self._epochs_at(self.best_step)

    def steady(self, metric: str) -> tuple[int, float]:
        """Epochs, at least one, around which a metric was highest, and its median there: of three evaluations, for one may be luck."""
        value = [h["metrics"][metric] for h in self.history]
        around = [median_low(value[max(i - 1, 0) : i + 2]) for i in range(len(value))]
        best = max(range(len(value)), key=lambda i: (around[i], i))
        return self._epochs_at(self.history[best]["step"]), around[best]

    def _epochs_at(self, step: int) -> int:
        return max(1, round(step * self.epochs / max(self.steps, 1)))

    def record(self) -> dict[str, Any]:
        """For a run record."""
        return asdict(self)
