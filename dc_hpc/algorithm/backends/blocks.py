"""The blocks of a trunk, convolution -> batch norm -> ReLU -> max-pool, on a CPU with the images of a batch innermost.

`blocks_of` divides the children of a trunk into blocks, and refuses where a layer has an option that blocks lack.
A block reads and returns maps of float32 (c, h, w, n):

    forward pass    x -> convolution -> y -> moments of y -> batch norm, ReLU and pool in one pass -> out
    backward pass   gradient of out -> to the winners of the pool -> through batch norm -> through the convolution

Its convolution is one of convolutions.py; the rest of it is one or two passes over memory (kernels.py), where torch's
layers would make one for each layer. A block holds what its backward pass needs until its next forward pass, and every
buffer for as long as it lives: new memory for each batch would cost more than some of the loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.backends.convolutions import BufferPool, SobelConv, fitting, rows_of
from dc_hpc.algorithm.backends.kernels import Floats, compiled
from dc_hpc.algorithm.nets import Sobel, bias_of


class Block:
    """A Sobel filter or none, convolution, batch norm or none, ReLU, 2 x 2 max-pool or none.

    layers: the children of the trunk that the block computes, each with its name, as `blocks_of` takes them; the block
    shares their parameters and running statistics. The convolution is chosen at the first batch, and again when the
    height or width of the maps changes.
    """

    def __init__(self, layers: Sequence[tuple[str, nn.Module]]):
        self.layers, self.buffers = layers, BufferPool()
        self.name = {type(layer): name for name, layer in layers}
        found = {type(layer): layer for _, layer in layers}
        self.layer = cast(nn.Conv2d, found[nn.Conv2d])
        self.sobel = cast("Sobel | None", found.get(Sobel))
        self.size: tuple[int, ...] | None = None
        self.norm = cast("nn.BatchNorm2d | None", found.get(nn.BatchNorm2d))
        pool = cast("nn.MaxPool2d | None", found.get(nn.MaxPool2d))
        self.pool_stride = cast(int, pool.stride) if pool else None

    def parameters(self) -> list[nn.Parameter]:
        """In the order of the gradients that `backward` returns."""
        return [p for _, layer in self.layers if layer is not self.sobel for p in layer.parameters()]

    def forward(self, x: Tensor) -> Tensor:
        """In training: from x (c, h, w, n) to the maps after the last layer (c', h', w', n), a buffer.

        Batch norm takes the statistics of this batch, which the running ones follow.
        """
        y = self._convolve(x)
        self.statistics = self._batch_statistics(self.norm, y) if self.norm else None
        return self._rectify(y, self.statistics)

    def evaluate(self, x: Tensor, requested: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """In eval mode: the input of the next layer, and the value of each requested layer as (n, c, h, w).

        x: (c, h, w, n). requested: names of layers, of this block or of others. The values are views of buffers that
        the next call overwrites. The filters must be those of the calls before.
        """
        y = self._convolve(x, same_filters=True)
        statistics = None
        if self.norm:
            mean, variance = _running_statistics(self.norm)
            statistics = mean.numpy(), np.sqrt(variance.numpy() + self.norm.eps)
        out = self._rectify(y, statistics)
        found = {self.name[nn.Conv2d]: y, self.layers[-1][0]: out}
        if isinstance(self.convolution, SobelConv) and self.name[Sobel] in requested:
            found[self.name[Sobel]] = self.convolution.edges_of(x)
        missing = [name for name, _ in self.layers if name in requested and name not in found]
        if missing:
            scale, shift = (_by_channel(one) for one in self._scale_and_shift(statistics))
            scaled = y * scale + shift
            normed = {self.name[nn.BatchNorm2d]: scaled} if self.norm else {}
            found = {**normed, self.name[nn.ReLU]: scaled.relu()} | found
        return out, {name: value.permute(3, 0, 1, 2) for name, value in found.items() if name in requested}

    def backward(self, gradient: Tensor, *, to_input: bool) -> tuple[Tensor | None, list[Tensor]]:
        """From the gradient of `forward`'s result: that of its x (None unless asked for) and of `parameters`.

        gradient: (c', h', w', n), contiguous. Once only for each forward pass.
        """
        y = self.y
        spread = self.buffers("gradient", *y.shape)
        if self.pool_stride:
            compiled(kernels.to_winners)(
                gradient.numpy(), self.winner.numpy(), self.pool_stride, spread.zero_().numpy()
            )
        else:
            torch.ops.aten.threshold_backward.grad_input(gradient, self.out, 0, grad_input=spread)
        if self.norm is None or self.statistics is None:
            back, filters = self.convolution.backward(spread, to_input=to_input)
            return back, [filters, spread.view(len(spread), -1).sum(1)]
        sums = np.empty((len(y), 3))
        compiled(kernels.through_batch_norm)(
            rows_of(spread), rows_of(y), *self.statistics, self.norm.weight.detach().numpy(), sums
        )
        bias, weight, convolution_bias = (torch.from_numpy(one.astype(np.float32)) for one in sums.T)
        back, filters = self.convolution.backward(spread, to_input=to_input)
        return back, [filters, convolution_bias, weight, bias]

    def _convolve(self, x: Tensor, *, same_filters: bool = False) -> Tensor:
        """The convolution of x with its bias, by the class that fits the size of x."""
        if self.size != x.shape[1:3]:
            self.size = x.shape[1:3]
            self.convolution = SobelConv(self.sobel, self.layer) if self.sobel else fitting(self.layer, *self.size)
        return self.convolution.forward(x, same_filters=same_filters)

    def _batch_statistics(self, norm: nn.BatchNorm2d, y: Tensor) -> tuple[Floats, Floats]:
        """Mean and deviation (the root of biased variance + epsilon) of each channel, float32 (c,) each.

        Moves the running statistics as torch does: the running variance follows the unbiased one.
        """
        found, size = np.empty((len(y), 2)), y[0].numel()
        compiled(kernels.moments)(rows_of(y), found)
        mean, variance = found.T
        momentum = cast(float, norm.momentum)
        for running, new in zip(_running_statistics(norm), (mean, variance * (size / (size - 1)))):
            array = running.numpy()
            array += momentum * (new.astype(np.float32) - array)
        cast(Tensor, norm.num_batches_tracked).add_(1)
        return mean.astype(np.float32), np.sqrt(variance + norm.eps).astype(np.float32)

    def _rectify(self, y: Tensor, statistics: tuple[Floats, Floats] | None) -> Tensor:
        """Batch norm, ReLU and pool in one pass. It stores for `backward` which values passed.

        statistics: mean and deviation of each channel, (c,) each; None where the block has no batch norm.
        """
        self.y = y
        scale, shift = self._scale_and_shift(statistics)
        channels, height, width, n = y.shape
        if self.pool_stride:
            stride = self.pool_stride
            shape = channels, (height - 2) // stride + 1, (width - 2) // stride + 1, n
            self.out, self.winner = self.buffers("out", *shape), self.buffers("winner", *shape, dtype=torch.uint8)
            compiled(kernels.rectified_maxima)(y.numpy(), scale, shift, stride, self.out.numpy(), self.winner.numpy())
        else:
            self.out = self.buffers("out", *y.shape)
            torch.addcmul(_by_channel(shift), y, _by_channel(scale), out=self.out).relu_()
        return self.out

    def _scale_and_shift(self, statistics: tuple[Floats, Floats] | None) -> tuple[Floats, Floats]:
        """Batch norm as x * scale + shift, float32 (c,) each; 1 and 0 where there is none."""
        if self.norm is None or statistics is None:
            return np.ones(self.layer.out_channels, np.float32), np.zeros(self.layer.out_channels, np.float32)
        mean, deviation = statistics
        weight: Floats = self.norm.weight.detach().numpy()
        bias: Floats = self.norm.bias.detach().numpy()
        scale = weight / deviation
        return scale, bias - mean * scale


def blocks_of(layers: Sequence[tuple[str, nn.Module]]) -> list[Block]:
    """The blocks that a trunk's children begin with; [] where a `Block` cannot compute one of them.

    layers: the children in their order, with their names. All in front of the first nn.Flatten must belong to a block:
    one that does not would mean maps that go to torch and come back, a transposition each time.
    """
    blocks: list[Block] = []
    place = 0
    while place < len(layers) and not isinstance(layers[place][1], nn.Flatten):
        taken = _block_at(layers, place)
        if not taken:
            return []
        blocks.append(Block(taken))
        place += len(taken)
    return blocks


def _block_at(layers: Sequence[tuple[str, nn.Module]], place: int) -> Sequence[tuple[str, nn.Module]]:
    """The children of the block that begins at a place; none if there is no block that can be computed here."""
    end = place
    if place == 0 and layers and isinstance(layers[0][1], Sobel):
        if not _is_plain(layers[0][1]):
            return []
        end = 1
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d):
        layer = layers[end][1] if end < len(layers) else None
        if type(layer) is kind:
            if not _is_plain(layer):
                return []
            end += 1
        elif kind in (nn.Conv2d, nn.ReLU):
            return []
    taken = layers[place:end]
    # SobelConv joins square filters only
    convolution = next(layer for _, layer in taken if isinstance(layer, nn.Conv2d))
    behind_sobel = isinstance(taken[0][1], Sobel)
    return [] if behind_sobel and convolution.kernel_size[0] != convolution.kernel_size[1] else taken


def _running_statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The running mean and variance, which every plain batch norm has."""
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var


def _by_channel(values: Floats) -> Tensor:
    """(c,) as (c, 1, 1, 1), to be combined with maps (c, h, w, n)."""
    return torch.from_numpy(values).view(-1, 1, 1, 1)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is on the CPU in float32 and has none of the options that blocks lack.

    SobelConv, which joins the Sobel filter with the convolution behind it, leaves out the bias of the edges; it is 0 in
    every net of the paper.
    """
    if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in layer.parameters()):
        return False
    if isinstance(layer, Sobel):
        return not bool(bias_of(cast(nn.Conv2d, layer.edges)).any())
    if isinstance(layer, nn.Conv2d):
        square = layer.stride[0] == layer.stride[1] and layer.dilation == (1, 1)
        return square and layer.padding == (0, 0) and layer.groups == 1 and layer.bias is not None
    if isinstance(layer, nn.BatchNorm2d):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    if isinstance(layer, nn.MaxPool2d):
        window = layer.kernel_size == 2 and layer.stride in (1, 2) and layer.padding == 0 and layer.dilation == 1
        return window and not layer.ceil_mode and not layer.return_indices
    return True
