"""Checks matrices of many rows and sums them a block at a time, for the reduction of features and for k-means."""

from __future__ import annotations

import torch
from torch import Tensor

from dc_hpc.algorithm.arrays import Array, as_floats
from dc_hpc.algorithm.divergence import DivergenceError

TILE = 128  # columns of a product of `add_gram` on a GPU
ROWS = 1024  # rows of a block: long enough for a GEMM at full speed, short enough to stay in a core's cache


def as_matrix(values: Array, name: str) -> Tensor:
    """A contiguous float32 matrix with at least one row and one column, of a tensor or a NumPy array."""
    found = as_floats(values, name)
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"{name} must be a matrix (n, d) with n, d >= 1, got shape {tuple(found.shape)}")
    return found.contiguous()


def column_means(values: Tensor, name: str) -> Tensor:
    """The mean of each column, float64 (d,); the sums also find every NaN and infinity at no cost."""
    total = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
    for rows in torch.split(values, ROWS):  # in one piece torch would first copy everything to float64
        total += rows.sum(0, dtype=torch.float64)
    if not bool(total.isfinite().all()):
        raise DivergenceError(f"{name} hold NaN or infinite values; did the training diverge?")
    return total / len(values)


def add_gram(total: Tensor, rows: Tensor) -> None:
    """Add rows.T @ rows to the upper triangle of `total`, float64 (d, d). The lower one holds anything afterwards.

    torch has no product that computes one triangle only. On a CPU the BLAS of SciPy has it.
    """
    if total.device.type == "cpu":
        from scipy.linalg.blas import dsyrk  # here: a process that clusters nothing does without it

        # Both are transposed views, as Fortran stores matrices, so that nothing is copied.
        dsyrk(1.0, rows.numpy().T, beta=1.0, c=total.numpy().T, lower=1, overwrite_c=1)
        return
    for left in range(0, total.shape[0], TILE):
        total[left : left + TILE, left:] += rows[:, left : left + TILE].T @ rows[:, left:]
