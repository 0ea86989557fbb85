"""Points rounded to int8: their products cost a quarter of those in float32, and their error is known.

What the rounded products leave open is always decided in float32, so they change the time and no result.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SPREAD = 4.0  # standard deviations that int8 covers: less would clip more, more would round coarser
SHORTEST_ROW = 32  # below that there is nothing to gain; oneDNN's products of rows of length 1 are wrong
LONGEST_ROW = 2**31 // 127**2  # a longer product may not fit an int32
_ROWS = 1024


class Rounded(NamedTuple):
    """x = step q + e for every row x: q int8 (n, d); step float; |e| float32 (n,), exact but for float32's rounding."""

    q: Tensor
    step: float
    errors: Tensor


def rounded(points: Tensor) -> Rounded | None:
    """The points (n, d) float32 with one step for all; None where the machine would not gain by it, or all are 0."""
    if not _multiplies_int8(points):
        return None
    spread = SPREAD * float(torch.linalg.vector_norm(points, dtype=torch.float64)) / points.numel() ** 0.5
    if not 1e-15 < spread < 1e15:
        return None
    step = spread / 127
    q, errors = torch.empty(points.shape, dtype=torch.int8), torch.empty(len(points))
    for rows, own, error in zip(points.split(_ROWS), q.split(_ROWS), errors.split(_ROWS), strict=True):
        whole = (rows / step).round_().clamp_(-127, 127)
        own.copy_(whole)
        error.copy_(torch.linalg.vector_norm(rows.sub(whole, alpha=step), dim=1))
    return Rounded(q, step, errors)


def products(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """The products (n, m) int32, exact, of the rows of two int8 matrices (n, d) and (m, d)."""
    return torch._int_mm(a, b.T) if out is None else torch._int_mm(a, b.T, out=out)


def _multiplies_int8(points: Tensor) -> bool:
    """Without VNNI oneDNN's int8 products are slower than float32, and may saturate; a GPU needs no such help."""
    supported = getattr(torch.cpu, "_is_vnni_supported", bool)() and torch.backends.mkldnn.is_available()
    return points.device.type == "cpu" and SHORTEST_ROW <= points.shape[1] <= LONGEST_ROW and supported
