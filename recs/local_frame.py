"""A few rows made by the driver, as a frame that needs no task.

`spark.createDataFrame(rows)` sends rows through a Python worker: a second to start one, and a job each time the frame is read.  An
Arrow table up to `spark.sql.execution.arrow.localRelationThreshold` (48 MB) travels inside the plan instead.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def local_frame(spark: SparkSession, rows: Sequence[Sequence[Any]], ddl: str) -> DataFrame:
    """`rows` in the order of the columns of `ddl`; instants as datetimes with an offset."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.sql.types import StructType

    schema = StructType.fromDDL(ddl)
    values = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(values, to_arrow_schema(schema), strict=True)]
    return spark.createDataFrame(pa.Table.from_arrays(arrays, names=schema.names), schema)


def empty_frame(spark: SparkSession, columns: dict[str, str]) -> DataFrame:
    """No rows, of columns name -> type: Spark sees in the plan that there are none, and leaves out what is joined with them."""
    nothing = ", ".join(f"CAST(NULL AS {type_}) AS `{name}`" for name, type_ in columns.items())
    return spark.sql(f"SELECT {nothing} WHERE false")
