"""What `timeline` is trained on: the prior, and the examples of every earlier night, kept where the next fit finds them.

    prior-<hash>.json           weights of the blend, by what the latest nights are made of: the same nights have the same prior
    <shape>/<cut>-<hash>/       examples of one night, written once by the executors as staged Parquet with a manifest
    timeline-<as of>-<hash>.json    the book of a fit: parameters, nights, rows, bytes, hash; `recs clean` keeps what it names

Lies in `Replay.scratch`.  A night's name says what it is made of (histories, item tables, what came true, rules), the shape's what
is written of it, the prior among it; so whoever asks the same finds it, and nobody else.

The latest nights are held out while a ranker is chosen; their examples hold every candidate.  What followed a night that is held out
must not be what followed a night that is trained on: cuts in between are trained on only when all are.
"""
from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from recs.clock import from_micros
from recs.nn.staged import Staged

from .base import Setting
from .blend_fit import components, fit_weights
from .examples import Shape, examples
from .fitting import Replay
from .timeline import recipe_of

log = logging.getLogger(__name__)

PRIOR_NIGHTS = 4            # the blend has few weights
VALIDATION_SHARE = 0.2      # of the nights, the latest
LEAST_LISTS = 100           # to train on


@dataclass(frozen=True)
class Nights:
    """Examples of the nights that have any: drawn candidates of all, the latest first, and every candidate of those held out."""

    params: dict[str, Any]      # with the prior
    drawn: dict[int, Staged]
    early: list[int]            # trained on while the ranker is chosen
    whole: dict[int, Staged]    # held out, the latest first; empty where there is nothing to choose, or too little to choose by
    judged: int                 # lists of `whole` that models are compared by: those of the latest nights
    prior: Path | None          # the file that keeps it

    @property
    def rows(self) -> int:
        """Examples of all nights."""
        return sum(s.rows for s in self.drawn.values())


def examples_of(params: dict[str, Any], setting: Setting, replay: Replay, folder: Path) -> Nights:
    """The examples of all nights of the replay in `folder`, written where they are not there already."""
    began, newest_first, prior = time.monotonic(), sorted(replay.nights, key=lambda n: -replay.cuts_us[n]), None
    if params["prior"] is None:
        weights, prior = _prior(params, setting, replay.only(newest_first[:PRIOR_NIGHTS]))
        params = params | {"prior": weights}
    recipe = recipe_of(params)
    shape = Shape(recipe, params["prior"], params["candidates"], params["length"])
    found = replay.write(partial(examples, shape), folder / shape.key, recipe.kinds)
    drawn = {n: found[n] for n in newest_first if n in found}
    held, early = _held_out(setting, replay, newest_first, drawn)
    whole: dict[int, Staged] = {}
    if not params["chosen"] and sum(drawn[n].rows for n in early) >= LEAST_LISTS:
        shape = Shape(recipe, params["prior"], params["all_candidates"], params["length"], training=False)
        found = replay.only(held).write(partial(examples, shape), folder / shape.key, recipe.kinds)
        whole = {n: found[n] for n in held if n in found}
    nights = Nights(params, drawn, early, whole, sum(whole[n].rows for n in held[: setting.judged_nights] if n in whole), prior)
    each = next((s.row_bytes for s in drawn.values()), 0)
    log.info("examples: %d of %d nights, %d bytes each, %.0f s", nights.rows, len(drawn), each, time.monotonic() - began)
    return nights


def _held_out(setting: Setting, replay: Replay, newest_first: list[int], drawn: Collection[int]) -> tuple[list[int], list[int]]:
    """The nights held out and those trained on before them: fewer are held out where long horizons would leave less than that to train."""
    most = max(1, min(setting.judged_nights, len(newest_first) // 2), round(len(newest_first) * VALIDATION_SHARE))
    for n in range(most, 0, -1):
        held = newest_first[:n]
        first_held_us = min(replay.cuts_us[n] for n in held)
        early = [n for n in drawn if replay.cuts_us[n] + replay.horizon_us <= first_held_us]
        if len(early) >= n:
            break
    return held, early


def _prior(params: dict[str, Any], setting: Setting, latest: Replay) -> tuple[dict[str, float], Path | None]:
    """Weights of the blend on these nights; where the replay has a place of its own they are kept there in a file, and found again."""
    spoken = recipe_of(params).kinds | {"popular", "new", "own"}
    names = [name for name in components(setting) if name.partition("@")[0] in spoken]
    if latest.scratch is None:
        return _fitted(setting, latest, names), None
    kinds = {name.partition("@")[0] for name in names} - {"popular", "new", "own"}
    asked = [names, asdict(replace(setting, serves_us=None)), latest.k, sorted(latest.contents(kinds).values())]
    file = latest.scratch / f"prior-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}.json"
    if not file.exists():
        _put(file, _fitted(setting, latest, names))
    return json.loads(file.read_text()), file


def _fitted(setting: Setting, latest: Replay, names: list[str]) -> dict[str, float]:
    weights = fit_weights(setting, latest, names).params["weights"]
    log.info("prior: %s", json.dumps(weights))
    return weights


def write_book(nights: Nights, replay: Replay, folder: Path) -> dict[str, Any]:
    """Note which examples a fit reads, in `folder`; what the book says, its path as `book`."""
    as_of_us = max(replay.cuts_us[n] for n in replay.nights) + replay.horizon_us
    staged = [*nights.drawn.values(), *nights.whole.values()]

    def named(some: dict[int, Staged]) -> dict[str, str]:
        return {str(n): str(s.folder.relative_to(folder)) for n, s in some.items()}

    drawn, whole = named(nights.drawn), named(nights.whole)
    prior = [nights.prior.name] if nights.prior else []
    book = {
        "model": "timeline", "as_of_us": as_of_us, "names": sorted({*drawn.values(), *whole.values(), *prior}), "tables": replay.facts,
        "params": nights.params, "drawn": drawn, "early": nights.early, "whole": whole,
        "rows": sum(s.rows for s in staged), "bytes": sum(f.bytes for s in staged for f in s.files),
        "row_bytes": {s.folder.parent.name: s.row_bytes for s in staged},
        "content_hash": hashlib.sha256("".join(s.content_hash for s in staged).encode()).hexdigest(),
    }
    file = folder / f"timeline-{from_micros(as_of_us):%Y%m%dT%H%M}-{book['content_hash'][:8]}.json"
    _put(file, book)
    return book | {"book": str(file)}


def _put(file: Path, body: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f".{file.name}.{os.getpid()}")
    half.write_text(json.dumps(body, indent=1))
    half.replace(file)
