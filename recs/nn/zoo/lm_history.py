"""lm_history: the history written out, read by a language model, and crossed with what is known of an item.

    X       "3 hours ago bought Lamp; 2 days ago viewed Red mug"        recs/models/written.py
    F(X)    its vector, of a frozen `transformers` model (or hashed words)         recs/nn/text.py
    H       logistic     σ( F(X)^T W item + b_item )                    logistic regression on all products of F(X) and the item's features
            network      σ( tanh(P F(X)) · item + b_item )              a small network of F(X) first
    item    own vector + W' text(item)

On a plain concatenation [F(X), item] a linear H is a(F(X)) + c(item): it orders the items alike for everybody.  So the two are crossed,
and a list over the whole catalogue stays one product.  Loss: multi-label binary cross-entropy over what came true, or squared error to 1
and 0 (`loss: squares`).  Graded feedback (the parameter `graded`, which makes `loss: ratings`): a score is the rating expected, its loss
(F(X)^T W item + b_item - rating)^2; items begin at the mean rating; MSE, RMSE and MAE are told by quarter of the held-out time.  System C
of the field's texts.

Shape suffixes: B histories, L positions, S numbers of F(X), D dimensions.
"""
from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recs.nn.graded import sums_of_errors
from recs.nn.next_item import Batch, Biased, NextItemConfig


class LMHistoryConfig(NextItemConfig):
    """What H is; `read`: S, which the fit knows."""

    head: Literal["logistic", "network"] = "network"
    read: int = Field(256, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    loss: Literal["softmax", "sampled", "gbce", "bce", "squares", "lift", "ratings"] = "bce"


class LMHistory(Biased):
    """`n_items` items, numbered from 1."""

    Config = LMHistoryConfig
    joined = True
    probabilities = True
    reads_text = True

    def __init__(self, n_items: int, config: LMHistoryConfig) -> None:
        super().__init__(n_items, config)
        self.graded = config.loss == "ratings"
        if self.graded:     # a score is no log-odds, and the best weights are those with the least error
            self.probabilities, self.learning = False, {"metric": "loss"}
        self.of_text = nn.Linear(config.read, config.dim)
        self.bias = nn.Embedding(n_items + 1, 1)
        self.start()
        nn.init.normal_(self.of_text.weight, std=1.0)       # F(X) has unit length
        self.make_bias()

    def encode(self, batch: Batch) -> Tensor:
        """[B, L, D]: the text is of the whole history, so that only the newest position may be asked."""
        said = self.dropped(self.of_text(batch["h_text"].float()))
        state = torch.tanh(said) if self.config.head == "network" else said
        return state.unsqueeze(1).expand(-1, batch["h_item"].shape[1], -1)

    def _pairs(self, part: Batch, width: int) -> tuple[Tensor, Tensor]:
        return super()._pairs({**part, "follow": torch.zeros_like(part["follow"])}, width)

    def prepare(self, batch: Batch) -> None:
        """Ratings are learned from their mean on."""
        super().prepare(batch)
        if self.graded:
            nn.init.constant_(self.bias.weight, float(batch["rating"].mean()))

    def _loss(self, batch: Batch) -> Tensor:
        return self._errors(batch).square().mean() if self.graded else super()._loss(batch)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Errors of ratings; else ranks, as every network."""
        return sums_of_errors(self._errors(batch), batch["slice"]) if self.graded else super().evaluate(batch)

    def _errors(self, batch: Batch) -> Tensor:
        """[B] rating expected of the first target, less the one given."""
        return self.pair_logits(self.state(batch), self.vectors(batch["target"][:, 0])) - batch["rating"].float()
