"""Pictures of trained models show their own weights: other weights, other numbers; and a picture is a file with something on it."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import tiny_warehouse as tiny  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from recs.clock import DAY, HOUR  # noqa: E402
from recs.evidence.histories import Histories  # noqa: E402
from recs.jobs.cli import app  # noqa: E402
from recs.models import make, model_class  # noqa: E402
from recs.models.base import Setting  # noqa: E402
from recs.models.insight import AGES_D, BIAS, LIKENESS, WEIGHT, InsightError, attention_of, fading_of, items_of  # noqa: E402
from recs.models.network_arrays import arrays_of  # noqa: E402
from recs.models.sequence_network import NUMBER, RAREST, make_network  # noqa: E402
from recs.schemas import ITEM_VOCABULARY, ITEMS, MODELS, SEQUENCES  # noqa: E402

N_ITEMS = 30
NOW = 40 * DAY
HISTORY = Histories.of(ann=[(n % N_ITEMS, NOW - (12 - n) * 2 * HOUR) for n in range(12)] + [(99, NOW)])     # item 99 has no number
WITH_ATTENTION = {
    "sasrec": ({}, 4), "tisasrec": ({}, 4), "hstu": ({}, 4), "lstm_attention": ({}, 1), "transformer_lstm": ({}, 3),
    "interest_dynamics": ({"preset": "news"}, 4), "lm_adapter": ({"adapter": "transformer"}, None),
}


def model_of(name: str, seed: int = 1, **network):
    """An untrained model whose weights are drawn by a seed, and not near zero: 30 items of the vocabulary, 0 to 29."""
    torch.manual_seed(seed)
    params = model_class(name).grid(Setting(n_items=N_ITEMS))[0] | {"length": 16, "network": {"dim": 16, **network}}
    net = make_network(name, params, N_ITEMS)
    with torch.no_grad():
        for values in net.parameters():
            values.add_(0.3 * torch.randn_like(values))
    number = np.arange(1, N_ITEMS + 1, dtype=np.int32)
    return make(name, params, arrays_of(net) | {NUMBER: number, RAREST: np.arange(1, 5, dtype=np.int32)})


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_attention_is_of_the_models_weights_and_of_known_events(name: str):
    network, attentions = WITH_ATTENTION[name]
    found = attention_of(model_of(name, **network), HISTORY, NOW + HOUR)
    assert found.event.tolist() == list(range(12))      # the newest event's item is not known to the network
    assert found.share.shape == (attentions or len(found.names), 12) == (len(found.names), 12)
    assert found.of_one == (name != "hstu")     # which has no softmax
    if found.of_one:
        assert np.allclose(found.share.sum(axis=1), 1, atol=1e-5)
    other = attention_of(model_of(name, seed=2, **network), HISTORY, NOW + HOUR)
    assert np.abs(found.share - other.share).max() > 1e-3
    again = attention_of(model_of(name, **network), HISTORY, NOW + HOUR)
    assert np.array_equal(found.share, again.share)


def test_attention_follows_what_the_weights_say():
    """A query and keys that are the item's own vector, and of one event far the longest: it gets the share."""
    model = model_of("lstm_attention")
    attended = int(attention_of(model, HISTORY, NOW).share[0].argmax())
    assert attention_of(model, HISTORY, NOW).share[0].max() > 1 / 12
    weights = dict(model.weights)
    weights["network.ask.weight"] = -weights["network.ask.weight"]      # what was alike is now unlike
    turned = attention_of(make(model.name, model.params, weights), HISTORY, NOW).share[0]
    assert int(turned.argmin()) == attended


def test_fading_is_the_models_own():
    slow = [f for f in fading_of(model_of("transformer_lstm")) if f.kind == WEIGHT]
    model = model_of("transformer_lstm")
    assert [f.half_life_d for f in slow] == pytest.approx(np.exp(model.weights["network.half_life"]).tolist(), rel=1e-5)
    half = np.interp(slow[0].half_life_d, AGES_D, slow[0].value)
    assert half == pytest.approx(0.5, abs=0.02)
    due, table = next(f for f in fading_of(model) if f.name.startswith("due")), model.weights["network.due.at_knots.bias"]
    assert due.kind == BIAS and due.value.min() >= table.min() and due.value.max() <= table.max() and np.ptp(due.value) > 0.1

    by_age = [f for f in fading_of(model_of("hstu")) if f.kind == BIAS]
    table = model_of("hstu").weights["network.layers.0.since.bias.weight"]      # [buckets, heads]
    week = by_age[0].value[np.searchsorted(AGES_D, 7.0)]
    assert len(by_age) == 4 and week == pytest.approx(table[int(np.log2(1 + 7 * 86_400)), 0])

    alike = [f for f in fading_of(model_of("lstm_attention")) if f.kind == LIKENESS]
    others = [f for f in fading_of(model_of("lstm_attention", seed=2)) if f.kind == LIKENESS]
    assert {f.name for f in alike} == {"age", "event.gap"} and all(np.abs(f.value).max() <= 1.0001 for f in alike)
    assert np.abs(alike[0].value - others[0].value).max() > 0.05


def test_fading_of_simple_models_is_what_their_fit_chose():
    assert [f.half_life_d for f in fading_of(make("recent_popularity", {"stat": "decay_12h"}))] == [0.5]
    blend = make("blend", {"weights": {"popular@decay_3d": 0.5, "own@14d": 1.0, "popular@users_7d": 0.2, "cooc@all": 1.0}})
    assert [f.half_life_d for f in fading_of(blend)] == [3.0, 14.0]
    with pytest.raises(InsightError, match="popularity has learned no curve"):
        fading_of(make("popularity", {"stat": "users_all"}))


def test_the_map_keeps_what_is_near_near_and_is_of_the_weights():
    model = model_of("sasrec")
    weights = dict(model.weights)
    vectors = weights["network.item.weight"].copy()
    vectors[1:16] = vectors[1:16] * 0.1 + 2.0       # two clusters: along the first axis they stand apart
    vectors[16:] = vectors[16:] * 0.1 - 2.0
    found = items_of(make("sasrec", model.params, weights | {"network.item.weight": vectors}))
    assert found.index.tolist() == list(range(N_ITEMS)) and found.told[0] > 0.9 > found.told[1]
    one, two = found.place[:15, 0], found.place[15:, 0]
    assert one.min() > two.max()
    assert np.abs(items_of(model).place - found.place).max() > 1
    with pytest.raises(InsightError, match="popularity has no vectors"):
        items_of(make("popularity", {"stat": "users_all"}))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A warehouse with one user's history and a model of `models`."""
    root = tmp_path_factory.mktemp("pictures")
    model_of("hstu").save(root / "_models" / "hstu-x")
    arrays = {"item_index": HISTORY.item, "type_code": HISTORY.type_code, "ts": HISTORY.ts}
    history = {"user_id": "ann"} | {c.name: [] for c in SEQUENCES.columns if c.type.startswith("array")}
    history |= {name: values.tolist() for name, values in arrays.items()}
    history["segment_code"] = [0] * HISTORY.n_events
    history |= dict.fromkeys(("value", "dwell_s", "lat", "lon"), [None] * HISTORY.n_events)
    items = [{"item_id": f"i{n}", "title": f"Cup {n}", "category": f"{'kitchen' if n < 15 else 'garden'}/x"} for n in range(N_ITEMS)]
    vocabulary = [{"item_id": f"i{n}", "item_index": n} for n in range(N_ITEMS)]
    model = {"model_version": "hstu-x", "name": "hstu", "path": "_models/hstu-x", "status": "candidate"}
    for table, content in ((SEQUENCES, [history]), (ITEMS, items), (ITEM_VOCABULARY, vocabulary), (MODELS, [model])):
        tiny.append_without_spark(root, table, content)
    return root


@pytest.mark.parametrize("what", ["attention", "decay", "items"])
def test_a_picture_is_a_file_with_something_on_it(root: Path, tmp_path: Path, what: str):
    from matplotlib.image import imread

    out = tmp_path / "p.png"
    said = CliRunner().invoke(app, ["picture", what, "--root", str(root), "--user", "ann", "--out", str(out)])
    assert said.exit_code == 0, said.output
    image = imread(out)[..., :3]
    assert image.shape[0] > 200 and (image < 0.9).any(axis=-1).mean() > 0.01


@pytest.mark.parametrize(("words", "says"), [
    (["attention"], "name the user with --user"), (["attention", "--user", "eve"], "no history"), (["decoy"], "no picture 'decoy'"),
    (["items", "--model", "none-such"], "no model none-such"),
])
def test_what_cannot_be_drawn_is_said(root: Path, words: list[str], says: str):
    said = CliRunner().invoke(app, ["picture", *words, "--root", str(root)])
    assert said.exit_code == 2 and says in " ".join(said.output.split())
