"""The Spark session: one place that knows master, time zone, Delta's jars and which Python the workers run."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .config import SparkConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DELTA_PACKAGE = "io.delta:delta-spark_2.13:4.0.1"
# for `spark.java_options` where frames are many and small: compile once and quickly, with room for what was compiled (48 MB by default)
QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"


class SessionError(RuntimeError):
    """Spark cannot start; the message says what to install or set."""


def check_java() -> str:
    """Version of the Java that Spark will use.  Raises SessionError with the mending command when it is missing or too old."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    mend = "install it with `apt-get install openjdk-17-jre-headless` (or set JAVA_HOME to a Java 17 or 21)"
    if not java or not Path(java).exists():
        raise SessionError(f"Java is missing: Spark 4 needs Java 17 or 21; {mend}")
    banner = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', banner)
    if not found or int(found.group(1)) < 17:
        raise SessionError(f"{java} is Java {found.group(1) if found else '?'}: Spark 4 needs Java 17 or 21; {mend}")
    return found.group(1)


def start(app: str, config: SparkConfig | None = None, **settings: str) -> SparkSession:
    """A session with Delta, in UTC, whose workers run this Python.

    Under `spark-submit` (PYSPARK_GATEWAY_PORT is set) master, memory and jars are the submit command's; everything that
    results depend on (time zone, ANSI arithmetic, timestamp type) is set here in any case.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    config = config or SparkConfig()
    if not submitted:
        check_java()
        # the workers' Python is whatever `python3` is on PATH unless these are set before the JVM starts
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    from pyspark.sql import SparkSession

    builder = (
        SparkSession.builder.appName(app)
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.ansi.enabled", "true")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")   # INT96 turns the year 9999 into 1816
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .config("spark.sql.execution.pythonUDF.arrow.enabled", "true")
        .config("spark.databricks.delta.snapshotPartitions", "2")   # 50 by default: most of a small table's read time
        # one torch/BLAS thread per task slot: Spark already runs a task per core
        .config("spark.executorEnv.OMP_NUM_THREADS", "1")
        .config("spark.executorEnv.OPENBLAS_NUM_THREADS", "1")
    )
    if not submitted:
        builder = (
            builder.master(config.master)
            .config("spark.driver.memory", config.driver_memory)
            .config("spark.sql.shuffle.partitions", str(config.shuffle_partitions))
            .config("spark.default.parallelism", str(config.shuffle_partitions))
            # listing many files is a task per file by default
            .config("spark.sql.sources.parallelPartitionDiscovery.parallelism", str(config.shuffle_partitions))
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.log.level", "ERROR")
            # -Xss: the plan of ten ALS iterations is a deep tree to deserialise, too deep for 1 MB without Java's optimising compiler
            .config("spark.driver.extraJavaOptions", f"-Duser.timezone=UTC -XX:+UseParallelGC -Xss4m {config.java_options}".strip())
        )
        jars_dir = config.jars_dir or os.environ.get("RECS_JARS_DIR")
        if jars_dir:
            jars = sorted(Path(jars_dir).glob("*.jar"))
            if not jars:
                raise SessionError(f"spark.jars_dir {jars_dir}: no .jar files there; copy Delta's three jars into it or unset it")
            builder = builder.config("spark.jars", ",".join(map(str, jars)))
        else:
            builder = builder.config("spark.jars.packages", DELTA_PACKAGE)
        for key, value in config.settings.items():
            builder = builder.config(key, value)
    for key, value in settings.items():
        builder = builder.config(key.replace("__", "."), value)
    spark = builder.getOrCreate()
    _check_delta(spark)
    if submitted and "shuffle_partitions" in config.model_fields_set:
        _keep_partitions(spark, config.shuffle_partitions)
    return spark


def _keep_partitions(spark: SparkSession, n: int) -> None:
    """What somebody wrote into the configuration holds under a submit too, unless that names a number itself."""
    key = "spark.sql.shuffle.partitions"
    if not spark.sparkContext.getConf().contains(key):
        spark.conf.set(key, str(n))


def _check_delta(spark: SparkSession) -> None:
    """SessionError when Delta's classes are not there: jars cannot be added to a JVM that `spark-submit` has started."""
    from py4j.java_gateway import JavaPackage

    if isinstance(spark._jvm.io.delta.tables.DeltaTable, JavaPackage):
        raise SessionError(f"this session has no Delta: add `--packages {DELTA_PACKAGE}` (or `--jars` with its three jars) to spark-submit")
