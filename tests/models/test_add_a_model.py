"""docs/add_a_model.md, followed by the letter: its file in the folder is a model that learns, and nothing else was touched."""
from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from chained_nights import QUICK, chained_nights, ndcg

from recs.models import MODELS, make
from recs.models.base import Setting
from recs.models.sequence import sequence_models
from recs.nn import zoo

PAGE = Path(__file__).parents[2] / "docs/add_a_model.md"


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S).group(1)
    assert len(code.splitlines()) <= 60
    (tmp_path / "mean_gap.py").write_text(code)
    monkeypatch.setattr(zoo, "__path__", [*zoo.__path__, str(tmp_path)])
    yield {cls.name: cls for cls in sequence_models(taken=MODELS)}
    sys.modules.pop("recs.nn.zoo.mean_gap", None)


def test_a_file_in_the_folder_is_a_model(followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nights = chained_nights(tmp_path / "nights")
    assert list(followed) == ["mean_gap"]
    monkeypatch.setitem(MODELS, "mean_gap", followed["mean_gap"])
    fit = followed["mean_gap"].fit_with(Setting(), nights.only([1, 2, 3, 4, 5]), dict(QUICK))
    tonight = nights.questions[0]
    assert ndcg(make("mean_gap", fit.params, fit.weights), tonight) > ndcg(make("popularity"), tonight) + 0.2
    scores = make("mean_gap", fit.params, fit.weights).scorer(tonight.histories, tonight.request_us, tonight.tables)(0, 5)
    assert np.isfinite(scores).all()
