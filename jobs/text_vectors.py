"""Have a language model read the catalogue's texts: those it has not read yet.

reads   items
writes  text_vectors, appended

    recs text-vectors --config my.yaml --root warehouse
    spark-submit jobs/text_vectors.py --config my.yaml --root /data/recs

Which model and which fields: `text` of the configuration.  A model is a folder or a hub name; every executor must be able to open it.
"""
from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from recs.config import Config, ConfigError
from recs.etl import text_vectors as stage
from recs.jobs._cli import RunRecord, load, parser, run_job
from recs.schemas import ITEMS, TEXT_VECTORS
from recs.session import start
from recs.tables import Lake, lease

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(spark: SparkSession, lake: Lake, config: Config) -> dict[str, Any]:
    """How many texts were new.  Raises ConfigError where the configuration names no text."""
    if config.text is None:
        raise ConfigError("the configuration has no `text`: name a model there, such as  text: {model: hashed}")
    lake.ensure(TEXT_VECTORS)
    known = lake.read(TEXT_VECTORS)
    texts = stage.new_texts(lake.read(ITEMS), known, config.text).persist()
    try:
        n = texts.count()
        if n:
            tasks = spark.sparkContext.defaultParallelism
            note = {"stage": "text_vectors", "model": config.text.model, "texts": n}
            lake.append(stage.vectors(texts.repartition(tasks, "text_hash"), config.text), TEXT_VECTORS, note)
    finally:
        texts.unpersist()
    return {"new_texts": n}


def main(argv: list[str] | None = None) -> int:
    """The command."""
    args = parser(__doc__).parse_args(argv)

    def body() -> None:
        config = load(args.config)
        record = RunRecord("text_vectors", args.root, config)
        with lease(args.root):
            lake = Lake(start("recs text_vectors", config.spark), args.root)
            began = time.monotonic()
            counts = run(lake.spark, lake, config)
        record.step("text_vectors", time.monotonic() - began, **counts)
        record.write()
        print(json.dumps({"job": "text_vectors", **counts}))

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
