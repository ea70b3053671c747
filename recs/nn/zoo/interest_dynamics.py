"""interest_dynamics: what somebody likes (u_E), where that has moved by the request (u_D), and what it says of an item (R).

    encoder      u_E = E(events)                  RNN, LSTM, GRU or causal transformer over item + type + gap + clock + dwell (+ region)
    dynamics     u_D = D(u_E, t)                  moves the interest to the instant t it is asked at
        rnn, lstm, gru     m(t) = rest + (now − rest) · exp(−pace · t since),  a cell at every event         recs/nn/recurrent.py
        transformer        the asker (u_E, clock of t) attends to u_E of all events, with a bias by the time from each to t and by how
                           far it was from where he is: autoregressive attention over space and time
    recommender  R(u_E, u_D, item)
        mlp                w · gelu(A [u_E, u_D] + B item) + (C [u_E, u_D]) · item
        attention          the item asks the newest events what they say of it (Zhou et al., DIN, KDD 2018), then the same
    where the log has places: + curve(distance from the newest event's place to the item's)

Presets: `shop` = LSTM + RNN + MLP, `news` = transformer + transformer + attention.  The loss is softmax over drawn negatives (`gbce` with
`calibration: 0` is binary cross-entropy over positives and negatives).  `memory` keeps what a night needs of a history: `moved` brings it
to any later instant, `after` takes in one more event, and neither reads the history again; a test holds that against reading it whole.
System E of the field's texts.

Shape suffixes: B histories, L positions, D dimensions, S of a whole state, M states, W items, K newest events.
"""
from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from recs.nn.attention import Block, attended
from recs.nn.events import EventInput
from recs.nn.next_item import Batch, NextItem, NextItemConfig, causal
from recs.nn.recurrent import RECURRENT, MovingCell, over_history
from recs.nn.space import DistanceCurve, Regions, kilometres
from recs.nn.time import ClockEncoding, RelativeTimeBias

PRESETS = {
    "shop": {"encoder": "lstm", "dynamics": "rnn", "recommender": "mlp"},
    "news": {"encoder": "transformer", "dynamics": "transformer", "recommender": "attention"},
}
ITEMS_AT_ONCE = 2_048       # of the recommender: 16 states x 2,048 items x 64 numbers are 8 MB


class InterestDynamicsConfig(NextItemConfig):
    """The three parts, and what they read."""

    preset: Literal["shop", "news"] | None = "shop"     # sets the three below where they are not given
    encoder: Literal["rnn", "lstm", "gru", "transformer"] = "lstm"
    dynamics: Literal["rnn", "lstm", "gru", "transformer", "none"] = "rnn"     # none: u_D = u_E, for comparison
    recommender: Literal["mlp", "attention"] = "mlp"
    blocks: int = Field(1, ge=1)            # of a transformer
    heads: int = Field(2, ge=1)
    hidden: int = Field(64, ge=1)           # of the MLP
    attended: int = Field(16, ge=1)         # newest events that an item asks
    loss: Literal["sampled", "gbce", "lift"] = "sampled"
    negatives: int = Field(512, ge=1)
    time: bool = True                       # False: no gap, no clock; the interest stays where it is
    places: bool = False                    # read where events were, and how far items are

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: dict[str, Any]) -> dict[str, Any]:
        return PRESETS.get(given.get("preset", "shop") or "", {}) | given


class InterestDynamics(NextItem):
    """`n_items` items, numbered from 1."""

    Config = InterestDynamicsConfig
    joined = True
    dot = False
    reads_places = True

    def __init__(self, n_items: int, config: InterestDynamicsConfig) -> None:
        super().__init__(n_items, config)
        d = config.dim
        self.event = EventInput(d, config.time, config.values)
        if config.encoder == "transformer":
            self.blocks = nn.ModuleList(Block(d, config.heads, config.dropout) for _ in range(config.blocks))
            self.position = nn.Embedding(config.length, d)
        else:
            self.encoder = RECURRENT[config.encoder](d, d, batch_first=True)
        self.norm_interest = nn.LayerNorm(d)
        self.moves = config.dynamics if config.time else "none"
        if self.moves == "transformer":
            self.dynamics: nn.Module = _Asker(config)
        elif self.moves != "none":
            self.dynamics = MovingCell(d, self.moves)
        self.clock = ClockEncoding(d)
        self.norm_moved = nn.LayerNorm(d)
        self.of_user, self.of_item, self.to_item = nn.Linear(2 * d, config.hidden), nn.Linear(d, config.hidden), nn.Linear(2 * d, d)
        self.last = nn.Linear(config.hidden, 1)
        if config.recommender == "attention":
            self.ask, self.of_said = nn.Linear(d, d, bias=False), nn.Linear(d, config.hidden)
        if config.places:
            self.region, self.far = Regions(d), DistanceCurve()
            self.register_buffer("item_place", torch.full((n_items + 1, 2), math.nan))
        self.start()
        if config.places:
            self.far.start()
        if isinstance(getattr(self, "dynamics", None), MovingCell):
            self.dynamics.start()

    # ---- the state of a position: [u_E, u_D], the newest events (attention), where the user is (places) ----------------------------

    def encode(self, batch: Batch) -> Tensor:
        """[B, L, S]."""
        interest = self._interest(batch)
        if self.moves == "none":
            moved = interest
        elif self.moves == "transformer":
            moved = self.dynamics(interest, batch)
        else:
            moved = self.dynamics(interest, batch["h_ts"], batch["h_item"] > 0, batch["ask_us"])
        return self._state(interest, self._arrived(moved, batch["ask_us"]), batch)

    def _interest(self, batch: Batch) -> Tensor:
        """u_E [B, L, D]."""
        h_item = batch["h_item"]
        x = self.event(self.item(h_item), batch)
        if self.config.places:
            x = x + self.region(batch["h_place"])
        x = self.dropped(x)
        if self.config.encoder != "transformer":
            return self.norm_interest(over_history(self.encoder, x * (h_item > 0).unsqueeze(-1), h_item))
        x = x + self.position(self.places(h_item))
        for block in self.blocks:
            x = block(x, causal(h_item))
        return self.norm_interest(x)

    def _arrived(self, moved: Tensor, ask_us: Tensor) -> Tensor:
        return self.norm_moved(moved + self.clock(ask_us) if self.config.time else moved)

    def _state(self, interest: Tensor, moved: Tensor, batch: Batch) -> Tensor:
        parts = [interest, moved]
        if self.config.recommender == "attention":
            n, k = interest.shape[1], self.config.attended
            there = (batch["h_item"] > 0).to(interest.dtype)
            kept = torch.cat([interest * there.unsqueeze(-1), there.unsqueeze(-1)], dim=-1)
            newest = F.pad(kept, (0, 0, k - 1, 0)).unfold(1, k, 1).transpose(2, 3)       # [B, L, K, D + 1]
            parts.append(newest.reshape(len(interest), n, -1))
        if self.config.places:
            parts.append(batch["h_place"].to(interest.dtype))
        return torch.cat(parts, dim=-1)

    # ---- what a state says of items ------------------------------------------------------------------------------------------------

    def vectors(self, numbers: Tensor) -> Tensor:
        """[W, D], with places [W, D + 2]."""
        found = super().vectors(numbers)
        return torch.cat([found, self.item_place[numbers]], dim=-1) if self.config.places else found

    @property
    def state_width(self) -> int:
        """S."""
        newest = self.config.attended * (self.config.dim + 1) if self.config.recommender == "attention" else 0
        return self.user_width + newest + 2 * self.config.places

    @property
    def user_width(self) -> int:
        """u_E and u_D."""
        return 2 * self.config.dim

    def rows_for_new(self, n: int) -> dict[str, Tensor]:
        """Where a new item is is not known here."""
        places = {"item_place": self.item_place.new_full((n, 2), math.nan)} if self.config.places else {}
        return super().rows_for_new(n) | places

    def logits(self, states: Tensor, vectors: Tensor) -> Tensor:
        """[M, S], [W, D] -> [M, W]."""
        return torch.cat([self._said(states.unsqueeze(1), some.unsqueeze(0)) for some in vectors.split(ITEMS_AT_ONCE)], dim=1)

    def own_logits(self, states: Tensor, vectors: Tensor) -> Tensor:
        """[N, S], [N, W, D] -> [N, W]."""
        return self._said(states.unsqueeze(1), vectors)

    def _said(self, states: Tensor, vectors: Tensor) -> Tensor:
        """[M, 1, S] and [1 or M, W, D] -> [M, W]."""
        d = self.config.dim
        user, item = states[..., : 2 * d], vectors[..., :d]
        hidden = self.of_user(user) + self.of_item(item)
        score = (self.to_item(user) @ item.transpose(-1, -2)).squeeze(-2)
        if self.config.recommender == "attention":
            newest = states[:, 0, 2 * d : 2 * d + self.config.attended * (d + 1)].unflatten(-1, (-1, d + 1))       # [M, K, D + 1]
            events, there = newest[..., :d], newest[..., d] > 0
            like = self.ask(item) @ events.transpose(1, 2) / math.sqrt(d)                                           # [M, W, K]
            share = like.masked_fill(~there.unsqueeze(1), -1e4).softmax(dim=-1)
            hidden = hidden + self.of_said(share @ events)
        score = score + self.last(F.gelu(hidden)).squeeze(-1)
        if self.config.places:
            score = score + self.far(kilometres(states[..., -2:].float(), vectors[..., -2:].float())).squeeze(-1)
        return score

    # ---- carried from night to night -----------------------------------------------------------------------------------------------

    def memory(self, batch: Batch) -> dict[str, Tensor]:
        """What has to be kept of histories (recurrent encoder and dynamics), of the events up to the newest."""
        self._must_be_recurrent()
        rows = len(batch["h_item"])
        kept = self._nothing_yet(rows, batch)
        for i in range(batch["h_item"].shape[1]):
            kept = self.after(kept, {name: values[:, i] for name, values in batch.items() if name in EVENT_FIELDS})
        return kept

    def after(self, memory: dict[str, Tensor], event: Batch) -> dict[str, Tensor]:
        """The memory after one more event each: h_item, h_type, h_ts, h_dwell (h_place), [B]; item 0 = none."""
        one = {name: values.unsqueeze(1) for name, values in event.items()}
        had = memory["last_ts"].unsqueeze(1)
        pair = one | {  # the event before, so that the gap is known
            "h_item": torch.cat([(memory["met"] > 0).to(one["h_item"].dtype).unsqueeze(1), one["h_item"]], dim=1),
            "h_ts": torch.cat([had, one["h_ts"]], dim=1),
        }
        for name in ("h_type", "h_dwell", "h_place"):
            if name in one:
                pair[name] = torch.cat([one[name], one[name]], dim=1)
        x = self.event(self.item(pair["h_item"]), pair)[:, 1:]
        if self.config.places:
            x = x + self.region(one["h_place"])
        hidden = memory["hidden"].unsqueeze(0)
        lstm = self.config.encoder == "lstm"
        states, carried = self.encoder(x, (hidden, memory["cell"].unsqueeze(0)) if lstm else hidden)
        interest = self.norm_interest(states[:, 0])
        new = {
            "hidden": (carried[0] if lstm else carried)[0], "cell": carried[1][0] if lstm else memory["cell"], "interest": interest,
            "last_ts": event["h_ts"], "met": memory["met"] + 1,
        }
        cell = {name: memory[name] for name in ("now", "rest", "pace", "open")}
        since = torch.where(memory["met"] > 0, event["h_ts"] - memory["last_ts"], torch.zeros_like(event["h_ts"]))
        new |= self.dynamics.event(self.dynamics.at(cell, since), self.dynamics.of_input(interest))
        here = event["h_item"] > 0
        return {name: torch.where(here.view(-1, *[1] * (values.ndim - 1)), values, memory[name]) for name, values in new.items()}

    def moved(self, memory: dict[str, Tensor], ask_us: Tensor) -> Tensor:
        """The states [B, S] at an instant [B] at or after the newest event: equal to `state` of the whole history."""
        self._must_be_recurrent()
        cell = {name: memory[name] for name in ("now", "rest", "pace", "open")}
        there = self.dynamics.state(self.dynamics.at(cell, ask_us - memory["last_ts"]))
        return torch.cat([memory["interest"], self._arrived(there, ask_us)], dim=-1)

    def _nothing_yet(self, rows: int, batch: Batch) -> dict[str, Tensor]:
        like = self.item.weight
        empty = {name: like.new_zeros(rows, self.config.dim) for name in ("hidden", "cell", "interest")}
        return empty | self.dynamics.empty(rows, like) | {
            "last_ts": torch.zeros_like(batch["h_ts"][:, 0]), "met": torch.zeros_like(batch["h_ts"][:, 0])}

    def _must_be_recurrent(self) -> None:
        if not isinstance(getattr(self, "dynamics", None), MovingCell) or self.config.encoder == "transformer":
            raise ValueError(f"{self.config.encoder} + {self.moves}: only recurrent encoder and recurrent dynamics carry a state forward")
        if self.config.recommender == "attention" or self.config.places:
            raise ValueError("an item that asks the newest events, or how far they were, needs them: say recommender: mlp, places: false")
        if self.config.segments:
            raise ValueError("a memory holds no segment: say segments: 0")


EVENT_FIELDS = ("h_item", "h_type", "h_ts", "h_dwell", "h_place")


class _Asker(nn.Module):
    """Attention of (u_E, clock of the request) over u_E of all events up to it, knowing how long ago and how far each was."""

    def __init__(self, config: InterestDynamicsConfig) -> None:
        super().__init__()
        d = config.dim
        self.config = config
        self.clock, self.since = ClockEncoding(d), RelativeTimeBias(config.heads)
        self.q, self.kv, self.out = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        if config.places:
            self.far = DistanceCurve(config.heads)

    def forward(self, interest_BLD: Tensor, batch: Batch) -> Tensor:
        """[B, L, D]."""
        b, n, d = interest_BLD.shape
        q = self.q(interest_BLD + self.clock(batch["ask_us"]))
        k, v = self.kv(interest_BLD).chunk(2, dim=-1)
        q, k, v = (t.view(b, n, self.config.heads, -1).transpose(1, 2) for t in (q, k, v))
        bias = self.since(batch["ask_us"], batch["h_ts"])
        if self.config.places:
            place = batch["h_place"].float()
            bias = bias + self.far(kilometres(place.unsqueeze(2), place.unsqueeze(1))).permute(0, 3, 1, 2)
        may = causal(batch["h_item"])
        seen = attended(q, k, v, bias.masked_fill(~may, -1e9))
        return interest_BLD + self.out(seen.transpose(1, 2).reshape(b, n, d))
