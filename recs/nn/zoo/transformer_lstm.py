"""transformer_lstm: a transformer reads the history with what kind of history it is, a recurrent decoder keeps its memories.

    u_t    = (L, D, P) of the history up to t, standardised by its mean and spread in training
             L length: events and seconds spent; D gaps: last, mean, spread, age when asked; P periodicity: strength and phase of
             day and week, and the clock of the request                              recs/nn/events.py
    e_1…t  = causal transformer over  item + type + gap + clock + dwell + W u_t
    d_t    = LSTM or GRU over e                                                      the fast memory: what this visit is about
    m_t^s  = Σ_{i ≤ t} w e_i / Σ w,  w = 2^(−(asked at t − t_i) / half-life s)       slow memories: learned half-lives from a day to months
    q_t    = Σ share v_i, what is due by each item's own curve over its age: the periods of items (where lists repeat)      recs/nn/due.py
    s_t    = norm(W [d_t, m_t^1 … m_t^S] + q_t + W u_t)
    ŷ_tj   = sigmoid(s_t · v_j + b_j)                                                interest probability of every item

Loss: multi-label binary cross-entropy over the items of the coming window (−Σ_j y_j log ŷ_j + (1 − y_j) log(1 − ŷ_j): with the first
term alone the optimum is all ones); softmax as the alternative.  The window of a position is the `ahead` events that follow, of the
newest one all that came true.  A threshold on ŷ is fitted on validation, and precision, recall and F1 there are reported.  System A of
the field's texts.

Shape suffixes: B histories, L positions, D dimensions, S half-lives.
"""
from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recs.nn.attention import Block
from recs.nn.due import Due
from recs.nn.events import NUMBERS, EventInput, Scaled, user_numbers
from recs.nn.next_item import Batch, Biased, NextItemConfig, causal, newest
from recs.nn.recurrent import RECURRENT, over_history
from recs.nn.time import DAY

HALF_LIVES_D = (1.0, 7.0, 60.0)     # at the start


class TransformerLSTMConfig(NextItemConfig):
    """Encoder, decoder, and what is read."""

    blocks: int = Field(1, ge=1)
    heads: int = Field(2, ge=1)
    decoder: Literal["lstm", "gru"] = "lstm"
    loss: Literal["softmax", "sampled", "gbce", "bce", "squares", "lift"] = "bce"
    ahead: int = Field(3, ge=1)
    numbers: bool = True            # False: without (L, D, P)
    time: bool = True               # False: no gap, no clock, no (L, D, P), nothing due, slow memories by place


class TransformerLSTM(Biased):
    """`n_items` items, numbered from 1."""

    Config = TransformerLSTMConfig
    version = 2         # with what is due
    joined = True
    probabilities = True

    def __init__(self, n_items: int, config: TransformerLSTMConfig) -> None:
        super().__init__(n_items, config)
        d = config.dim
        self.event = EventInput(d, config.time, config.values)
        self.reads_numbers = config.numbers and config.time
        if self.reads_numbers:
            self.scaled, self.of_numbers = Scaled(len(NUMBERS)), nn.Linear(len(NUMBERS), d)
        self.blocks = nn.ModuleList(Block(d, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm_encoded = nn.LayerNorm(d)
        self.decoder = RECURRENT[config.decoder](d, d, batch_first=True)
        self.half_life = nn.Parameter(torch.tensor(HALF_LIVES_D).log())
        self.out = nn.Linear((1 + len(HALF_LIVES_D)) * d, d)
        self.norm = nn.LayerNorm(d)
        self.bias = nn.Embedding(n_items + 1, 1)
        self.reads_due = config.time and config.repeats
        if self.reads_due:
            self.due = Due(d)
        self.start()
        if self.reads_due:
            self.due.start()
        self.make_bias()

    def prepare(self, batch: Batch) -> None:
        """The numbers' mean and spread over the real positions."""
        super().prepare(batch)
        if self.reads_numbers:
            events = newest(batch, self.config.length)
            self.scaled.fit(user_numbers(events)[events["h_item"] > 0])

    def encode(self, batch: Batch) -> Tensor:
        """[B, L, D]."""
        h_item = batch["h_item"]
        item = self.item(h_item)
        x = self.event(item, batch)
        numbers = self.of_numbers(self.scaled(user_numbers(batch))) if self.reads_numbers else 0.0
        x, may_see = self.dropped(x + numbers), causal(h_item)
        for block in self.blocks:
            x = block(x, may_see)
        encoded = self.norm_encoded(x) * (h_item > 0).unsqueeze(-1)
        fast = over_history(self.decoder, encoded, h_item)
        state = self.out(self.dropped(torch.cat([fast, *self._slow(encoded, batch)], dim=-1)))
        if self.reads_due:
            state = state + self.due(item * math.sqrt(self.config.dim), h_item, batch["h_ts"], batch["ask_us"])
        return self.norm(state + numbers)

    def _slow(self, encoded_BLD: Tensor, batch: Batch) -> list[Tensor]:
        """S means [B, L, D] of what was read, newer events weighing more."""
        may = causal(batch["h_item"]).squeeze(1)
        if self.config.time:
            days = (batch["ask_us"].unsqueeze(2) - batch["h_ts"].unsqueeze(1)).clamp(min=0).float() / DAY
        else:
            place = torch.arange(may.shape[1], device=may.device, dtype=torch.float32)
            days = (place.unsqueeze(1) - place).clamp(min=0).expand(may.shape)
        return [
            (-math.log(2) * days / half_life).masked_fill(~may, -math.inf).softmax(dim=-1) @ encoded_BLD
            for half_life in self.half_life.exp()
        ]
