"""Which processor a run computes on: a CPU, or one of the GPUs that its process sees."""

from __future__ import annotations

from dc_hpc.errors import InputError


def device_of(requested: str) -> str:
    """ "cuda" or "cpu": what is requested, or with "auto" a GPU where there is one."""
    if requested == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(requested)
    return requested


def check_device(device: str) -> None:
    """InputError when it is "cuda" and this machine has no GPU that torch can use."""
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError("device cuda is not available on this machine; allowed: cpu, auto")


def use_gpu(device: str, worker: int) -> None:
    """Let "cuda" mean one of the GPUs that this process sees: worker 0 has the first, and so on in turn."""
    if device == "cpu":
        return
    import torch

    gpus = torch.cuda.device_count()
    if gpus > 1:
        torch.cuda.set_device(worker % gpus)
