"""A language model that is tuned with the network that reads what it says of items.

    policy   trained                                           learning rate of layer l of n, embeddings l = 0
    frozen   nothing: vectors are made once (recs/etl/text_vectors.py)
    top      the last `layers` layers and what follows them    lr_extractor · fade^(n - l)
    all      everything                                        lr_extractor · fade^(n - l)
    lora     W + alpha / rank · B A in every linear layer      lr_extractor
    prefix   `prefix` pairs of key and value per layer, which  lr_extractor
             every text finds before itself

Layer-wise rates: Howard and Ruder, ACL 2018 (ULMFiT).  LoRA: Hu et al., ICLR 2022.  Prefix: Li and Liang, ACL 2021; both by `peft`.  The
network around it has learned with the frozen vectors first, and tuning goes on from there (Kumar et al., ICLR 2022: features that are
tuned under a fresh head are distorted); so what it had before tuning is the first evaluation of the run.

Memory.  A step reads at most `texts` of the items of its batch anew (a draw; the others have the vectors of when they were last read),
`ROWS` at a time, and what backward needs of a text is computed again there (Chen et al. 2016): one block of texts is held, whatever
the batch, the history or the catalogue.

Shape suffixes: N items, T tokens, S numbers of a text's vector.
"""
from __future__ import annotations

import math
import re
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recs.nn.text import HASHED, Encoder, TextError, says_something, vectors_of

ROWS = 32
LR = {"frozen": 0.0, "top": 1e-4, "all": 5e-5, "lora": 1e-3, "prefix": 1e-2}
PEFT = ("lora", "prefix")


class TuningConfig(BaseModel):
    """How the model that reads the catalogue's texts is tuned; every key is checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["frozen", "top", "all", "lora", "prefix"] = "frozen"
    model: str | None = None            # folder or hub name; default: the one that made the catalogue's vectors
    max_tokens: int | None = Field(None, ge=4, le=512)      # default: as those
    offline: bool = True                # False: the hub may be asked
    layers: int = Field(2, ge=1)        # of `top`
    rank: int = Field(8, ge=1)          # of `lora`
    alpha: float = Field(16.0, gt=0)
    prefix: int = Field(8, ge=1)        # pairs of `prefix`
    texts: int = Field(128, ge=1)       # read in one step, at most
    epochs: int = Field(10, ge=1)
    lr: float = Field(5e-4, gt=0)       # of the network around it, meanwhile
    lr_extractor: float | None = Field(None, gt=0)          # default: LR of the policy
    fade: float = Field(0.8, gt=0, le=1)
    warmup: float = Field(0.1, ge=0)    # as in TrainConfig

    @property
    def share(self) -> float:
        """Of the network's learning rate, that of the extractor's highest layer."""
        return (self.lr_extractor or LR[self.policy]) / self.lr


class Extractor(nn.Module):
    """Item numbers [N] -> vectors [N, S] of what the items say; its own weights are kept only where they are trained."""

    def __init__(self, texts: list[str], config: TuningConfig, model: str, max_tokens: int) -> None:
        """`texts`: of items 1 … I; an item whose text has no word is a row of zeros."""
        super().__init__()
        if model == HASHED:
            raise TextError(f"tuning.policy {config.policy}: hashed words cannot be tuned; name a language model in text.model")
        encoder = Encoder(model, max_tokens, config.offline)
        self.config, self.causal = config, encoder.causal
        self.width = encoder.model.config.hidden_size
        ids, mask = encoder.tokens(["", *texts])
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("speaks", torch.from_numpy(says_something(["", *texts])), persistent=False)
        self.model = _trainable(encoder.model, config)
        self.register_state_dict_post_hook(_trained_only)
        self.register_load_state_dict_post_hook(_the_rest_is_here)

    def forward(self, numbers: Tensor) -> Tensor:
        """[N, S] float32 of unit length."""
        found = []
        for some in numbers.split(ROWS):
            width = int(self.mask[some].sum(1).max()) if len(some) else 1
            ids, mask = self.ids[some, : max(width, 1)], self.mask[some, : max(width, 1)]
            if torch.is_grad_enabled():
                found.append(checkpoint(vectors_of, self.model, ids, mask, self.causal, use_reentrant=False))
            else:
                found.append(vectors_of(self.model, ids, mask, self.causal))
        if not found:
            return self.speaks.new_zeros(0, self.width, dtype=torch.float32)
        return torch.cat(found) * self.speaks[numbers].unsqueeze(-1)

    def rates(self) -> dict[str, float]:
        """By name of each trained parameter: its share of the network's learning rate."""
        names = [name for name, p in self.named_parameters() if p.requires_grad]
        if self.config.policy in PEFT:
            return dict.fromkeys(names, self.config.share)
        top = 1 + max((_layer(name) or 0) for name, _ in self.named_parameters())
        return {name: self.config.share * self.config.fade ** (top - _depth(name, top)) for name in names}

    def trained(self) -> dict[str, Tensor]:
        """The parameters that were trained, by name: for `lora` and `prefix` a few thousandths of the model."""
        return {name: p.detach().cpu() for name, p in self.named_parameters() if p.requires_grad}


def _trainable(model: Any, config: TuningConfig) -> nn.Module:
    """The model with what the policy trains, and nothing else, asking for gradients."""
    model.requires_grad_(False)
    if config.policy in PEFT:
        return _with_peft(model, config)
    n = 1 + max((_layer(name) or 0) for name, _ in model.named_parameters())
    lowest = 0 if config.policy == "all" else n - config.layers + 1
    for name, p in model.named_parameters():
        p.requires_grad_(config.policy != "frozen" and _depth(name, n) >= lowest and "pooler" not in name)   # the pooler is never asked
    return model


def _with_peft(model: Any, config: TuningConfig) -> nn.Module:
    try:
        from peft import LoraConfig, PrefixTuningConfig, TaskType, get_peft_model
    except ImportError as e:
        raise TextError(f"tuning.policy {config.policy} needs the extra `lm`: pip install 'recs[lm]'") from e
    task = TaskType.FEATURE_EXTRACTION
    if config.policy == "prefix":
        found = get_peft_model(model, PrefixTuningConfig(num_virtual_tokens=config.prefix, task_type=task))
        for p in found.prompt_encoder.parameters():
            nn.init.normal_(p, std=0.02)        # peft's own are of size 1, and drown out the text
        return found
    return get_peft_model(model, LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=0.05, target_modules="all-linear", task_type=task))


def _layer(name: str) -> int | None:
    """Of `encoder.layer.3.output.dense.weight`: 3; None for what belongs to no layer."""
    found = re.search(r"\.(?:layers?|h|blocks?)\.(\d+)\.", f".{name}")
    return int(found[1]) if found else None


def _depth(name: str, layers: int) -> int:
    """0 embeddings, 1 … layers; what comes after the last layer counts as the last."""
    layer = _layer(name)
    if layer is not None:
        return layer + 1
    return 0 if re.search(r"embed|wte|wpe", name) else layers


def _trained_only(module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Frozen weights lie in the model's own folder: a checkpoint need not hold them."""
    for name in _kept_elsewhere(module):
        state.pop(prefix + name, None)


def _the_rest_is_here(module: nn.Module, keys: Any) -> None:
    mine = tuple(_kept_elsewhere(module))
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(mine)]


def _kept_elsewhere(module: nn.Module) -> list[str]:
    """Frozen weights, under every name they have (peft ties some), and buffers."""
    frozen = [name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad]
    return frozen + [name for name, _ in module.named_buffers(remove_duplicate=False)]


def retold(frozen: Tensor, tuned: Tensor) -> tuple[Tensor, dict[str, float]]:
    """[S, S] A such that  unit(v + v A)  is near the tuned vector of a text whose frozen vector is v; and how near, on items left out.

    Ridge regression of what tuning changed, its strength the best on a fifth of the items.  So an item that comes after training has a
    tuned vector without the language model.  Figures: mean cosine with the tuned vector, of the retold and of the frozen one.
    """
    frozen, tuned = frozen.double(), tuned.double()
    some = torch.arange(len(frozen)) % 5 != 0
    strengths = [10.0 ** n for n in range(-3, 4)]

    def solved(rows: Tensor, strength: float) -> Tensor:
        x, y = frozen[rows], tuned[rows] - frozen[rows]
        return torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)

    def near(a: Tensor) -> float:
        out = frozen[~some]
        return float((nn.functional.normalize(out + out @ a, dim=-1) * tuned[~some]).sum(-1).mean()) if len(out) else math.nan

    best = max(strengths, key=lambda strength: near(solved(some, strength))) if some.any() and not some.all() else 1.0
    figures = {"retold_cosine": near(solved(some, best)), "frozen_cosine": near(torch.zeros(2 * [frozen.shape[1]], dtype=frozen.dtype))}
    # `solve` lays columns one after another, and safetensors writes bytes as they lie
    text_map = solved(torch.ones_like(some), best).float().contiguous()
    return text_map, {name: round(v, 6) for name, v in figures.items() if math.isfinite(v)}
