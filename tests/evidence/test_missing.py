"""Missing values: four methods on one small history, the same numbers after a journey through JSON, nothing across users."""
from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from recs.clock import HOUR
from recs.evidence.histories import Histories
from recs.evidence.missing import ColumnFill, Fill, FillError

NAN = np.nan


def histories(value: list[float]) -> Histories:
    """ann: events at 0, 1, 4, 5 h; bob: none; cat: 0, 1 h; dan: one event without a value."""
    made = Histories.of(ann=[(1, 0), (1, HOUR), (1, 4 * HOUR), (1, 5 * HOUR)], bob=[], cat=[(1, 0), (1, HOUR)], dan=[(1, 0)])
    return replace(made, value=np.array(value, np.float32))


LOG = histories([12, NAN, 20, NAN, NAN, 7, NAN])


@pytest.mark.parametrize(("method", "expected"), [
    ("mask", [12, NAN, 20, NAN, NAN, 7, NAN]),
    ("last", [12, 12, 20, 20, 15, 7, 15]),          # cat's first has nothing before it, and ann's 20 is not his: the mean
    ("mean", [12, 15, 20, 15, 15, 7, 15]),
    ("interpolate", [12, 14, 20, 20, 7, 7, 15]),    # a quarter of the way in time, not half; the nearest at the ends; dan: the mean
])
def test_each_method(method, expected):
    fill = Fill({"value": ColumnFill(method, mean=15.0, scale=10.0)})
    np.testing.assert_allclose(fill.filled(LOG).value, expected)
    scaled = fill.scaled(LOG)
    np.testing.assert_allclose(scaled["value"], np.nan_to_num((np.array(expected) - 15) / 10), rtol=1e-6)
    assert scaled["value_known"].tolist() == [1, 0, 1, 0, 0, 1, 0]
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in scaled.values())


def test_fitted_numbers_are_of_the_known_values_only():
    fill = Fill.fit(LOG, {"value": "mean", "dwell_s": "last"})
    known = np.array([12.0, 20.0, 7.0])
    assert (fill.columns["value"].mean, fill.columns["value"].scale) == (known.mean(), known.std())
    assert fill.columns["dwell_s"] == ColumnFill("last", 0.0, 1.0)      # the log never says: nothing to centre, nothing to divide by
    assert Fill.fit(histories([3.0] * 7), {"value": "mask"}).columns["value"] == ColumnFill("mask", 3.0, 1.0)


def test_serving_uses_the_numbers_of_training_to_the_bit():
    rng = np.random.default_rng(1)
    fill = Fill.fit(histories(list(rng.random(7) / 3)), {"value": "interpolate", "lat": "mask"})
    stored = Fill.from_json(json.loads(json.dumps(fill.to_json())))
    assert stored == fill
    # another night's values are other, the numbers are not fitted again
    tonight = histories([100, NAN, 300, NAN, NAN, 5, NAN])
    np.testing.assert_array_equal(stored.scaled(tonight)["value"], fill.scaled(tonight)["value"])
    assert fill.scaled(tonight)["value"][0] == np.float32((100 - fill.columns["value"].mean) / fill.columns["value"].scale)


@pytest.mark.parametrize("method", ["last", "mean", "interpolate", "mask"])
def test_a_later_event_or_another_user_changes_nothing_that_may_not_know_it(method):
    fill = Fill({"value": ColumnFill(method, 15.0, 10.0)})
    before = LOG.before(4 * HOUR)
    alone = fill.filled(before).value[:2]
    other = replace(LOG, value=np.array([12, NAN, 999, 999, 999, 999, 999], np.float32)).before(4 * HOUR)
    np.testing.assert_array_equal(alone, fill.filled(other).value[:2])


def test_irregular_values_count_as_missing_and_ties_take_the_earlier():
    fill = Fill({"value": ColumnFill("interpolate", 0.0, 1.0)})
    tied = replace(Histories.of(ann=[(1, 5), (1, 5), (1, 5)]), value=np.array([1, np.inf, 3], np.float32))
    assert fill.filled(tied).value.tolist() == [1, 1, 3]
    assert Fill.fit(tied, {"value": "mean"}).columns["value"] == ColumnFill("mean", 2.0, 1.0)


def test_unknown_words_and_broken_numbers_are_named():
    with pytest.raises(FillError, match="sequences.missing.price"):
        Fill.fit(LOG, {"price": "mean"})
    with pytest.raises(FillError, match="median"):
        Fill.fit(LOG, {"value": "median"})
    with pytest.raises(FillError, match="stored fill of value: mean nan"):
        Fill.from_json({"value": {"method": "mean", "mean": NAN, "scale": 1.0}})
    with pytest.raises(FillError, match="stored fill"):
        Fill.from_json({"value": {"method": "mean"}})


def test_nothing_to_fill():
    empty = Histories.of(ann=[])
    fill = Fill.fit(empty, dict.fromkeys(("value", "dwell_s", "lat", "lon"), "interpolate"))
    assert all(len(x) == 0 for x in fill.scaled(empty).values())
