"""Vectors of items: what was learned of the item itself, and what is said of it (a text's vector), through a linear map.

    number      0 padding   1 … I items of training   I + 1 … items that came later and of which something is said
    own         0           learned                   0: nothing is known yet
    said        0           of_said · text            of_said · text
    side        0           facts, images, neighbours as far as they are known (recs/nn/side.py)

In training the item's own vector is left out now and then, so that what is said must carry, too: an item that first appears tonight has
nothing else.  While a language model is tuned with the network (recs/nn/tuning.py) it is the `reader` here: a step reads some of the
batch's items anew, with gradients; the others have the vector of when they were last read, and before an evaluation all are read.

Shapes: I items, D dimensions, S of what is said.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recs.nn.side import SideInfo

FORGET = 0.25       # share of items whose own vector a training step does without, where something is said of them


class ItemVectors(nn.Module):
    """Numbers […] -> vectors […, D]; `said`: S, 0 = nothing is said of any item."""

    watched: list[Tensor] | None = None     # while somebody explains: the vectors given out, whose gradients are asked for
    read: tuple[Tensor, Tensor] | None = None       # while a step runs: place [I + 1] among the items read anew (-1: none), their vectors
    stale = False                           # has the reader changed since all were read?

    def __init__(self, n_items: int, dim: int, said: int = 0, side: SideInfo | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_items + 1, dim))
        self.register_module("reader", None)        # while a language model is tuned: numbers [N] -> vectors [N, S]
        if said:
            self.register_buffer("said", torch.zeros(n_items + 1, said, dtype=torch.float16))
            self.of_said = nn.Linear(said, dim)
        if side is not None:
            self.side = side

    @property
    def is_said(self) -> bool:
        """Is something said of items?"""
        return hasattr(self, "of_said")

    def start(self) -> None:
        """First weights; what is said has unit length, and speaks as loudly as an item's own vector."""
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.weight[0])
        if self.is_said:
            nn.init.normal_(self.of_said.weight, std=0.02)
            nn.init.zeros_(self.of_said.bias)
        if hasattr(self, "side"):
            self.side.start()

    def forward(self, numbers: Tensor) -> Tensor:
        """[…] -> […, D]."""
        numbers = numbers.long()
        own = F.embedding(numbers, self.weight, padding_idx=0)
        other, there = self._other(numbers)
        if other is None:
            return self._seen(own)
        if self.training:
            own = own * ((torch.rand(numbers.shape, device=own.device) >= FORGET).unsqueeze(-1) | ~there)
        return self._seen(own + other)

    def spoken(self, numbers: Tensor) -> Tensor:
        """[…] -> […, D]: what is said of items and nothing else; their own vectors where nothing is said of any."""
        return self._seen(self._other(numbers.long())[0]) if self.is_said else self.forward(numbers)

    def _other(self, numbers: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """[…, D] of all that is known beside the items themselves, and whether there is anything […, 1] bool."""
        other, there = None, None
        if self.is_said:
            said = self.says(numbers)
            there = said.any(-1, keepdim=True)
            other = self.of_said(said) * there
        if hasattr(self, "side"):
            known, more = self.side.known(numbers).unsqueeze(-1), self.side(numbers, self.weight)
            other, there = (more, known) if other is None else (other + more, there | known)
        return other, there

    def says(self, numbers: Tensor) -> Tensor:
        """[…] int64 -> […, S] float32."""
        said = self.said[numbers].float()
        if self.read is None:
            return said
        place, anew = self.read
        at = place[numbers]
        return torch.where((at >= 0).unsqueeze(-1), anew[at.clamp(min=0)], said)

    @contextmanager
    def reading(self, *numbers: Tensor) -> Iterator[None]:
        """While the body runs, some of these items are read anew; without a `reader` nothing happens."""
        if self.reader is None:
            yield
            return
        mine = torch.cat([n.flatten() for n in numbers]).unique().long()
        mine = mine[self.said[mine].any(-1)]
        mine = mine[torch.randperm(len(mine), device=mine.device)[: self.reader.config.texts]]
        anew = self.reader(mine)
        place = torch.full((len(self.said),), -1, device=mine.device)
        place[mine] = torch.arange(len(mine), device=mine.device)
        self.said[mine] = anew.detach().to(self.said.dtype)
        self.read, self.stale = (place, anew), True
        try:
            yield
        finally:
            self.read = None

    def train(self, mode: bool = True) -> ItemVectors:
        """Before an evaluation every item is read by the reader as it is now."""
        super().train(mode)
        if not mode and self.stale:
            self.read_all()
        return self

    @torch.no_grad()
    def read_all(self) -> None:
        """Every item by the reader as it is now."""
        for some in torch.arange(1, len(self.said), device=self.said.device).split(256):
            self.said[some] = self.reader(some).to(self.said.dtype)
        self.stale = False

    def _seen(self, vectors: Tensor) -> Tensor:
        if self.watched is None:
            return vectors
        self.watched.append(vectors.detach().requires_grad_())
        return self.watched[-1]
