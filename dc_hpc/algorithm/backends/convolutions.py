"""Ways to compute a convolution without padding on a CPU, with the images of a batch innermost.

Four classes have the same two methods, and `fitting` chooses among the first three for a layer and a size of maps:

    DirectConv5    few channels, filters of width 5, stride 1: loops over the maps (LeNet-5)
    WinogradConv   many channels, small square maps, filters of side 2 or 3, stride 1 (AlexNet-small, conv2 to conv5)
    Im2colConv     everything else: products of the filters with windows of the maps
    SobelConv      the Sobel filter and the convolution behind it together, by an Im2colConv (AlexNet-small, conv1)

`forward(x, same_filters=False)`: from maps x, float32 (c, h, w, n), contiguous, to y (o, h', w', n), with bias. y is a
buffer that the next forward pass overwrites. `same_filters` promises that the filters are those of the pass before, so
that what was made of them need not be made again.

`backward(gradient, to_input=...)`: from the gradient of y, of its shape, to those of x and of the filters. That of x is
a buffer, and None unless asked for; that of the filters is new memory of the weight's shape. The gradient of the bias
is left to the block. The backward pass belongs to the last forward pass, whose x must stay as it is in between, and may
run once: WinogradConv lets gradients take the place of what it has kept of x.

Nothing here checks a shape: `cpu._Stack` does it once for all layers of a net.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.backends.kernels import Floats, compiled
from dc_hpc.algorithm.backends.machine_code import panel_products
from dc_hpc.algorithm.backends.machine_code.tile_transforms import FilterTransform, TileTransform, without_first
from dc_hpc.algorithm.backends.toom_cook import toom_cook
from dc_hpc.algorithm.nets import Sobel, bias_of

# The side of a tile of WinogradConv. With more points float32 loses too many digits, and toom_cook has no more points.
_LARGEST_TILE = 4


class BufferPool:
    """Buffers by name, made at their first use and again only when they must be larger."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}
        self._views: dict[tuple[object, ...], Tensor] = {}

    def __call__(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A buffer of this shape with anything in it; calls with the same name return the same memory.

        A name must keep its dtype. A smaller shape, as that of the last batch of an epoch, is a view of the beginning.
        """
        found = self._views.get((name, shape))
        if found is None:
            size, buffer = math.prod(shape), self._buffers.get(name)
            if buffer is None or buffer.numel() < size:
                buffer = self._buffers[name] = torch.empty(size, dtype=dtype)
                self._views = {key: view for key, view in self._views.items() if key[0] != name}
            found = self._views[name, shape] = buffer[:size].view(shape)
        return found


def fitting(layer: nn.Conv2d, height: int, width: int) -> DirectConv5 | Im2colConv | WinogradConv:
    """The fastest way for a layer and the size of its maps, height x width of x.

    layer: float32 on the CPU, with bias, the same stride along both axes, without padding, dilation and groups. The
    limits were set with the layers of LeNet-5 and AlexNet-small. Another choice changes the order of sums, and so the
    bits of a run.
    """
    kernel, stride = layer.kernel_size, layer.stride[0]
    if layer.in_channels <= 8 and kernel[1] == 5 and stride == 1:
        return DirectConv5(layer)
    out, square = height - kernel[0] + 1, height == width and kernel[0] == kernel[1]
    if square and kernel[0] in (2, 3) and 2 <= out <= 8 and stride == 1 and layer.in_channels >= 32:
        return WinogradConv(layer, out)
    return Im2colConv(layer)


class DirectConv5:
    """A convolution of few channels with stride 1 and filters of width 5, by compiled loops.

    The windows of one channel would be 25 times the image, for the six filters of LeNet-5: not worth copying. Its
    second convolution makes products of matrices that are too small for a BLAS.

    The gradient of x is the convolution of y's gradient, with four zeros on either side, with the mirrored filters.
    """

    def __init__(self, layer: nn.Conv2d):
        self.layer, self.buffers = layer, BufferPool()

    def forward(self, x: Tensor, *, same_filters: bool = False) -> Tensor:
        """x (c, h, w, n) to y (o, h - kh + 1, w - 4, n), with bias; there is nothing to keep of the filters."""
        filters, bias = self.layer.weight.detach(), bias_of(self.layer).detach()
        _, height, width, n = x.shape
        y, self.x = self.buffers("y", len(filters), height - filters.shape[2] + 1, width - 4, n), x
        compiled(kernels.direct_conv5)(rows_of(x), filters.numpy(), bias.numpy(), n, rows_of(y))
        return y

    def backward(self, gradient: Tensor, *, to_input: bool) -> tuple[Tensor | None, Tensor]:
        """The gradients of x (None unless asked for) and of the filters, from that of y."""
        filters, (outs, height, width, n) = self.layer.weight.detach(), gradient.shape
        found = torch.empty_like(filters)
        compiled(kernels.direct_conv5_filters)(rows_of(self.x), rows_of(gradient), n, found.numpy())
        if not to_input:
            return None, found
        bordered, back = self.buffers("bordered", outs, height, width + 8, n), self.buffers("back", *self.x.shape)
        bordered[:, :, :4], bordered[:, :, 4:-4], bordered[:, :, -4:] = 0, gradient, 0
        compiled(kernels.direct_conv5_input)(rows_of(bordered), filters.numpy(), n, rows_of(back))
        return back, found


@dataclass(frozen=True)
class Filters:
    """What a convolution is made of, where it is no layer of the net: weight (o, c, kh, kw), bias (o,), its stride.

    Im2colConv reads it as it reads a layer.
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Height and width of a filter."""
        return tuple(self.weight.shape[2:])


class Im2colConv:
    """A convolution as products of its filters and its windows, one for each row of the result.

    What lies under the filter's width is copied once for each row of x, rows outermost; the windows of a row of the
    result are then the rows of that copy under the filter's height, one after another, and are not copied again. So
    memory holds kw / stride copies of x, where windows of both axes would be kh kw / stride^2.
    """

    def __init__(self, layer: nn.Conv2d | Filters):
        self.layer, self.buffers = layer, BufferPool()
        self.stride, (self.height, self.width) = layer.stride[0], layer.kernel_size

    def forward(self, x: Tensor, *, same_filters: bool = False) -> Tensor:
        """x (c, h, w, n) to y (o, h', w', n), with bias; `rows`, (h, c kw, w' n), stays for the backward pass."""
        channels, height, width, n = self.shape = x.shape
        across = (width - self.width) // self.stride + 1
        along, down, right, one = x.stride()
        shape, strides = (height, channels, self.width, across, n), (down, along, right, right * self.stride, one)
        self.rows = self.buffers("rows", *shape).copy_(x.as_strided(shape, strides)).view(height, -1, across * n)
        flat, bias = self._filters(), _bias(self.layer).detach()
        y = self.buffers("y", len(flat), (height - self.height) // self.stride + 1, across, n)
        panel_products.products(flat.expand(y.shape[1], -1, -1), self._windows(y.shape[1]), _by_row(y), bias)
        return y

    def backward(self, gradient: Tensor, *, to_input: bool) -> tuple[Tensor | None, Tensor]:
        """The gradients of x (None unless asked for) and of the filters, from that of y.

        The products of each row of y are summed over the rows; the gradient of `rows` is added up where windows of
        neighbouring rows overlap, and then where neighbouring windows of a row do.
        """
        flat, (channels, height, _, n), parts = self._filters(), self.shape, _by_row(gradient)
        (points, outs, size), inner = parts.shape, flat.shape[1]
        found, turned = self.buffers("found", points, outs, inner), self.buffers("turned", size, inner)
        panel_products.products_of_rows(parts, self._windows(points), found, turned)
        filters = found.sum(0).view(outs, self.height, channels, self.width).transpose(1, 2).contiguous()
        if not to_input:
            return None, filters
        spread = self.buffers("spread", *self.rows.shape).zero_()
        for h in range(points):
            place = h * self.stride
            # flatten makes a view, since these rows are neighbours: addmm_ writes to `spread` itself
            spread[place : place + self.height].flatten(0, 1).addmm_(flat.T, parts[h])
        summed = self.buffers("summed", *self.shape).zero_()
        compiled(kernels.from_rows)(
            spread.view(height, channels, self.width, -1, n).numpy(), self.stride, summed.numpy()
        )
        return summed, filters

    def _filters(self) -> Tensor:
        """(o, kh c kw), in the order of the windows."""
        return self.layer.weight.detach().transpose(1, 2).flatten(1)

    def _windows(self, count: int) -> Tensor:
        """(h', kh c kw, w' n): for each value of a filter, what it is multiplied with in each row; a view.

        The windows of two rows overlap in memory where the stride is less than the filter's height.
        """
        _, values, size = self.rows.shape
        shape = count, self.height * values, size
        return self.rows.as_strided(shape, (self.stride * values * size, size, 1))


class SobelConv:
    """The frozen Sobel filter and the convolution behind it as one convolution of the grey image.

    Filters of side r behind the Sobel kernels of side 3 are filters of side r + 2 of the grey image with a border of
    zeros: (r + 2)^2 products a value instead of 2 r^2. The chain rule gives the gradient of the filters of the layer.

    sobel: its edges have no bias, as `blocks_of` makes sure. Its kernels and the bias of the layer are taken when the
    object is made; training changes that bias in place, which is seen here, too.
    """

    def __init__(self, sobel: Sobel, layer: nn.Conv2d):
        self.layer, self.grey = layer, cast(nn.Conv2d, sobel.grey)
        edges = cast(nn.Conv2d, sobel.edges)
        self.edges = Im2colConv(edges)
        self.border, side = cast(int, edges.padding[0]), layer.kernel_size[0]
        larger = side + edges.kernel_size[0] - 1
        self.filters = Filters(
            torch.empty(layer.out_channels, 1, larger, larger), bias_of(layer).detach(), layer.stride
        )
        self.whole, self.buffers = Im2colConv(self.filters), BufferPool()
        # a row for each value of a filter of the layer: that value alone, as a filter of the grey image
        one_each = torch.eye(2 * side**2).view(-1, 2, side, side)
        self.as_whole = conv_transpose2d(one_each, edges.weight.detach()).flatten(1)

    def forward(self, x: Tensor, *, same_filters: bool = False) -> Tensor:
        """From colour (3, h, w, n) to y (o, h', w', n), with bias. The joined filters are made anew each time."""
        torch.mm(self.layer.weight.detach().flatten(1), self.as_whole, out=self.filters.weight.flatten(1))
        return self.whole.forward(self._bordered(x))

    def edges_of(self, x: Tensor) -> Tensor:
        """What the Sobel filter alone makes of colour, (2, h, w, n)."""
        return self.edges.forward(self._bordered(x))

    def backward(self, gradient: Tensor, *, to_input: bool) -> tuple[Tensor | None, Tensor]:
        """None, since images get no gradient, and the gradient of the layer's filters (o, 2, r, r), from that of y."""
        assert not to_input, "the Sobel filter reads images"
        filters = self.whole.backward(gradient, to_input=False)[1]
        return None, (filters.flatten(1) @ self.as_whole.T).view_as(self.layer.weight)

    def _bordered(self, x: Tensor) -> Tensor:
        """The grey image with its border, (1, h + 2, w + 2, n)."""
        _, height, width, n = x.shape
        border = self.border
        found = self.buffers("bordered", 1, height + 2 * border, width + 2 * border, n).zero_()
        grey = torch.addmm(bias_of(self.grey), self.grey.weight.view(1, -1), x.flatten(1))
        found[:, border : border + height, border : border + width] = grey.view(1, height, width, n)
        return found


class WinogradConv:
    """A convolution of small square maps by the method of Toom and Cook (Winograd's, in nets): fewer products.

    F(m x m, r x r) of Lavin and Gray (arXiv 1509.09308), with the matrices a, g, b of `toom_cook` along both axes of
    every tile x, of every filter w, and back. All p^2 points, p = m + r - 1, hold a product of matrices each:

        forward pass    points of w (p^2, o, c) = g w g',  points of x (p^2, c, t n) = b x b';  t tiles of n images
                        products (p^2, o, t n) = points of w @ points of x;  y = a' products a + bias
        backward pass   each transform is the transpose of the one it undoes:
                        points of y's gradient dy (p^2, o, t n) = a dy a'
                        gradient of w = g' (points of dy @ points of x') g
                        gradient of x = b' (points of w' @ points of dy) b, summed where tiles overlap

    A result of m x m from a filter of r x r needs (m + r - 1)^2 products a channel instead of m^2 r^2: a quarter of
    them for AlexNet-small's conv3. It is exact in the rationals; in float32 it loses a digit for r = 3. Maps and
    filters are taken as polynomials: evaluated at m + r - 1 points, multiplied there, and interpolated.

    A result of more than 4 x 4 is made of tiles, which overlap where its side is no multiple of theirs: half of the
    products for AlexNet-small's conv2, 7 x 7 in four tiles of 4 x 4.
    """

    def __init__(self, layer: nn.Conv2d, out: int):
        self.layer, self.buffers, self.out = layer, BufferPool(), out
        self.filters: Tensor | None = None
        tiles = -(-out // _LARGEST_TILE)
        self.side = -(-out // tiles)
        self.starts = [tile * (out - self.side) // max(tiles - 1, 1) for tile in range(tiles)]
        y, filters, x = toom_cook(self.side, layer.kernel_size[0])
        # where tiles overlap, the gradient is that of one, and the others take 0 for it
        lost = [0] + [before + self.side - start for before, start in zip(self.starts, self.starts[1:])]
        own = [without_first(y, count) for count in lost]
        self.gradient_to_points = [TileTransform(down, across, to_points=True) for down in own for across in own]
        self.points_to_y = TileTransform(y.T, to_points=False)
        self.filters_to_points = FilterTransform(filters, to_points=True)
        self.points_to_filters = FilterTransform(filters.T, to_points=False)
        self.x_to_points = TileTransform(x, to_points=True)
        self.points_to_x = TileTransform(x.T, to_points=False, add=tiles > 1)

    def forward(self, x: Tensor, *, same_filters: bool = False) -> Tensor:
        """x (c, h, h, n) to y (o, out, out, n), with bias; points of x and w stay for the backward pass."""
        (channels, _, _, n), outs, kernel = x.shape, self.layer.out_channels, self.layer.kernel_size[0]
        points, wide = (self.side + kernel - 1) ** 2, len(self.starts) ** 2 * n
        self.values = self.buffers("values", points, channels, wide)
        if self.filters is None or not same_filters:
            self.filters = self.buffers("filters", points, outs, channels)
            self.filters_to_points(self.layer.weight.detach().contiguous(), self.filters)
        for tile, part in zip(self._tiles(x), _parts(self.values, n)):
            self.x_to_points(tile, part)
        products = panel_products.products(self.filters, self.values, self.buffers("products", points, outs, wide))
        y = self.buffers("y", outs, self.out, self.out, n)
        for tile, part in zip(self._tiles(y), _parts(products, n)):
            self.points_to_y(part, tile, bias_of(self.layer).detach())
        return y

    def backward(self, gradient: Tensor, *, to_input: bool) -> tuple[Tensor | None, Tensor]:
        """The gradients of x (None unless asked for) and of the filters, from that of y.

        With to_input the points of x are overwritten.
        """
        assert self.filters is not None, "a forward pass comes first"
        points, outs, channels = self.filters.shape
        n, kernel, wide = gradient.shape[3], self.layer.kernel_size[0], self.values.shape[2]
        products = self.buffers("products", points, outs, wide)
        for to_points, tile, part in zip(
            self.gradient_to_points, self._tiles(gradient), _parts(products, n), strict=True
        ):
            to_points(tile, part)
        filters, turned = self.buffers("found", points, outs, channels), self.buffers("turned", wide, channels)
        panel_products.products_of_rows(products, self.values, filters, turned)
        found = torch.empty(self.layer.weight.shape)
        self.points_to_filters(filters, found)
        if not to_input:
            return None, found
        transposed = self.filters.transpose(1, 2)
        values = panel_products.products(transposed, products, self.buffers("values", points, channels, wide))
        side = self.out + kernel - 1
        x = self.buffers("x", channels, side, side, n)
        if len(self.starts) > 1:  # one tile overwrites, several are added to what is there
            x.zero_()
        for tile, part in zip(self._tiles(x), _parts(values, n)):
            self.points_to_x(part, tile)
        return x, found

    def _tiles(self, maps: Tensor) -> Iterator[Tensor]:
        """The tiles of maps (c, h, w, n): those of y have the side of a tile, those of x more by a filter's less 1."""
        side = self.side + maps.shape[1] - self.out
        return (maps[:, top : top + side, left : left + side] for top in self.starts for left in self.starts)


def _parts(points: Tensor, n: int) -> list[Tensor]:
    """Points (p, c, t n) as t views (p, c, n), one for each tile."""
    return [points[:, :, start : start + n] for start in range(0, points.shape[2], n)]


def _bias(layer: nn.Conv2d | Filters) -> Tensor:
    """The bias (o,) of a convolution."""
    return layer.bias if isinstance(layer, Filters) else bias_of(layer)


def _by_row(maps: Tensor) -> Tensor:
    """(c, h, w, n) as (h, c, w n), a view."""
    return maps.flatten(2).transpose(0, 1)


def rows_of(maps: Tensor) -> Floats:
    """(c, h, w, n) as a numpy array (c, h, w n) of the same memory."""
    rows: Floats = maps.flatten(2).numpy()
    return rows
