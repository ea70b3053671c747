"""Which device and which precision: the hardware is asked, because machines differ by a factor of a hundred.

bf16 on a CPU pays with AMX or AVX512_BF16 (339 against 98 GFLOP/s seen); without them it is emulated (0.6 against 67 seen).  The flags
decide alone: a race between the two ends otherwise on a busy machine, and the same night would train another model.
"""
from __future__ import annotations

import time

import torch

from recs.nn.settings import TrainConfig


def pick_device(config: TrainConfig, local_rank: int = 0) -> torch.device:
    """The configured device; `auto` is a GPU where there is one.  `cuda` without a number is this rank's own."""
    named = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    return torch.device("cuda", local_rank) if named == "cuda" else torch.device(named)


def pick_precision(config: TrainConfig, device: torch.device) -> str:
    """`fp32` or `bf16`."""
    if config.precision != "auto":
        return config.precision
    return "bf16" if fast_at_bf16(device) else "fp32"


def fast_at_bf16(device: torch.device) -> bool:
    """Does bf16 pay here?  CUDA from compute capability 8 (Ampere) on; CPUs that have it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and (_cpu_has("_is_avx512_bf16_supported") or _cpu_has("_is_amx_tile_supported"))


def _cpu_has(flag: str) -> bool:
    return bool(getattr(torch.cpu, flag, lambda: False)())     # private, and not in every build


def product_rate(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 2048, repeats: int = 4) -> float:
    """Floating-point operations per second of a matrix product: the yardstick that training speed is a share of."""
    a = torch.randn(size, size, device=device).to(dtype)
    a @ a
    finish(device)
    started = time.perf_counter()
    for _ in range(repeats):
        a @ a
    finish(device)
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def finish(device: torch.device) -> None:
    """Wait for what the device was asked to compute."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
