"""One short file per named network."""
from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recs.nn.next_item import NextItem


def network_class(name: str) -> type[NextItem]:
    """The sequence network that recs/nn/zoo/<name>.py defines."""
    from recs.nn.next_item import NextItem

    module = import_module(f"recs.nn.zoo.{name}")
    own = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, NextItem) and c.__module__ == module.__name__]
    if len(own) != 1:
        raise TypeError(f"{module.__file__}: {len(own)} subclasses of NextItem; a sequence model's file defines one")
    return own[0]


def form_of(name: str) -> str:
    """'' of a network in its first form; else what its weights are of, so that those of an earlier form are told apart."""
    version = network_class(name).version
    return f"{name} {version}" if version > 1 else ""
