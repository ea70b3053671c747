"""Random numbers addressed by what they are for, instead of taken from a stream.

`uniform(seed, "item.topic", items)` is a pure function of its arguments: a number for a user's 17th visit is the same
whoever asks for it, on whichever worker, in whichever order, alone or among a million others.  The function is a chain of
splitmix64 finalisers (Steele, Lea and Flood, OOPSLA 2014), one per key; 53 bits of the last become the number.
"""
from __future__ import annotations

import zlib

import numpy as np
from scipy.special import ndtri

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def hashed(seed: int, purpose: str, *keys: np.ndarray | int) -> np.ndarray:
    """64 bits per element of the broadcast keys."""
    h = np.array([(seed * 0x9E3779B97F4A7C15 + zlib.crc32(purpose.encode())) & _MASK], np.uint64)
    h = _mix(h)
    for key in keys:
        k = np.atleast_1d(np.asarray(key)).astype(np.uint64)
        h = _mix(h + (k + np.uint64(1)) * _GOLDEN)
    return h


def uniform(seed: int, purpose: str, *keys: np.ndarray | int) -> np.ndarray:
    """Numbers in (0, 1), float64; never 0 and never 1, so that logarithms are finite."""
    return ((hashed(seed, purpose, *keys) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(seed: int, purpose: str, *keys: np.ndarray | int) -> np.ndarray:
    """Standard normal numbers by the inverse of the distribution function."""
    return ndtri(uniform(seed, purpose, *keys))


def between(u: np.ndarray, lo: float, hi: float) -> np.ndarray:
    """Uniform numbers stretched log-uniformly to [lo, hi]."""
    return lo * (hi / lo) ** u


def pick(u: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """An index per element of `u`, drawn with the same `weights` [C] for all."""
    cdf = np.cumsum(weights)
    return np.minimum(np.searchsorted(cdf, u * cdf[-1], side="right"), len(cdf) - 1)


def pick_rows(u: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """An index per element of `u` [S], drawn with the weights of its row: `weights` [B, C], `rows` [S] in 0..B-1."""
    cdf = np.cumsum(weights, axis=1)
    cdf /= np.maximum(cdf[:, -1:], 1e-300)
    flat = (cdf + np.arange(len(cdf))[:, None]).ravel()
    found = np.searchsorted(flat, rows + u, side="right") - rows * weights.shape[1]
    return np.clip(found, 0, weights.shape[1] - 1)


def _mix(h: np.ndarray) -> np.ndarray:
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))
