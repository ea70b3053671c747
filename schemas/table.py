"""What a table contract is: columns, types, meaning, key, checks.

Types are Spark's own `simpleString` names, so this file needs no pyspark and the same text serves the DDL, the
fixtures, the checks and the data dictionary (docs/tables.md is rendered from it).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pragma: no cover - only for readers and type checkers
    from pyspark.sql import DataFrame


class ContractError(ValueError):
    """A frame does not fit its table; the message names the table and every column that is off."""


@dataclass(frozen=True)
class Column:
    """One column: Spark type as `simpleString`, meaning in words (unit, range, what NULL means).

    `deprecated` says since which version and what to read instead: `0.3, read evidence_type`; '' = in use.
    """

    name: str
    type: str
    doc: str
    nullable: bool = False
    deprecated: str = ""

    @property
    def ddl(self) -> str:
        """The column as it stands in DDL: name, type, NOT NULL, comment."""
        return f"`{self.name}` {self.type}{'' if self.nullable else ' NOT NULL'} COMMENT '{self.comment}'"

    @property
    def meaning(self) -> str:
        """What stands beside the column in the data dictionary."""
        return f"deprecated since {self.deprecated}: {self.doc}" if self.deprecated else self.doc

    @property
    def comment(self) -> str:
        """The same as it stands in Delta, where it is part of a SQL text."""
        return self.meaning.replace("'", "’")


@dataclass(frozen=True)
class Table:
    """One table: `doc` says what one row is, `key` what is unique, `checks` are Delta CHECK constraints (name -> SQL).

    `properties` are Delta table properties.  Published tables keep Delta's reader version 1, so that every reader of
    Delta can open them; only `sequences`, which nobody outside Spark reads, uses deletion vectors.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partitions: tuple[str, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()
    properties: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        names = self.column_names
        if len(set(names)) != len(names):
            raise ContractError(f"table {self.name}: a column is declared twice")
        if missing := [c for c in (*self.key, *self.partitions) if c not in names]:
            raise ContractError(f"table {self.name}: key or partition columns are not declared: {missing}")

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns in their order."""
        return tuple(c.name for c in self.columns)

    @property
    def ddl(self) -> str:
        """Column list for `CREATE TABLE` and `createDataFrame`: names, types, NOT NULL, comments."""
        return ", ".join(c.ddl for c in self.columns)

    def create_sql(self, path: str) -> str:
        """The `CREATE TABLE` statement for a Delta folder at `path`: columns, comments, partitions, CHECK constraints, properties."""
        constraints = tuple((f"delta.constraints.{name}", sql) for name, sql in self.checks)
        partitioned = f" PARTITIONED BY ({', '.join(self.partitions)})" if self.partitions else ""
        properties = ", ".join("'{}' = '{}'".format(k, v.replace("'", "\\'")) for k, v in (*self.properties, *constraints))
        tail = f" TBLPROPERTIES ({properties})" if properties else ""
        doc = self.doc.replace("'", "’")
        return f"CREATE TABLE IF NOT EXISTS delta.`{path}` ({self.ddl}) USING DELTA{partitioned} COMMENT '{doc}'{tail}"

    def conform(self, df: DataFrame) -> DataFrame:
        """Exactly the declared columns, in the declared order; extra ones are dropped.

        Raises ContractError when a column is missing or has another type (the types are compared as Spark prints
        them, inner nullability aside).
        """
        have = {f.name: f.dataType.simpleString() for f in df.schema.fields}
        problems = [f"{c.name} is missing" for c in self.columns if c.name not in have]
        problems += [
            f"{c.name} is {have[c.name]}, the contract says {c.type}"
            for c in self.columns
            if c.name in have and have[c.name] != c.type
        ]
        if problems:
            raise ContractError(f"table {self.name}: " + "; ".join(problems))
        return df.select(*self.column_names)
