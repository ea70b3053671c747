"""Metrics by hand, and the same figures as a plain reading of their definitions."""
from __future__ import annotations

import doctest
import math

import numpy as np
import pytest

from recs.judge import metrics
from recs.judge.metrics import metrics_of_hits


def test_the_examples_in_the_text():
    assert doctest.testmod(metrics).failed == 0


def by_definition(hits: list[bool], wanted: int) -> dict[str, float]:
    """One list, read rank by rank, as the outside judge's score.py defines it."""
    k = len(hits)
    dcg = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits, start=1) if hit)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(wanted, k) + 1))
    first = next((rank for rank, hit in enumerate(hits, start=1) if hit), None)
    return {"ndcg@10": dcg / ideal, "recall@10": sum(hits) / wanted, "hr@10": float(any(hits)), "mrr@10": 1 / first if first else 0.0}


def test_metrics_agree_with_their_definitions_to_six_decimals():
    rng = np.random.default_rng(3)
    hits = rng.random((200, 10)) < 0.15
    wanted = np.maximum(hits.sum(axis=1) + rng.integers(0, 15, 200), 1)     # some lists could hit more than ten items
    found = metrics_of_hits(hits, wanted)
    for row in range(200):
        for name, value in by_definition(list(hits[row]), int(wanted[row])).items():
            assert found[name][row] == pytest.approx(value, abs=1e-6)
