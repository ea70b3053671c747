"""Model and item-table folders on their way to the workers: hashed, shipped, opened once per worker process.

        driver                          host                                    worker process (one per task slot)
        folder ── verify ── archive ──▶ unpacked once per executor      ──────▶ verify, memory-map, keep until the hash changes
        folder ── verify (local mode) ── read in place ───────────────────────▶ the same

The arrays are memory-mapped, so the processes of one host share one copy in the page cache.
"""
from __future__ import annotations

import atexit
import hashlib
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recs.evidence.item_tables import ArtifactError, ItemTables, sha256
from recs.models import Model, load

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Artifact:
    """One folder of files: where it is and what it must hold."""

    folder: str
    content_hash: str
    archive: str | None = None      # name under which Spark unpacked it on this host; None: read in place

    @property
    def local(self) -> Path:
        """The folder as this process sees it."""
        if self.archive is None:
            return Path(self.folder)
        from pyspark import SparkFiles

        return Path(SparkFiles.get(self.archive))


@dataclass(frozen=True)
class Opened:
    """A model and the item tables it reads, verified and memory-mapped."""

    model: Model
    tables: ItemTables


def folder_hash(path: str | Path) -> str:
    """SHA-256 over names and contents of the files of a folder, hex: the `content_hash` of a model."""
    files = sorted(p for p in Path(path).rglob("*") if p.is_file())
    if not files:
        raise ArtifactError(f"{path}: no files there; give the folder of a trained model")
    lines = [f"{p.relative_to(path).as_posix()} {sha256(p)}" for p in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def model_artifact(path: str | Path, expected: str | None = None) -> Artifact:
    """The model in a folder.  ArtifactError with both hashes when it is not the `expected` one (of the table `models`)."""
    have = folder_hash(path)
    if expected is not None and have != expected:
        raise ArtifactError(f"{path}: content hash is {have[:12]}…, expected {expected[:12]}…: not the model that was trained; train again")
    return Artifact(str(path), have)


def tables_artifact(path: str | Path, expected_version: str | None = None) -> Artifact:
    """The item tables in a folder, every file checked against the manifest.  ArtifactError when the version is not the expected one."""
    tables = ItemTables(path, verify=True)
    if expected_version is not None and tables.version != expected_version:
        raise ArtifactError(f"{path}: holds item tables {tables.version}, the night was made with {expected_version}; build them again")
    return Artifact(str(path), tables.manifest["content_hash"])


def ship(spark: SparkSession, artifact: Artifact) -> Artifact:
    """The artifact as workers will find it: in place under a local master, else unpacked on every executor from an archive."""
    context = spark.sparkContext
    if context.master.startswith("local") and not context.master.startswith("local-cluster"):
        return artifact
    name = f"recs-{artifact.content_hash[:24]}.tar"
    if not any(known.endswith(name) for known in context.listArchives):
        # executors that join later fetch the archive from the driver: it stays until the session ends
        folder = tempfile.mkdtemp(prefix="recs-ship-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        with tarfile.open(Path(folder) / name, "w") as tar:
            for file in sorted(p for p in Path(artifact.folder).rglob("*") if p.is_file()):     # Hadoop refuses an entry called "."
                tar.add(file, arcname=file.relative_to(artifact.folder).as_posix())
        context.addArchive(str(Path(folder) / name))
    return Artifact(artifact.folder, artifact.content_hash, name)


_OPEN: dict[tuple[str, str], Opened] = {}     # of this process; one model at a time, so that a long-lived worker does not collect them


def opened(model: Artifact, tables: Artifact) -> Opened:
    """Model and tables, verified by hash the first time this process asks for them."""
    key = (model.content_hash, tables.content_hash)
    if key not in _OPEN:
        model_artifact(model.local, expected=model.content_hash)
        found = ItemTables(tables.local, verify=True)
        if found.manifest["content_hash"] != tables.content_hash:
            raise ArtifactError(
                f"{tables.folder}: content hash is {found.manifest['content_hash'][:12]}…, expected {tables.content_hash[:12]}…: "
                "the folder changed since the driver looked"
            )
        _OPEN.clear()
        _OPEN[key] = Opened(load(model.local), found)
    return _OPEN[key]
