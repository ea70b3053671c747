"""What the sequence models of `zoo/` share: an encoder of histories, item vectors, losses over the catalogue, ranks.

    h_item      [B, L] int32    the newest L items of a history, oldest first, 0 = padding on the left     0 0 0 7 2 9
    h_type      [B, L] uint8    event types, 0 = padding
    h_ts        [B, L] int64    instants, microseconds; padding has the request's
    h_dwell     [B, L] float16  seconds spent, 0 = unknown
    h_text      [B, S] float16  the history written out, as a language model reads it (only where a model asks for it)
    h_place     [B, L, 2] float32   latitude and longitude, NaN = none (only where the log has places)
    h_value     [B, L] float32  value of the events (a price, a rating), NaN = none (only where a model asks for it)
    h_segment   [B, L] int32    the user's segment at the events, 1 … S, 0 = none is known (only where a model asks for it)
    h_len       [B] int32       how many of the L are no padding
    request_us  [B] int64       the instant the list is used
    follow      [B, L] uint8    1: this position is trained on the item of the next one
    target      [B, T] int32    items that came true after the history, 0 = nothing
    n_truth     [B] int32       how many came true, also those without a number

Item numbers are the model's own, 1 … I.  An encoder is a subclass with `Config` and `encode`; it finds in its batch `ask_us` [B, L] too:
the instant at which the answer of each position is used (the next event's, and the request's for the newest), so that a position is
trained on what it will be asked.

Shape suffixes: B histories, L positions, T targets, M trained positions, N trained (position, item) pairs, W items, I all items,
D dimensions.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from recs.clock import DAY
from recs.nn.items import ItemVectors
from recs.nn.losses import catalogue_bce, catalogue_softmax, catalogue_squares, gbce, lift, sampled_softmax
from recs.nn.metrics import sums_of_ranks
from recs.nn.side import DROP, SideInfo

EVENTS = ("h_item", "h_type", "h_ts", "h_dwell", "h_place", "h_value", "h_segment")
OF_HISTORY = ("h_text",)    # of a history as a whole
ROWS = 64               # histories encoded together in training on a CPU: of like length, so that little padding is computed
SOFTMAX_ITEMS = 50_000  # above, `auto` draws negatives
AROUND = 256            # meetings before an instant, and as many after it, that lift draws from
K = 10                  # of the metrics

Batch = Mapping[str, Tensor]


class NextItemConfig(BaseModel):
    """Sizes and loss; encoders add their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(50, ge=1)                   # positions; older events are not seen
    dim: int = Field(128, ge=1)
    dropout: float = Field(0.4, ge=0, lt=1)         # .2 on logs with hundreds of events per item
    # auto: softmax, on large catalogues sampled; lift: against what others met at that time
    loss: Literal["auto", "softmax", "sampled", "gbce", "bce", "squares", "lift"] = "auto"
    negatives: int = Field(256, ge=1)               # of sampled and gbce, shared by the batch
    contemporaries: int = Field(32, ge=1)           # negatives of lift, per pair
    calibration: float = Field(0.75, ge=0, le=1)    # t of gbce; 0: plain binary cross-entropy with negatives
    unobserved: float = Field(0.02, gt=0, le=1)     # weight of what did not come true in squares
    half_life: float | None = Field(None, gt=0)     # days: of what came true so long before the newest, a step learns half; None: all
    ahead: int = Field(1, ge=1)                     # a position is trained on so many of the events that follow
    temperature: float | None = Field(None, gt=0)   # None: dot products; else cosines, divided by it
    said: int = Field(0, ge=0)                      # width of the texts' vectors, 0 = none; the fit knows it, as the next three
    facts: tuple[int, ...] = ()                     # codes of each field known of items
    vectors: dict[str, int] = {}                    # widths of the vectors of other modalities
    near: int = Field(0, ge=0)                      # neighbours of an item in a graph
    values: bool = False                            # read `h_value`
    segments: int = Field(0, ge=0)                  # S of `h_segment`, 0: it is not read
    repeats: bool = True                            # False: what the history holds is ranked nowhere


class NextItem(nn.Module):
    """`n_items` items, numbered from 1.  Subclasses set `Config` and implement `encode`."""

    Config: ClassVar[type[NextItemConfig]]
    reads_text: ClassVar[bool] = False          # reads `h_text`, the history written out, and nothing of the events
    reads_places: ClassVar[bool] = False        # may read `h_place` (`places` of its Config), and `item_place` [I + 1, 2]
    probabilities: ClassVar[bool] = False       # the sigmoid of a score is how probable it is that the item comes
    dot: ClassVar[bool] = True                  # a score is state · vector; else `logits` and `own_logits` say what it is
    tunes_reader: ClassVar[bool] = False        # the language model that reads items may be tuned with it (recs/nn/tuning.py)
    decodes: ClassVar[bool] = False             # lists may be made one item after another, each as if met at the request
    joined: ClassVar[bool] = False              # unless told otherwise, what is popular and what is the user's own may join its scores
    version: ClassVar[int] = 1                  # to be raised when weights of before do not fit or mean something else
    learning: ClassVar[dict[str, Any]] = {}     # keys of TrainConfig in which this encoder differs from the family

    def __init__(self, n_items: int, config: NextItemConfig) -> None:
        super().__init__()
        self.n_items, self.config = n_items, config
        self.met: tuple[Tensor, Tensor] | None = None
        sizes = config.facts, config.vectors, config.near
        side = SideInfo(n_items, config.dim, *sizes) if any(sizes) else None
        self.item = ItemVectors(n_items, config.dim, config.said, side)
        if config.segments:
            self.segment = nn.Embedding(config.segments + 1, self.user_width, padding_idx=0)

    def start(self) -> None:
        """First weights: small normal ones, as in the transformers this descends from; to be called when all layers are there."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        self.item.start()
        if self.config.segments:
            nn.init.normal_(self.segment.weight)    # as loud as the states they join, so that items learn along them from the first step
            nn.init.zeros_(self.segment.weight[0])

    def encode(self, batch: Batch) -> Tensor:
        """States [B, L, D] of all positions, each of the events up to it; L may be less than `length` (positions count from the newest)."""
        raise NotImplementedError

    def states(self, batch: Batch) -> Tensor:
        """`encode`, and on top what the user's segment says at each position; in training it is left out of some histories, so that one
        without a segment is not out of the ordinary."""
        found = self.encode(batch)
        if not self.config.segments:
            return found
        said = self.segment(batch["h_segment"].long())
        if self.training:
            said = said * (torch.rand(len(said), 1, 1, device=said.device) >= DROP)
        return found + F.pad(said, (0, found.shape[-1] - said.shape[-1]))

    @property
    def state_width(self) -> int:
        """Numbers of a state that `encode` gives."""
        return self.config.dim

    @property
    def user_width(self) -> int:
        """How many of them, the first ones, are about the user's taste."""
        return self.state_width

    def vectors(self, numbers: Tensor) -> Tensor:
        """[W] item numbers -> [W, D]: what a state is held against."""
        found = self.item(numbers)
        return found if self.config.temperature is None else F.normalize(found, dim=-1)

    def logits(self, states: Tensor, vectors: Tensor) -> Tensor:
        """[M, S], [W, D] -> [M, W]."""
        return states @ vectors.T

    def own_logits(self, states: Tensor, vectors: Tensor) -> Tensor:
        """[N, S], [N, W, D] -> [N, W]: the same where each state has items of its own."""
        return (vectors @ states.unsqueeze(2)).squeeze(2)

    def pair_logits(self, states: Tensor, vectors: Tensor) -> Tensor:
        """[N, S], [N, D] -> [N]: one item each."""
        return self.own_logits(states, vectors.unsqueeze(1)).squeeze(1)

    def places(self, h_item: Tensor) -> Tensor:
        """[L] place of each position in a history of `length`: they count from the newest, so that padding moves none."""
        return torch.arange(self.config.length - h_item.shape[1], self.config.length, device=h_item.device)

    def dropped(self, x: Tensor) -> Tensor:
        """`x` with the configured dropout, in training."""
        return F.dropout(x, self.config.dropout, self.training)

    def rows_for_new(self, n: int) -> dict[str, Tensor]:
        """What stands in tensors with a row per item (item.weight, …) for n items that came after training."""
        return {"item.weight": self.item.weight.new_zeros(n, self.config.dim)}

    def prepare(self, batch: Batch) -> None:
        """Before training, with some of its examples, the newest among them: scalers and the like are fitted here."""
        self.newest_us = int(batch["request_us"].max())
        if self.config.values and hasattr(self, "event"):
            self.event.prepare(batch)

    def meet(self, item: Tensor, ts: Tensor) -> None:
        """For `lift`: what anybody met, numbers [M] int64 and instants [M], in the order of time."""
        self.met = item, ts

    def state(self, batch: Batch) -> Tensor:
        """[B, D] after the newest event.  Widths are the caller's: a user's numbers must not depend on who else is in the batch."""
        return self._scaled(self.states(newest(batch, min(batch["h_item"].shape[1], self.config.length)))[:, -1].float())

    def score(self, batch: Batch) -> Tensor:
        """[B, I] float32: column c is item c + 1."""
        with torch.autocast(batch["h_item"].device.type, enabled=False):    # bf16 logits tie two thirds of neighbouring ranks
            return self.logits(self.state(batch), self._every_vector())

    def rates(self) -> dict[str, float]:
        """Parameters that learn at another rate than the rest: by name, their share of it."""
        reader = self.item.reader
        return {} if reader is None else {f"item.reader.{name}": share for name, share in reader.rates().items()}

    def loss(self, batch: Batch) -> Tensor:
        """Mean over all pairs of the batch: positions with `follow` and what follows, newest positions and their targets."""
        with self.item.reading(batch["h_item"], batch["target"]):
            return self._loss(batch)

    def _loss(self, batch: Batch) -> Tensor:
        states, rows_of, wanted, owner, asked, met = [], [], [], [], [], 0
        together = len(batch["h_len"]) if batch["h_len"].is_cuda else ROWS
        batch = self._learned(batch)
        says = torch.nonzero(batch["follow"].any(1) | batch["target"].any(1)).squeeze(1)
        if not len(says):
            return torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum() * 0.0
        for rows in says[batch["h_len"][says].argsort()].split(together):
            part = {name: values[rows] for name, values in batch.items()}
            width = self._width(part)
            events = newest(part, width)
            states_BLD = self.states(events)
            cell, item = self._pairs(part, width)
            used, row = cell.unique(return_inverse=True)
            states.append(states_BLD.flatten(0, 1)[used])
            rows_of.append(row + met)
            wanted.append(item)
            if self.config.loss == "lift":
                owner.append(rows[cell // width])
                asked.append(events["ask_us"].flatten()[cell])
            met += len(used)
        found, row, item = self._scaled(torch.cat(states)), torch.cat(rows_of), torch.cat(wanted).long()
        if self.config.loss == "lift":
            return self._lift_of(found[row], item, torch.cat(asked), batch["h_item"][torch.cat(owner)])
        return self._loss_of(found, row, item)

    def _learned(self, batch: Batch) -> Batch:
        """The batch with what this step learns of it: old positions are drawn by their half-life (Petrov and Macdonald, RecSys 2022,
        draw the targets of a sequence by their recency)."""
        if self.config.half_life is None:
            return batch
        days = (self.newest_us - asked_at(batch["h_ts"], batch["request_us"])).clamp(min=0).float() / DAY
        drawn = torch.rand(days.shape, device=days.device) < torch.exp2(-days / self.config.half_life)
        return {**batch, "follow": batch["follow"] * drawn, "target": batch["target"] * drawn[:, -1:]}

    def _pairs(self, part: Batch, width: int) -> tuple[Tensor, Tensor]:
        """[N] cells (history · width + position) and the items they are trained on."""
        item, follow, target = part["h_item"][:, -width:], part["follow"][:, -width:].bool(), part["target"]
        cells = torch.arange(item.numel(), device=item.device).view(item.shape)
        found = [(cells[:, -1:].expand(target.shape)[target > 0], target[target > 0])]
        for n in range(1, min(self.config.ahead, width - 1) + 1):       # `follow` says of a position that the next one is asked
            asked = follow[:, :-n] & follow[:, n - 1 : -1] if n > 1 else follow[:, :-1]
            found.append((cells[:, :-n][asked], item[:, n:][asked]))
        return torch.cat([c for c, _ in found]), torch.cat([i for _, i in found])

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Ranks of `target` in the whole catalogue, as sums of metrics."""
        target, h_item = batch["target"].long(), batch["h_item"].long()
        events = newest(batch, self._width(batch)) | {"request_us": batch["request_us"]}
        scores = self.score(events)
        if not self.config.repeats:
            known = torch.zeros(len(scores), self.n_items + 1, dtype=torch.bool, device=scores.device).scatter_(1, h_item, True)
            scores = scores.masked_fill(known[:, 1:], -math.inf)
        columns = torch.arange(self.n_items, device=scores.device)

        def rank(column: Tensor) -> Tensor:         # [B, 1] -> [B] items ahead: better ones, and equal ones with a lower number
            own = scores.gather(1, column)
            return ((scores > own) | ((scores == own) & (columns < column))).sum(1)

        ranks = torch.stack([rank(column) for column in (target - 1).clamp(min=0).T.unsqueeze(2)], dim=1)    # [B, T]
        return sums_of_ranks(ranks, (target > 0) & (ranks < K), batch["n_truth"], k=K)

    def _loss_of(self, states_MS: Tensor, row_N: Tensor, wanted_N: Tensor) -> Tensor:
        """Of pairs (position, item); `row_N` says which state is the position's."""
        config, loss = self.config, self.config.loss
        if loss == "auto":
            loss = "softmax" if self.n_items <= SOFTMAX_ITEMS and self.dot else "sampled"
        if loss in ("softmax", "bce", "squares") and not self.dot:
            raise ValueError(f"loss: {loss} goes over the whole catalogue, which takes scores that are state · vector; say sampled or gbce")
        if loss == "softmax":
            return catalogue_softmax(states_MS, self._every_vector(), row_N, wanted_N - 1)
        if loss == "bce":
            return catalogue_bce(states_MS, self._every_vector(), row_N, wanted_N - 1)
        if loss == "squares":
            return catalogue_squares(states_MS, self._every_vector(), row_N, wanted_N - 1, config.unobserved)
        drawn = torch.randint(1, self.n_items + 1, (config.negatives,), device=wanted_N.device)
        positive = self.pair_logits(states_MS[row_N], self.vectors(wanted_N))
        negatives = self.logits(states_MS, self.vectors(drawn))[row_N]
        if loss == "gbce":
            return gbce(positive, negatives, self.n_items, config.calibration)
        log_q = torch.full_like(drawn, -math.log(self.n_items), dtype=torch.float32)
        return sampled_softmax(positive, negatives, log_q, drawn == wanted_N.unsqueeze(1), log_q[:1].expand(len(wanted_N)))

    def _lift_of(self, states_NS: Tensor, wanted_N: Tensor, asked_N: Tensor, known_NL: Tensor) -> Tensor:
        """Of pairs, asked at an instant of a history: against what anybody met about then, so that a score is what makes an item likelier
        for this user than for others at that time, and what is popular then may be added to it."""
        if self.met is None:
            raise ValueError("loss: lift needs to know what was met when; call `meet` before training")
        self.met = item, ts = self.met[0].to(states_NS.device), self.met[1].to(states_NS.device)
        first = (torch.searchsorted(ts, asked_N) - AROUND).clamp(0, max(len(ts) - 2 * AROUND, 0))
        shape = len(first), self.config.contemporaries
        drawn = item[first.unsqueeze(1) + torch.randint(min(2 * AROUND, len(ts)), shape, device=first.device)]
        never = torch.zeros_like(drawn, dtype=torch.bool)
        if not self.config.repeats:     # what else the user meets is neither asked of him again nor listed
            never = (drawn.unsqueeze(2) == known_NL.unsqueeze(1)).any(2) & (drawn != wanted_N.unsqueeze(1))
        every, place = drawn.unique(return_inverse=True)        # an item is drawn many times, and its vector may be made of a text
        negatives = self.own_logits(states_NS, F.embedding(place, self.vectors(every)))
        return lift(self.pair_logits(states_NS, self.vectors(wanted_N)), negatives, never)

    def _every_vector(self) -> Tensor:
        return self.vectors(torch.arange(1, self.n_items + 1, device=self.item.weight.device))

    def _scaled(self, states: Tensor) -> Tensor:
        return states if self.config.temperature is None else F.normalize(states, dim=-1) / self.config.temperature

    def _width(self, batch: Batch) -> int:
        """Columns that are not padding in every row, at most `length`."""
        return max(1, min(int(batch["h_len"].max()), self.config.length))


class Biased(NextItem):
    """A score is state · vector + the item's bias; `make_bias` is to be called once the other first weights are there."""

    bias: nn.Embedding

    def make_bias(self) -> None:
        """Under `bce` every item starts as probable as one of all."""
        nn.init.constant_(self.bias.weight, -math.log(max(self.n_items, 2)) if self.config.loss == "bce" else 0.0)

    def rows_for_new(self, n: int) -> dict[str, Tensor]:
        """An item that is new tonight is as probable as the typical one."""
        return super().rows_for_new(n) | {"bias.weight": self.bias.weight[1:].median().expand(n, 1)}

    def vectors(self, numbers: Tensor) -> Tensor:
        """[W, D + 1]: the item's vector and its bias."""
        return torch.cat([super().vectors(numbers), self.bias(numbers)], dim=-1)

    def _scaled(self, states: Tensor) -> Tensor:
        states = super()._scaled(states)
        return torch.cat([states, torch.ones_like(states[:, :1])], dim=-1)


def newest(batch: Batch, width: int) -> dict[str, Tensor]:
    """The last `width` events of what there is of EVENTS, and `ask_us`."""
    found = {name: batch[name][:, -width:] for name in EVENTS if name in batch}
    found |= {name: batch[name] for name in OF_HISTORY if name in batch}
    if "h_ts" in found and "request_us" in batch:
        found["ask_us"] = asked_at(found["h_ts"], batch["request_us"])
    return found


def asked_at(h_ts: Tensor, request_us: Tensor) -> Tensor:
    """[B, L] when the answer of each position is used: at the next event, of the newest at the request."""
    return torch.cat([h_ts[:, 1:], request_us.unsqueeze(1)], dim=1)


def causal(h_item: Tensor) -> Tensor:
    """[B, L] item numbers -> [B, 1, L, L] bool: a position sees the real events up to itself (padding sees itself, or it would be NaN)."""
    n = h_item.shape[1]
    past = torch.ones(n, n, dtype=torch.bool, device=h_item.device).tril()
    itself = torch.eye(n, dtype=torch.bool, device=h_item.device)
    return ((past & (h_item > 0).unsqueeze(1)) | itself).unsqueeze(1)
