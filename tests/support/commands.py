"""Start the commands as a person does: each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# Three runs of scikit-learn's digits, a second or two each.
GRID = """base: fmnist
protocol: code
fixed: {dataset: digits, k: 6, cycles: 3, probe_epochs: 2}
sweep: {seed: [1, 2, 3]}
"""


def run_command(name: str, *arguments: object, cwd: Path, check: int | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m dc_hpc.NAME ARGUMENTS` in a folder; `check` is the exit code that it must have."""
    command = [sys.executable, "-m", f"dc_hpc.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=560)
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done


def submit_grid(
    folder: Path, data: Path, *arguments: object, check: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`python -m dc_hpc.submit --grid grid.yaml --data DATA ARGUMENTS` in a folder."""
    return run_command("submit", "--grid", "grid.yaml", "--data", data, *arguments, cwd=folder, check=check)
