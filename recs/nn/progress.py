"""How training goes: a bar on a terminal, lines in a log, scalars for TensorBoard.  Only the first rank speaks."""
from __future__ import annotations

import logging
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("recs.train")
LINE_EVERY_S = 30.0     # without a terminal


class Watch:
    """Shows and writes what the trainer tells it."""

    def __init__(self, folder: Path | None, steps: int, done: int, quiet: bool, console: Console | None = None) -> None:
        self._scalars = None
        if folder is not None and not quiet:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, needed by the first rank only

            self._scalars = SummaryWriter(str(folder), purge_step=done)
        console = console or Console(stderr=True)
        self._bar = None
        if console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn(),
                console=console, transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=steps, completed=done, told="")
        self._quiet, self._steps = quiet, steps
        self._line_at = time.monotonic()

    def step(self, step: int, loss: float, per_s: float, waited: float, **scalars: float) -> None:
        """After optimizer step `step`: mean loss since the last call, examples per second, share of time spent waiting."""
        if self._scalars is not None:
            for name, value in {"loss": loss, "examples_per_s": per_s, "waiting_share": waited, **scalars}.items():
                self._scalars.add_scalar(f"train/{name}", value, step)
        told = f"loss {loss:.4f} · {per_s:,.0f} examples/s · waiting {waited:.0%}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, told=told)
        elif not self._quiet and time.monotonic() - self._line_at > LINE_EVERY_S:
            self._line_at = time.monotonic()
            log.info("step %d of %d · %s", step, self._steps, told)

    def evaluation(self, step: int, epoch: int, metrics: dict[str, float], best: bool) -> None:
        """Metrics of the validation set."""
        if self._scalars is not None:
            for name, value in metrics.items():
                self._scalars.add_scalar(f"validation/{name}", value, step)
            self._scalars.flush()
        if not self._quiet:
            told = " · ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            log.info("epoch %d, step %d · %s%s", epoch, step, told, " · best" if best else "")

    def close(self) -> None:
        """End the bar and the scalars."""
        if self._bar is not None:
            self._bar.stop()
        if self._scalars is not None:
            self._scalars.close()
