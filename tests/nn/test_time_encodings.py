"""Clocks agree with the calendar of the standard library; ages keep their order; what is learned is continuous where it should be."""
from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
import torch

from recs.nn.time import DAY, SECOND, AgeEncoding, ClockEncoding, RelativeTimeBias, SoftBuckets, clock, fourier, log_age

YEAR = 365 * DAY


def micros(*when: int) -> int:
    return (datetime(*when, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize("when", [(1970, 1, 1), (2024, 2, 29, 23, 59, 59), (2024, 3, 31, 12), (1969, 12, 31, 18), (2040, 7, 8, 6, 30)])
def test_the_clock_is_the_calendars(when: tuple[int, ...]):
    day, week = clock(torch.tensor(micros(*when)))
    d = datetime(*when)
    assert day.item() == pytest.approx((d.hour + d.minute / 60 + d.second / 3600) / 24, abs=1e-5)
    assert math.floor(week.item()) == d.weekday()


def test_an_offset_moves_the_clock_and_the_weekday():
    day, week = clock(torch.tensor([micros(2024, 3, 31, 23)] * 2), torch.tensor([0, 2 * 3600 * SECOND]))     # a Sunday
    assert day.tolist() == pytest.approx([23 / 24, 1 / 24], abs=1e-5)
    assert week.floor().tolist() == [6, 0]


def test_the_last_microsecond_of_a_day_belongs_to_it():
    day, week = clock(torch.tensor([micros(2024, 3, 31) - 1, micros(2024, 3, 31)]))
    assert day[0] < 1
    assert (week.floor().tolist(), day[1].item()) == ([5, 6], 0)


def test_log_age_keeps_the_order_and_its_range():
    ages = torch.tensor([-5 * SECOND, 0, SECOND, 60 * SECOND, 3600 * SECOND, DAY, 30 * DAY, YEAR, 10 * YEAR])
    x = log_age(ages)
    assert x[0] == x[1] == 0
    assert (x[2:] > x[1:-1]).all()
    assert x[-1].item() == pytest.approx(1, abs=1e-3)
    assert x[3].item() == pytest.approx(math.log(61) / math.log(1 + 10 * 365.25 * 86400), rel=1e-5)


def test_soft_buckets_pass_through_their_knots_and_are_straight_between():
    curve = SoftBuckets(5, 3)
    table = curve.table.weight
    torch.testing.assert_close(curve(torch.tensor([0.0, 0.25, 1.0, 7.0])), table[[0, 1, 4, 4]])
    torch.testing.assert_close(curve(torch.tensor(0.4)), 0.4 * table[1] + 0.6 * table[2])
    ring = SoftBuckets(4, 3, circular=True)
    torch.testing.assert_close(ring(torch.tensor([0.0, 1.0])), ring.table.weight[[0, 0]])
    torch.testing.assert_close(ring(torch.tensor(0.875)), (ring.table.weight[3] + ring.table.weight[0]) / 2)


@pytest.mark.parametrize("learned", [True, False])
def test_clock_encodings_repeat_weekly_and_join_at_midnight(learned: bool):
    torch.manual_seed(0)
    encode = ClockEncoding(8, learned=learned)
    now = micros(2024, 3, 31)       # midnight from Saturday to Sunday
    a, b, before, noon = encode(torch.tensor([now, now + 7 * DAY, now - SECOND, now + DAY // 2]))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(a, before, atol=1e-3, rtol=1e-2)
    assert not torch.allclose(a, noon, atol=1e-3)


def test_fourier_is_sine_and_cosine():
    x = fourier(torch.tensor(0.1), 2)
    assert x.tolist() == pytest.approx([f(2 * math.pi * h * 0.1) for f in (math.sin, math.cos) for h in (1, 2)], abs=1e-6)


def test_ages_are_exact_far_from_1970():
    """Two instants a minute apart in 2100, as float32 the same number."""
    base = torch.tensor(4_102_444_800 * SECOND)
    encode = AgeEncoding(4)
    assert not torch.equal(encode((base + 60 * SECOND) - base), encode(base - base))


def test_the_relative_bias_buckets_double():
    bias = RelativeTimeBias(heads=2, buckets=30)
    apart = torch.tensor([0, SECOND - 1, SECOND, 3 * SECOND, -3 * SECOND, 7 * SECOND, DAY, 100 * YEAR])
    assert bias.bucket(apart).tolist() == [0, 0, 1, 2, 2, 3, math.floor(math.log2(86401)), 29]
    query, key = torch.tensor([[0, DAY]]), torch.tensor([[0, DAY, 2 * DAY]])
    assert torch.equal(bias(query, key), torch.zeros(1, 2, 2, 3))       # starts without time
    torch.nn.init.normal_(bias.bias.weight)
    out = bias(query, key)
    torch.testing.assert_close(out[0, :, 0, 1], bias.bias.weight[16])
    torch.testing.assert_close(out[0, :, 0, 0], out[0, :, 1, 1])
