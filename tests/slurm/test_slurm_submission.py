"""From `submit` to arrays in the queue of a real SLURM, each of them once, and to the tables."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
from support import slurm_cluster as sc
from support.commands import GRID, run_command, submit_grid
from support.small_runs import children_seconds

from dc_hpc.config.grid import Resources, read_grid
from dc_hpc.errors import InputError
from dc_hpc.scheduler import launch, slurm, submissions
from dc_hpc.scheduler.session import create_runs
from dc_hpc.scheduler.site import Site, read_site
from dc_hpc.scheduler.submitting import search
from dc_hpc.storage import run_directory

pytestmark = pytest.mark.slurm


def test_max_array_size_makes_three_arrays_of_25_runs(queue, digits_root, tmp_path):
    queue.write_config(queue.state, max_array_size=11)
    subprocess.run(["scontrol", "reconfigure"], check=True)
    try:
        assert slurm.max_array_size() == 11
        directories = sc.long_runs(tmp_path, digits_root, 25)
        made = sc.submit(directories, digits_root, payload=sc.NoWork)
        assert [len(one.runs) for one in made] == [11, 11, 3]
        sc.wait_for_end(directories)
    finally:
        queue.write_config(queue.state)
        subprocess.run(["scontrol", "reconfigure"], check=True)


@pytest.fixture
def place(tmp_path, digits_root, queue):
    (tmp_path / "grid.yaml").write_text(GRID + "resources: {minutes: 5}\n")
    (tmp_path / "site.yaml").write_text("partition: low\ncpus: 1\n")
    return tmp_path


def slurm_submit(place, root, *more, check=0):
    return submit_grid(place, root, "--cluster", "slurm", "--site", "site.yaml", *more, check=check)


def test_the_commands_from_the_cost_estimate_to_the_tables(place, digits_root):
    dry = slurm_submit(place, digits_root, "--dry-run").stdout
    assert "tasks: 3 of 1 runs" in dry and "at most 0.2 core-hours" in dry and "#SBATCH --array=0-2%3" in dry
    assert "wckey" not in dry and "#SBATCH --requeue" in dry and "srun" in dry and not (place / "outputs").exists()
    refused = slurm_submit(place, digits_root, check=2)
    assert "--yes" in refused.stderr and not (place / "outputs").exists()
    made = slurm_submit(place, digits_root, "--yes", "--snapshot")
    assert "3 tasks" in made.stdout and "the aggregator" in made.stdout
    assert "to submit: 0" in slurm_submit(place, digits_root, "--yes").stdout
    status = run_command("status", "--json", "--grid", "grid.yaml", "--data", digits_root, cwd=place, check=0)
    shown = json.loads(status.stdout)
    assert shown["cluster"] and shown["counts"]["queued"] + shown["counts"]["running"] + shown["counts"]["done"] == 3
    sc.wait_until(lambda: (place / "outputs" / "report.html").exists(), "the report")
    assert (place / "outputs" / "tables" / "runs.csv").read_text().count(",done,") == 3
    folder = place / "outputs" / "slurm"
    (record,) = [one for one in submissions.read_all(place / "outputs") if one.execution]
    assert record.code["commit"] and record.code["versions"]["torch"] and "diff" in record.code
    attempt = run_directory.attempts(next(run_directory.run_directories(place / "outputs")))[0]
    assert attempt["commit"] == record.code["commit"]
    assert list((folder / "snapshots").glob("*/dc_hpc/submit.py"))
    assert list((folder / "snapshots").glob("*/dc_hpc/report/page.html"))  # the aggregator fills it
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*.pkl"))
    name = next(run_directory.run_directories(place / "outputs")).name
    assert f"{name}: done" in run_command("status", "logs", name, cwd=place, check=0).stdout
    later = slurm_submit(place, digits_root, "--dry-run", "--set", "cycles=4").stdout
    assert "to submit: 3" in later


def test_the_aggregator_waits_for_a_requeued_task(queue, digits_root, tmp_path):
    directories = sc.long_runs(tmp_path, digits_root, 1)
    sc.hold(directories)
    made = sc.submit(directories, digits_root, partition="low0", node="n1", save_seconds=0, payload=sc.Held)
    arguments = ["--outputs", str(tmp_path), "--data", str(digits_root)]
    launch.submit_aggregator(made, arguments, site=Site(partition="low", cpus=1), name="grid", outputs=tmp_path)
    sc.wait_until(lambda: sc.started(directories[0], 3), "started")
    sc.preempt()
    sc.wait_until(lambda: not sc.started(directories[0]), "preempted")
    assert not (tmp_path / "report.html").exists()
    sc.wait_until(lambda: (tmp_path / "report.html").exists(), "the report")
    assert "done" in (tmp_path / "tables" / "runs.csv").read_text()


STUB = """#!/bin/bash
count=$(cat {folder}/count 2>/dev/null || echo 0); echo $((count + 1)) > {folder}/count
if [ $count -lt {fails} ]; then
  {before} echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2
  exit 1
fi
exec {sbatch} "$@"
"""


@pytest.mark.parametrize("before, calls", [("", 3), ('{sbatch} "$@" >/dev/null;', 1)], ids=["busy", "answer lost"])
def test_sbatch_that_fails_makes_no_duplicates(queue, digits_root, tmp_path, uninterrupted, monkeypatch, before, calls):
    """When SLURM is busy twice, sbatch is called again. When an answer is lost after success, it is not."""
    program = subprocess.run(["which", "sbatch"], capture_output=True, text=True).stdout.strip()
    stub = tmp_path / "bin" / "sbatch"
    stub.parent.mkdir()
    stub.write_text(STUB.format(folder=tmp_path, fails=2, before=before.format(sbatch=program), sbatch=program))
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(search, "BACK_OFF", (0, 0, 0))
    directories = sc.long_runs(tmp_path, digits_root, 2)
    (job,) = sc.submit(directories, digits_root)
    assert (tmp_path / "count").read_text().strip() == str(calls)
    tasks = [task for task in slurm.tasks() if task.name.startswith("grid")]
    assert len([task for task in tasks if task.is_active or task.name == job.name]) == 2
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)
    assert [len(run_directory.attempts(one)) for one in directories] == [1, 1]


def test_a_submission_whose_answer_was_lost_is_found_in_the_queue(place, digits_root):
    """As after a death of submit between sbatch and the record of its answer."""
    slurm_submit(place, digits_root, "--yes", "--no-aggregate", "--set", "cycles=40")
    outputs = place / "outputs"
    (record,) = submissions.read_all(outputs)
    for path in (outputs / "slurm" / "grid").glob(f"{record.job}_*_submitted.pkl"):
        path.unlink()
    submissions.write(outputs, submissions.replace(record, job=None))
    again = slurm_submit(place, digits_root, "--yes", "--set", "cycles=40")
    assert "to submit: 0" in again.stdout and submissions.read_all(outputs)[0].job == record.job
    sc.wait_for_end(list(run_directory.run_directories(outputs)))


def test_a_refusal_is_one_line_and_can_be_corrected(place, digits_root):
    (place / "bad.yaml").write_text("partition: nowhere\n")
    out = submit_grid(place, digits_root, "--cluster", "slurm", "--site", "bad.yaml", "--yes")
    assert (
        out.returncode == 2
        and "partition nowhere is not on this cluster" in out.stderr
        and len(out.stderr.strip().splitlines()) == 1
    )
    assert "to submit: 3" in slurm_submit(place, digits_root, "--dry-run").stdout


def test_probe_site_drafts_a_profile_that_can_be_read(place):
    out = run_command("submit", "--probe-site", "--site", "drafted.yaml", cwd=place, check=0)
    assert "partition low0" in out.stdout and "at most 1001 tasks" in out.stdout and "gpu:fake:2" in out.stdout
    assert read_site(place / "drafted.yaml").partition == "low"


NOBODY = 65534


def python_for_nobody(home):
    """(interpreter, PYTHONPATH) for a user without rights: a copy where root's interpreter is in a closed folder."""
    can = subprocess.run(["runuser", "-u", "nobody", "--", sys.executable, "-c", "import dc_hpc"], capture_output=True)
    if can.returncode == 0:
        return sys.executable, os.environ["PYTHONPATH"]
    copy, library = home / "python", f"python{sys.version_info.major}.{sys.version_info.minor}"
    left_out = shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a")
    shutil.copytree(Path(sys.base_prefix) / "lib", copy / "lib", ignore=left_out, symlinks=True)
    (copy / "bin").mkdir()
    shutil.copy(os.path.realpath(sys.executable), copy / "bin" / library)
    return str(copy / "bin" / library), os.pathsep.join((os.environ["PYTHONPATH"], sysconfig.get_path("purelib")))


def test_another_user(queue, digits_root):
    """submit as a user without rights: all files belong to that user, and nobody else can read them."""
    if os.getuid():
        pytest.skip("only root can become another user; the other tests were just run as one")
    home = Path(tempfile.mkdtemp(prefix="dc-hpc-nobody-", dir="/tmp"))
    try:
        python, path = python_for_nobody(home)
        (home / "grid.yaml").write_text(GRID)
        (home / "site.yaml").write_text("partition: low\ncpus: 1\n")
        shutil.copy(digits_root / "digits.npz", home / "digits.npz")
        for one in (home, *home.rglob("*")):
            os.chown(one, NOBODY, NOBODY, follow_symlinks=False)
        arguments = ["--grid", "grid.yaml", "--data", ".", "--cluster", "slurm", "--site", "site.yaml", "--yes"]
        command = ["runuser", "-u", "nobody", "--", python, "-m", "dc_hpc.submit", *arguments]
        environment = os.environ | {"HOME": str(home), "MPLCONFIGDIR": str(home), "PYTHONPATH": path}
        made = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        # nothing is written after the results of three runs and the aggregator
        folder = home / "outputs" / "slurm" / "grid"
        sc.wait_until(lambda: len(list(folder.glob("*_result.pkl"))) == 4, "the report")
        written = list((home / "outputs").rglob("*"))
        assert {one.stat().st_uid for one in written} == {NOBODY}
        assert all(one.stat().st_mode & 0o077 == 0 for one in written if not one.is_symlink())
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_scale_2500_runs(queue, digits_root, tmp_path):
    """A grid of 2,500 points is submitted as arrays, computed, shown by status and aggregated."""
    (tmp_path / "grid.yaml").write_text(GRID.replace("[1, 2, 3]", "1..2500") + "resources: {runs_per_task: 125}\n")
    outputs, grid = tmp_path / "outputs", read_grid(tmp_path / "grid.yaml", data_root=digits_root)
    directories = create_runs(outputs, list(grid.runs.values()))
    made = sc.submit(directories, digits_root, payload=sc.NoWork, runs_per_task=125)
    assert [len(one.runs) for one in made] == [20]
    sc.wait_for_end(directories, 900)
    begun = children_seconds()
    shown = json.loads(run_command("status", "--json", cwd=tmp_path, check=0).stdout)
    assert shown["counts"]["done"] == 2500 and children_seconds() - begun < 10
    run_command("aggregate", "--data", digits_root, cwd=tmp_path, check=0)
    assert len((outputs / "tables" / "runs.csv").read_text().splitlines()) == 2501


def test_names_and_resources_that_would_leave_their_line_are_refused(tmp_path):
    for name in ("a\nb", "a b", "a;b", "$(x)", "-x", ""):
        with pytest.raises(InputError, match="job name"):
            submissions.unique_name(name) if name else launch._folder(tmp_path, name)
    with pytest.raises(InputError, match="cannot be named to SLURM"):
        launch._folder(tmp_path / "a\nb", "grid")
    text = launch.sbatch_text(
        Site(gpus=1, gpu_type="a100", gpu_flag="gres"), Resources(), name="g", outputs=tmp_path, tasks=2
    )
    assert "--gres=gpu:a100:1" in text and sys.executable in text
