"""The pictures of a night's page, and the sums behind them."""
from __future__ import annotations

import re

import numpy as np
import pytest

from recs.report.page import charts
from recs.report.page.flow import Stream, flow, split
from recs.report.page.lists import Spread


@pytest.mark.parametrize("listings", [[5, 3, 3, 1, 0, 0], [2, 2, 2], [9, 0, 0, 0], [1], [4, 3, 2, 1]])
def test_unevenness_is_the_mean_difference_of_two_items(listings: list[int]):
    x = np.array(listings, float)
    brute = np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())
    counts = {n: listings.count(n) for n in sorted(set(listings), reverse=True) if n}
    spread = Spread(tuple(counts.items()), len(listings))
    assert spread.gini == pytest.approx(brute)
    assert (spread.items, spread.places) == (int((x > 0).sum()), int(x.sum()))
    for top in range(len(listings) + 1):
        assert spread.held_by_top(top) == pytest.approx(sum(sorted(listings, reverse=True)[:top]) / x.sum())
    curve = spread.curve()
    assert curve[0] == (0, 0) and curve[-1] == (1, pytest.approx(1)) and curve == sorted(curve)


def test_a_list_without_places_has_no_unevenness():
    assert Spread((), 4).gini is None and Spread((), 4).held_by_top(10) == 0


@pytest.mark.parametrize(("low", "high", "expected"), [
    (0, 1, [0, 0.25, 0.5, 0.75, 1]), (-0.1, 0.3, [-0.1, 0, 0.1, 0.2, 0.3]), (0, 23_000, [0, 5_000, 10_000, 15_000, 20_000]), (2, 2, [2]),
])
def test_ticks_are_round(low: float, high: float, expected: list[float]):
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_a_line_breaks_where_nothing_is_known_and_an_interval_needs_both_ends():
    s = charts.Series("a", [1.0, 2.0, None, 3.0], [0.5, None, None, 2.5], [1.5, 3.0, None, 3.5])
    picture = str(charts.over_places("t", ["w", "x", "y", "z"], [s]))
    assert picture.count("<polyline") == 2 and picture.count("<circle") == 3 and picture.count("whisker") == 2
    assert "<title>w, a: 1.000 [0.500, 1.500]</title>" in picture and "<title>x, a: 2.000</title>" in picture


@pytest.mark.parametrize("values", [[], [None], [0.0, 0.0], [-3.0]])
def test_odd_series_still_make_a_picture(values: list):
    picture = str(charts.over_places("t", [str(n) for n in range(len(values))], [charts.Series("a", values)]))
    assert "nan" not in picture and picture.endswith("</svg>")


def test_widths_of_a_flow_are_true_to_its_numbers():
    whole = Stream("in", 1000, 7, (Stream("events", 900, 1), Stream("refused", 100, 2)))
    heights = {label: float(h) for h, label in re.findall(r'height="([\d.]+)" rx="1.5"><title>(\w+):', flow("t", whole, tall=150))}
    assert heights == {"in": 150.0, "events": 135.0, "refused": 15.0}


def test_what_parts_do_not_account_for_is_said():
    parts = split("events", 100, [("view", 60), ("buy", 10), ("none", 0)], 1, "others").parts
    assert [(p.label, p.n) for p in parts] == [("view", 60), ("buy", 10), ("others", 30)]
    many = split("events", 100, [(str(n), 10) for n in range(10)], 1, "others", most=4).parts
    assert [p.n for p in many] == [10, 10, 10, 70]


def test_labels_are_escaped():
    evil = "<b>&"
    for picture in (
        charts.over_places(evil, [evil], [charts.Series(evil, [1.0])]), charts.whiskers(evil, [charts.Dot(evil, 1.0)]),
        charts.stacked(evil, [evil], [(evil, 1, [1.0])]), flow(evil, Stream(evil, 1)),
    ):
        assert "<b>" not in picture and "&lt;b&gt;&amp;" in picture
