"""A real SLURM on this machine for tests, of the usual kind or like another kind of site."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import one_machine
import pytest

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def running_cluster(*like: str) -> Iterator[ModuleType]:
    """The module slurm/one_machine.py, whose cluster runs inside, with its folder as `state`; see SLURM_CONF.

    like: names of its VARIANTS. A machine without the programs skips the test; in CI it fails.
    """
    missing = one_machine.missing_programs(like)
    if missing:
        packages = "slurm-wlm munge" + (" slurmdbd mariadb-server" if "database" in like else "")
        message = f"no such SLURM here ({', '.join(missing)} not found): apt-get install {packages}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    before = getattr(one_machine, "state", None)
    state = Path(tempfile.mkdtemp(prefix="dc-hpc-slurm-", dir="/tmp"))  # every user must be able to enter it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(state / "slurm.conf"))
        patch.setenv("PYTHONPATH", os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests"))))
        try:
            one_machine.up(state, like=like)
            one_machine.state = state
            yield one_machine
        finally:
            one_machine.state = before
            one_machine.down(state)
            shutil.rmtree(state, ignore_errors=True)
