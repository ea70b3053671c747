"""Recurrent networks over histories that are padded on the left, and continuous-time cells whose state moves between events.

Shape suffixes: B histories, L positions, D dimensions.
"""
from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recs.nn.time import DAY

Kind = Literal["rnn", "lstm", "gru"]
RECURRENT = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
SHORTEST_D, LONGEST_D = 1 / 24, 90.0    # half-lives in days at the start


def over_history(network: nn.RNNBase, x_BLD: Tensor, h_item: Tensor, chunk: int | None = None) -> Tensor:
    """States [B, L, D] of every position; the network starts at the first event, not at the padding before it.

    With `chunk` the history is read so many events at a time: the state is carried from one to the next, its gradient is not, so that
    training memory does not grow with the length (truncated back-propagation, Williams and Peng 1990).
    """
    n = h_item.shape[1]
    # rows are turned until the padding stands behind, and back
    padding, place = (h_item == 0).sum(dim=1, keepdim=True), torch.arange(n, device=h_item.device)
    turned = _rows(x_BLD, (place + padding) % n)
    if chunk is None or n <= chunk:
        states = network(turned)[0]
    else:
        parts, carried = [], None
        for part in turned.split(chunk, dim=1):
            seen, carried = network(part, carried)
            carried = tuple(c.detach() for c in carried) if isinstance(carried, tuple) else carried.detach()
            parts.append(seen)
        states = torch.cat(parts, dim=1)
    return _rows(states, (place - padding) % n)


def _rows(x_BLD: Tensor, place_BL: Tensor) -> Tensor:
    return x_BLD.gather(1, place_BL.unsqueeze(-1).expand(-1, -1, x_BLD.shape[-1]))


class MovingCell(nn.Module):
    """A recurrent cell whose state goes on between events: towards a resting state, each dimension at its own learned pace.

        at an event      now, rest, pace = cell(input, state as it has become by then)
        later            m(t) = rest + (now - rest) · exp(-pace · days since)
        state            rnn, gru: m(t);  lstm: o ⊙ tanh(m(t))

    The LSTM is that of the neural Hawkes process (Mei and Eisner, NeurIPS 2017); RNN and GRU have the same decay around their own
    update (GRU-D, Che et al. 2018, decays to zero).  Moving by a and then by b is moving by a + b, so a state that was kept can be
    carried to any later instant without its history.
    """

    GATES = {"rnn": 1, "gru": 3, "lstm": 4}

    def __init__(self, dim: int, kind: Kind = "rnn") -> None:
        super().__init__()
        self.dim, self.kind = dim, kind
        width = (self.GATES[kind] + 2) * dim
        self.of_input, self.of_state = nn.Linear(dim, width), nn.Linear(dim, width, bias=False)

    def start(self) -> None:
        """Paces from a half-life of an hour to one of three months, over the dimensions; to be called after other first weights."""
        half_life = torch.logspace(math.log10(SHORTEST_D), math.log10(LONGEST_D), self.dim)
        pace = math.log(2) / half_life
        with torch.no_grad():
            self.of_input.bias[-self.dim :] = pace + torch.log(-torch.expm1(-pace))     # the inverse of softplus

    def empty(self, rows: int, like: Tensor) -> dict[str, Tensor]:
        """The memory [B, D] each before any event."""
        return {name: like.new_zeros(rows, self.dim) for name in ("now", "rest", "pace", "open")}

    def at(self, memory: dict[str, Tensor], since_us: Tensor) -> dict[str, Tensor]:
        """The memory as it has become `since_us` [B] microseconds later."""
        days = (since_us.clamp(min=0).double() / DAY).to(memory["now"].dtype).unsqueeze(-1)
        now = memory["rest"] + (memory["now"] - memory["rest"]) * torch.exp(-memory["pace"] * days)
        return memory | {"now": now}

    def state(self, memory: dict[str, Tensor]) -> Tensor:
        """[B, D]."""
        return memory["open"] * torch.tanh(memory["now"]) if self.kind == "lstm" else memory["now"]

    def event(self, memory: dict[str, Tensor], of_input: Tensor) -> dict[str, Tensor]:
        """The memory after an event [B, ...] that `of_input` was made of."""
        h, d = self.state(memory), self.dim
        x, u = of_input, self.of_state(h)
        rest = torch.tanh(x[:, -2 * d : -d] + u[:, -2 * d : -d])
        pace = F.softplus(x[:, -d:] + u[:, -d:])
        gates = [a + b for a, b in zip(x[:, : -2 * d].split(d, dim=1), u[:, : -2 * d].split(d, dim=1), strict=True)]
        open_ = memory["open"]
        if self.kind == "rnn":
            now = torch.tanh(gates[0])
        elif self.kind == "gru":
            update, reset = torch.sigmoid(gates[0]), torch.sigmoid(gates[1])
            new = torch.tanh(x[:, 2 * d : 3 * d] + reset * u[:, 2 * d : 3 * d])
            now = update * h + (1 - update) * new
        else:
            keep, take, open_ = (torch.sigmoid(g) for g in gates[:3])
            now = keep * memory["now"] + take * torch.tanh(gates[3])
        return {"now": now, "rest": rest, "pace": pace, "open": open_}

    def forward(self, x_BLD: Tensor, ts_BL: Tensor, there_BL: Tensor, ask_BL: Tensor) -> Tensor:
        """[B, L, D] states of every position, each moved to the instant it is asked at; where there is no event the memory stays."""
        of_input, memory = self.of_input(x_BLD), self.empty(len(x_BLD), x_BLD)
        before, out = ts_BL[:, 0], []
        for i in range(x_BLD.shape[1]):
            here = there_BL[:, i : i + 1]
            moved = self.at(memory, ts_BL[:, i] - before)
            after = self.event(moved, of_input[:, i])
            memory = {name: torch.where(here, after[name], memory[name]) for name in memory}
            before = torch.where(here[:, 0], ts_BL[:, i], before)
            out.append(self.state(self.at(memory, ask_BL[:, i] - before)))
        return torch.stack(out, dim=1)
