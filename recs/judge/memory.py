"""How much memory a piece of work takes: of this process and the Python workers under it; a JVM's heap is as large as it is set to be.

    with Peak() as peak:        a thread looks twice a second
        …
    peak.mb                     the most there was at once, less what there was when it began
    warm(spark)                 before: libraries that stay once they are loaded (torch: 200 MB) are no one model's

Counted is what a process has of its own (anonymous pages, shared ones by their share), not files mapped into it, which the kernel may
take back: `Pss_Anon` and `Pss_Shmem` of /proc/<pid>/smaps_rollup.  Where there is no /proc, nothing is known.  On a cluster the workers
are elsewhere: there it is the driver alone.  `machine` says where all this was.
"""
from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

EVERY_S = 0.5
LIBRARIES = ("torch", "recs.nn.next_item", "recs.nn.train", "lightgbm", "recs.models", "recs.serve.score")
PROC = Path("/proc")
COUNTED = ("Pss_Anon", "Pss_Shmem")


class Peak:
    """`mb`: megabytes (10^6), None where it cannot be told."""

    mb: float | None = None

    def __enter__(self) -> Peak:
        gc.collect()
        give_back()     # what earlier work left in the allocator would be used again, unseen
        self._began = self._most = _bytes_now()
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._watch.join()
        if self._began:
            self.mb = max(self._most, _bytes_now()) / 1e6 - self._began / 1e6

    def _look(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._most = max(self._most, _bytes_now())


def warm(spark: SparkSession) -> None:
    """Load here and in every Python worker what models load when they are first used; what is not installed is left out."""
    _loaded()
    tasks = 2 * spark.sparkContext.defaultParallelism
    spark.range(0, tasks, numPartitions=tasks).mapInPandas(_warmed, "id bigint").count()


def _warmed(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    _loaded()
    yield from frames


def _loaded() -> None:
    for name in LIBRARIES:
        with suppress(ImportError):
            import_module(name)


def machine() -> str:
    """`2 CPUs, 8 GB`, and the name of the GPU that networks are trained on, where there is one."""
    said = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} CPUs"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        said += f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB"
    try:
        import torch
    except ImportError:
        return said
    return said + (f", GPU {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ", no GPU")


def give_back() -> None:
    """Free memory of the C library goes back to the kernel, where the library can do that."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _bytes_now() -> int:
    """Of this process and those under it that are no JVM; 0 where it cannot be told."""
    return sum(_bytes_of(pid) for pid in _family(os.getpid()))


def _family(root: int) -> list[int]:
    """A process and all under it, but for JVMs (whose children count)."""
    names, children = {}, {}
    for folder in PROC.glob("[0-9]*"):
        try:
            said = (folder / "stat").read_text()
        except OSError:     # gone meanwhile
            continue
        name, rest = said[said.index("(") + 1 : said.rindex(")")], said[said.rindex(")") + 2 :].split()
        names[int(folder.name)] = name
        children.setdefault(int(rest[1]), []).append(int(folder.name))
    found, open_ = [], [root]
    while open_:
        pid = open_.pop()
        open_ += children.get(pid, [])
        if names.get(pid) not in (None, "java"):
            found.append(pid)
    return found


def _bytes_of(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:         # gone meanwhile, or another user's
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.split(":")[0] in COUNTED)
