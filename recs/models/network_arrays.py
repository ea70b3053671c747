"""The weights of a network among a model's arrays: `network.<tensor>`."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

PREFIX = "network."


def arrays_of(net: nn.Module) -> dict[str, np.ndarray]:
    """The network's tensors as arrays of the model."""
    return {PREFIX + name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}


def state_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The network's tensors out of the model's arrays, copied: arrays that were read from a file cannot be written."""
    return {n.removeprefix(PREFIX): torch.from_numpy(np.array(w)) for n, w in arrays.items() if n.startswith(PREFIX)}
