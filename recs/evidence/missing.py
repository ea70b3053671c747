"""Missing and irregular values of events: last value, mean, interpolation or mask, per column, with the same numbers everywhere.

A `Fill` is fitted once on the histories before a cut and stored as JSON with the model; training, evaluation and serving apply
that object and never fit again, so a value of 30 EUR is the same number on the night as it was in training.

    value of ann     12    ?    20    ?            (instants 0 h, 1 h, 4 h, 5 h; fitted mean 15, standard deviation 10)
    mask             12    -    20    -            stays missing; scaled it is 0 = the mean, beside a column that says which are known
    last             12   12    20   20            the last known before it; the mean when there is none
    mean             12   15    20   15
    interpolate      12   14    20   20            straight line in time; before the first and after the last known, the nearest one

All from the past only: a history ends before the cut it is read for.  Inside the history `interpolate` looks at both neighbours,
so a model that is trained to predict each event from those before it must use `last` or `mask`.  Latitude and longitude are
plain numbers here: where users cross the 180th meridian use `last` or `mask`.

Shapes: U users, E events of all of them.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from .histories import Histories

Method = Literal["mask", "last", "mean", "interpolate"]
COLUMNS = ("value", "dwell_s", "lat", "lon")


class FillError(ValueError):
    """A method or column that is not known, or stored numbers that cannot be used; the message names it."""


@dataclass(frozen=True)
class ColumnFill:
    """What happens to one column: (x - mean) / scale after missing values were replaced by `method`."""

    method: Method
    mean: float
    scale: float    # standard deviation of the known values; 1 when there are none or they are all equal


@dataclass(frozen=True)
class Fill:
    """Fitted treatment of missing values: column of Histories -> ColumnFill."""

    columns: dict[str, ColumnFill]

    @classmethod
    def fit(cls, histories: Histories, methods: Mapping[str, str]) -> Fill:
        """Means and scales of the known values.  `histories` must end before the cut of the model that keeps the result.

        Raises FillError for a column or method that does not exist.
        """
        for column, method in methods.items():
            if column not in COLUMNS or method not in get_args(Method):
                known = f"columns are {', '.join(COLUMNS)}; methods {', '.join(get_args(Method))}"
                raise FillError(f"sequences.missing.{column}: {method}: {known}")
        return cls({c: ColumnFill(m, *_mean_scale(getattr(histories, c))) for c, m in sorted(methods.items())})     # type: ignore[arg-type]

    def filled(self, histories: Histories) -> Histories:
        """The histories with missing values replaced, in the log's own units; `mask` leaves them NaN."""
        return replace(histories, **{c: _fill(getattr(histories, c), histories, f) for c, f in self.columns.items()})

    def scaled(self, histories: Histories) -> dict[str, np.ndarray]:
        """Model inputs, [E] float32, finite: each column as (x - mean) / scale, 0 where it is masked.

        For every column there is also `<column>_known`, 1 where the log had the value, 0 where it was made up here.
        """
        out = {}
        for name, column in self.columns.items():
            raw = getattr(histories, name)
            z = (_fill(raw, histories, column).astype(np.float64) - column.mean) / column.scale
            out[name] = np.nan_to_num(z, nan=0.0).astype(np.float32)
            out[f"{name}_known"] = np.isfinite(raw).astype(np.float32)
        return out

    def to_json(self) -> dict[str, Any]:
        """Numbers and names only; json.dumps keeps every bit of a float."""
        return {name: asdict(column) for name, column in self.columns.items()}

    @classmethod
    def from_json(cls, body: Mapping[str, Mapping[str, Any]]) -> Fill:
        """What to_json wrote.  Raises FillError when a number is not finite or a field is not there."""
        try:
            columns = {name: ColumnFill(**fields) for name, fields in body.items()}
        except TypeError as e:
            raise FillError(f"stored fill: {e}") from e
        for name, c in columns.items():
            if not (np.isfinite(c.mean) and np.isfinite(c.scale) and c.scale > 0):
                raise FillError(f"stored fill of {name}: mean {c.mean}, scale {c.scale}; train the model again")
        return cls(columns)


def _mean_scale(x: np.ndarray) -> tuple[float, float]:
    """Mean and population standard deviation of the finite values, in double precision."""
    known = x[np.isfinite(x)].astype(np.float64)
    if not len(known):
        return 0.0, 1.0
    scale = float(known.std())
    return float(known.mean()), scale if scale > 0 else 1.0


def _fill(x: np.ndarray, histories: Histories, column: ColumnFill) -> np.ndarray:
    """One column [E] float32 with its missing values replaced; infinities count as missing."""
    known = np.isfinite(x)
    if column.method == "mask":
        return np.where(known, x, np.nan).astype(np.float32)
    if column.method == "mean":
        return np.where(known, x, column.mean).astype(np.float32)
    before = _known_before(known, histories.offsets)
    last = np.where(before >= 0, x[np.maximum(before, 0)], column.mean)
    if column.method == "last":
        return last.astype(np.float32)
    return _interpolated(x, known, before, last, histories).astype(np.float32)


def _known_before(known: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """[E] place of the user's newest known value at or before each event; -1 when there is none."""
    place = np.arange(len(known))
    newest = np.maximum.accumulate(np.where(known, place, -1))
    first = np.repeat(offsets[:-1], np.diff(offsets))
    return np.where(newest >= first, newest, -1)


def _known_after(known: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """[E] place of the user's oldest known value at or after each event; -1 when there is none."""
    n = len(known)
    mirrored = _known_before(known[::-1], n - offsets[::-1])[::-1]
    return np.where(mirrored >= 0, n - 1 - mirrored, -1)


def _interpolated(x: np.ndarray, known: np.ndarray, before: np.ndarray, last: np.ndarray, histories: Histories) -> np.ndarray:
    """The straight line in time between the known neighbours; the nearest one at the ends; of two at one instant the earlier."""
    after, ts = _known_after(known, histories.offsets), histories.ts
    b, a = np.maximum(before, 0), np.maximum(after, 0)
    span = ts[a] - ts[b]
    share = np.where(span > 0, (ts - ts[b]) / np.maximum(span, 1), 0.0)
    between = x[b] + share * (x[a].astype(np.float64) - x[b])
    out = np.where((before >= 0) & (after >= 0), between, last)
    return np.where((before < 0) & (after >= 0), x[a], out)
