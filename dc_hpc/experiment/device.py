"""Which processor a run computes on, a CPU or one of the GPUs that its process sees; and whether it can do so here."""

from __future__ import annotations

import importlib
import os

from dc_hpc.errors import InputError

# k-means backend -> the module that it imports, and the command that installs it. torch is always there.
_LIBRARIES = {
    "faiss": ("faiss", 'pip install "dc-hpc[cpu]"'),
    "sklearn": ("sklearn.metrics", "pip install scikit-learn"),
}


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

    if torch.cuda.is_available():
        return
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        raise InputError("device cuda is not available on this machine; allowed: cpu, auto")
    version = torch.__version__
    why = "sees none" if torch.version.cuda else "is built without CUDA"
    raise InputError(
        f"the task asked SLURM for a GPU, and torch {version} {why}; install a torch that fits the GPU's driver, or "
        "write gpus: 0 into the site profile to compute on the CPU"
    )


def check_kmeans_backend(name: str) -> None:
    """InputError when the library of a k-means backend cannot be imported here."""
    library, install = _LIBRARIES.get(name, ("", ""))
    if not library:
        return
    try:
        importlib.import_module(library)
    except Exception as error:  # a broken library raises anything
        raise InputError(
            f"k-means backend {name} cannot be used here ({type(error).__name__}: {error}); install it: {install}, or "
            "use the backend torch"
        ) from None


def use_gpu(device: str, worker: int) -> None:
    """Let "cuda" mean one of the GPUs that this process sees: worker 0 has the first, and so on in turn."""
    if device == "cpu":
        return
    import torch

    gpus = torch.cuda.device_count()
    if gpus > 1:
        torch.cuda.set_device(worker % gpus)
