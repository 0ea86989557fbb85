"""On what a benchmark ran: a time without this says nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import cores, environment


def chosen_device(wanted: str) -> str:
    """ "cpu" or "cuda" for one of execution.DEVICES; InputError where there is no CUDA device."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device on this machine; allowed here: cpu, auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def machine(*, device: str, threads: int) -> dict[str, Any]:
    """CPU, cores, device, BLAS kernels, versions and commit. To be asked once all libraries are loaded: only those
    have a kernel.
    """
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    torch_blas = f"torch {'MKL' if torch.backends.mkl.is_available() else 'BLAS'} {_capability()}"
    known = environment()
    blas = [kernel for kernel in known["blas"] if "openmp" not in kernel]
    return {
        **known,
        "blas": [*blas, torch_blas],
        "cpu": cpu_model(),
        "cores": cores(),
        "device": name,
        "threads": threads,
        "system": f"{platform.system()} {platform.release()}",
    }


def cpu_model() -> str:
    """The CPU by the name that its maker gave it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def load_average() -> float:
    """Processes that wanted a core over the last minute, on average."""
    return round(os.getloadavg()[0], 2)


def caption(facts: Mapping[str, Any]) -> list[str]:
    """The facts in a few lines for people."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    load = f"load average {facts['load_start']} at the start, {facts['load_end']} at the end"
    lines = [f"{facts['cpu']}, {facts['cores']} cores; {facts['threads']} threads; device {facts['device']}; {load}"]
    if facts.get("limits"):
        lines.append("limits: " + ", ".join(_limit(name, rate) for name, rate in facts["limits"].items()))
    return [*lines, f"BLAS: {', '.join(facts['blas'])}", f"Python {facts['python']}, {versions}"]


def _limit(name: str, rate: float) -> str:
    *words, unit = name.split("_")
    return f"{' '.join(words)} {rate:,.0f} {unit.replace('gflops', 'GFLOP/s').replace('gbytes', 'GB/s')}"


def _capability() -> str:
    return torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends.cpu, "get_cpu_capability") else ""
