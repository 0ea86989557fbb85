"""Starts many processes that finish runs in one outputs folder at the same time.

    python many_writers.py OUTPUTS PROCESSES RUNS SECONDS

Each process records RUNS runs, and pauses for SECONDS in the middle of each.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from support.recorded_runs import config_of, record, record_interrupted

BASE = 70.0


def accuracy_of(seed: int) -> float:
    """The accuracy of the run of a seed; every seed has another one."""
    return BASE + seed / 1000


def record_runs(outputs: Path, seeds: range, seconds: float) -> None:
    """Record a run for each seed; each is interrupted once before it ends."""
    for seed in seeds:
        config = config_of("fmnist", seed=seed, cycles=3)
        record_interrupted(outputs, config, cycles_done=1)
        time.sleep(seconds)
        record(outputs, config, accuracy=accuracy_of(seed))


def main() -> None:
    """Fork the processes and wait for them; the exit code is the number of those that failed."""
    outputs, (processes, runs), seconds = Path(sys.argv[1]), map(int, sys.argv[2:4]), float(sys.argv[4])
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            record_runs(outputs, range(number * runs, (number + 1) * runs), seconds)
            os._exit(0)
        children.append(child)
    sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))


if __name__ == "__main__":
    main()
