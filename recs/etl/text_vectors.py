"""The catalogue's texts as vectors: every text is read once, whatever item says it and however often.

    items           a  "Red mug", kitchen      b  "Red mug", kitchen      c  "Lamp", light
    texts           "Red mug. kitchen"         "Lamp. light"
    text_vectors    (model, hash of the text, vector)       appended for texts that are new to the model

A vector is a function of the model and the text alone, so a night that is run again finds the same ones.  A pandas UDF reads the texts
on the executors: the model is loaded once per Python worker from its folder, which every host must have.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pyspark.sql import functions as F

from recs.config import TextConfig
from recs.nn.text import encode
from recs.schemas import TEXT_VECTORS

from .item_statistics import newest_at

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

ROWS = 512      # texts that a task reads at a time


def model_of(config: TextConfig) -> str:
    """The name under which vectors are kept: how much of a text is read belongs to it."""
    return f"{config.model}:{config.max_tokens}"


def text_of(config: TextConfig) -> Column:
    """What is read of a row of `items`; NULL where it says nothing."""
    text = F.trim(F.regexp_replace(F.concat_ws(". ", *config.fields), r"\s+", " "))
    return F.when(text != "", text)


def new_texts(items: DataFrame, known: DataFrame, config: TextConfig) -> DataFrame:
    """text_hash, text: what some item has ever said and the model has not read yet, each once."""
    texts = items.select(text_of(config).alias("text")).where("text IS NOT NULL").distinct()
    read = known.where(F.col("model") == model_of(config)).select("text_hash")
    return texts.withColumn("text_hash", F.sha2("text", 256)).join(read, "text_hash", "left_anti").select("text_hash", "text")


def vectors(texts: DataFrame, config: TextConfig) -> DataFrame:
    """TEXT_VECTORS rows of these texts."""
    return texts.mapInPandas(partial(_read, config), TEXT_VECTORS.ddl)


def _read(config: TextConfig, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for frame in frames:
        for lo in range(0, len(frame), ROWS):
            some = frame.iloc[lo : lo + ROWS]
            found = encode(config.model, some["text"].tolist(), config.max_tokens, config.offline)
            yield pd.DataFrame({"model": model_of(config), "text_hash": some["text_hash"].to_numpy(), "vector": list(found)})


@dataclass(frozen=True)
class Texts:
    """What items said at a cut, as vectors."""

    items: DataFrame
    read: DataFrame         # TEXT_VECTORS
    config: TextConfig

    @property
    def said(self) -> Column:
        """What is read of a row of `items`; NULL where it says nothing."""
        return text_of(self.config)

    def at(self, cut_us: int, item_ids: pd.Series) -> tuple[np.ndarray, list[str]]:
        """[I, S] float16 and texts of these items; zeros and "" for those that said nothing, or nothing that has been read."""
        newest = newest_at(self.items, [cut_us], F.struct(self.said.alias("text")))
        said = newest.select("item_id", "f.text").where("text IS NOT NULL")
        mine = self.read.where(F.col("model") == model_of(self.config))
        found = said.withColumn("text_hash", F.sha2("text", 256)).join(mine, "text_hash").select("item_id", "text", "vector")
        row, out, texts = {item: n for n, item in enumerate(item_ids)}, np.zeros((len(item_ids), 1), np.float16), [""] * len(item_ids)
        for item, text, vector in found.toLocalIterator():
            if out.shape[1] != len(vector):
                out = np.zeros((len(row), len(vector)), np.float16)
            if item in row:
                out[row[item]], texts[row[item]] = vector, text
        return out, texts
