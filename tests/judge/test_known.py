"""All users' histories as staged examples, written by the executors."""
from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from recs.evidence.histories import Histories
from recs.judge.known import write_histories
from recs.models.sequence_examples import Shape, known_examples
from recs.nn.staged import open_staged, read_columns

DDL = ("user_id string, item_index array<int>, ts array<bigint>, type_code array<int>, value array<double>, dwell_s array<double>, "
       "lat array<double>, lon array<double>, segment_code array<int>")


def row(user: str, items: list[int]) -> tuple:
    nothing = [None] * len(items)
    return user, items, [10 * (n + 1) for n in range(len(items))], [1] * len(items), nothing, nothing, nothing, nothing, [0] * len(items)


@pytest.mark.spark
def test_every_history_of_two_events_is_staged(spark, tmp_path: Path):
    users = {f"u{n:02d}": list(range(n, 2 * n)) for n in range(6)}     # 0 to 5 events
    histories = spark.createDataFrame([row(u, items) for u, items in users.items()], DDL).repartition(3)
    staged = write_histories(histories, partial(known_examples, Shape(8, 1, 2), None, tables=None), tmp_path / "known")
    assert open_staged(tmp_path / "known").content_hash == staged.content_hash
    found = read_columns(staged, ["h_item", "target", "request_us"])
    assert sorted([i for i in line if i >= 0] for line in found["h_item"].tolist()) == [users[f"u{n:02d}"][:-1] for n in (2, 3, 4, 5)]
    assert sorted(found["target"][:, 0]) == [users[f"u{n:02d}"][-1] for n in (2, 3, 4, 5)]      # the newest event came true, nothing else
    assert (found["target"][:, 1:] == -1).all()
    assert sorted(found["request_us"]) == [20, 30, 40, 50]
    nobody = write_histories(histories, partial(known_examples, Shape(8, 1, 2), 5, tables=None), tmp_path / "nobody")
    assert nobody is None


def test_what_is_after_the_instant_is_not_there():
    h = Histories.of(ann=[(1, 10), (2, 20), (3, 30)], bob=[(1, 10), (2, 40)])
    found = known_examples(Shape(4, 1, 2), 30, h, None)
    assert found["h_item"].tolist() == [[-1, -1, -1, 1]] and found["target"][found["target"] >= 0].tolist() == [2]
    assert np.array_equal(found["request_us"], [20])


def test_older_windows_end_with_what_came_after_them():
    items = [7, 1, 2, 3, 4, 5, 6]
    found = known_examples(Shape(2, 9, 1), None, Histories.of(ann=[(i, 10 * (n + 1)) for n, i in enumerate(items)]), None)
    lines = zip(found["h_item"].tolist(), found["target"][:, 0].tolist(), found["request_us"].tolist(), strict=True)
    assert list(lines) == [([4, 5], 6, 70), ([2, 3], 4, 50), ([7, 1], 2, 30)]
    assert found["asked_us"].tolist() == [70, 70, 70] and found["window"].tolist() == [0, 1, 2]
