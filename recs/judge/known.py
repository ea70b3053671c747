"""What is known at a cut, without a question: every user's history as staged arrays, for models that learn from histories themselves.

Questions about earlier nights end a horizon before the present and leave out who did nothing since; the newest events, and those of all
others, are here.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from recs.evidence.histories import SEQUENCE_COLUMNS, Histories
from recs.serve.score import batches, one_thread

from . import parts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recs.nn.staged import Staged

ROWS = 4_096        # users of a file, at most


def write_histories(histories: DataFrame, make: Callable[[Histories], dict[str, np.ndarray]], folder: Path) -> Staged | None:
    """What `make` (which must pickle) gives for these users (SEQUENCE_COLUMNS), as staged Parquet; None when it gives no row.

    The folder is on storage that driver and executors share.
    """
    files = histories.select(*SEQUENCE_COLUMNS).mapInPandas(partial(_write_on_worker, make, str(folder)), parts.DDL).collect()
    return parts.finished(folder, files) if files else None


def _write_on_worker(
    make: Callable[[Histories], dict[str, np.ndarray]], folder: str, frames: Iterator[pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    """A file per batch of users with a row; a task tried again writes the same names."""
    for number, rows in enumerate(batches(frames, ROWS)):
        with one_thread():
            columns = make(Histories.from_frame(rows.reset_index(drop=True)))
        if len(next(iter(columns.values()))):
            yield parts.part(folder, number, columns)
