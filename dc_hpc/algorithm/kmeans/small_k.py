"""Lloyd's iterations for few clusters on a CPU: the assignment and the sums of the means in one compiled loop.

Most points keep their cluster from one iteration to the next. The sums follow those that do not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.backends.kernels import compiled

LARGEST_K = 30  # above it the products of a BLAS are faster
_BLOCK = 64  # points at a time: with their features they stay in a core's first cache


class SmallK:
    """Assigns points, float32 (n, d) on the CPU, to few centroids; of equally near ones the lower index wins.

    sums, sizes: of the points of each cluster after the last call, float64 (k, d) and int64 (k,).
    """

    def __init__(self, points: Tensor, k: int):
        n, d = points.shape
        self.points, self.labels = points, torch.full((n,), -1)
        padded = torch.nn.functional.pad(points, (0, 0, 0, -n % _BLOCK))
        self.blocks = padded.view(-1, _BLOCK, d).transpose(1, 2).contiguous()
        self.sums, self.sizes = torch.zeros(k, d, dtype=torch.float64), torch.zeros(k, dtype=torch.int64)
        self.scores, self.nearest = torch.empty(2, _BLOCK), torch.empty(_BLOCK, dtype=torch.int32)

    @staticmethod
    def serves(points: Tensor, k: int) -> bool:
        """Whether it is there and the fastest way."""
        return points.device.type == "cpu" and k <= LARGEST_K and kernels.available()

    def __call__(self, centroids: Tensor) -> Tensor:
        """For each point the index of the nearest centroid, int64 (n,)."""
        compiled(kernels.lloyd_pass)(
            self.points.numpy(),
            self.blocks.numpy(),
            centroids.contiguous().numpy(),
            (centroids.square().sum(1) / 2).numpy(),
            self.scores.numpy(),
            self.nearest.numpy(),
            self.labels.numpy(),
            self.sums.numpy(),
            self.sizes.numpy(),
        )
        self.sums[self.sizes == 0] = 0  # what rounding left of points that are gone
        return self.labels.clone()
