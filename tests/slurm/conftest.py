"""Fixtures of the tests on a real SLURM."""

import subprocess

import pytest
from support import slurm_cluster as sc
from support.small_runs import new_run, results

from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run


@pytest.fixture
def queue(cluster, monkeypatch):
    """The cluster of the session; its queue is emptied after the test.

    A cluster of another kind may have ended since, and have put back what was there before both.
    """
    state, environment = cluster.of_the_session
    monkeypatch.setattr(cluster, "state", state)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    for state in ("PENDING", "RUNNING"):
        subprocess.run(["scancel", "-f", "--state", state], check=False, capture_output=True)
    sc.wait_until(sc.queue_is_empty, "an empty queue")


@pytest.fixture(scope="session")
def uninterrupted(digits_root, tmp_path_factory):
    """seed -> the files of an uninterrupted run of `sc.LONG`."""
    made = {}

    def of(seed):
        if seed not in made:
            directory = new_run(tmp_path_factory.mktemp("uninterrupted"), digits_root, seed=seed, **sc.LONG)
            assert run(directory, Execution(str(digits_root))) == "done"
            made[seed] = results(directory)
        return made[seed]

    return of
