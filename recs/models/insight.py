"""What a trained model has learned, as numbers for pictures (recs/report/model_pictures.py draws them).

    attention_of    what share of the newest state each event of one history has, by layer and head
    fading_of       how what is past loses weight: half-lives, biases by age, curves of time encodings
    items_of        vectors of the items, on the two axes along which they differ most

Read from the model's own weights and parameters; nothing is trained.  InsightError where a model has none of it.

Shapes: L events of the history, A attentions (layers times heads), X ages, N items, D dimensions.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recs.clock import DAY, HOUR
from recs.evidence.histories import Histories

from .base import Model
from .examples import also_read, newest_events

if TYPE_CHECKING:
    from torch import Tensor, nn

# a minute to two years, in days
AGES_D = np.geomspace(1 / 1_440, 730.0, 200)
WEIGHT, BIAS, LIKENESS = "weight", "bias", "likeness"


class InsightError(ValueError):
    """The model has nothing of what was asked for; the message says what has."""


@dataclass(frozen=True)
class Attention:
    """`share` [A, L] of the newest state that each event has; `names` [A]; `event` [L]: place of each in the history.

    `of_one`: do the shares of an attention add up to one, with that of the request where it is asked, too?
    """

    share: np.ndarray
    names: list[str]
    event: np.ndarray
    of_one: bool


@dataclass(frozen=True)
class Fading:
    """A curve over AGES_D: a weight (1 = now), a bias added to attention's logits, or how like an age is to now (cosine)."""

    name: str
    kind: str
    value: np.ndarray       # [X]
    half_life_d: float | None = None


@dataclass(frozen=True)
class Items:
    """`place` [N, 2] of items by their vocabulary integers `index` [N]; `told` [2] share of all difference that each axis tells."""

    index: np.ndarray
    place: np.ndarray
    told: np.ndarray


def attention_of(model: Model, history: Histories, request_us: int) -> Attention:
    """Of one user's history, asked at the request."""
    if not _is_network(model):
        raise InsightError(f"{model.name} has no attention: choose a model whose network reads histories")
    import torch

    from recs.nn.attention import watched

    number, read, network = _reader(model)
    newest = newest_events(history, np.array([request_us]), model.params["length"], also_read(model.params))
    item = newest["h_item"][0]
    known = np.flatnonzero((item >= 0) & (number[np.clip(item, 0, len(number) - 1)] > 0) & (item < len(number)))
    if not len(known):
        raise InsightError("the model knows no event of this history: there is nothing that it could attend to")
    with watched() as told, torch.inference_mode():
        read(newest)
    if not told:
        raise InsightError(f"{model.name} has no attention with this configuration: sasrec, tisasrec, hstu and lstm_attention have")
    share, names, sums = [], [], []
    for layer, found in enumerate(told, start=1):
        last = found[0, :, -1, :].numpy()                       # [H, asked]: of the newest, which asks
        sums.append(last.sum(axis=1))
        last = last[:, :-1] if _asks_beside(network) else last  # there the request is a position of its own
        wide = np.zeros((len(last), len(known)), np.float32)
        n = min(len(known), last.shape[1])
        wide[:, len(known) - n :] = last[:, last.shape[1] - n :]
        share.append(wide)
        names += [f"layer {layer}, head {head}" for head in range(1, len(last) + 1)]
    place = int(history.offsets[1]) - model.params["length"] + known
    return Attention(np.concatenate(share), names, place, bool(np.allclose(np.concatenate(sums), 1, atol=1e-3)))


def fading_of(model: Model) -> list[Fading]:
    """Every curve of the model."""
    found = [*_of_parameters(model.params), *(_of_network(_reader(model)[2]) if _is_network(model) else [])]
    if not found:
        raise InsightError(f"{model.name} has learned no curve over time with these parameters")
    return found


def items_of(model: Model) -> Items:
    """By the two largest principal components of the items' vectors."""
    if not _is_network(model):
        raise InsightError(f"{model.name} has no vectors of items: choose a model with a network")
    import torch

    number, _, network = _reader(model)
    index = np.flatnonzero(number > 0)
    holder = network if hasattr(network, "item") else network.history
    with torch.inference_mode():
        vectors = holder.item(torch.from_numpy(number[index].astype(np.int64))).double().numpy()
    vectors -= vectors.mean(axis=0)
    _, spread, axes = np.linalg.svd(vectors, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2, :1] < 0, -1, 1)     # a component's sign means nothing: the first dimension points right
    return Items(index, vectors @ axes.T, spread[:2] ** 2 / max(float((spread**2).sum()), 1e-12))


def _is_network(model: Model) -> bool:
    return any(name.startswith("network.") for name in model.weights)


def _asks_beside(network: nn.Module) -> bool:
    from recs.nn.zoo.timeline import History

    return isinstance(getattr(network, "history", None), History)


def _reader(model: Model) -> tuple[np.ndarray, Any, nn.Module]:
    """Number of each vocabulary integer, what reads one user's newest events, and the network."""
    import torch

    if model.name == "timeline":
        from .timeline_network import Network as Ranker

        net = Ranker(model.params, model.weights).net
        if not net.config.encoder:
            raise InsightError("this timeline reads no history (encoder: false)")

        def remembered(newest: dict[str, np.ndarray]) -> None:
            batch = {name: torch.from_numpy(values) for name, values in newest.items()}
            net.history(batch, net._numbers(batch["h_item"]))

        return net.number.numpy(), remembered, net
    from .sequence_network import Network, numbered

    network = Network(model.name, model.params, model.weights)
    if network.net.reads_text:
        raise InsightError(f"{model.name} reads histories as text: it attends to words, and has no vectors of events")

    def state(newest: dict[str, np.ndarray]) -> None:
        events = numbered(newest, network.number, network.segments)
        length, n = events["h_item"].shape[1], int(events["h_len"][0])
        network.net.state({
            name: torch.from_numpy(values[:, length - n :] if values.ndim > 1 else values) for name, values in events.items()})

    return network.number, state, network.net


def _of_parameters(params: dict[str, Any]) -> Iterator[Fading]:
    """Half-lives that a fit has chosen: of a statistic, a span, or the components of a blend."""
    weights = params.get("weights") or (params.get("prior") or {}).get("weights") or {}
    named = {name: f"{name} (weight {weight:.2g})" for name, weight in weights.items()}
    named |= {str(params[key]): str(params[key]) for key in ("stat", "span") if key in params}
    for name, said in named.items():
        if match := re.fullmatch(r"(?:.*@)?(?:decay_)?(\d*\.?\d+)([hd])", name):
            if "users_" in name:        # a window, not a half-life
                continue
            half_life = float(match[1]) / (24 if match[2] == "h" else 1)
            yield Fading(said, WEIGHT, np.exp2(-AGES_D / half_life), half_life)


def _of_network(network: nn.Module) -> Iterator[Fading]:
    import torch

    from recs.nn.due import Due
    from recs.nn.time import AgeEncoding, RelativeTimeBias

    age_us = torch.from_numpy((AGES_D * DAY).astype(np.int64))
    with torch.inference_mode():
        for name, values in network.named_parameters():
            if name.split(".")[-1] == "half_life":
                for half_life in values.exp().tolist():
                    yield Fading("slow memory", WEIGHT, np.exp2(-AGES_D / half_life), half_life)
        for name, module in network.named_modules():
            if isinstance(module, RelativeTimeBias):
                now = torch.zeros(1, 1, dtype=torch.int64)
                bias = module(now, -age_us.unsqueeze(0))[0, :, 0].numpy()       # [H, X]
                for head, values in enumerate(bias, start=1):
                    yield Fading(f"{name}, head {head}", BIAS, values)
            if isinstance(module, Due):
                nobody = torch.zeros(1, len(age_us), module.at_knots.in_features)
                yield Fading(f"{name}, an item without a vector", BIAS, module.curve(nobody, age_us.view(1, 1, -1))[0, 0].numpy())
            if isinstance(module, AgeEncoding):
                yield Fading(name, LIKENESS, _like_the_first(module(torch.cat([age_us.new_tensor([HOUR // 3600]), age_us]))))


def _like_the_first(vectors: Tensor) -> np.ndarray:
    """[X] cosine of each further vector with the first."""
    unit = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return (unit[1:] @ unit[0]).numpy()
