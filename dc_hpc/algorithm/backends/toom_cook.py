"""The matrices of the method of Toom and Cook, by which a convolution of few values needs few products."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

# At these points the products of Toom and Cook lose least: a digit for filters of 3, half a digit for filters of 2.
_POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))


@cache
def toom_cook(m: int, r: int) -> tuple[Matrix, Matrix, Matrix]:
    """Matrices a (p, m), g (p, r) and b (p, p), p = m + r - 1, float64, with which y = a' (g w * b x).

    y_i is the sum over j of x_(i+j) w_j. The last point is infinity.
    """
    points = _POINTS[: m + r - 2]
    others = [[q for q in points if q != p] for p in points]
    a = [[p**i for i in range(m)] for p in points] + [[0] * (m - 1) + [1]]
    g = [[p**j / math.prod(p - q for q in rest) for j in range(r)] for p, rest in zip(points, others)]
    b = [[*_with_roots(rest), 0] for rest in others] + [_with_roots(points)]
    return np.array(a, float), np.array([*g, [0] * (r - 1) + [1]], float), np.array(b, float)


def _with_roots(roots: tuple[Fraction, ...] | list[Fraction]) -> list[Fraction]:
    """The coefficients, lowest first, of the product of (x - root)."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, padded = [Fraction(0), *coefficients], [*coefficients, Fraction(0)]
        coefficients = [one - root * other for one, other in zip(shifted, padded)]
    return coefficients
