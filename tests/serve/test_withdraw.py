"""`recs withdraw` and `recs block`: an item leaves everybody's lists, and nights that were made stay as they are."""
from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import pytest
from night_world import add_batch, night
from pyspark.sql import functions as F
from serve_world import contract_frame

from recs.jobs import block as block_job
from recs.jobs import withdraw
from recs.schemas import BLOCKS, EVENTS, ITEM_VOCABULARY, ITEMS
from recs.serve import hidden, nights
from recs.tables import TableError


@pytest.fixture
def lake(spark, lake):
    """Three items, and a night made as of 2024-10-05 00:00."""
    rows = [{"item_id": name, "item_index": n, "batch_id": 1} for n, name in enumerate(("kept", "gone", "late"))]
    lake.append(contract_frame(spark, ITEM_VOCABULARY, rows), ITEM_VOCABULARY, {})
    lake.ensure(EVENTS)
    add_batch(lake, 1)
    attempt_at(lake, 1)
    return lake


def attempt_at(lake, day: int) -> nights.Attempt:
    return nights.plan(lake, night(day), "main", config_hash="c", code_version="v")


def out_of(lake, attempt: nights.Attempt) -> set[str]:
    """What nobody may be shown: withdrawn or blocked."""
    vocabulary = lake.read(ITEM_VOCABULARY)
    blocks = hidden.blocks_in_force(lake.read(BLOCKS), vocabulary, attempt).where("user_id IS NULL")
    shut = hidden.unavailable(lake.read(ITEMS), vocabulary, attempt)
    return {r.item_id for r in blocks.select("item_id").union(shut.select("item_id")).collect()}


def test_a_withdrawn_item_is_out_of_the_next_night_and_stays_in_those_that_were_made(lake):
    before = lake.read(ITEM_VOCABULARY).where("item_id != 'gone'").collect()
    assert withdraw.run(lake, "gone", "out of production") == date(2024, 10, 6)     # the first date behind the cut
    assert lake.read(ITEM_VOCABULARY).where("item_id != 'gone'").collect() == before
    row = lake.read(ITEM_VOCABULARY).where("item_id = 'gone'").collect()[0]
    assert (row.item_index, row.tombstoned_on, row.batch_id) == (1, date(2024, 10, 6), 1)
    assert out_of(lake, attempt_at(lake, 1)) == set()           # run again: as it was made
    assert out_of(lake, attempt_at(lake, 2)) == {"gone"}        # by the tombstone, whose date is the cut
    assert [r.reason for r in lake.read(BLOCKS).collect()] == ["withdrawn on 2024-10-06: out of production"]


def test_a_date_that_a_night_has_passed_is_refused_before_anything_is_written(lake):
    for on in (date(2024, 10, 5), date(2024, 9, 1)):            # the cut is 5 October 00:00: that date's tombstone would count
        with pytest.raises(TableError, match="the first free date is 2024-10-06"):
            withdraw.run(lake, "gone", "why", on)
    for item, what in (("typo", "is not in"), ("gone", "already")):
        withdraw.run(lake, "gone", "why", date(2024, 12, 1)) if item == "gone" else None
        with pytest.raises(TableError, match=what):
            withdraw.run(lake, item, "why")
    assert lake.read(BLOCKS).count() == 1


def test_a_later_date_waits(lake):
    withdraw.run(lake, "late", "season ends", datetime.now(UTC).date() + timedelta(days=30))
    assert out_of(lake, attempt_at(lake, 2)) == set()


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.delenv("TZ")
    time.tzset()


def test_the_machines_zone_does_not_move_a_block(lake, in_new_york):
    began = time.time()
    assert block_job.main(["kept", "--reason", "recalled", "--until", "2030-01-01T00:00:00Z", "--root", lake.root]) == 0
    withdraw.run(lake, "gone", "why")
    rows = lake.read(BLOCKS).select(F.unix_micros("blocked_from").alias("a"), F.unix_micros("blocked_until").alias("b")).collect()
    assert all(began <= r.a / 1e6 <= time.time() for r in rows)
    assert {r.b for r in rows} == {1893456000 * 10**6, None}
