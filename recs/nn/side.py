"""What is known of an item beside its text: codes (category path, brand, price), vectors of other modalities, neighbours in a graph.

    facts        Σ_f  E_f[code of field f]                                one table per field; 0 = nothing is known of it
    vectors      Σ_m  W_m v_m                                             per modality (image, audio), where the item has one
    near         W_n · mean of the own vectors of its neighbours          one hop, as GraphSAGE's mean (Hamilton et al., NIPS 2017)

Added to the item's own vector (recs/nn/items.py), so that every network reads and scores items with them.  In training each of them is left
out of an item now and then (modality dropout, Neverova et al. 2016), so that an item that lacks one is not out of the ordinary.

Shapes: I items, D dimensions, F fields, M neighbours.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DROP = 0.25     # share of items that a training step shows without one of them


class SideInfo(nn.Module):
    """Item numbers […] -> […, D]; buffers have a row per item, the first for padding."""

    def __init__(self, n_items: int, dim: int, facts: Sequence[int], vectors: Mapping[str, int], near: int) -> None:
        """`facts`: codes of each field; `vectors`: width of each modality; `near`: M."""
        super().__init__()
        self.facts = nn.ModuleList(nn.Embedding(n + 1, dim, padding_idx=0) for n in facts)
        self.of_vectors = nn.ModuleDict({name: nn.Linear(width, dim, bias=False) for name, width in vectors.items()})
        if facts:
            self.register_buffer("codes", torch.zeros(n_items + 1, len(facts), dtype=torch.int32))
        for name, width in vectors.items():
            self.register_buffer(f"vectors_{name}", torch.zeros(n_items + 1, width, dtype=torch.float16))
        if near:
            self.register_buffer("near", torch.zeros(n_items + 1, near, dtype=torch.int32))
            self.of_near = nn.Linear(dim, dim, bias=False)

    def start(self) -> None:
        """First weights, as loud as an item's own vector."""
        for table in self.facts:
            nn.init.normal_(table.weight, std=0.02)
            nn.init.zeros_(table.weight[0])
        for layer in self.of_vectors.values():      # vectors have unit length
            nn.init.normal_(layer.weight, std=0.02)
        if hasattr(self, "of_near"):
            nn.init.eye_(self.of_near.weight)

    def known(self, numbers: Tensor) -> Tensor:
        """[…] bool: is anything known of the item?"""
        return torch.stack([rows[numbers].any(-1) for rows in self.buffers(recurse=False)]).any(0)

    def vectors_of(self, modality: str) -> Tensor:
        """[I + 1, S]."""
        return self.get_buffer(f"vectors_{modality}")

    def forward(self, numbers: Tensor, own: Tensor) -> Tensor:
        """[…] int64, own vectors [I + 1, D] -> […, D]."""
        out = own.new_zeros(*numbers.shape, own.shape[1])
        codes = self.codes[numbers].long() if self.facts else numbers
        for field, table in enumerate(self.facts):
            out = out + self._kept(table(codes[..., field]))
        for name, layer in self.of_vectors.items():
            out = out + self._kept(layer(self.vectors_of(name)[numbers].to(own.dtype)))      # one that is missing is 0, and so is this
        if hasattr(self, "of_near"):
            around = self.near[numbers].long()
            there = (around > 0).unsqueeze(-1).to(own.dtype)
            mean = (F.embedding(around, own) * there).sum(-2) / there.sum(-2).clamp(min=1)
            out = out + self._kept(self.of_near(mean))
        return out

    def _kept(self, said: Tensor) -> Tensor:
        if not self.training:
            return said
        return said * (torch.rand(said.shape[:-1], device=said.device) >= DROP).unsqueeze(-1)
