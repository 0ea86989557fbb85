"""How a process comes by `run`: importing it imports torch, which is done once, late, and with care."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


def import_run() -> Callable[..., str]:
    """`run` of experiment/run.py, which imports torch.

    torch brings a few hundred thousand objects that stay. Looking for garbage among them takes a sixth of a second
    here, and in processes that are forked later it would copy the pages that they share; so nobody looks there.
    """
    alone = "torch" not in sys.modules and gc.isenabled()  # else what is frozen could be a caller's garbage
    if alone:
        gc.disable()
    from dc_hpc.experiment.run import run

    if alone:
        gc.freeze()
        gc.enable()
    return run
