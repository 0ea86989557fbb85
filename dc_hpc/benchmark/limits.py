"""What this machine can do at best, measured in the same process as the stages: fp32 GEMM and copying memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

# 2048 keeps every core's caches busy and takes a tenth of a second on one core; smaller ones stay below the peak.
GEMM_SIDE = {"cpu": 2048, "cuda": 8192}
COPIED_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}  # far above any last-level cache
_TRIES = 4


@dataclass
class Limits:
    """The best found so far for each place. gemm: GFLOP/s by (place, library). copy: GB/s, read plus written."""

    gemm: dict[tuple[str, str], float]
    copy: dict[str, float]

    def of(self, place: str, unit: str) -> float:
        """The limit of a place for work counted in `unit`; of two GEMM libraries the faster."""
        if unit == "bytes":
            return self.copy[place]
        return max(rate for (where, _), rate in self.gemm.items() if where == place)

    def better(self, other: Limits) -> Limits:
        """The higher of two measurements: what else ran on the machine can only have lowered them."""
        gemm = {name: max(rate, other.gemm[name]) for name, rate in self.gemm.items()}
        return Limits(gemm, {place: max(rate, other.copy[place]) for place, rate in self.copy.items()})

    def facts(self) -> dict[str, float]:
        """The figures by name, for the environment file."""
        gemm = {f"gemm_{library}_{place}_gflops": rate for (place, library), rate in self.gemm.items()}
        return gemm | {f"copy_{place}_gbytes": rate for place, rate in self.copy.items()}


def measure_limits(device: str, *, quick: bool = False) -> Limits:
    """The limits of the CPU, and of the CUDA device where that is where the stages compute."""
    limits = Limits({}, {})
    for place in dict.fromkeys(("cpu", device)):
        side, copied = GEMM_SIDE[place], COPIED_BYTES[place]
        if quick:
            side, copied = side // 4, copied // 8
        limits.gemm[place, "torch"] = _torch_gemm(place, side)
        limits.copy[place] = _copy(place, copied)
        if place == "cpu":
            limits.gemm[place, "numpy"] = _numpy_gemm(side)
    return limits


def gemm_flop(side: int) -> float:
    """A product of two square matrices: side^2 sums of `side` products, a multiplication and an addition each."""
    return 2.0 * side**3


def _torch_gemm(place: str, side: int) -> float:
    a, b = torch.rand(2, side, side, device=place).unbind()
    out = torch.empty_like(a)
    return gemm_flop(side) / _best(lambda: torch.mm(a, b, out=out), place) / 1e9


def _numpy_gemm(side: int) -> float:
    a, b = np.random.default_rng(0).random((2, side, side), dtype=np.float32)
    out = np.empty_like(a)
    return gemm_flop(side) / _best(lambda: np.matmul(a, b, out=out), "cpu") / 1e9


def _copy(place: str, copied: int) -> float:
    source = torch.ones(copied // 4, device=place)
    target = torch.empty_like(source)
    return 2 * copied / _best(lambda: target.copy_(source), place) / 1e9


def _best(call: Callable[[], Any], place: str) -> float:
    """Seconds of the fastest of several calls, after one to warm up: a limit is a maximum."""
    wait = settled(place)
    call()
    seconds = []
    for _ in range(_TRIES):
        wait()
        started = time.perf_counter()
        call()
        wait()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def settled(place: str) -> Callable[[], None]:
    """Waits until a device has done all that it was given; the CPU has already."""
    return torch.cuda.synchronize if place == "cuda" else lambda: None
