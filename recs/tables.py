"""The Delta tables under one root: read pinned, write whole, say who wrote what.

Every commit carries a JSON note in its `userMetadata` (the state a stage reached, code and configuration), which is
written atomically with the rows: `note(table)` reads it back.  No metastore: a table is the folder `root/name`.
"""
from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recs.local_frame import empty_frame
from recs.schemas import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class TableError(RuntimeError):
    """A table cannot be read or written as asked."""


class LeaseError(RuntimeError):
    """Somebody else is working on this root."""


class ConflictError(LeaseError):
    """Somebody else wrote first what was to be written on the same ground."""


def predicate(**equal: date | str | int) -> str:
    """`column = value AND …` from typed values: the only way a value reaches a `replaceWhere`.

    >>> predicate(run_date=date(2024, 3, 1), list_name="main")
    "run_date = DATE'2024-03-01' AND list_name = 'main'"
    """
    return " AND ".join(f"{column} = {literal(value)}" for column, value in equal.items())


def any_of(column: str, values: Iterable[date | str | int]) -> str:
    """`column IN (…)` from typed values, at least one; for replacing several partitions in one commit.

    >>> any_of("event_date", [date(2024, 3, 1), date(2024, 3, 2)])
    "event_date IN (DATE'2024-03-01', DATE'2024-03-02')"
    """
    literals = [literal(v) for v in values]
    if not literals:
        raise TableError(f"no value of {column} is named: nothing to replace")
    return f"{column} IN ({', '.join(literals)})"


def literal(value: date | str | int) -> str:
    """A SQL literal.  Text must be a plain name: what could end a string literal is refused."""
    if isinstance(value, date):
        return f"DATE'{value.isoformat()}'"
    if isinstance(value, int):
        return str(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        raise TableError(f"{value!r} cannot stand in a predicate: letters, digits, '_', '.', '-' only")
    return f"'{value}'"


class Lake:
    """The tables under `root` (a local folder or any URL Spark's file systems know)."""

    def __init__(self, spark: SparkSession, root: str | Path) -> None:
        self.spark = spark
        self.root = str(root) if "://" in str(root) else str(Path(root).resolve())
        self._complete: set[str] = set()        # tables that were seen to have all their columns

    def path(self, table: Table | str) -> str:
        """The folder or URL of a table."""
        return f"{self.root}/{table if isinstance(table, str) else table.name}"

    def exists(self, table: Table) -> bool:
        """Was the table ever written?"""
        from delta.tables import DeltaTable

        return DeltaTable.isDeltaTable(self.spark, self.path(table))

    def ensure(self, table: Table) -> None:
        """Create the table with its types, comments, constraints and properties; one that is there gets columns it lacks, NULL so far."""
        if not self.exists(table):
            self.spark.sql(table.create_sql(self.path(table)))
            return
        if table.name in self._complete:
            return
        here = set(self.read(table).columns)
        if lacking := [f"`{c.name}` {c.type} COMMENT '{c.comment}'" for c in table.columns if c.name not in here]:
            with self._noted(self.note(table)):     # what a table stands at is read from its newest note
                self.spark.sql(f"ALTER TABLE delta.`{self.path(table)}` ADD COLUMNS ({', '.join(lacking)})")
        self._complete.add(table.name)

    def describe(self, table: Table) -> list[str]:
        """Bring the column comments of an existing table to what its contract says today; the columns that were behind.

        A column that the contract no longer has stays, and may be NULL from now on.
        """
        here = {f.name: f for f in self.read(table).schema.fields}
        behind = {c.name: f"COMMENT '{c.comment}'" for c in table.columns if c.name in here and _comment(here[c.name]) != c.comment}
        behind |= {name: "DROP NOT NULL" for name, f in here.items() if name not in table.column_names and not f.nullable}
        with self._noted(self.note(table)):     # what a table stands at is read from its newest note
            for name, change in behind.items():
                self.spark.sql(f"ALTER TABLE delta.`{self.path(table)}` ALTER COLUMN `{name}` {change}")
        return [*behind]

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The rows of one version (default: the newest).  A table that was never written reads as empty, and is not made."""
        if version is None and not self.exists(table):
            return empty_frame(self.spark, {c.name: c.type for c in table.columns})
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return reader.load(self.path(table))

    def version(self, table: Table) -> int:
        """Newest version; -1 when the table was never written."""
        return self._history(table, 1)[0]["version"] if self.exists(table) else -1

    def note(self, table: Table) -> dict[str, Any]:
        """What the newest commit with a note says; {} when there is none."""
        if self.exists(table):
            for commit in self._history(table, 50):
                if commit["userMetadata"]:
                    return json.loads(commit["userMetadata"])
        return {}

    def version_with(self, table: Table, **facts: Any) -> int | None:
        """Newest version whose note holds all these facts; None when there is none (or it was vacuumed from the log)."""
        if self.exists(table):
            for commit in self._history(table, 1000):
                said = json.loads(commit["userMetadata"] or "{}")
                if all(said.get(k) == v for k, v in facts.items()):
                    return commit["version"]
        return None

    def rows_written(self, table: Table, note: dict[str, Any]) -> int | None:
        """Rows that the newest commit wrote, as Delta counted them; None when its note is another one: this write had nothing to write."""
        from delta.tables import DeltaTable

        last = DeltaTable.forPath(self.spark, self.path(table)).history(1).select("userMetadata", "operationMetrics").collect()[0]
        if json.loads(last["userMetadata"] or "{}") != json.loads(json.dumps(note)):
            return None
        return int(last["operationMetrics"].get("numOutputRows") or 0)

    def commits(self, table: Table, limit: int = 50) -> list[tuple[int, dict[str, Any]]]:
        """(version, note) of the newest commits, newest first; {} where a commit has no note."""
        rows = self._history(table, limit) if self.exists(table) else []
        return [(r["version"], json.loads(r["userMetadata"] or "{}")) for r in rows]

    def _history(self, table: Table, limit: int) -> list[Any]:
        from delta.tables import DeltaTable

        return DeltaTable.forPath(self.spark, self.path(table)).history(limit).select("version", "userMetadata").collect()

    def append(self, df: DataFrame, table: Table, note: dict[str, Any]) -> None:
        """Add rows in one commit.  Two appends never conflict: who must not write twice holds the lease."""
        self._write(df, table, note, "append")

    def overwrite(self, df: DataFrame, table: Table, note: dict[str, Any]) -> None:
        """Replace the whole table in one commit."""
        self._write(df, table, note, "overwrite")

    def replace(self, df: DataFrame, table: Table, where: str, note: dict[str, Any]) -> None:
        """Replace the rows that fulfil `where` (built by `predicate`) in one commit; rows outside it are refused by Delta.

        An empty frame wipes them: callers that must not do that count first (recs/serve/publish.py).
        """
        self._write(df, table, note, "overwrite", replaceWhere=where)

    def merge(self, changes: DataFrame, table: Table, note: dict[str, Any]) -> None:
        """Rows of `changes` replace the rows with the same key, new keys are added; one commit.

        `changes` holds every key at most once (Delta refuses a second match).
        """
        from delta.tables import DeltaTable

        self.ensure(table)
        on = " AND ".join(f"t.{k} <=> s.{k}" for k in table.key)
        columns = {c: f"s.{c}" for c in table.column_names}
        with self._noted(note):
            (
                DeltaTable.forPath(self.spark, self.path(table)).alias("t")
                .merge(table.conform(changes).alias("s"), on)
                .whenMatchedUpdate(set=columns).whenNotMatchedInsert(values=columns).execute()
            )

    def merge_after(self, version: int, changes: DataFrame, table: Table, note: dict[str, Any], writers: str) -> None:
        """`merge` as the first successor of a version among its `writers`: who read the same version and comes second gets a ConflictError.

        Two merges that touch different rows do not conflict in Delta, whatever they were decided on.  So each carries, as a Delta
        transaction of the application `writers`, the version it was decided on: Delta skips a second one of that number.
        """
        from delta.exceptions import DeltaConcurrentModificationException

        once = {"txnAppId": writers, "txnVersion": str(version + 1)}
        for key, value in once.items():
            self.spark.conf.set(f"spark.databricks.delta.write.{key}", value)
        token = uuid.uuid4().hex
        try:
            self.merge(changes, table, {**note, "token": token})
        except DeltaConcurrentModificationException as e:
            raise ConflictError(f"{self.path(table)}: somebody else wrote at the same time; look again and decide anew") from e
        finally:
            for key in once:
                self.spark.conf.unset(f"spark.databricks.delta.write.{key}")
        if self.version_with(table, token=token) is None:
            raise ConflictError(f"{self.path(table)}: somebody else wrote after version {version} was read; look again and decide anew")

    def mark(self, table: Table, note: dict[str, Any]) -> None:
        """A commit that changes no row and carries a note; Delta makes none for an empty append or merge."""
        said = json.dumps(note, sort_keys=True).replace("\\", "\\\\").replace("'", "\\'")
        with self._noted(note):
            self.spark.sql(f"ALTER TABLE delta.`{self.path(table)}` SET TBLPROPERTIES ('recs.note' = '{said}')")

    def delete(self, table: Table, where: str, note: dict[str, Any]) -> None:
        """Remove the rows that fulfil `where`.  Never with ids in it: Delta writes the predicate into its log."""
        from delta.tables import DeltaTable

        with self._noted(note):
            DeltaTable.forPath(self.spark, self.path(table)).delete(where)

    def erase(self, keys: DataFrame, table: Table) -> int:
        """Remove the rows with these keys, by a join: no value of a row gets into Delta's log.  How many; the newest note stays."""
        from delta.tables import DeltaTable

        keys = keys.localCheckpoint()
        n, names = keys.count(), keys.columns
        if n:
            same = " AND ".join(f"here.{c} <=> gone.{c}" for c in names)
            with self._noted(self.note(table)):     # what a table stands at is read from its newest note
                DeltaTable.forPath(self.spark, self.path(table)).alias("here").merge(
                    keys.distinct().alias("gone"), same).whenMatchedDelete().execute()
        return n

    def compact(self, table: Table, keep: timedelta) -> dict[str, int]:
        """Put small files together and remove those that only versions older than `keep` need; rows and the newest note stay.

        How many files went into how many.  Delta refuses to keep less than a week: a reader may be at work on an older version.
        """
        from delta.tables import DeltaTable

        here = DeltaTable.forPath(self.spark, self.path(table))
        with self._noted(self.note(table)):     # what a table stands at is read from its newest note
            metrics = here.optimize().executeCompaction().select("metrics.numFilesRemoved", "metrics.numFilesAdded").first()
            here.vacuum(keep / timedelta(hours=1))
        return {"files": metrics[0] or 0, "into": metrics[1] or 0}

    def _write(self, df: DataFrame, table: Table, note: dict[str, Any], mode: str, **options: str) -> None:
        self.ensure(table)
        writer = table.conform(df).write.format("delta").mode(mode).option("userMetadata", json.dumps(note, sort_keys=True))
        for key, value in options.items():
            writer = writer.option(key, value)
        writer.save(self.path(table))

    @contextmanager
    def _noted(self, note: dict[str, Any]) -> Iterator[None]:
        """MERGE and DELETE take their note from the session; it is taken back afterwards."""
        key = "spark.databricks.delta.commitInfo.userMetadata"
        self.spark.conf.set(key, json.dumps(note, sort_keys=True))
        try:
            yield
        finally:
            self.spark.conf.unset(key)


class SideLake(Lake):
    """A lake that writes the tables `own` under its root and reads all others from `upstream`: for rebuilding a past state."""

    def __init__(self, upstream: Lake, root: str | Path, own: tuple[Table, ...]) -> None:
        super().__init__(upstream.spark, root)
        self.upstream, self.own = upstream, {t.name for t in own}

    def path(self, table: Table | str) -> str:
        name = table if isinstance(table, str) else table.name
        return super().path(table) if name in self.own else self.upstream.path(table)


def _comment(field: Any) -> str:
    return (field.metadata or {}).get("comment", "")


# A lease file is renewed this often and belongs to nobody when it has not been renewed for LEASE_STALE_S.
LEASE_RENEW_S, LEASE_STALE_S = 10.0, 60.0


@contextmanager
def lease(root: str | Path, name: str = "night", wait_s: float = 0.0) -> Iterator[None]:
    """One writer per root: holds `root/_leases/name` while the body runs.

    A second comer waits up to `wait_s` seconds, then gets a LeaseError that says who holds it.  The holder of a lease that
    was killed is found out at once on the same host (its process is gone), elsewhere after a minute without renewal.
    Roots that are not local paths are guarded by Delta's own conflict detection only.
    """
    if "://" in str(root) and not str(root).startswith("file:"):
        yield
        return
    folder = Path(str(root).removeprefix("file://").removeprefix("file:")) / "_leases"
    folder.mkdir(parents=True, exist_ok=True)
    path, token = folder / f"{name}.json", uuid.uuid4().hex
    deadline = time.monotonic() + wait_s
    while not _take(path, token):
        if time.monotonic() >= deadline:
            holder = _holder(path) or {}
            raise LeaseError(
                f"another run holds the lease {path} (process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}); "
                "wait for it (most commands do, with --wait SECONDS)"
            )
        time.sleep(min(1.0, wait_s))
    stop = threading.Event()
    renewer = threading.Thread(target=_renew, args=(path, token, stop), daemon=True)
    renewer.start()
    try:
        yield
    finally:
        stop.set()
        renewer.join()
        if (_holder(path) or {}).get("token") == token:
            path.unlink(missing_ok=True)


def _take(path: Path, token: str) -> bool:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = {"token": token, "pid": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname(), "since": since}
    mine = path.with_suffix(f".{token}")
    mine.write_text(json.dumps(body))
    try:
        if _abandoned(path):
            # of several who find it abandoned, the rename lets one win
            gone = path.with_suffix(f".gone.{token}")
            try:
                path.rename(gone)
                gone.unlink()
            except FileNotFoundError:
                pass
        try:
            os.link(mine, path)     # atomic: fails when the lease exists
            return True
        except FileExistsError:
            return False
    finally:
        mine.unlink()


def _holder(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _started(pid: int) -> str | None:
    """When a process of this host started, in clock ticks since boot; None when it is gone or cannot be looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def _abandoned(path: Path) -> bool:
    holder = _holder(path)
    if holder is None:
        return False
    if holder.get("host") == socket.gethostname():
        # a number is given again to another process: the start says whether it is the same one
        now = _started(holder["pid"])
        return Path("/proc").exists() and (now is None or holder.get("started", now) != now)
    return time.time() - path.stat().st_mtime > LEASE_STALE_S


def _renew(path: Path, token: str, stop: threading.Event) -> None:
    while not stop.wait(LEASE_RENEW_S):
        if (_holder(path) or {}).get("token") == token:
            os.utime(path)
