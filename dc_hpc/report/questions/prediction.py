"""What the table and the figure of the measures both show."""

from __future__ import annotations

from typing import NamedTuple

from dc_hpc.report.claims.rules import Measured


class Prediction(NamedTuple):
    """How well a measure predicts accuracy over something. lost: mean points lost by its choice; k: None over k."""

    over: str
    k: int | None
    column: str
    rho: Measured
    lost: float | None
