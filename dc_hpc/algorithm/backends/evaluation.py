"""The values of layers for many images, in batches of the size that is fastest on the device.

Features for the clustering and activations for the probe come from here: images -> `cpu.evaluation` -> values of the
layers, a batch at a time, so that the maps of all images never exist at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from dc_hpc.algorithm.backends.cpu import evaluation, kernels_of
from dc_hpc.algorithm.nets import OUTPUT

# Images at once in eval mode. Compiled blocks: few enough that what a layer reads and writes stays in the cache of a
# core. A GPU: so many that it has more to compute than the CPU has kernels to launch. Other sizes may change the last
# bits of the values, since a BLAS may add up in another order.
_BATCH_SIZES = {"torch": 256, "numba": 128, "cuda": 1024}


def evaluate_in_batches(
    trunk: nn.Module, layers: Sequence[str], images: Callable[[slice], Tensor], n: int
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """The values of the named layers for images 0 .. n - 1 in eval mode: (rows, {layer: (rows, ...)}) of each batch.

    layers: names of `trunk.named_modules()`, or OUTPUT. images: from a slice of rows to the inputs of the trunk,
    (rows, c, h, w), float32 on the trunk's device. The trunk is left in eval mode. The next batch may overwrite the
    values. Raises ValueError: a layer gives no row for each image. Raises RuntimeError: images that the net does not
    take.
    """
    evaluate = evaluation(trunk, layers)
    batch_size = _BATCH_SIZES["cuda" if _is_on_gpu(trunk) else kernels_of(trunk)]
    for start in range(0, n, batch_size):
        rows = slice(start, min(start + batch_size, n))
        values = evaluate(images(rows))
        for layer in layers:
            _check(layer, values.get(layer), rows.stop - rows.start)
        yield rows, values


def _is_on_gpu(trunk: nn.Module) -> bool:
    """Whether any parameter of the trunk is on a GPU."""
    return any(parameter.is_cuda for parameter in trunk.parameters())


def _check(layer: str, value: Any, rows: int) -> None:
    """Raises ValueError: what a layer gave for so many images is not one tensor (rows, ...) of two axes or more."""
    if isinstance(value, Tensor) and value.dim() >= 2 and len(value) == rows:
        return
    named = "the net" if layer == OUTPUT else f"layer {layer!r}"
    if value is None:
        raise ValueError(f"{named} takes no part in the forward pass of the net")
    found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    raise ValueError(f"{named} must give one tensor with a row for each image; for {rows} images it gives {found}")
