"""Where a test may kill training.  `RECS_FAULT` names one point; unset (always, outside tests) nothing here does anything.

    train_step:37         the 37th optimizer step is done, nothing of it is saved
    in_checkpoint:2       the second checkpoint of this process is half written: its weights are there, its manifest is not
    poison_step:5         not a kill: the loss of step 5 becomes NaN
"""
from __future__ import annotations

import os
import signal


def at(point: str, number: int) -> bool:
    """Does `RECS_FAULT` name this point and number?"""
    return os.environ.get("RECS_FAULT") == f"{point}:{number}"


def crash(point: str, number: int) -> None:
    """Die at once, as by `kill -9`, if `RECS_FAULT` names this point and number."""
    if at(point, number):
        os.kill(os.getpid(), signal.SIGKILL)
