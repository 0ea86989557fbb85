"""How a trunk is computed: by torch, layer after layer, or on a CPU, where numba is installed, by blocks.py: faster.

What a net is stands in nets.py and is not changed here. The classifier after the blocks, its dropout and the head
stay torch's.

The same either way: the mathematics, which value of a window wins a tie, the variances and running statistics of batch
norm, every random draw, what a State holds. Not the same: sums are taken in another order, so values differ in the
last bits of float32, as they do between two numbers of threads. The same machine gives the same bits every time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.backends.blocks import Block, SobelBlock, blocks_of
from dc_hpc.algorithm.backends.convolutions import BufferPool

# Images at once in eval mode. Blocks: few enough that what a layer reads and writes stays in the cache of a core.
# A GPU: so many that it has more to compute than the CPU to ask for.
_EVALUATED_AT_ONCE = {"torch": 256, "numba": 128, "cuda": 1024}


@contextmanager
def exact() -> Iterator[None]:
    """Torch as a run wants it: no operation whose sums change from one time to the next, and float32 means float32.

    On a GPU torch's convolutions are in TF32 by themselves, whose factors have 10 bits where float32 has 23.
    """
    mode, fills = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    tf32 = torch.backends.cudnn.allow_tf32
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may not be used in this mode
    # not torch.use_deterministic_algorithms: it imports torch's compiler, which takes a second
    torch.set_deterministic_debug_mode("error")
    # Filling new memory is for finding reads of it, and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = fills
        torch.backends.cudnn.allow_tf32 = tf32


def kernels_of(trunk: nn.Sequential) -> str:
    """Whose kernels compute the blocks of this trunk, where it is now: "torch" or "numba"."""
    return "numba" if _blocks(trunk) else "torch"


def evaluated_at_once(trunk: nn.Sequential) -> int:
    """The number of images that `evaluation` is best given at once."""
    on_gpu = next(trunk.parameters()).is_cuda
    return _EVALUATED_AT_ONCE["cuda" if on_gpu else kernels_of(trunk)]


def training(trunk: nn.Sequential) -> Callable[[Tensor], Tensor]:
    """A function from a batch (n, c, h, w) to its features (n, D), in train mode, through which autograd goes back.

    Go back through a batch before the next, and only to the parameters: images get no gradient.
    """
    trunk.train()
    blocks = _blocks(trunk)
    if not blocks:
        return trunk
    stack = _Stack(blocks)
    parameters = [p for block in blocks for p in block.parameters()]
    rest = nn.Sequential(
        *[_Dropout(layer.p) if isinstance(layer, nn.Dropout) else layer for _, layer in _after(blocks, trunk)]
    )
    return lambda batch: rest(_ThroughBlocks.apply(stack, batch, *parameters))


def evaluation(trunk: nn.Sequential, layers: Sequence[str]) -> Callable[[Tensor], dict[str, Tensor]]:
    """A function from a batch (n, c, h, w) to the values of the named layers in eval mode, (n, ...) each.

    The next call may overwrite them. Layers after the last named one are not computed.
    """
    trunk.eval()
    blocks = _blocks(trunk)
    stack, rest = _Stack(blocks), _after(blocks, trunk)

    @torch.no_grad()
    def evaluate(batch: Tensor) -> dict[str, Tensor]:
        value, found = stack.evaluate(batch, layers) if blocks else (batch, {})
        for name, layer in rest:
            if len(found) == len(set(layers)):
                break
            value = layer(value)
            if name in layers:
                found[name] = value
        return found

    return evaluate


def _blocks(trunk: nn.Sequential) -> list[Block | SobelBlock]:
    return blocks_of(list(trunk.named_children())) if kernels.available() else []


def _after(blocks: list[Block | SobelBlock], trunk: nn.Sequential) -> list[tuple[str, nn.Module]]:
    return list(trunk.named_children())[sum(len(block.layers) for block in blocks) :]


class _Stack:
    """Blocks one after another, from images (n, c, h, w) and back. `turn` counts the ways forward."""

    def __init__(self, blocks: list[Block | SobelBlock]):
        self.blocks, self.room, self.turn = blocks, BufferPool(), 0

    def forward(self, batch: Tensor) -> Tensor:
        """(n, c', h', w'), contiguous."""
        self.turn += 1
        value = self._innermost(batch, "batch")
        for block in self.blocks:
            value = block.forward(value)
        channels, height, width, n = self.shape = value.shape
        out = torch.empty(n, channels * height * width).copy_(value.view(-1, n).T)
        return out.view(n, channels, height, width)

    def backward(self, gradient: Tensor) -> list[Tensor]:
        """The gradients of the parameters, block by block."""
        value, found = self._innermost(gradient, "gradient"), []
        learning = [block for block in self.blocks if block.parameters()]
        for block in reversed(learning):
            value, gradients = block.backward(value, to_input=block is not learning[0])
            found = [*gradients, *found]
        return found

    def evaluate(self, batch: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """What comes out, (n, c', h', w'), and the values of the named layers."""
        value, found = self._innermost(batch, "batch"), {}
        for block in self.blocks:
            if layers and len(found) == len(set(layers)):
                break
            value, values = block.evaluate(value, layers)
            found |= values
        return value.permute(3, 0, 1, 2), found

    def _innermost(self, images: Tensor, name: str) -> Tensor:
        """(n, c, h, w) as (c, h, w, n)."""
        n, *shape = images.shape
        return self.room(name, *shape, n).flatten(0, 2).copy_(images.reshape(n, -1).T).view(*shape, n)


class _Dropout(nn.Module):
    """nn.Dropout in training, draw for draw, from uniform numbers, which torch makes three times as fast."""

    def __init__(self, p: float):
        super().__init__()
        self.kept = 1 - p

    def forward(self, value: Tensor) -> Tensor:
        """The value with some of it zero and the rest larger."""
        mask = torch.rand(value.shape, dtype=torch.float64) < self.kept
        return value * mask.to(value.dtype).div_(self.kept)


class _ThroughBlocks(torch.autograd.Function):
    """The way forward and back through a _Stack, for autograd."""

    @staticmethod
    def forward(ctx: Any, stack: _Stack, batch: Tensor, *parameters: nn.Parameter) -> Tensor:
        out = stack.forward(batch)
        ctx.stack, ctx.turn = stack, stack.turn
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.turn != ctx.stack.turn:
            raise RuntimeError("the blocks keep one batch: go back through a batch before the next goes forward")
        return None, None, *ctx.stack.backward(gradient)
