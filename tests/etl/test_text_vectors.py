"""The catalogue's texts: each read once, found again as of any cut, and part of the item tables."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from pyspark.sql import functions as F
from test_catalogue import items
from test_item_tables import CUT, VOCABULARY, C, item_hours, random_users, sequences, vocabulary

from recs.clock import DAY
from recs.config import Config, ConfigError, ItemTableConfig, TextConfig
from recs.etl.item_tables import Sources, build_at_cuts
from recs.etl.text_vectors import Texts, model_of, new_texts, vectors
from recs.evidence.item_facts import codes_of
from recs.jobs import text_vectors as job
from recs.nn.text import TextError, encode
from recs.schemas import ITEMS, TEXT_VECTORS

pytestmark = pytest.mark.spark
CONFIG = TextConfig(fields=["title"])
ROWS = [
    ("a", "1970-01-01", "2024-03-01", "Red  mug"), ("a", "2024-03-01", None, "Blue mug"), ("b", "1970-01-01", None, "Red mug"),
    ("c", "1970-01-01", None, None), ("d", "1970-01-01", None, "  "), ("9", "2024-06-01", None, "Lamp"),
]


def config(demo: dict, text: TextConfig | None) -> Config:
    return Config(log=demo, text=text)


def test_a_text_is_read_once_and_a_second_run_reads_nothing(spark, lake):
    from test_item_tables import LOG

    lake.ensure(ITEMS)
    lake.append(items(spark, ROWS), ITEMS, {})
    asked = config(LOG, CONFIG)
    assert job.run(spark, lake, asked) == {"new_texts": 3}       # white space does not count, nor what says nothing
    version = lake.version(TEXT_VECTORS)
    assert job.run(spark, lake, asked) == {"new_texts": 0} and lake.version(TEXT_VECTORS) == version
    found = {r["text_hash"]: r["vector"] for r in lake.read(TEXT_VECTORS).collect()}
    assert len(found) == 3
    want = encode("hashed", ["Blue mug"])[0]
    assert any(np.array_equal(np.float32(v), want) for v in found.values())
    lake.append(items(spark, [("e", "1970-01-01", None, "Green mug")]), ITEMS, {})
    assert job.run(spark, lake, asked) == {"new_texts": 1}
    other = config(LOG, TextConfig(fields=["title"], max_tokens=8))     # how much is read belongs to the model's name
    assert job.run(spark, lake, other) == {"new_texts": 4}
    with pytest.raises(ConfigError, match="no `text`"):
        job.run(spark, lake, config(LOG, None))


def test_an_item_says_what_its_catalogue_said_at_the_cut(spark):
    known = items(spark, ROWS)
    read = vectors(new_texts(known, spark.createDataFrame([], TEXT_VECTORS.ddl), CONFIG), CONFIG).persist()
    texts, ids = Texts(known, read, CONFIG), pd.Series(["9", "a", "b", "c", "d", "x"])
    (then, said_then), (now, said_now) = texts.at(C - 60 * DAY, ids), texts.at(C, ids)
    assert said_then == ["", "Red mug", "Red mug", "", "", ""] and said_now == ["", "Blue mug", "Red mug", "", "", ""]
    red, blue = encode("hashed", ["Red mug", "Blue mug"]).astype(np.float16)
    assert then.shape == (6, 256) and then.dtype == np.float16
    np.testing.assert_array_equal(then[[1, 2]], [red, red])
    np.testing.assert_array_equal(now[[1, 2]], [blue, red])
    assert not now[[0, 3, 4, 5]].any()       # described after the cut, without a text, unknown


def test_item_tables_hold_texts_and_say_when_there_are_none(spark, tmp_path: Path):
    users, known = random_users(), items(spark, ROWS)
    read = vectors(new_texts(known, spark.createDataFrame([], TEXT_VECTORS.ddl), CONFIG), CONFIG)

    def built(name: str, texts: Texts | None):
        sources = Sources(item_hours(spark, users), sequences(spark, users), vocabulary(spark), None, {}, texts)
        return build_at_cuts(sources, {CUT: tmp_path / name}, ["cooc", "text"], ItemTableConfig(neighbours=4))[0]

    with_texts = built("with", Texts(known, read, CONFIG))
    assert with_texts.kinds == {"cooc", "text"} and with_texts.dense("text").shape == (with_texts.n_items, 256)
    assert set(with_texts.item_ids[np.asarray(with_texts.dense("text")).any(axis=1)]) == {"a", "b"} & set(VOCABULARY)
    assert with_texts.said(with_texts.find(["a", "c"])) == ["Blue mug", "c"]       # an item that says nothing goes by its id
    without = built("without", None)
    assert without.said(without.find(["a"])) == ["a"]
    assert without.kinds == {"cooc"} and "no texts" in without.manifest["left_out"]["text"]


def test_a_model_that_is_not_there_is_named_with_the_remedy():
    pytest.importorskip("transformers")
    with pytest.raises(TextError, match=r"/no/such/model: no such folder here.*config\.json"):
        encode("/no/such/model", ["a"])


def test_the_name_of_a_model_says_how_much_it_reads():
    assert model_of(CONFIG) == "hashed:64"
    with pytest.raises(ValidationError):
        TextConfig(fields=[])


def test_items_that_nobody_has_met_have_a_column_where_they_say_something(spark, tmp_path: Path):
    """z is on offer, w is not any more, y says nothing; and what the catalogue says beside texts stands beside them."""
    users = random_users()
    rows = [*ROWS, ("z", "2024-03-30", None, "Green mug"), ("w", "1970-01-01", "2024-03-01", "Old lamp"), ("y", "1970-01-01", None, None)]
    about = items(spark, rows).withColumns({
        "category": F.when(F.col("item_id").isin("a", "z"), "kitchen/mugs"), "brand": F.when(F.col("item_id") == "z", "Norvik"),
        "price": F.when(F.col("item_id") == "a", 8.0),
        "vectors": F.expr("""CASE item_id WHEN 'z' THEN map('image', array(3f, 4f))
                          WHEN 'a' THEN map('image', array(0f, 2f), 'audio', array(1f))
                          WHEN 'b' THEN map('image', array(1f, 2f, 3f)) WHEN 'c' THEN map('image', array(float('nan'), 1f)) END""")})
    read = vectors(new_texts(about, spark.createDataFrame([], TEXT_VECTORS.ddl), CONFIG), CONFIG).persist()
    known = vocabulary(spark).unionByName(spark.createDataFrame([("w", 8, None), ("y", 9, None)], vocabulary(spark).schema))

    def built(name: str, texts: Texts | None):
        sources = Sources(item_hours(spark, users), sequences(spark, users), known, about, {}, texts)
        return build_at_cuts(sources, {CUT: tmp_path / name}, ["cooc", "text", "facts", "vectors"], ItemTableConfig(neighbours=4))[0]

    tables, plain = built("with", Texts(about, read, CONFIG)), built("without", None)
    assert set(tables.item_ids) - set(plain.item_ids) == {"z"} and "z" in VOCABULARY
    z, a, b, c, d = tables.find(["z", "a", "b", "c", "d"])
    for name in ("users_all", "events_all", "users_met", "decay_1d", "value_log"):
        assert tables.stat(name)[z] == 0
        np.testing.assert_array_equal(np.delete(tables.stat(name), z), plain.stat(name))
    assert tables.stat("first_h")[z] == tables.stat("last_h")[z] == 24 and tables.array("item_index")[z] == VOCABULARY["z"]
    assert tables.neighbours("cooc")[z].nnz == 0 and tables.array("available_until")[z] > C
    np.testing.assert_array_equal(tables.dense("text")[z], encode("hashed", ["Green mug"])[0].astype(np.float16))
    np.testing.assert_array_equal(tables.dense("facts")[[z, a, d]], [
        codes_of("kitchen/mugs", "Norvik", None), codes_of("kitchen/mugs", None, 8.0), codes_of(None, None, None)])
    assert tables.modalities == ["audio", "image"] and tables.array("vectors.audio.dense")[a].tolist() == [1]
    np.testing.assert_allclose(tables.array("vectors.image.dense")[[z, a, b, c, d]], [[.6, .8], [0, 1], [0, 0], [0, 0], [0, 0]], atol=1e-3)
