"""Many processes that finish runs in one outputs folder at once.

    python crowd.py OUTPUTS PROCESSES RUNS     each process makes so many runs, all at the same time
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from recorded_runs import config_of, record, record_interrupted

BASE = 70.0


def accuracy_of(seed: int) -> float:
    """What the run of a seed found; every seed something else."""
    return BASE + seed / 1000


def work(outputs: Path, seeds: range) -> None:
    """Make these runs: each is stopped once before it ends."""
    for seed in seeds:
        config = config_of("fmnist", seed=seed, cycles=3)
        record_interrupted(outputs, config, cycles_done=1)
        record(outputs, config, accuracy=accuracy_of(seed))


def main() -> None:
    """Fork the crowd and wait for it; the exit code is the number of processes that failed."""
    outputs, processes, runs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            work(outputs, range(number * runs, (number + 1) * runs))
            os._exit(0)
        children.append(child)
    sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))


if __name__ == "__main__":
    main()
