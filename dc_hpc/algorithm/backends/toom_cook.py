"""The matrices of the method of Toom and Cook, by which a convolution of few values needs few products.

Literature on nets calls it Winograd's and writes F(m, r) for m results of a filter of r values (A. Lavin, S. Gray: Fast
Algorithms for Convolutional Neural Networks, 2016, arXiv 1509.09308). With its letters y = A'((G w) * (B' x)); the
matrices here are a = A, g = G and b = B'.

Where they come from: two polynomials of m and r coefficients are multiplied by evaluating both at m + r - 1 points,
multiplying the values, and interpolating. This takes m + r - 1 products instead of m r. What a layer of a net computes,
y_i = sum over j of x_(i+j) w_j, is the transpose of that map for a fixed w, so it takes the transposed matrices: `a`
evaluates the polynomial of m coefficients, `g` that of r, and `b` is the transpose of the interpolation. Images and
filters have two axes; each matrix is then applied along both of them (`convolutions.WinogradConv`).
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

# At these points the products of Toom and Cook lose least: a digit for filters of 3, half a digit for filters of 2.
# Their order and their values decide the bits of a run. Fractions, so that no entry of a matrix is rounded before the
# last step.
_POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))


@cache
def toom_cook(m: int, r: int) -> tuple[Matrix, Matrix, Matrix]:
    """Matrices a (p, m), g (p, r) and b (p, p), p = m + r - 1, float64, with which y = a' (g w * b x).

    y_i is the sum over j of x_(i+j) w_j. The last point is infinity, whose value is the highest coefficient. Divisors
    are in g alone, which is applied to the filters and not to the maps. m + r may be 7 at most, since there are five
    finite points; this is not checked.
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
