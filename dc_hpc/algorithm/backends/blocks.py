"""The blocks of a trunk, convolution -> batch norm -> ReLU -> max-pool, on a CPU with the images of a batch innermost.

A block reads and gives maps of float32 (c, h, w, n). Its convolution is one of convolutions.py; the rest of it is one
or two passes over memory (kernels.py). A block keeps what its way back needs until its next way forward, and every
buffer until it is dropped itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.backends.convolutions import BufferPool, Im2colConv, fitting, rows_of
from dc_hpc.algorithm.backends.kernels import compiled
from dc_hpc.algorithm.nets import Sobel


class Block:
    """Convolution, batch norm or none, ReLU, 2 x 2 max-pool or none; `layers` are the children of the trunk it is."""

    def __init__(self, layers: Sequence[tuple[str, nn.Module]]):
        self.layers, self.room = layers, BufferPool()
        self.name = {type(layer): name for name, layer in layers}
        found = {type(layer): layer for _, layer in layers}
        self.layer: nn.Conv2d = found[nn.Conv2d]
        self.size: tuple[int, ...] | None = None
        self.norm: nn.BatchNorm2d | None = found.get(nn.BatchNorm2d)
        pool = found.get(nn.MaxPool2d)
        self.pool_stride = pool.stride if pool else None

    def parameters(self) -> list[nn.Parameter]:
        """In the order of the gradients that `backward` gives."""
        return [p for _, layer in self.layers for p in layer.parameters()]

    def forward(self, x: Tensor) -> Tensor:
        """In training: with the statistics of this batch, which the running ones follow."""
        y = self._convolve(x)
        self.mean, self.deviation = self._batch_statistics(y) if self.norm else (None, None)
        return self._rectify(y, self.mean, self.deviation)

    def evaluate(self, x: Tensor, wanted: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """In eval mode: what goes on to the next layer, and of each wanted layer its value as (n, c, h, w).

        The values are views of buffers that the next call overwrites.
        """
        y = self._convolve(x)
        mean, deviation = None, None
        if self.norm:
            mean, deviation = self.norm.running_mean.numpy(), np.sqrt(self.norm.running_var.numpy() + self.norm.eps)
        out, scaled = self._rectify(y, mean, deviation), None
        found = {self.layers[0][0]: y, self.layers[-1][0]: out}
        missing = [name for name, _ in self.layers if name in wanted and name not in found]
        if missing:
            scale, shift = self._scale_and_shift(mean, deviation)
            scaled = y * torch.from_numpy(scale).view(-1, 1, 1, 1) + torch.from_numpy(shift).view(-1, 1, 1, 1)
            found = {self.name.get(nn.BatchNorm2d): scaled, self.name[nn.ReLU]: scaled.relu()} | found
        return out, {name: value.permute(3, 0, 1, 2) for name, value in found.items() if name in wanted}

    def backward(self, gradient: Tensor, *, to_input: bool) -> tuple[Tensor | None, list[Tensor]]:
        """From the gradient of `forward`'s result: that of its x (None unless asked for) and of `parameters`."""
        y = self.y
        spread = self.room("gradient", *y.shape)
        if self.pool_stride:
            compiled(kernels.to_winners)(
                gradient.numpy(), self.winner.numpy(), self.pool_stride, spread.zero_().numpy()
            )
        else:
            torch.ops.aten.threshold_backward.grad_input(gradient, self.out, 0, grad_input=spread)
        if not self.norm:
            back, filters = self.convolution.backward(spread, to_input=to_input)
            return back, [filters, spread.view(len(spread), -1).sum(1)]
        sums = np.empty((len(y), 3))
        compiled(kernels.through_batch_norm)(
            rows_of(spread), rows_of(y), self.mean, self.deviation, self.norm.weight.detach().numpy(), sums
        )
        bias, weight, convolution_bias = (torch.from_numpy(one.astype(np.float32)) for one in sums.T)
        back, filters = self.convolution.backward(spread, to_input=to_input)
        return back, [filters, convolution_bias, weight, bias]

    def _convolve(self, x: Tensor) -> Tensor:
        if self.size != x.shape[1:3]:
            self.size, self.convolution = x.shape[1:3], fitting(self.layer, *x.shape[1:3])
        return self.convolution.forward(x)

    def _batch_statistics(self, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (the root of biased variance + epsilon) of each channel; moves the running ones."""
        found, size, norm = np.empty((len(y), 2)), y[0].numel(), self.norm
        compiled(kernels.moments)(rows_of(y), found)
        mean, variance = found.T
        for running, new in ((norm.running_mean, mean), (norm.running_var, variance * (size / (size - 1)))):
            array = running.numpy()
            array += norm.momentum * (new.astype(np.float32) - array)
        norm.num_batches_tracked.add_(1)
        return mean.astype(np.float32), np.sqrt(variance + norm.eps).astype(np.float32)

    def _rectify(self, y: Tensor, mean: np.ndarray | None, deviation: np.ndarray | None) -> Tensor:
        """Batch norm, ReLU and pool in one pass; keeps what `backward` needs to know which values came through."""
        self.y = y
        scale, shift = self._scale_and_shift(mean, deviation)
        channels, height, width, n = y.shape
        if self.pool_stride:
            stride = self.pool_stride
            shape = channels, (height - 2) // stride + 1, (width - 2) // stride + 1, n
            self.out, self.winner = self.room("out", *shape), self.room("winner", *shape, dtype=torch.uint8)
            compiled(kernels.rectified_maxima)(y.numpy(), scale, shift, stride, self.out.numpy(), self.winner.numpy())
        else:
            self.out = self.room("out", *y.shape)
            scale, shift = torch.from_numpy(scale).view(-1, 1, 1, 1), torch.from_numpy(shift).view(-1, 1, 1, 1)
            torch.addcmul(shift, y, scale, out=self.out).relu_()
        return self.out

    def _scale_and_shift(self, mean: np.ndarray | None, deviation: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Batch norm as x * scale + shift; 1 and 0 where there is none."""
        if self.norm is None:
            return np.ones(self.layer.out_channels, np.float32), np.zeros(self.layer.out_channels, np.float32)
        scale = self.norm.weight.detach().numpy() / deviation
        return scale, self.norm.bias.detach().numpy() - mean * scale


class SobelBlock:
    """The frozen Sobel filter: no way back."""

    def __init__(self, name: str, sobel: Sobel):
        self.layers = [(name, sobel)]
        self.grey, self.edges = sobel.grey, Im2colConv(sobel.edges)

    def parameters(self) -> list[nn.Parameter]:
        """None that learns."""
        return []

    def forward(self, x: Tensor) -> Tensor:
        """Colour (3, h, w, n) to edges (2, h, w, n), bordered with zeros."""
        grey = torch.addmm(self.grey.bias, self.grey.weight.view(1, -1), x.flatten(1)).view(1, *x.shape[1:])
        return self.edges.forward(pad(grey, (0, 0, 1, 1, 1, 1)))

    def evaluate(self, x: Tensor, wanted: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """As `Block.evaluate`."""
        edges = self.forward(x)
        return edges, {name: edges.permute(3, 0, 1, 2) for name, _ in self.layers if name in wanted}


def blocks_of(layers: Sequence[tuple[str, nn.Module]]) -> list[Block | SobelBlock]:
    """The blocks that a trunk's children begin with; [] where one of the blocks is of a kind that is not here."""
    blocks: list[Block | SobelBlock] = []
    place = 0
    while place < len(layers) and not isinstance(layers[place][1], nn.Flatten):
        name, layer = layers[place]
        if isinstance(layer, Sobel) and not blocks:
            blocks.append(SobelBlock(name, layer))
        else:
            taken = _block_at(layers, place)
            if not taken:
                return []
            blocks.append(Block(taken))
        place += len(blocks[-1].layers)
    return blocks


def _block_at(layers: Sequence[tuple[str, nn.Module]], place: int) -> Sequence[tuple[str, nn.Module]]:
    """The children of the block that begins at a place; none if there is no block that can be computed here."""
    end = place
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d):
        layer = layers[end][1] if end < len(layers) else None
        if type(layer) is kind:
            if not _is_plain(layer):
                return []
            end += 1
        elif kind in (nn.Conv2d, nn.ReLU):
            return []
    return layers[place:end]


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer has none of the options that the blocks do not know, and lies on the CPU in float32."""
    if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in layer.parameters()):
        return False
    if isinstance(layer, nn.Conv2d):
        square = layer.stride[0] == layer.stride[1] and layer.dilation == (1, 1)
        return square and layer.padding == (0, 0) and layer.groups == 1 and layer.bias is not None
    if isinstance(layer, nn.BatchNorm2d):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    if isinstance(layer, nn.MaxPool2d):
        return layer.kernel_size == 2 and layer.stride in (1, 2) and layer.padding == 0 and layer.dilation == 1
    return True
