"""A step of training on a GPU as one launch: a CUDA graph.

A step of LeNet-5 is some sixty small kernels, and the CPU takes longer to launch one than the GPU to compute it: on an
H200 a step takes 2.3 ms. Recorded once and replayed, the same kernels on the same addresses are one launch: 0.46 ms.
The kernels are the same, so the bits are those of a step that is not recorded.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., Tensor]


class ReplayedStep:
    """A function of tensors on a GPU that returns a tensor: computed at its first call, recorded at its second.

    One recording for each list of shapes: an epoch has two, since its last batch may be smaller. The function may
    change tensors that outlive it (parameters, momentum) in place, and must not look at values. What it allocates once
    (momentum, workspaces), it allocates at its first call. The tensor that a call returns is overwritten by the next.

    A replay runs no Python: numbers that are no tensors, such as a learning rate, stay what they were at the recording.
    Recordings hold their memory as long as this object lives.
    """

    def __init__(self, function: Step):
        self.function = function
        self._called: set[tuple[torch.Size, ...]] = set()
        self._recorded: dict[tuple[torch.Size, ...], tuple[list[Tensor], Callable[[], None], Tensor]] = {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        """The function of these tensors, whose dtypes must be those of earlier calls with these shapes."""
        shapes = tuple(tensor.shape for tensor in tensors)
        if shapes not in self._called:
            self._called.add(shapes)
            return _on_a_side_stream(self.function, tensors)
        if shapes not in self._recorded:
            held = [tensor.clone() for tensor in tensors]
            self._recorded[shapes] = (held, *_record(self.function, held))
        held, replay, result = self._recorded[shapes]
        for place, tensor in zip(held, tensors):
            place.copy_(tensor)
        replay()
        return result


def _on_a_side_stream(function: Step, tensors: tuple[Tensor, ...]) -> Tensor:
    """Call the function on a stream of its own, so that autograd keeps no default stream, which cannot be recorded."""
    side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch gives it no types
    usual = torch.cuda.current_stream()
    side.wait_stream(usual)
    with torch.cuda.stream(side):
        result = function(*tensors)
    usual.wait_stream(side)
    return result


def _record(function: Step, held: list[Tensor]) -> tuple[Callable[[], None], Tensor]:
    """(a call that computes the function of the held tensors, the tensor of its result). Nothing is computed yet.

    Raises RuntimeError: the function does something that cannot be recorded, such as to read a value.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(*held)
    return graph.replay, result
