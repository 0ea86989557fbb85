"""Describes the machine and the software that a benchmark ran on; a time means nothing without it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import cores, environment


def chosen_device(requested: str) -> str:
    """ "cpu" or "cuda" for one of execution.DEVICES; InputError where there is no CUDA device."""
    if requested == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device on this machine; allowed here: cpu, auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if requested == "auto" else requested


def machine(*, device: str, threads: int) -> dict[str, Any]:
    """CPU, cores, device, BLAS kernels, versions and commit.

    Call it after all libraries are loaded: a library has a BLAS kernel only then.
    """
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    torch_blas = f"torch {'MKL' if torch.backends.mkl.is_available() else 'BLAS'} {_cpu_capability()}"
    software = environment()
    blas = [kernel for kernel in software["blas"] if "openmp" not in kernel]
    return {
        **software,
        "blas": [*blas, torch_blas],
        "cpu": cpu_model(),
        "cores": cores(),
        "device": name,
        "threads": threads,
        "system": f"{platform.system()} {platform.release()}",
    }


def cpu_model() -> str:
    """The name that the maker gave the CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def load_average() -> float:
    """The mean number of processes that were running or waiting for a core over the last minute."""
    return round(os.getloadavg()[0], 2)


def caption(environment: Mapping[str, Any]) -> list[str]:
    """The environment of a benchmark in a few lines for people."""
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    load = f"load average {environment['load_start']} at the start, {environment['load_end']} at the end"
    hardware = f"{environment['cpu']}, {environment['cores']} cores; {environment['threads']} threads"
    lines = [f"{hardware}; device {environment['device']}; {load}"]
    if environment.get("limits"):
        lines.append("limits: " + ", ".join(_limit(name, rate) for name, rate in environment["limits"].items()))
    return [*lines, f"BLAS: {', '.join(environment['blas'])}", f"Python {environment['python']}, {versions}"]


def _limit(name: str, rate: float) -> str:
    *words, unit = name.split("_")
    return f"{' '.join(words)} {rate:,.0f} {unit.replace('gflops', 'GFLOP/s').replace('gbytes', 'GB/s')}"


def _cpu_capability() -> str:
    return torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends.cpu, "get_cpu_capability") else ""
