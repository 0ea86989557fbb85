"""Eight runs on Fashion-MNIST on a real SLURM, preempted and with a lost node."""

import subprocess

import pytest
from support import slurm_cluster as sc
from support.commands import REPOSITORY, run_command
from support.small_runs import results

from dc_hpc.config.grid import parse_override, read_grid
from dc_hpc.scheduler.session import create_runs
from dc_hpc.storage import run_directory

pytestmark = pytest.mark.slurm


FMNIST = [
    word for setting in ("k=5", "cycles=3", "seed=1..8", "probe=off", "features=none") for word in ("--set", setting)
]


@pytest.fixture(scope="module")
def uninterrupted_fmnist(fmnist_root, tmp_path_factory):
    """The files of eight uninterrupted runs on Fashion-MNIST, computed on this machine without SLURM."""
    place = tmp_path_factory.mktemp("fmnist")
    arguments = ["--grid", REPOSITORY / "jobs" / "fmnist_k.yaml", "--data", fmnist_root, *FMNIST]
    run_command("submit", *arguments, "--outputs", place, cwd=place, check=0)
    return {one.name: results(one) for one in run_directory.run_directories(place)}


@pytest.mark.slow
@pytest.mark.parametrize("partition, user_signal", [("low0", False), ("low", False), ("low", True), ("low0", True)])
def test_eight_runs_on_fashion_mnist_preempted_twice(
    queue, fmnist_root, uninterrupted_fmnist, tmp_path, partition, user_signal
):
    queue.write_config(queue.state, user_signal=user_signal)
    subprocess.run(["scontrol", "reconfigure"], check=True)
    (tmp_path / "site.yaml").write_text(f"partition: {partition}\ncpus: 1\n")
    grid = read_grid(
        REPOSITORY / "jobs" / "fmnist_k.yaml",
        data_root=fmnist_root,
        overrides=dict(parse_override(word) for word in FMNIST if word != "--set"),
    )
    directories = create_runs(tmp_path / "outputs", list(grid.runs.values()))
    assert len(directories) == 8
    sc.hold(directories, restarts=2, cycles=2)
    sc.submit(directories, fmnist_root, partition=partition, payload=sc.Held)
    for number in (1, 2):
        sc.wait_until(lambda: sum(map(sc.started, directories)) >= 2, "two runs computing")
        for node in ("n1", "n2"):
            sc.preempt(node=node)
        sc.wait_until(lambda: not any(map(sc.started, directories)), f"preempted, {number}")
    for directory in directories:
        sc.release(directory)
    sc.wait_for_end(directories, 900)
    assert {one.name: results(one) for one in directories} == uninterrupted_fmnist
    assert sum(len(run_directory.attempts(one)) for one in directories) > 8


@pytest.mark.slow
def test_a_lost_node_on_fashion_mnist(queue, fmnist_root, uninterrupted_fmnist, tmp_path):
    (tmp_path / "site.yaml").write_text("partition: low\ncpus: 1\n")
    arguments = ["--grid", REPOSITORY / "jobs" / "fmnist_k.yaml", "--data", fmnist_root, *FMNIST]
    run_command("submit", *arguments, "--cluster", "slurm", "--site", "site.yaml", "--yes", cwd=tmp_path, check=0)
    directories = list(run_directory.run_directories(tmp_path / "outputs"))
    sc.wait_until(lambda: sum(map(sc.started, directories)) >= 2, "two runs computing")
    queue.stop_daemon(queue.state / "slurmd-n1.pid", 9)
    subprocess.run(["scontrol", "update", "nodename=n1", "state=down", "reason=lost"], check=True)
    try:
        sc.wait_for_end(directories, 900)
    finally:
        queue.start_node(queue.state, "n1")
        subprocess.run(["scontrol", "update", "nodename=n1", "state=resume"], check=False)
    assert {one.name: results(one) for one in directories} == uninterrupted_fmnist
