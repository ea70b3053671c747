"""A generated event log with known truth: raw files as a company would deliver them, and beside them what really went on.

    generate(spark, "log", make_config(preset="shop", n_events=60_000, dirt=0.02))

    log/events/arrival=2024-03-30/part-00000.json.gz   JSON lines by the day they arrive:
                                                       {visitor, item, at, action, seconds, amount, lat, lon}
    log/items/  log/users/                             JSON lines with validity intervals
    log/truth/draws/                                   every row with its source and the probability of its item; dirty rows are named
    log/truth/users/  items/  topics/                  what users like and when, items' trend curves, what follows what
    log/truth/oracle/                                  cut_us, user_id, rank, item_id, intensity: the best 20 anybody could name
    log/truth/manifest.json                            the settings and the counts; written last

configs/mappings/generated.yaml (shop) and generated_<preset>.yaml read the raw files.

The model.  User u comes in sessions of a Poisson process with rate activity_u * week_u(weekday) * day_u(hour) on the own wall
clock; a session has a geometric number of visits with exponential gaps.  At a visit at time t, g after the last one (item j, topic
k), the item i is drawn from

    P(i | u, t, state) = sum over sources s of w_s P_s(i) / sum over s of w_s            A_i(t) = base_i f_i(t), 0 unless i is alive

    popular    A_i / sum A                                          everything on offer
    interest   sum_m theta_um(t) c_m(t) [i in topic m] A_i / A(m)   two to four topics, theta = exp(a + d sin(2 pi t / period + phase))
    theme      sum_m v_um [i of theme m] A_i / A(m)                 themes cross the topics; only words tell them        (text)
    near       sum_c kernel(c; home, place of j) A_i / A(c)         cells, exp(-km / 2)                                 (place)
    gap        s_k(g) lead(k) + (1 - s_k(g)) lead(partner(k))       s_k(g) = exp(-g / tau_k); lead: the topic's top 3     (gap)
    follow     .6, .3, .1 on the three successors of j                                                                 (order)
    repeat     due_ui / (sum due + .4) for the last 16 items        due = sqrt(times met) c(t) exp(-(ln(age / period_i) / .35)^2 / 2)

    f_i(t) = floor + (1 - floor) 2^(-age / half-life) + height exp(-((t - burst) / width)^2 / 2)                       (trend)
    c_m(t) = liking of topic m at the local hour, on weekdays and weekends, mean 1                                     (clock)

Switched off: order, text, place give their weight to the interests; gap makes s = 1/2 whatever g; clock makes c = 1; rhythm makes
due constant; trend makes f = 1.  Visit times stay the same to the millisecond, as far as the number of rows allows.  `emphasis`
makes the log for one effect: its source gets half of all visits (clock and trend: they swing more).

Every random number is a hash of what it is for (recs/generating/draws.py), so partitioning, order and cores change nothing.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from recs.generating import log, oracle, truth
from recs.generating.settings import DIRT_KINDS, EFFECTS, PRESETS, GenerateConfig, GenerateError, make_config
from recs.generating.world import build

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RAW_FILE_ROWS = 1_000_000       # about; days with more are cut into several files


def generate(spark: SparkSession, out: str, config: GenerateConfig, partitions: int | None = None) -> dict[str, Any]:
    """Write the log and its truth under the folder or URL `out`; returns `stats`.

    A finished log of the same settings is left alone, and with other cuts only the oracle is written anew.  GenerateError when
    `out` holds another log.
    """
    out = str(out).rstrip("/")
    known = read_manifest(spark, out)
    if known and _same_log(known) != config.same_log:
        raise GenerateError(f"{out} holds a log of other settings: name another folder, or remove it first")
    if known and GenerateConfig(**known["config"]) == config:
        return known["stats"]
    if not known:
        _write_log(spark, out, config, partitions)
    _parquet(oracle_lists(spark, config, partitions), f"{out}/truth/oracle")
    counts = known["stats"] if known else stats(spark, out)
    _write_text(spark, f"{out}/truth/manifest.json", json.dumps({"config": config.model_dump(mode="json"), "stats": counts}, indent=1))
    return counts


def oracle_lists(spark: SparkSession, config: GenerateConfig, partitions: int | None = None) -> DataFrame:
    """cut_us, user_id, rank (1 … 20), item_id, intensity of every user with a history, at every cut of `config`; no log is needed."""
    return _by_users(spark, config, oracle.block_lists, oracle.DDL, partitions)


def stats(spark: SparkSession, out: str) -> dict[str, Any]:
    """Counts of a generated log: clean rows, users, items, days, share of repeats; rows by event type, source and kind of dirt."""
    draws = spark.read.parquet(f"{out}/truth/draws")
    clean = draws.where("dirt IN ('', 'late')")
    total = clean.selectExpr(
        "count(*) AS events", "count(DISTINCT user_id) AS users", "count(DISTINCT item_id) AS items",
        "count(DISTINCT ts_ms div 86400000) AS days", "round(1 - count(DISTINCT user_id, item_id) / count(*), 3) AS repeat_share",
        "min(arrival) AS first_arrival", "max(arrival) AS last_arrival",
    ).first().asDict()

    def by(rows: DataFrame, column: str) -> dict[str, int]:
        return {r[column]: r["count"] for r in rows.groupBy(column).count().orderBy(column).collect()}

    return {**total, "event_types": by(clean, "event_type"), "sources": by(clean, "source"), "dirt": by(draws.where("dirt != ''"), "dirt")}


def read_manifest(spark: SparkSession, out: str) -> dict[str, Any] | None:
    """The settings and counts of a finished log; None when there is none."""
    fs, path = _hadoop(spark, f"{out}/truth/manifest.json")
    if not fs.exists(path):
        return None
    return json.loads("\n".join(r[0] for r in spark.read.text(f"{out}/truth/manifest.json").collect()))


def _same_log(manifest: dict[str, Any]) -> dict[str, Any]:
    return GenerateConfig(**manifest["config"]).same_log


def _write_log(spark: SparkSession, out: str, config: GenerateConfig, partitions: int | None) -> None:
    """Truth first: the raw files are a rendering of it, so that the users are simulated once."""
    build(config)       # refuse here what cannot be made, not on a worker
    _parquet(_by_users(spark, config, truth.user_rows, truth.USERS, partitions), f"{out}/truth/users")
    _parquet(_by_items(spark, config, truth.item_rows, truth.ITEMS), f"{out}/truth/items")
    spark.createDataFrame(truth.topic_rows(build(config)), truth.TOPICS).coalesce(1).write.mode("overwrite").parquet(f"{out}/truth/topics")
    _parquet(_by_blocks(spark, log.n_blocks(config), partitions, config, log.block_rows, log.DDL), f"{out}/truth/draws")
    options = {"compression": "gzip"} if config.compress else {}
    users = _by_users(spark, config, truth.raw_users, truth.RAW_USERS, partitions)
    users.write.mode("overwrite").options(**options).json(f"{out}/users")
    _by_items(spark, config, truth.raw_items, truth.RAW_ITEMS).write.mode("overwrite").options(**options).json(f"{out}/items")
    _write_raw_events(spark, out, config, options)


def _write_raw_events(spark: SparkSession, out: str, config: GenerateConfig, options: dict[str, str]) -> None:
    """JSON lines, a folder per day of arrival, rows in order of time; malformed lines end in the middle."""
    from pyspark.sql import functions as F

    files = max(1, config.n_events // config.days // RAW_FILE_ROWS)
    tasks = max(spark.sparkContext.defaultParallelism, min(config.days * files, config.n_events // 100_000))
    written = F.col("ts_ms").cast("string")
    if config.meaning.time == "iso":
        written = F.date_format(F.timestamp_millis("ts_ms"), "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'")
    line = F.to_json(F.struct(
        F.col("user_id").alias("visitor"), F.col("item_id").alias("item"), F.coalesce("raw_time", written).alias("at"),
        F.col("event_type").alias("action"), F.col("dwell_s").alias("seconds"), F.col("value").alias("amount"), "lat", "lon",
    ))
    line = F.regexp_replace(line, '"at":"([0-9]+)"', '"at":$1')
    rows = spark.read.parquet(f"{out}/truth/draws").withColumn("line", line)
    cut = F.expr("CASE WHEN dirt = 'malformed' THEN left(line, CAST(0.6 * length(line) AS INT)) ELSE line END")
    (
        rows.withColumn("text", cut).withColumn("file", F.pmod(F.hash("user_id"), F.lit(files)))
        .repartition(tasks, "arrival", "file").sortWithinPartitions("arrival", "file", "ts_ms", "user_id", "seq", "dirt")
        .select("text", "arrival").write.mode("overwrite").options(**options).partitionBy("arrival").text(f"{out}/events")
    )
    _rename_raw(spark, f"{out}/events", ".json.gz" if config.compress else ".json")


def _rename_raw(spark: SparkSession, folder: str, suffix: str) -> None:
    """part-00007-<random>.c000.txt.gz -> part-00000.json.gz, numbered inside each day."""
    fs, root = _hadoop(spark, folder)
    for day in fs.listStatus(root):
        if not day.isDirectory():
            continue
        names = sorted(f.getPath().getName() for f in fs.listStatus(day.getPath()) if f.getPath().getName().startswith("part-"))
        for n, name in enumerate(names):
            fs.rename(_hadoop(spark, f"{day.getPath()}/{name}")[1], _hadoop(spark, f"{day.getPath()}/part-{n:05d}{suffix}")[1])


def _by_users(spark: SparkSession, config: GenerateConfig, make: Any, ddl: str, partitions: int | None) -> DataFrame:
    """Rows that `make(world, user numbers)` gives for every block of users."""
    def block(world: Any, n: int) -> pd.DataFrame:
        return make(world, log.users_of(config, n))

    return _by_blocks(spark, log.user_blocks(config), partitions, config, block, ddl)


def _by_items(spark: SparkSession, config: GenerateConfig, make: Any, ddl: str) -> DataFrame:
    def block(world: Any, n: int) -> pd.DataFrame:
        return make(world, log.items_of(config, n))

    return _by_blocks(spark, log.item_blocks(config), None, config, block, ddl)


def _by_blocks(spark: SparkSession, blocks: int, partitions: int | None, config: GenerateConfig, make: Any, ddl: str) -> DataFrame:
    """Blocks are of fixed size; partitions only say how many a task makes.  A task holds one block at a time and the world."""
    def run(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        world = build(config)
        for batch in batches:
            for n in batch["id"]:
                yield make(world, int(n))

    tasks = partitions or min(blocks, max(spark.sparkContext.defaultParallelism, blocks // 8))
    return spark.range(0, blocks, 1, tasks).mapInPandas(run, ddl)


def _parquet(rows: DataFrame, path: str) -> None:
    rows.write.mode("overwrite").parquet(path)


def _hadoop(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Hadoop's file system of a path, and the path as it knows it: the same for local folders and buckets."""
    hadoop_path = spark.sparkContext._jvm.org.apache.hadoop.fs.Path(path)
    return hadoop_path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()), hadoop_path


def _write_text(spark: SparkSession, path: str, text: str) -> None:
    fs, hadoop_path = _hadoop(spark, path)
    stream = fs.create(hadoop_path, True)
    stream.write(bytearray(text, "utf-8"))
    stream.close()


__all__ = [
    "DIRT_KINDS", "EFFECTS", "PRESETS", "GenerateConfig", "GenerateError", "generate", "make_config", "oracle_lists", "read_manifest",
    "stats",
]
