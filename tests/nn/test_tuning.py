"""Language models that are tuned with the network that reads what they say: what is trained, what is kept, how much is held."""
from __future__ import annotations

import pytest
import torch
from test_zoo import batch

from recs.nn import tuning
from recs.nn.optimizers import make_optimizer
from recs.nn.settings import TrainConfig
from recs.nn.text import HASHED, TextError, encode
from recs.nn.tuning import Extractor, TuningConfig, retold
from recs.nn.zoo.lm_adapter import LMAdapter, LMAdapterConfig

pytest.importorskip("transformers")
pytest.importorskip("peft")
TEXTS = [f"red lamp {n}" for n in range(100)] + [f"红杯子 {n}" for n in range(99)] + [" - "]     # of 200 items


@pytest.fixture(scope="module", params=["causal", "encoder"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    import tiny_models

    return getattr(tiny_models, f"save_{request.param}")(tmp_path_factory.mktemp(request.param))


def network(folder: str, policy: str, **other: object) -> LMAdapter:
    """An adapter with its reader, as while it is tuned."""
    torch.manual_seed(0)
    net = LMAdapter(200, LMAdapterConfig(length=16, dim=16, said=32, dropout=0.1))
    net.item.said[1:] = torch.from_numpy(encode(folder, TEXTS, 12))
    net.item.reader = Extractor(TEXTS, TuningConfig(policy=policy, **other), folder, 12)
    net.item.stale = True
    return net


def stepped(net: LMAdapter, steps: int = 2) -> LMAdapter:
    config = TrainConfig(lr=5e-4)
    optimizer = make_optimizer(net, config)
    for n in range(steps):
        torch.manual_seed(n)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * group["share"]
        optimizer.zero_grad(set_to_none=True)
        net.train().loss(batch()).backward()
        optimizer.step()
    return net


@pytest.mark.parametrize("policy", ["top", "all", "lora", "prefix"])
def test_what_the_policy_trains_changes_and_nothing_else(folder: str, policy: str):
    net = network(folder, policy, layers=1)
    before = {n: p.detach().clone() for n, p in net.item.reader.named_parameters()}
    stepped(net)
    changed = {n for n, p in net.item.reader.named_parameters() if not torch.equal(p, before[n])}
    named = {
        "top": lambda n: (".1." in n or "ln_f" in n) and "pooler" not in n, "all": lambda n: "pooler" not in n,
        "lora": lambda n: "lora_" in n, "prefix": lambda n: "prompt_encoder" in n}[policy]
    may = {n for n in before if named(n)}
    assert changed <= may and len(changed) >= 0.7 * len(may)        # a bias of a key moves nothing
    assert {n for n, p in net.item.reader.named_parameters() if p.requires_grad} == may


@pytest.mark.parametrize("policy", ["all", "lora", "prefix"])
def test_before_an_evaluation_every_text_is_read_anew(folder: str, policy: str):
    net = network(folder, policy)
    net.eval()
    first = net.item.said.clone()
    if policy != "prefix":      # tuning begins where the frozen vectors are
        torch.testing.assert_close(first[1:].float(), torch.from_numpy(encode(folder, TEXTS, 12)), atol=2e-3, rtol=0)
    assert not first[200].any()         # without a word there is nothing to say
    stepped(net)
    assert net.item.stale
    net.eval()
    with torch.no_grad():
        wanted = net.item.reader(torch.arange(1, 201))
    torch.testing.assert_close(net.item.said[1:].float(), wanted, atol=2e-3, rtol=0)
    assert not net.item.stale and not torch.equal(net.item.said, first)


def test_a_checkpoint_holds_what_was_trained_and_is_the_same_network(folder: str):
    net = stepped(network(folder, "lora")).eval()
    state = net.state_dict()
    own = [n for n in state if n.startswith("item.reader.")]
    assert own and all("lora_" in n for n in own)
    fresh = network(folder, "lora")
    fresh.load_state_dict(state)
    fresh.eval()
    torch.testing.assert_close(fresh.item.said, net.item.said, atol=2e-3, rtol=0)
    assert torch.equal(fresh.score(batch()).argmax(1), net.score(batch()).argmax(1))


def test_higher_layers_learn_faster_and_the_network_as_before(folder: str):
    net = network(folder, "all", lr=1e-3, lr_extractor=1e-4, fade=0.5)
    rates = {n.removeprefix("item.reader.model"): round(share, 9) for n, share in net.rates().items()}
    assert {share for n, share in rates.items() if ".0." in n} == {0.05} and {share for n, share in rates.items() if ".1." in n} == {0.1}
    assert {share for n, share in rates.items() if "embed" in n or "wte" in n} == {0.025}
    groups = make_optimizer(net, TrainConfig()).param_groups
    assert groups[0]["share"] == 1.0 and sorted({g["share"] for g in groups}) == pytest.approx([0.025, 0.05, 0.1, 1.0])
    assert sum(len(g["params"]) for g in groups) == sum(p.requires_grad for p in net.parameters())


def test_a_step_reads_few_texts_and_a_block_at_a_time(folder: str, monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[int, bool]] = []

    def spied(model, ids, *rest):
        seen.append((len(ids), torch.is_grad_enabled()))
        return plain(model, ids, *rest)

    plain = tuning.vectors_of
    monkeypatch.setattr(tuning, "vectors_of", spied)
    net = network(folder, "lora", texts=40)
    net.train().loss(batch(60)).backward()
    # forward keeps nothing of a block; backward reads it once more
    assert sum(n for n, _ in seen) == 2 * 40 and max(n for n, _ in seen) == tuning.ROWS


def test_gradients_are_those_of_a_reader_that_keeps_everything(folder: str):
    net = network(folder, "top", layers=2, texts=200).eval()
    mine = torch.tensor([3, 90, 150, 200])
    read = net.item.reader
    trained = [p for p in read.parameters() if p.requires_grad]
    a = torch.autograd.grad(read(mine)[:, 5].sum(), trained, allow_unused=True)
    whole = tuning.vectors_of(read.model, read.ids[mine], read.mask[mine], read.causal)[:3, 5].sum()
    for x, y in zip(a, torch.autograd.grad(whole, trained, allow_unused=True), strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-3)


def test_hashed_words_cannot_be_tuned():
    with pytest.raises(TextError, match="hashed words cannot be tuned"):
        Extractor(["a"], TuningConfig(policy="lora"), HASHED, 8)


def test_what_tuning_changed_is_told_of_texts_it_never_read():
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize
    frozen, change = unit(torch.randn(400, 8), dim=1), torch.randn(8, 8)
    tuned = unit(frozen + frozen @ change, dim=1)
    text_map, figures = retold(frozen[:300], tuned[:300])
    new = frozen[300:]
    near = (unit(new + new @ text_map, dim=1) * tuned[300:]).sum(1)
    assert near.mean() > 0.9 > (new * tuned[300:]).sum(1).mean() + 0.3
    assert figures["retold_cosine"] > figures["frozen_cosine"] + 0.3
    still, _ = retold(frozen[:300], frozen[:300])
    assert still.abs().max() < 1e-6
