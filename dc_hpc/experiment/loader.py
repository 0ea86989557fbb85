"""Imports `run` and with it torch: late, because importing torch takes a second."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


def import_run() -> Callable[..., str]:
    """`run` of experiment/run.py, which imports torch.

    torch makes a few hundred thousand permanent objects. The garbage collector would spend a sixth of a second on them
    here, and in forked processes it would copy the pages that they share. Therefore it is told to leave them out.
    """
    alone = "torch" not in sys.modules and gc.isenabled()  # otherwise garbage of the caller would be frozen, too
    if alone:
        gc.disable()
    from dc_hpc.experiment.run import run

    if alone:
        gc.freeze()
        gc.enable()
    return run
