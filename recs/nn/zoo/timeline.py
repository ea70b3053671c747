"""timeline: a listwise ranker of candidates that reads evidence, and a history in which every event knows how long ago it was.

    history       items, types, instants, dwell      ─▶ events, each with its age at the request and the clock it happened at
    request       its clock                          ─▶ one more event, without an item, that looks back at all others: the state
    blocks        attention over both, with a bias by the time between two events (log2 buckets)
    candidate     its item                           ─▶ state · item; attention of the item over the events; both are numbers
    evidence      F numbers per candidate (recs/evidence/features.py), each as its place among the quantiles of training
    score         prior of the candidate + network(evidence, the numbers above)

The prior is the blend's score, times what makes it a logit: at the first step the network says nothing, and the lists are the
blend's.  Training stops at the best validation, so a log too small to learn from keeps the blend.  Trained end to end with listwise
softmax over the candidates.
Attention with log-scaled time: TiSASRec (Li et al., WSDM 2020) and HSTU (Zhai et al., ICML 2024), here measured to the request.

Shape suffixes: B lists, C candidates, F evidence, L events, D dimensions.  Item numbers are the model's own, 0 = new or padding.
"""
from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from recs.nn.attention import Block
from recs.nn.losses import lambda_rank, listwise_softmax
from recs.nn.metrics import ranking_sums
from recs.nn.next_item import newest
from recs.nn.time import AgeEncoding, ClockEncoding, RelativeTimeBias
from recs.nn.zoo import network_class

EDGES = 33          # quantiles that a column of evidence is held against


class TimelineConfig(BaseModel):
    """Sizes and switches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(32, ge=4)
    blocks: int = Field(1, ge=1)
    heads: int = Field(2, ge=1)
    layers: tuple[int, ...] = (96, 48)
    dropout: float = Field(0.1, ge=0, lt=1)
    item_dropout: float = Field(0.2, ge=0, lt=1)    # share of items read as new: the network must not lean on numbers it may not know
    encoder: bool | str = True                      # read the history; a name: by that network of recs/nn/zoo instead of `History`
    evidence: bool = True                           # read the evidence
    time: bool = True                               # False: the plain twin, positions instead of instants
    loss: Literal["listwise", "lambda"] = "listwise"


class Quantiles(nn.Module):
    """Each of F numbers as its place among K quantiles of training, -1 … 1; linear in between, so that order stays.

    Numbers come in half precision, which has 65,536 of them: places are looked up, one table row per column (41 MB for 156 columns,
    made from the edges when first used), four times as fast as searching.
    """

    def __init__(self, n: int, k: int = EDGES) -> None:
        super().__init__()
        self.register_buffer("edges", torch.zeros(n, k))
        self.register_buffer("places", torch.zeros(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[…, F] float16 -> […, F] float32."""
        if not len(self.places):
            self.places = self._table().to(self.edges.device)
        columns = torch.arange(len(self.edges), device=x.device, dtype=torch.int32) << 16
        return self.places[(x.view(torch.int16).int() & 0xFFFF) + columns]

    def _table(self) -> Tensor:
        """[F · 65536] places of all halves, by their bits; what is no number stands in the middle."""
        halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
        finite, grid = np.isfinite(halves), np.linspace(-1, 1, self.edges.shape[1])
        out = np.zeros((len(self.edges), 1 << 16), np.float32)
        for column, edges in enumerate(self.edges.cpu().numpy()):
            out[column, finite] = np.interp(halves[finite], edges, grid)
        return torch.from_numpy(out.ravel())


class History(nn.Module):
    """Events and request -> states of both."""

    def __init__(self, n_items: int, n_types: int, length: int, config: TimelineConfig) -> None:
        super().__init__()
        self.config = config
        self.item = nn.Embedding(n_items + 1, config.dim)
        self.kind = nn.Embedding(n_types + 1, config.dim)
        self.dwell = nn.Linear(1, config.dim)
        if config.time:
            self.age, self.clock, self.bias = AgeEncoding(config.dim), ClockEncoding(config.dim), RelativeTimeBias(config.heads)
        else:
            self.position = nn.Embedding(length + 1, config.dim)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads, config.dropout, widen=2) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)
        for module in (self.item, self.kind):
            nn.init.normal_(module.weight, std=0.05)

    def forward(self, batch: dict[str, Tensor], items_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """State [B, D] of the request, states [B, L, D] of the events, and which events are there [B, L]."""
        ts, there = batch["h_ts"], batch["h_there"].bool()
        b, n = ts.shape
        dwell = torch.log1p(batch["h_dwell"].float().clamp(min=0)).nan_to_num().unsqueeze(-1)
        events = self.item(items_BL) + self.kind(batch["h_type"].long()) + self.dwell(dwell / 6)
        request = self.item.weight.new_zeros(b, 1, self.config.dim)
        both_ts = torch.cat([ts, batch["request_us"].unsqueeze(1)], dim=1)
        x = torch.cat([events, request], dim=1)
        if self.config.time:
            x = x + self.age(both_ts[:, -1:] - both_ts) + self.clock(both_ts)
            bias = self.bias(both_ts, both_ts)
        else:
            x = x + self.position(torch.arange(n, -1, -1, device=ts.device))
            bias = x.new_zeros(b, 1, n + 1, n + 1)
        seen = torch.cat([there, there.new_ones(b, 1)], dim=1)
        may = torch.ones(n + 1, n + 1, dtype=torch.bool, device=ts.device).tril() & seen.unsqueeze(1)
        may = may | torch.eye(n + 1, dtype=torch.bool, device=ts.device)    # padding sees itself: a row without a key would be NaN
        bias = bias.masked_fill(~may.unsqueeze(1), -1e9)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x, bias)
        x = self.norm(x)
        return x[:, -1], x[:, :-1], there


class Borrowed(nn.Module):
    """Another network of the zoo reads the history: its states of events and request, and its item vectors."""

    def __init__(self, name: str, n_items: int, length: int, config: TimelineConfig) -> None:
        super().__init__()
        cls = network_class(name)
        if cls.reads_text:
            raise ValueError(f"encoder: {name} reads histories as text, which the examples of timeline do not hold")
        self.length = length
        self.net = cls(n_items, cls.Config(length=length, dim=config.dim, dropout=config.dropout))
        wide = self.net.state_width
        self.narrow = nn.Identity() if wide == config.dim else nn.Linear(wide, config.dim)

    def item(self, numbers: Tensor) -> Tensor:
        """[…] -> […, D]."""
        return self.net.item(numbers)

    def forward(self, batch: dict[str, Tensor], items_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `History`; events whose items have no number join the padding on the left."""
        order = (items_BL > 0).long().argsort(dim=1, stable=True)
        moved = {name: batch[name].gather(1, order) for name in ("h_type", "h_ts", "h_dwell")}
        items = items_BL.gather(1, order)
        there, request_us = items > 0, batch["request_us"]
        events = {
            "h_item": items, "h_type": moved["h_type"] * there, "h_dwell": moved["h_dwell"] * there,
            "h_ts": torch.where(there, moved["h_ts"], request_us.unsqueeze(1)), "request_us": request_us}
        states = self.narrow(self.net.encode(newest(events, self.length)))
        return states[:, -1], states, there


class Timeline(nn.Module):
    """`n_items` numbered items among `n_vocabulary` integers, `n_types` event types, `n_evidence` columns, histories of `length` events."""

    def __init__(self, n_items: int, n_vocabulary: int, n_types: int, n_evidence: int, length: int, config: TimelineConfig) -> None:
        super().__init__()
        self.config = config
        self.quantiles = Quantiles(n_evidence)
        self.register_buffer("number", torch.zeros(n_vocabulary, dtype=torch.int32))     # of each vocabulary integer, 0 = none
        inputs = (n_evidence if config.evidence else 0) + (3 if config.encoder else 0) + 1
        if config.encoder:
            borrowed = isinstance(config.encoder, str)
            self.history = Borrowed(config.encoder, n_items, length, config) if borrowed else History(n_items, n_types, length, config)
            self.new_item = nn.Linear(n_evidence, config.dim)       # what stands for the item of a candidate that has no number
            self.query = nn.Linear(config.dim, config.dim)
        sizes = (inputs, *config.layers)
        hidden = [m for a, b in zip(sizes, sizes[1:], strict=False) for m in (nn.Linear(a, b), nn.GELU(), nn.Dropout(config.dropout))]
        self.layers, self.last = nn.Sequential(*hidden), nn.Linear(sizes[-1], 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.prior_scale = nn.Parameter(torch.ones(()))

    def score(self, batch: dict[str, Tensor]) -> Tensor:
        """[B, C] float32; what is no candidate has a score too."""
        prior = batch["prior"].float()
        x = self.quantiles(batch["evidence"])
        parts = [prior.unsqueeze(-1) / 4]
        if self.config.evidence:
            parts.append(x)
        if self.config.encoder:
            parts.append(self._remembered(batch, x))
        return self.prior_scale * prior + self.last(self.layers(torch.cat(parts, dim=-1))).squeeze(-1).float()

    def _remembered(self, batch: dict[str, Tensor], x_BCF: Tensor) -> Tensor:
        """[B, C, 3]: state · candidate, what the events most like it say, and how like it they are."""
        items, candidates = self._numbers(batch["h_item"]), self._numbers(batch["item"])
        state_BD, events_BLD, there_BL = self.history(batch, items)
        e_BCD = self.history.item(candidates)
        if self.config.evidence:
            e_BCD = e_BCD + self.new_item(x_BCF)
        query_BCD = self.query(e_BCD)
        like_BCL = (query_BCD @ events_BLD.transpose(1, 2) / math.sqrt(self.config.dim)).masked_fill(~there_BL.unsqueeze(1), -1e4)
        share_BCL = like_BCL.softmax(dim=-1)
        said = ((share_BCL @ events_BLD) * e_BCD).sum(-1)
        most = like_BCL.amax(-1).clamp(min=-10)
        return torch.stack([(e_BCD @ state_BD.unsqueeze(-1)).squeeze(-1), said, most], dim=-1)

    def _numbers(self, integers: Tensor) -> Tensor:
        """The model's own numbers of vocabulary integers; 0 for padding and for what it has no number for."""
        known = (integers >= 0) & (integers < len(self.number))
        items = self.number[integers.long() * known].long() * known
        if not self.training or not self.config.item_dropout:
            return items
        return items * (torch.rand(items.shape, device=items.device) >= self.config.item_dropout)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Listwise over the candidates; labels are the weights of the items that came true."""
        rank = lambda_rank if self.config.loss == "lambda" else listwise_softmax
        return rank(self.score(batch), batch["label"].float(), batch["there"].bool())

    def evaluate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums of ranking metrics, over all that came true (also what the candidates missed)."""
        label = batch["label"].float()
        return ranking_sums(self.score(batch), label > 0, batch["there"].bool(), batch["n_truth"])
