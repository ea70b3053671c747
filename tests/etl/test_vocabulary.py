"""Integers of items: the same for the same input, never given twice."""
from __future__ import annotations

from datetime import datetime

import pytest

from recs.etl.vocabulary import VocabularyError, check_dense, first_seen, new_entries, unknown
from recs.schemas import ITEM_VOCABULARY

pytestmark = pytest.mark.spark
MAY = datetime(2024, 5, 20)


def numbered(spark, pieces: int) -> dict[str, int]:
    events = spark.createDataFrame([
        ("b", MAY), ("a", MAY),                         # a tie: by id
        ("c", datetime(2024, 5, 19)),                   # the first event
        ("c", MAY), ("known", MAY),
    ], "item_id string, ts timestamp").repartition(pieces)
    catalogue = spark.createDataFrame([("z",), ("a",)], "item_id string")     # z has no event: last
    known = spark.createDataFrame([("known", 0, None, 1)], ITEM_VOCABULARY.ddl)
    entries = new_entries(unknown(first_seen(events, catalogue), known), check_dense(known), 2)
    check_dense(known.unionByName(entries))
    return {r.item_id: r.item_index for r in entries.collect()}


def test_new_items_are_numbered_by_first_event_and_id(spark):
    assert numbered(spark, 1) == numbered(spark, 7) == {"c": 1, "a": 2, "b": 3, "z": 4}


@pytest.mark.parametrize("indices", [(0, 1, 1), (0, 2)])    # two runs gave one integer; a row was lost
def test_integers_given_twice_or_lost_are_found(spark, indices):
    rows = [(f"i{n}", index, None, 1) for n, index in enumerate(indices)]
    with pytest.raises(VocabularyError, match="two runs wrote at once"):
        check_dense(spark.createDataFrame(rows, ITEM_VOCABULARY.ddl))
