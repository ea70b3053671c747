"""What the network of `timeline` takes from the examples before its first step: quantiles, and how sure the prior may be."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recs.models.timeline_train import calibration, quantiles
from recs.nn.staged import Staged, fields_of, write_manifest, write_part


def staged(folder: Path, evidence: np.ndarray) -> Staged:
    """One column of evidence of some lists [N, C]."""
    columns = {"evidence": evidence[:, :, None].astype(np.float16), "there": np.ones(evidence.shape, np.uint8)}
    return write_manifest(folder, fields_of(columns), [write_part(folder, 0, columns, fields_of(columns))])


def test_what_few_candidates_have_is_told_apart(tmp_path: Path):
    """Of a hundred candidates ninety-five have nothing; the others lie evenly over most of the edges."""
    evidence = np.zeros((50, 100))
    evidence[:, :5] = np.random.default_rng(0).uniform(1, 2, (50, 5))
    edges = quantiles(staged(tmp_path, evidence), 33)[0]
    assert edges[0] == 0 and (np.diff(edges) >= 0).all()
    assert (edges > 1).sum() >= 16 and np.median(edges[edges > 1]) == pytest.approx(1.5, abs=0.1)
    plain = np.quantile(evidence, np.linspace(0, 1, 33))
    assert (plain > 1).sum() == 2       # what it was before: two edges for all of them


def test_quantiles_of_values_that_are_all_different(tmp_path: Path):
    evidence = np.random.default_rng(0).normal(size=(50, 100))
    edges = quantiles(staged(tmp_path, evidence), 33)[0]
    assert edges[1:-1] == pytest.approx(np.quantile(evidence, np.linspace(0, 1, 33))[1:-1], abs=0.01)


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_prior_is_made_a_logit(factor: float):
    """Lists that are drawn by the softmax of a score: told `factor` times that score, it is divided by it again."""
    rng = np.random.default_rng(1)
    score = rng.normal(0, 2, (4_000, 20))
    chosen = (score + rng.gumbel(size=score.shape)).argmax(axis=1)
    there = np.ones(score.shape, np.uint8)
    there[:, -1] = 0
    label = np.eye(20)[chosen] * there
    lists = {"prior": (factor * score).astype(np.float32), "label": label.astype(np.float16), "there": there}
    assert calibration(lists) == pytest.approx(1 / factor, rel=0.05)


def test_a_prior_that_says_nothing_stays_as_it_is():
    nothing = {"prior": np.zeros((3, 4), np.float32), "label": np.eye(3, 4), "there": np.ones((3, 4))}
    assert calibration(nothing) == 1 and calibration(nothing | {"label": np.zeros((3, 4))}) == 1
