"""A stub of SLURM's commands, and the commands of the package under a umask and an environment of the test's choice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.commands import REPOSITORY

GRID = "base: fmnist\nprotocol: code\nfixed: {dataset: digits, k: 6, cycles: 1, probe_epochs: 1}\nsweep: {seed: [1]}\n"


def run_with_environment(
    name: str, *arguments: object, cwd: Path, umask: int = 0o022, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`python -m dc_hpc.NAME ARGUMENTS` with these variables added to the environment; it must print no traceback."""
    command = [sys.executable, "-m", f"dc_hpc.{name}", *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        umask=umask,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def stub_slurm(folder: Path) -> dict[str, str]:
    """Write an sbatch that copies its script to $SEEN, and other commands that do nothing; return the environment that
    finds them.
    """
    folder.mkdir()
    sbatch = '#!/bin/sh\nfor last; do :; done\ncp "$last" "$SEEN"\necho Submitted batch job 77\n'
    for name, text in {
        "sbatch": sbatch,
        "srun": "#!/bin/sh\n",
        "squeue": "#!/bin/sh\n",
        "sacct": "#!/bin/sh\n",
        "scontrol": "#!/bin/sh\n",
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o700)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "SEEN": str(folder / "script")}
