"""lm_adapter: a language model reads what items say, and a time-aware adapter reads the sequence.

    x_t    = W text(item of event t) + type + gap before it + clock + dwell
             text: a `transformers` model's vector, made once per text by Spark (recs/etl/text_vectors.py) while it is frozen
    s_t    = adapter(x_1 … x_t)                                                 LSTM, GRU or causal transformer
    ŷ_t    = softmax over items of  norm(s_t + age of event t when asked) · v_j
             v_j = own vector of the item + W text(item)

The loss is summed over every step.  An item without a past is scored by its text, and one that says nothing by its own vector; where the
log has no texts the adapter reads the items' own vectors.  The parameter `tuning` trains the language model, too: its top layers, all of
it, LoRA or a prefix (recs/nn/tuning.py).  The parameter `decode` makes a list as a whole: each next item is chosen after the ones before it
have joined the history.  System B of the field's texts; reading items by text alone follows UniSRec (Hou et al., KDD 2022).

Shape suffixes: B histories, L positions, D dimensions.
"""
from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from recs.nn.attention import Block
from recs.nn.events import EventInput
from recs.nn.next_item import Batch, NextItem, NextItemConfig, causal
from recs.nn.recurrent import RECURRENT, over_history
from recs.nn.time import AgeEncoding


class LMAdapterConfig(NextItemConfig):
    """What the adapter is."""

    adapter: Literal["lstm", "gru", "transformer"] = "gru"
    blocks: int = Field(2, ge=1)        # of a transformer
    heads: int = Field(2, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    time: bool = True                   # False: no gap, no clock


class LMAdapter(NextItem):
    """`n_items` items, numbered from 1."""

    Config = LMAdapterConfig
    joined = True
    tunes_reader = decodes = True

    def __init__(self, n_items: int, config: LMAdapterConfig) -> None:
        super().__init__(n_items, config)
        d = config.dim
        self.event = EventInput(d, config.time, config.values)
        self.norm_event = nn.LayerNorm(d)
        if config.adapter == "transformer":
            self.position = nn.Embedding(config.length, d)
            self.blocks = nn.ModuleList(Block(d, config.heads, config.dropout) for _ in range(config.blocks))
        else:
            self.adapter = RECURRENT[config.adapter](d, d, batch_first=True)
        if config.time:
            self.age = AgeEncoding(d)
        self.norm = nn.LayerNorm(d)
        self.start()

    def encode(self, batch: Batch) -> Tensor:
        """[B, L, D]."""
        h_item = batch["h_item"]
        x = self.dropped(self.norm_event(self.event(self.item.spoken(h_item), batch)))
        if self.config.adapter == "transformer":
            x = x + self.position(self.places(h_item))
            for block in self.blocks:
                x = block(x, causal(h_item))
        else:
            x = over_history(self.adapter, x * (h_item > 0).unsqueeze(-1), h_item)
        if self.config.time:
            x = x + self.age(batch["ask_us"] - batch["h_ts"])
        return self.dropped(self.norm(x))
