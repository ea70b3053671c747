"""Boosted trees that rank candidates by their evidence (LambdaMART: Burges, 2010; LightGBM: Ke et al., NeurIPS 2017).

Settings are those of the study this project starts from (120 trees of 31 leaves, learning rate .05, 40 % of the columns, a regularised
leaf).  The prior is one of the columns; the first tree may also begin at a share of its score, so that trees correct the blend instead of
finding it again.  `lightgbm` is an optional extra.

Shapes: P rows (candidates of all lists), F evidence, N lists.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import lightgbm

NAME, BEGINS = "trees", "trees_begin"
SETTINGS = {
    "objective": "lambdarank", "lambdarank_truncation_level": 20, "learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 50,
    "feature_fraction": 0.4, "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 5.0, "max_bin": 63,
    "verbosity": -1, "deterministic": True, "force_row_wise": True,
}


def train_trees(
    evidence: np.ndarray, prior: np.ndarray, label: np.ndarray, lists: np.ndarray, rounds: int, seed: int, start: float,
) -> dict[str, np.ndarray]:
    """Arrays of a model: evidence [P, F], prior [P], label [P] what each row is worth, lists [N] how many rows each list has, in turn.

    `start`: the share of the prior's score that trees begin at.
    """
    lightgbm = _lightgbm()
    worth, grade = np.unique(np.append(label, 0), return_inverse=True)
    # LambdaMART knows grades; a grade's gain is what it is worth, as in the network's loss, and not 2^grade - 1
    graded = {"label_gain": worth.tolist()} if len(worth) > 2 else {}
    data = lightgbm.Dataset(
        _inputs(evidence, prior), label=grade[:-1], group=lists, init_score=start * prior.astype(np.float64),
        params={"max_bin": SETTINGS["max_bin"], "verbosity": -1})
    booster = lightgbm.train(SETTINGS | graded | {"seed": seed}, data, num_boost_round=rounds)
    return {NAME: np.frombuffer(booster.model_to_string().encode(), np.uint8), BEGINS: np.array([start], np.float32)}


def _inputs(evidence: np.ndarray, prior: np.ndarray) -> np.ndarray:
    return np.concatenate([evidence.astype(np.float32), prior[:, None]], axis=1)


def _lightgbm() -> lightgbm:
    try:
        import lightgbm
    except ImportError as e:
        raise ImportError("ranker trees needs lightgbm: pip install 'recs[trees]', or choose ranker=network") from e
    return lightgbm


class Trees:
    """Trained trees (`trees` and `trees_begin` of the model's arrays; older models have no beginning)."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.booster = _lightgbm().Booster(model_str=weights[NAME].tobytes().decode())
        self.start = float(weights[BEGINS][0]) if BEGINS in weights else 0.0

    def scores(self, evidence: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """[P] float32."""
        return (self.start * prior + self.booster.predict(_inputs(evidence, prior), num_threads=1)).astype(np.float32)
