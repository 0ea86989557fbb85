"""A step of training, on whatever device the net is: the fastest forward pass there, SGD, and on a GPU a CUDA graph.

    batch -> cpu.training (trunk) -> head -> loss -> backward pass -> SGD.step

`deepcluster.py` makes one step function a cycle, since each cycle has a new head, and calls it for every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dc_hpc.algorithm.backends.cpu import kernels_of, training
from dc_hpc.algorithm.backends.cuda_graph import ReplayedStep
from dc_hpc.algorithm.backends.determinism import same_generators
from dc_hpc.algorithm.backends.linear import descending
from dc_hpc.algorithm.backends.sgd import SGD
from dc_hpc.algorithm.nets import Sobel

Step = Callable[[Tensor, Tensor], Tensor]


def training_step(
    trunk: nn.Module, head: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], *optimizers: SGD
) -> Step:
    """A function of a batch (b, c, h, w) and its labels (b,): one step of SGD; it returns the loss before the step.

    loss: from the head's outputs and the labels to a scalar. optimizers: of all parameters that learn. On a GPU the
    steps are replayed as CUDA graphs, which gives the same bits sooner; the next step then overwrites the loss. This is
    not done for a net with modules that are not torch's own: their Python code may differ from step to step. Of loss
    and head it is not checked: they must compute the same operations in every step, and the constants of the optimizers
    must stay.

    The trunk is put into train mode now. The step raises RuntimeError: images that the net does not take.
    """
    step = plain_step(trunk, head, loss, *optimizers)
    on_gpu = next(head.parameters()).is_cuda
    return ReplayedStep(step) if on_gpu and _is_of_known_modules(trunk) else step


def _is_of_known_modules(trunk: nn.Module) -> bool:
    """Whether all modules are torch's own, or the Sobel filter, so that every step launches the same kernels."""
    return all(isinstance(one, Sobel) or type(one).__module__.startswith("torch.nn.") for one in trunk.modules())


def plain_step(trunk: nn.Module, head: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], *optimizers: SGD) -> Step:
    """`training_step` without CUDA graphs, on any device; it returns new memory."""
    features, classify = training(trunk, *optimizers), head
    if kernels_of(trunk) == "numba" and isinstance(head, nn.Sequential):
        classify = descending(head, optimizers)

    def step(batch: Tensor, labels: Tensor) -> Tensor:
        value = loss(classify(features(batch)), labels)
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(value)
        for optimizer in optimizers:
            optimizer.step()
        return value.detach()

    return step


@contextmanager
def dropout_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of the CPU and of the device, which dropout draws from; restore them afterwards."""
    with same_generators(device):
        torch.manual_seed(seed)
        yield
