"""How many numbers a model has learned from data.

    networks        what was trained, without maps of items, texts and scalers, which travel beside it
    trees           a threshold per split and a value per leaf
    blends          a weight per component
    the others      none: what they know of items is in the item tables
"""
from __future__ import annotations

import numpy as np

from .base import Model
from .trees import NAME as TREES


def n_learned(model: Model) -> int:
    """Numbers of all parts of the model together."""
    found = len(model.params.get("weights", {})) + len((model.params.get("prior") or {}).get("weights", {}))
    if any(name.startswith("network.") for name in model.weights):
        found += _of_network(model)
    if TREES in model.weights:
        from .trees import Trees

        found += len(Trees(model.weights).booster.trees_to_dataframe())     # a row per split and leaf
    return found


def _of_network(model: Model) -> int:
    from .network_arrays import state_of

    if model.name == "timeline":
        from .timeline_network import Network

        net = Network(model.params, model.weights).net
    else:
        from .sequence_network import Network as Sequence

        net = Sequence(model.name, model.params, model.weights).net
    trained = {name for name, _ in net.named_parameters()}
    return sum(int(np.prod(tensor.shape)) for name, tensor in state_of(model.weights).items() if name in trained)
