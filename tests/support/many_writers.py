"""Many processes that finish runs in one outputs folder at once.

python many_writers.py OUTPUTS PROCESSES RUNS SECONDS     each process makes so many runs, each with a pause in its middle
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from support.recorded_runs import config_of, record, record_interrupted

BASE = 70.0


def accuracy_of(seed: int) -> float:
    """What the run of a seed found; every seed something else."""
    return BASE + seed / 1000


def work(outputs: Path, seeds: range, seconds: float) -> None:
    """Make these runs: each is stopped once before it ends."""
    for seed in seeds:
        config = config_of("fmnist", seed=seed, cycles=3)
        record_interrupted(outputs, config, cycles_done=1)
        time.sleep(seconds)
        record(outputs, config, accuracy=accuracy_of(seed))


def main() -> None:
    """Fork the crowd and wait for it; the exit code is the number of processes that failed."""
    outputs, (processes, runs), seconds = Path(sys.argv[1]), map(int, sys.argv[2:4]), float(sys.argv[4])
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            work(outputs, range(number * runs, (number + 1) * runs), seconds)
            os._exit(0)
        children.append(child)
    sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))


if __name__ == "__main__":
    main()
