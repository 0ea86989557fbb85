"""The values of layers for many images, in batches of the size that is fastest on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from dc_hpc.algorithm.backends.cpu import evaluation, kernels_of

# Images at once in eval mode. Compiled blocks: few enough that what a layer reads and writes stays in the cache of a
# core. A GPU: so many that it has more to compute than the CPU has kernels to launch.
_BATCH_SIZES = {"torch": 256, "numba": 128, "cuda": 1024}


def evaluate_in_batches(
    trunk: nn.Sequential, layers: Sequence[str], images: Callable[[slice], Tensor], n: int
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """The values of the named layers for images 0 .. n - 1 in eval mode: (rows, {layer: (rows, ...)}) of each batch.

    images: from a slice of rows to the inputs of the trunk, (rows, c, h, w). The next batch may overwrite the values.
    """
    evaluate = evaluation(trunk, layers)
    batch_size = _BATCH_SIZES["cuda" if next(trunk.parameters()).is_cuda else kernels_of(trunk)]
    for start in range(0, n, batch_size):
        rows = slice(start, min(start + batch_size, n))
        yield rows, evaluate(images(rows))
