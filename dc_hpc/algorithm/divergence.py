"""The error of a training, of a net or of a probe, whose numbers are no longer finite."""

from __future__ import annotations


class DivergenceError(ValueError):
    """The training diverged: its loss or what its net returns is NaN, infinite or too large for float32.

    The same settings diverge again, so nothing that raised it is worth a second attempt.
    """
