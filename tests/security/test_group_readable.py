"""`group_readable: true` in a site profile: the group reads the outputs, and nobody else does; off by default."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import REPOSITORY
from support.stub_slurm import GRID, run_with_environment, stub_slurm

from dc_hpc.scheduler.site import Site, python_of, read_site, sbatch_parameters

SHARED = "DC_HPC_GROUP_READABLE"
# What a task of the cluster does, in the environment and under the umask that its script gives it.
TASK = """
import sys; from pathlib import Path
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler.worker import TaskPayload
runs = tuple(map(str, Path(sys.argv[1]).glob("runs/*")))
print(TaskPayload(runs, Execution(sys.argv[2]))())
"""


def modes(folder: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"files": set(), "folders": set()}
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            kind = "folders" if path.is_dir() else "files"
            found[kind].add(oct(stat.S_IMODE(path.stat().st_mode)))
    return found


@pytest.mark.parametrize("umask", [0o077, 0o000], ids=oct)
def test_the_group_reads_all_that_submit_tasks_and_aggregate_write(tmp_path, digits_root, umask):
    """The outputs folder exists already and is private."""
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "site.yaml").write_text("group_readable: true\n")
    outputs = tmp_path / "outputs"
    (outputs / "runs").mkdir(parents=True)
    for folder in (outputs, outputs / "runs"):
        folder.chmod(0o700)
    tools, data = stub_slurm(tmp_path / "tools"), ["--data", digits_root]
    to_slurm = ["--cluster", "slurm", "--site", "site.yaml", "--yes", "--snapshot"]
    sent = run_with_environment("submit", "--grid", "grid.yaml", *data, *to_slurm, cwd=tmp_path, umask=umask, **tools)
    assert sent.returncode == 0, sent.stderr
    assert modes(outputs) == {"files": {"0o640"}, "folders": {"0o750"}}
    script = (tmp_path / "tools" / "script").read_text().splitlines()
    assert "umask 027" in script and f"export {SHARED}=1" in script and "umask 077" not in script
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), SHARED: "1"}
    command = [sys.executable, "-c", TASK, outputs, digits_root]
    subprocess.run(command, check=True, env=environment, umask=umask, capture_output=True)
    made = run_with_environment("aggregate", *data, "--jobs", tmp_path, cwd=tmp_path, umask=umask, **{SHARED: "1"})
    assert made.returncode == 0, made.stderr
    assert list(outputs.glob("runs/*/result.json")) and (outputs / "report.html").exists()
    assert modes(outputs) == {"files": {"0o640"}, "folders": {"0o750"}}


def test_a_setgid_bit_stays(tmp_path, monkeypatch):
    from dc_hpc.storage import atomic_files

    monkeypatch.setenv(SHARED, "1")
    folder = tmp_path / "outputs"
    folder.mkdir()
    folder.chmod(0o2700)
    atomic_files.make_directory(folder / "runs" / "one")
    atomic_files.make_directory(folder)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "runs", folder / "runs" / "one")}
    assert set(found.values()) == {0o2750}


def test_it_is_off_by_default_and_reaches_a_container(tmp_path):
    assert read_site(REPOSITORY / "slurm" / "default.yaml").group_readable is False
    setup = sbatch_parameters(Site(), minutes=5, parallel_runs=1)["setup"]
    assert setup[0] == "umask 077" and not any(SHARED in line for line in setup)
    site = Site(container="apptainer exec --cleanenv image.sif", group_readable=True)
    assert python_of(site) == f"apptainer exec --cleanenv image.sif env {SHARED}=1 python3"
