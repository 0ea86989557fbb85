"""The forward and backward pass of a trunk: by torch, layer after layer, or faster by the blocks of blocks.py.

`training` and `evaluation` each return a function of a batch of images. The blocks serve where the trunk is an
nn.Sequential on a CPU, numba works, and `blocks_of` finds a block for every layer in front of nn.Flatten:

    batch (n, c, h, w) -> images innermost (c, h, w, n) -> block -> ... -> block -> (n, c', h', w')    _Stack
                       -> Flatten, Dropout, Linear -> features (n, D)                                  torch

Images are innermost so that every compiled loop runs over neighbours in memory, one image beside the other, whatever
the window. Any other net is computed by torch as a whole.

Both ways agree in the mathematics, in which value of a window wins a tie, in the variances and running statistics of
batch norm, in the random draws (but see `_Dropout`) and in what a State holds. They take sums in another order, so
values differ in the last bits of float32, as they do between two numbers of threads. The same machine gives the same
bits every time; a CPU with vectors of another width gives others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.backends.blocks import Block, blocks_of
from dc_hpc.algorithm.backends.convolutions import BufferPool
from dc_hpc.algorithm.backends.linear import descending
from dc_hpc.algorithm.backends.machine_code.panel_products import transposed
from dc_hpc.algorithm.backends.sgd import SGD
from dc_hpc.algorithm.nets import OUTPUT


def kernels_of(trunk: nn.Module) -> str:
    """Which kernels compute the blocks of this trunk on its present device: "torch" or "numba"."""
    return "numba" if _blocks(trunk) else "torch"


def training(trunk: nn.Module, *optimizers: SGD) -> Callable[[Tensor], Tensor]:
    """A function from a batch (n, c, h, w) to its features (n, D) in train mode, which autograd can differentiate.

    Of a trunk that blocks compute: the batch is float32 on the CPU. Its backward pass must come before the forward pass
    of the next batch, and only once, since it overwrites what it has read. It reaches the parameters only: images get
    no gradient. Layers are taken as they are now; hooks that watch them are not called. With optimizers, that of a
    large Linear layer gets factors of the gradient instead (linear.py). The returned function raises RuntimeError:
    images that the net does not take (torch's own error), or a backward pass after the next forward pass.

    Of any other trunk the function is the trunk itself.
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
    rest = descending(rest, optimizers)
    return lambda batch: rest(_ThroughBlocks.apply(stack, batch, *parameters))


def evaluation(trunk: nn.Module, layers: Sequence[str]) -> Callable[[Tensor], dict[str, Tensor]]:
    """A function from a batch (n, c, h, w) to the values of the named layers in eval mode, (n, ...) each.

    layers: names by `trunk.named_modules()`, or OUTPUT. The next call may overwrite the values. Of a chain of layers,
    those after the last named one are not computed. The trunk must not learn between two calls: what is made of its
    filters is made once. The returned function raises RuntimeError: images that the net does not take.
    """
    trunk.eval()
    if not _is_chain(trunk) or not set(layers) <= {OUTPUT, *(name for name, _ in _children(trunk))}:
        return _watched(trunk, layers)
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
                found[name] = value.clone()  # the next layer may work in place
        if OUTPUT in layers:
            found[OUTPUT] = value
        return found

    return evaluate


def last_two_layers(trunk: nn.Module) -> tuple[str, nn.Linear] | None:
    """(the name of the layer before the last, the last layer) of a chain that ends with a Linear layer; else None."""
    children = _children(trunk) if _is_chain(trunk) else []
    if len(children) < 2 or not _is_float_linear(children[-1][1]):
        return None
    return children[-2][0], cast(nn.Linear, children[-1][1])


def _is_float_linear(layer: nn.Module) -> bool:
    """Whether a layer is torch's own Linear layer with float32 weights."""
    return type(layer) is nn.Linear and layer.weight.dtype == torch.float32


def _watched(trunk: nn.Module, layers: Sequence[str]) -> Callable[[Tensor], dict[str, Tensor]]:
    """`evaluation` of any net: its own forward pass, while hooks note what the named layers return.

    A layer that is called several times counts with its last call.
    """
    modules = dict(trunk.named_modules(remove_duplicate=False))

    @torch.no_grad()
    def evaluate(batch: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def note(name: str, _: nn.Module, inputs: Any, value: Any) -> None:
            found[name] = value.clone() if isinstance(value, Tensor) else value  # the next layer may work in place

        hooks = [modules[name].register_forward_hook(partial(note, name)) for name in layers]
        try:
            trunk(batch)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    return evaluate


def _is_chain(trunk: nn.Module) -> bool:
    """Whether the trunk is its children one after the other, as every net of the paper is."""
    return isinstance(trunk, nn.Sequential) and type(trunk).forward is nn.Sequential.forward


def _children(trunk: nn.Module) -> list[tuple[str, nn.Module]]:
    """The children by name; unlike `named_children` with one that stands in several places in each of them."""
    return [(name, child) for name, child in trunk._modules.items() if child is not None]


def _blocks(trunk: nn.Module) -> list[Block]:
    """New blocks for the layers in front of nn.Flatten; [] where torch computes the trunk."""
    found = blocks_of(_children(trunk)) if _is_chain(trunk) else []
    return found if found and kernels.available() else []


def _after(blocks: list[Block], trunk: nn.Module) -> list[tuple[str, nn.Module]]:
    """The children of the trunk, with their names, that come after its blocks."""
    return _children(trunk)[sum(len(block.layers) for block in blocks) :]


class _Stack:
    """Blocks one after another: their forward pass on images (n, c, h, w), and the backward pass.

    The blocks keep what the backward pass needs in buffers that the next forward pass overwrites. `pass_number` counts
    the forward passes, so that a backward pass can tell whether the buffers are still its own. `checked`: shape and
    dtype of images that `_check` has let through.
    """

    def __init__(self, blocks: list[Block]):
        self.blocks, self.buffers, self.pass_number = blocks, BufferPool(), 0
        self.checked: tuple[torch.Size, torch.dtype] | None = None

    def forward(self, batch: Tensor) -> Tensor:
        """In train mode, from float32 (n, c, h, w) to new memory (n, c', h', w'); moves the running statistics."""
        self._check(batch)
        self.pass_number += 1
        value = self._innermost(batch, "batch")
        for block in self.blocks:
            value = block.forward(value)
        channels, height, width, n = self.shape = value.shape
        out = transposed(value.view(-1, n), torch.empty(n, channels * height * width))
        return out.view(n, channels, height, width)

    def backward(self, gradient: Tensor) -> list[Tensor]:
        """From the gradient (n, c', h', w'): those of the parameters, in the order of the blocks' `parameters`."""
        value: Tensor | None = self._innermost(gradient, "gradient")
        found: list[Tensor] = []
        for block in reversed(self.blocks):
            assert value is not None  # only the first block leaves its input without a gradient
            value, gradients = block.backward(value, to_input=block is not self.blocks[0])
            found = [*gradients, *found]
        return found

    def evaluate(self, batch: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """In eval mode, up to the block with the last named layer: what comes out, and the values of these layers.

        Both are (n, c', h', w'), and views of buffers that the next call overwrites.
        """
        self._check(batch)
        value = self._innermost(batch, "batch")
        found: dict[str, Tensor] = {}
        for block in self.blocks:
            if layers and len(found) == len(set(layers)):
                break
            value, values = block.evaluate(value, layers)
            found |= values
        return value.permute(3, 0, 1, 2), found

    def _check(self, batch: Tensor) -> None:
        """Refuse images that the net does not take with torch's own error: the compiled loops check no bounds."""
        if self.checked == (batch.shape[1:], batch.dtype):
            return
        try:
            self._shape_by_torch(batch[:1])
        except RuntimeError:
            self._shape_by_torch(batch)  # the same error, with the size of the batch in it
            raise
        if batch.dim() != 4:
            raise RuntimeError(f"a batch of images has the shape (n, c, h, w), not {tuple(batch.shape)}")
        self.checked = batch.shape[1:], batch.dtype

    @torch.no_grad()
    def _shape_by_torch(self, value: Tensor) -> None:
        """Send images through torch's layers for the sake of the errors that these raise."""
        for _, layer in (named for block in self.blocks for named in block.layers):
            if not isinstance(layer, nn.BatchNorm2d):  # it keeps the shape, and would move its running statistics
                value = layer(value)

    def _innermost(self, images: Tensor, name: str) -> Tensor:
        """(n, c, h, w) as (c, h, w, n), in a buffer of this name."""
        n, *shape = images.shape
        return transposed(images.reshape(n, -1), self.buffers(name, *shape, n).flatten(0, 2)).view(*shape, n)


class _Dropout(nn.Module):
    """nn.Dropout in training with the same draws, from uniform numbers, which torch makes three times as fast.

    The uniform numbers are float64 because torch's own Bernoulli draws are compared with such. On a CPU of Intel, a
    torch with MKL takes another stream for nn.Dropout: there the draws differ from torch's, while these stay the same.
    """

    def __init__(self, p: float):
        super().__init__()
        self.keep_probability = 1 - p

    def forward(self, value: Tensor) -> Tensor:
        """The value, float32 of any shape, with a random part of it zero and the rest scaled up."""
        mask = torch.rand(value.shape, dtype=torch.float64) < self.keep_probability
        return value * mask.to(value.dtype).div_(self.keep_probability)


class _ThroughBlocks(torch.autograd.Function):
    """The forward and backward pass of a _Stack, for autograd.

    The parameters are arguments only so that autograd asks for their gradients: the blocks read them from the layers.
    """

    @staticmethod
    def forward(ctx: Any, stack: _Stack, batch: Tensor, *parameters: nn.Parameter) -> Tensor:
        """From float32 images (n, c, h, w) to maps (n, c', h', w'). parameters: in the order of the gradients."""
        out = stack.forward(batch)
        ctx.stack, ctx.pass_number = stack, stack.pass_number
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the arguments of `forward`: none for stack and batch, then one for each parameter.

        Raises RuntimeError: the stack has made another forward pass since, or this backward pass already.
        """
        if ctx.pass_number != ctx.stack.pass_number:
            raise RuntimeError(
                "the blocks hold one batch: run the backward pass of a batch once, before the next forward pass"
            )
        ctx.pass_number = None  # it overwrites what a second one would read
        return None, None, *ctx.stack.backward(gradient)
