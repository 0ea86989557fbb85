"""Measures the limits of this machine in the same process as the stages: fp32 GEMM and copying memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

# 2048 keeps every core's caches busy and takes a tenth of a second on one core; smaller ones do not reach the peak.
GEMM_SIDE = {"cpu": 2048, "cuda": 8192}
COPIED_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}  # far above any last-level cache
_TRIES = 4


@dataclass
class Limits:
    """The best rates measured for each device. gemm: GFLOP/s by (device, library). copy: GB/s, read plus written."""

    gemm: dict[tuple[str, str], float]
    copy: dict[str, float]

    def of(self, device: str, unit: str) -> float:
        """The limit of a device for an operation count in `unit`; of two GEMM libraries the faster."""
        if unit == "bytes":
            return self.copy[device]
        return max(rate for (where, _), rate in self.gemm.items() if where == device)

    def better(self, other: Limits) -> Limits:
        """The higher of two measurements: other load on the machine can only have lowered them."""
        gemm = {name: max(rate, other.gemm[name]) for name, rate in self.gemm.items()}
        return Limits(gemm, {device: max(rate, other.copy[device]) for device, rate in self.copy.items()})

    def by_name(self) -> dict[str, float]:
        """The rates by the names that the environment file gives them."""
        gemm = {f"gemm_{library}_{device}_gflops": rate for (device, library), rate in self.gemm.items()}
        return gemm | {f"copy_{device}_gbytes": rate for device, rate in self.copy.items()}


def measure_limits(device: str, *, quick: bool = False) -> Limits:
    """The limits of the CPU, and of the CUDA device where the stages compute on it."""
    limits = Limits({}, {})
    for one in dict.fromkeys(("cpu", device)):
        side, copied = GEMM_SIDE[one], COPIED_BYTES[one]
        if quick:
            side, copied = side // 4, copied // 8
        limits.gemm[one, "torch"] = _torch_gemm(one, side)
        limits.copy[one] = _copy(one, copied)
        if one == "cpu":
            limits.gemm[one, "numpy"] = _numpy_gemm(side)
    return limits


def synchronizer(device: str) -> Callable[[], None]:
    """A function that waits until a device has done all its work; on the CPU it has nothing to wait for."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def _torch_gemm(device: str, side: int) -> float:
    a, b = torch.rand(2, side, side, device=device).unbind()
    out = torch.empty_like(a)
    return _gemm_flop(side) / _shortest(lambda: torch.mm(a, b, out=out), device) / 1e9


def _numpy_gemm(side: int) -> float:
    a, b = np.random.default_rng(0).random((2, side, side), dtype=np.float32)
    out = np.empty_like(a)
    return _gemm_flop(side) / _shortest(lambda: np.matmul(a, b, out=out), "cpu") / 1e9


def _gemm_flop(side: int) -> float:
    """A product of two square matrices: side^2 sums of `side` products, a multiplication and an addition each."""
    return 2.0 * side**3


def _copy(device: str, copied: int) -> float:
    source = torch.ones(copied // 4, device=device)
    target = torch.empty_like(source)
    return 2 * copied / _shortest(lambda: target.copy_(source), device) / 1e9


def _shortest(call: Callable[[], Any], device: str) -> float:
    """Seconds of the fastest of several calls after a warm-up: a limit is a maximum."""
    synchronize = synchronizer(device)
    call()
    seconds = []
    for _ in range(_TRIES):
        synchronize()
        started = time.perf_counter()
        call()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
