"""The cluster block of README, executed line by line on the real SLURM."""

import os
import subprocess

import pytest
from support.documents import REPOSITORY, blocks, use_this_environment

from dc_hpc.storage import run_directory

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_the_cluster_block_of_the_readme_runs_as_it_is_written(queue, tmp_path):
    (block,) = [text for text in blocks("README.md", "bash") if text.startswith("git clone")]
    clone, rest = block.split("\n", 1)
    environment = {name: value for name, value in os.environ.items() if name != "DC_HPC_DATA"}
    subprocess.run(["bash", "-c", clone.replace("ADDRESS", f"file://{REPOSITORY}")], cwd=tmp_path, check=True)
    tree = tmp_path / "dc_hpc"
    use_this_environment(tree)
    environment["PYTHONPATH"] = str(tree)
    done = subprocess.run(["bash", "-c", "set -e\n" + rest], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    directories = run_directory.run_directories(tree / "outputs")
    assert len([one for one in directories if run_directory.read_result(one)]) == 100
    assert "missing of the grids in jobs/" in done.stdout
