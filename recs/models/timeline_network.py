"""The trained network of `timeline` where lists are made: arrays in, scores out, each user's the same in any batch.

The bits of a matrix product depend on its shape, so the shapes depend on the user alone: candidates are padded to a multiple of
`WIDTH`, users of one width go `ROWS` at a time, and what is missing is filled up with empty rows.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recs.evidence.candidates import Pairs
from recs.nn.staged import Staged, read_columns
from recs.nn.zoo.timeline import Timeline as Net
from recs.nn.zoo.timeline import TimelineConfig

from .network_arrays import state_of

WIDTH, ROWS = 64, 8


def make_network(params: dict[str, Any], sizes: dict[str, int]) -> Net:
    """The network of these parameters, untrained; as long as nobody has chosen, `auto` reads the history."""
    config = TimelineConfig(
        encoder=params["encoder"] == "auto" or params["encoder"], evidence=params["evidence"], time=params["time"], **params["network"])
    return Net(sizes["items"], sizes["vocabulary"], sizes["types"], sizes["evidence"], params["length"], config)


class Network:
    """The network with its weights (`network.*` of the model's arrays)."""

    def __init__(self, params: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        self.net = make_network(params, params["sizes"])
        self.net.load_state_dict(state_of(weights))
        self.net.eval()

    def scores(
        self, newest: dict[str, np.ndarray], pairs: Pairs, evidence: np.ndarray, prior: np.ndarray, item_index: np.ndarray,
    ) -> np.ndarray:
        """[P] float32; `newest` as recs.models.examples.newest_events gives it, evidence [P, F] float16."""
        out = np.empty(len(prior), np.float32)
        count = np.diff(pairs.offsets)
        width = -(-count // WIDTH) * WIDTH
        for w in np.unique(width[count > 0]):
            users = np.flatnonzero(width == w)
            for lo in range(0, len(users), ROWS):
                some = users[lo : lo + ROWS]
                place = pairs.offsets[some][:, None] + np.arange(w)
                there = np.arange(w) < count[some][:, None]
                at = np.where(there, place, 0)
                batch = {name: values[some] for name, values in newest.items()}
                batch |= {
                    "evidence": evidence[at] * there[:, :, None], "prior": prior[at] * there,
                    "item": np.where(there, item_index[pairs.column[at]], -1).astype(np.int32),
                }
                with torch.inference_mode():
                    scores = self.net.score({name: torch.from_numpy(_filled(values)) for name, values in batch.items()})
                out[place[there]] = scores.numpy()[: len(some)][there]
        return out

    def of_staged(self, lists: Staged) -> np.ndarray:
        """[N, C] float32 of staged lists."""
        data, out = read_columns(lists, lists.fields), []
        for lo in range(0, lists.rows, 64):
            with torch.inference_mode():
                out.append(self.net.score({n: torch.from_numpy(values[lo : lo + 64].copy()) for n, values in data.items()}).numpy())
        return np.concatenate(out)


def _filled(values: np.ndarray) -> np.ndarray:
    """ROWS rows, empty ones at the end."""
    return np.concatenate([values, np.zeros((ROWS - len(values), *values.shape[1:]), values.dtype)])
