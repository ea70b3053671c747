"""lstm_attention: a recurrent network reads the history, and its latest state asks all earlier ones what they have to say.

    x_t    event: item, type, gap before it, clock, dwell (each with a vector for "missing")
    h_t    = LSTM(x_t, h_{t-1})                                 or RNN, GRU, causal convolution
    α_ti   = softmax over i ≤ t of  e(h_t, h_i)
    a_t    = Σ_i α_ti h_i
             dot        e = h_t · W h_i / √D                            (Luong, Pham, Manning, EMNLP 2015)
             additive   e = v · tanh(W_1 h_t + W_2 h_i)                 (Bahdanau, Cho, Bengio, ICLR 2015)
             heads      the same as dot, in several subspaces           (Vaswani et al., NeurIPS 2017)
    y_t    = M(a_t, h_t, age of the newest event when asked)            state; score of an item = state · its vector

What follows is predicted at every t.  Head `classification`: softmax or sigmoids over the items; `regression`: squared error to 1 and 0
over the whole catalogue.  System D of the field's texts (NARM, Li et al., CIKM 2017, is its best known relative).  Long histories: the
recurrent state is carried from chunk to chunk, and a state asks the `window` states before it at most, so that memory grows linearly.

Shape suffixes: B histories, L positions, D dimensions, H heads, C positions of a chunk.
"""
from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from recs.nn.attention import tell
from recs.nn.events import EventInput
from recs.nn.next_item import Batch, NextItem, NextItemConfig
from recs.nn.recurrent import RECURRENT, over_history
from recs.nn.time import AgeEncoding


class LSTMAttentionConfig(NextItemConfig):
    """What reads, how it is asked, what is learned."""

    reader: Literal["rnn", "lstm", "gru", "convolution"] = "lstm"
    attention: Literal["dot", "additive", "heads"] = "dot"
    heads: int = Field(4, ge=1)
    head: Literal["classification", "regression"] = "classification"
    kernel: int = Field(5, ge=2)            # events that a convolution sees
    window: int = Field(128, ge=1)          # states that a state may ask
    chunk: int = Field(256, ge=1)           # events of a recurrent pass whose gradients are kept
    time: bool = True                       # False: items and types only

    @model_validator(mode="before")
    @classmethod
    def _loss_of_head(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"loss": "squares", **given} if given.get("head") == "regression" else given


class LSTMAttention(NextItem):
    """`n_items` items, numbered from 1."""

    Config = LSTMAttentionConfig
    joined = True

    def __init__(self, n_items: int, config: LSTMAttentionConfig) -> None:
        super().__init__(n_items, config)
        d = config.dim
        self.event = EventInput(d, config.time, config.values)
        if config.reader == "convolution":
            self.reader: nn.Module = nn.Conv1d(d, d, config.kernel)
        else:
            self.reader = RECURRENT[config.reader](d, d, batch_first=True)
        self.norm_read = nn.LayerNorm(d)
        self.ask, self.key = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.worth = nn.Linear(d, 1, bias=False)        # v of additive attention
        self.age = AgeEncoding(d)
        self.out, self.norm = nn.Linear(2 * d, d), nn.LayerNorm(d)
        self.start()

    def encode(self, batch: Batch) -> Tensor:
        """[B, L, D]."""
        return self._answered(batch)[0]

    def attention(self, batch: Batch) -> Tensor:
        """[B, L] what share of the newest state's answer each event has."""
        return self._answered(batch)[1]

    def _answered(self, batch: Batch) -> tuple[Tensor, Tensor]:
        h_item = batch["h_item"]
        x = self.dropped(self.event(self.item(h_item), batch)) * (h_item > 0).unsqueeze(-1)
        h = self.norm_read(self._read(x, h_item))
        asked, keys = self.ask(h), self.key(h)
        said, share, step = [], h.new_zeros(h.shape[:2]), self.config.window
        for lo in range(0, h.shape[1], step):       # a chunk of askers sees itself and the window before it
            hi, first = min(lo + step, h.shape[1]), max(0, lo - step + 1)
            share_BHCK = self._share(asked[:, lo:hi], keys[:, first:hi], self._may_ask(h_item, lo, hi, first))
            said.append(self._said(share_BHCK, h[:, first:hi]))
            if hi == h.shape[1]:
                tell(share_BHCK)
                share[:, first:hi] = share_BHCK[:, :, -1].mean(1)
        both = torch.cat([torch.cat(said, dim=1), h], dim=-1)
        state = self.out(self.dropped(both))
        if self.config.time:
            state = state + self.age(batch["ask_us"] - batch["h_ts"])
        return self.norm(state), share

    def _read(self, x_BLD: Tensor, h_item: Tensor) -> Tensor:
        if self.config.reader == "convolution":
            return F.gelu(self.reader(F.pad(x_BLD.transpose(1, 2), (self.config.kernel - 1, 0))).transpose(1, 2)) + x_BLD
        return over_history(self.reader, x_BLD, h_item, self.config.chunk)

    def _may_ask(self, h_item: Tensor, lo: int, hi: int, first: int) -> Tensor:
        """[B, 1, C, K]: events up to the asker, at most `window` of them; padding asks itself."""
        back = torch.arange(lo, hi, device=h_item.device).unsqueeze(1) - torch.arange(first, hi, device=h_item.device)
        near = (back >= 0) & (back < self.config.window)
        return ((near & (h_item[:, first:hi] > 0).unsqueeze(1)) | (back == 0)).unsqueeze(1)

    def _share(self, ask_BCD: Tensor, key_BKD: Tensor, may: Tensor) -> Tensor:
        """[B, H, C, K]."""
        if self.config.attention == "additive":
            logits = self.worth(torch.tanh(ask_BCD.unsqueeze(2) + key_BKD.unsqueeze(1))).squeeze(-1).unsqueeze(1)
        else:
            heads = self.config.heads if self.config.attention == "heads" else 1
            q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (ask_BCD, key_BKD))
            logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        return logits.masked_fill(~may, -math.inf).softmax(dim=-1)

    def _said(self, share_BHCK: Tensor, h_BKD: Tensor) -> Tensor:
        values = h_BKD.unflatten(-1, (share_BHCK.shape[1], -1)).transpose(1, 2)
        return (share_BHCK @ values).transpose(1, 2).flatten(2)
