"""The second stage of a sequence model's fit: the language model that reads what items say is tuned with the network (recs/nn/tuning.py).

    frozen     trained with the vectors that Spark made once        ─▶ figures before
    tuned      goes on from there, texts are read while it trains   ─▶ figures after; where it is not better, the frozen one stays

What travels with the model: the tuned vectors of its items (in the network), `text_map`, which makes a tuned vector of a frozen one for
items that come later, and of `lora` and `prefix` the trained weights (`tuned.*`).  So lists are made without a language model.

Shapes: I items, S numbers of a text's vector.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from recs.evidence.item_kinds import TEXT
from recs.evidence.item_tables import ItemTables
from recs.nn.next_item import NextItem
from recs.nn.text import TextError
from recs.nn.tuning import PEFT, Extractor, TuningConfig, retold

TEXT_MAP, TUNED = "text_map", "tuned."
PATIENCE = 3        # evaluations
T = TypeVar("T")


@dataclass(frozen=True)
class Tuned:
    """What travels beside the network, and figures."""

    arrays: dict[str, np.ndarray]
    figures: dict[str, float]


def tuning_of(params: Mapping[str, Any], tables: ItemTables) -> TuningConfig | None:
    """What the parameters ask for, with the model that made the tables' vectors where they name none; None: nothing is to be tuned."""
    config = TuningConfig(**params.get("tuning", {}))
    if config.policy == "frozen" or not params["text"] or TEXT not in tables.kinds:
        return None
    made = tables.manifest.get("inputs", {}).get("text", {})
    model, max_tokens = config.model or made.get("model"), config.max_tokens or made.get("max_tokens", 64)
    if model is None:
        raise TextError(f"{tables.path}: does not say which model made its vectors of texts; name it in tuning.model")
    return config.model_copy(update={"model": model, "max_tokens": max_tokens, "offline": config.offline and made.get("offline", True)})


def texts_of(tables: ItemTables, integers: np.ndarray) -> list[str]:
    """What items say, by their vocabulary integers; "" for those that say nothing."""
    column = tables.columns(integers)
    speaks = (column >= 0) & np.asarray(tables.dense(TEXT)).any(axis=1)[np.maximum(column, 0)]
    return [text if there else "" for text, there in zip(tables.said(np.maximum(column, 0)), speaks, strict=True)]


def tune(net: NextItem, tuning: TuningConfig, texts: list[str], run: Callable[[], T]) -> tuple[Tuned, T]:
    """`run` trains the network; while it does, what it trains of the language model that reads `texts` of items 1 … I is trained, too.

    Afterwards the network holds the vectors and no reader.
    """
    frozen = net.item.said[1:].float().cpu().clone()
    reader = Extractor(texts, tuning, tuning.model, tuning.max_tokens)
    if reader.width != frozen.shape[1]:
        raise TextError(f"{tuning.model} makes vectors of {reader.width} numbers, the catalogue's have {frozen.shape[1]}: "
                        "tune the model that text.model names")
    net.item.reader, net.item.stale = reader.to(net.item.weight.device), True
    found = run()
    net.eval()      # where the newest weights are the result, every text is read once more
    net.item.reader = None
    tuned, speaks = net.item.said[1:].float().cpu(), frozen.any(1)
    text_map, figures = retold(frozen[speaks], tuned[speaks])
    arrays, trained = {TEXT_MAP: text_map.numpy()}, reader.trained()
    if tuning.policy in PEFT:
        arrays |= {TUNED + name: p.numpy() for name, p in trained.items()}
    return Tuned(arrays, figures | {"tuned_parameters": float(sum(p.numel() for p in trained.values()))}), found


def told(vectors: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """[N, S] float16 vectors of texts as the model's tuned reader would have made them, from the frozen one's."""
    if TEXT_MAP not in weights:
        return np.array(vectors, np.float16)
    x = np.asarray(vectors, np.float32)
    x = x + x @ weights[TEXT_MAP]
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)).astype(np.float16)


def reader_of(params: Mapping[str, Any], weights: Mapping[str, np.ndarray], texts: list[str]) -> Extractor:
    """The tuned reader of a model by `lora` or `prefix`, from the language model's own folder and the few weights that travelled."""
    tuning = TuningConfig(**params["tuning"])
    reader = Extractor(texts, tuning, tuning.model, tuning.max_tokens)
    mine = {n.removeprefix(TUNED): torch.from_numpy(np.array(w)) for n, w in weights.items() if n.startswith(TUNED)}
    if tuning.policy not in PEFT or not mine:
        raise TextError(f"tuning.policy {tuning.policy}: only the weights of {' and '.join(PEFT)} travel with a model")
    reader.load_state_dict(mine)
    return reader.eval()
