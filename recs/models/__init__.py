"""The models, chosen by one name.

    make("personal", {...})     a model with these parameters
    load(folder)                the model that `Model.save` wrote there
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .als import Als
from .base import WEIGHTS, Model, Setting
from .blend import Blend
from .ease import Ease
from .fitting import SettingError, with_fixed
from .item_to_item import ItemToItem
from .personal import Personal
from .popularity import Popularity, RecentPopularity
from .sequence import sequence_models
from .timeline import Timeline

MODELS: dict[str, type[Model]] = {m.name: m for m in (Popularity, RecentPopularity, Personal, ItemToItem, Ease, Als, Blend, Timeline)}
MODELS |= {m.name: m for m in sequence_models(taken=MODELS)}
NAMES = tuple(MODELS)


class ModelError(ValueError):
    """A model cannot be made or opened; the message names it and what to do."""


def model_class(name: str) -> type[Model]:
    """The class behind a name; ModelError with the known names when there is none."""
    if name not in MODELS:
        raise ModelError(f"no model {name!r}: choose one of {', '.join(NAMES)}")
    return MODELS[name]


def grid_of(name: str, setting: Setting) -> list[dict[str, Any]]:
    """The sets of parameters that a model chooses among, with those that the configuration holds fixed; SettingError for an unknown one."""
    try:
        return with_fixed(model_class(name).grid(setting), setting.fixed.get(name, {}))
    except SettingError as e:
        raise SettingError(f"parameters of {name}: {e}") from e


def make(name: str, params: dict[str, Any] | None = None, weights: dict[str, np.ndarray] | None = None) -> Model:
    """A model with these parameters; without any, the best guess of its grid."""
    cls = model_class(name)
    return cls(params if params is not None else cls.grid(Setting())[0], weights)


def _weights(file: Path) -> dict[str, np.ndarray]:
    if not file.exists():
        return {}
    from safetensors.numpy import load_file

    return load_file(file)


def load(path: str | Path) -> Model:
    """The model in a folder written by `Model.save`; ModelError also for one of evidence or a network that the code makes no more."""
    file = Path(path) / "model.json"
    try:
        body = json.loads(file.read_text())
        model = make(body["name"], body["params"], _weights(Path(path) / WEIGHTS))
    except FileNotFoundError as e:
        raise ModelError(f"{file}: missing; give the folder of a trained model") from e
    except (json.JSONDecodeError, KeyError, TypeError) as e:
        raise ModelError(f"{file}: not a model description: {e}") from e
    if body.get("reads", "") != model.reads:
        raise ModelError(f"{file}: trained for what another version of recs reads: train it again (the next recs night will)")
    return model
