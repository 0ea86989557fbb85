"""Exact arithmetic: the same bits every time, and float32 products of float32 numbers.

A run computes inside `exact()`. It changes settings of torch that hold for the whole process, so two of them must not
run beside each other in one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact() -> Iterator[None]:
    """Torch as a run needs it: no operation whose sums change from one time to the next, and float32 means float32.

    Numbers too small for the exponent of their type count as 0.

    By default torch's convolutions on a GPU use TF32, whose factors have 10 bits where float32 has 23. Products of
    matrices use float32 by default, but the caller may have let them use TF32, or bfloat16 on a CPU; here they use
    float32. Inside, torch raises RuntimeError for an operation that has no deterministic form. Afterwards the settings
    are as before, but small numbers count again in any case, and CUBLAS_WORKSPACE_CONFIG stays in the environment. So
    it must not be nested.
    """
    filling: Any = torch.utils.deterministic  # its setting is a property of the module, which no type checker sees
    mode, fills = torch.get_deterministic_debug_mode(), filling.fill_uninitialized_memory
    tf32, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may not be used in this mode
    # not torch.use_deterministic_algorithms: it imports torch's compiler, which takes a second
    torch.set_deterministic_debug_mode("error")
    # Filling new memory is for finding reads of it, and costs time.
    filling.fill_uninitialized_memory = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")  # torch.backends.cuda.matmul.allow_tf32 too
    # numbers below 1e-38 count as 0: the CPU needs a hundred times as long for them, and weight decay could make some
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        filling.fill_uninitialized_memory = fills
        torch.backends.cudnn.allow_tf32 = tf32
        torch.set_float32_matmul_precision(products)
        torch.set_flush_denormal(False)


@contextmanager
def same_generators(device: torch.device) -> Iterator[None]:
    """The global random generators of the CPU and of a device are afterwards what they were.

    device: a GPU, or the CPU alone. Inside, torch draws from the same state as outside, unless it is seeded.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
