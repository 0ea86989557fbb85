"""Arrays on a real SLURM: preempted, limited, cancelled, lost; the results are always those of a quiet run."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
from support import slurm_cluster as sc
from support.commands import GRID, REPOSITORY, run_command
from support.small_runs import children_seconds, new_run, results

from dc_hpc.config.grid import Resources, parse_override, read_grid
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.scheduler import launch, run_status, slurm, submissions
from dc_hpc.scheduler.site import Site, read_site
from dc_hpc.storage import run_directory
from dc_hpc.submit import create_runs

pytestmark = pytest.mark.slurm
LONG = {"cycles": 20}


@pytest.fixture
def queue(cluster):
    """The cluster with an empty queue, before and after."""
    yield cluster
    for state in ("PENDING", "RUNNING"):
        subprocess.run(["scancel", "-f", "--state", state], check=False, capture_output=True)
    sc.wait_until(sc.queue_is_empty, "an empty queue")


@pytest.fixture(scope="module")
def quiet(digits_root, tmp_path_factory):
    """seed -> the files of an uninterrupted run of LONG."""
    made = {}

    def of(seed):
        if seed not in made:
            directory = new_run(tmp_path_factory.mktemp("quiet"), digits_root, seed=seed, **LONG)
            assert run(directory, Execution(str(digits_root))) == "done"
            made[seed] = results(directory)
        return made[seed]

    return of


def runs(outputs, root, count, **changes):
    return [new_run(outputs, root, seed=seed, **{**LONG, **changes}) for seed in range(1, count + 1)]


def same(directories, quiet):
    assert all(results(one) == quiet(seed) for seed, one in enumerate(directories, 1))


@pytest.mark.parametrize("partition, user_signal", [("low", False), ("low", True), ("low0", False), ("low0", True)])
def test_preempted_twice_and_the_same_bytes(queue, digits_root, tmp_path, quiet, partition, user_signal):
    """With a grace of 10 s and with none, with and without the user's signal, under a 5-minute limit."""
    queue.write_config(queue.state, user_signal=user_signal)
    subprocess.run(["scontrol", "reconfigure"], check=True)
    directories = runs(tmp_path, digits_root, 2)
    sc.hold(directories[:1], restarts=2)
    (job,) = sc.submit(
        directories, digits_root, partition=partition, node="n1", minutes=5, save_seconds=1, work=sc.Held
    )
    for number in (1, 2):
        sc.wait_until(lambda: sc.started(directories[0], 2), f"start {number}")
        sc.preempt()
        sc.wait_until(lambda: not sc.started(directories[0]), "preempted")
    sc.wait_for_end(directories)
    same(directories, quiet)
    attempts = run_directory.attempts(directories[0])
    assert len(attempts) >= 3 and attempts[-1]["resumed_from"] and attempts[-1]["slurm"]["slurm_restart_count"] == "2"
    assert len({one["slurm"]["slurm_array_job_id"] for one in attempts}) == 1
    if partition == "low":
        assert sc.log_of(directories[0], job).count("told to stop: preempted; everything is saved") == 2


def test_the_time_limit_requeues_and_goes_on(queue, digits_root, tmp_path, quiet):
    """A limit of one minute with a warning 20 s before it; SLURM looks for warnings once a minute or so."""
    directories = [new_run(tmp_path, digits_root, seed=1, cycles=400)]
    sc.hold(directories, cycles=300)
    (job,) = sc.submit(directories, digits_root, minutes=1, work=sc.Held)
    sc.wait_until(
        lambda: (
            len(run_directory.attempts(directories[0])) >= 2 or run_directory.state_of(directories[0]).name == "done"
        ),
        "a second attempt",
        170,
    )
    assert "told to stop: time limit; everything is saved" in sc.log_of(directories[0], job)
    sc.wait_until(
        lambda: (
            run_directory.state_of(directories[0]).name == "done"
            or run_directory.state_of(directories[0]).cycles_done > 2
        ),
        "going on",
    )
    assert run_directory.attempts(directories[0])[-1]["resumed_from"]


def test_a_cancelled_task_saves_and_does_not_come_back(queue, digits_root, tmp_path, quiet):
    directories = runs(tmp_path, digits_root, 2)
    sc.hold(directories)
    (job,) = sc.submit(directories, digits_root, work=sc.Held)
    sc.wait_until(lambda: all(map(sc.started, directories)), "both started")
    cancelled = run_command("status", "cancel", directories[0].name, "--outputs", tmp_path, cwd=tmp_path, check=0)
    assert f"cancelled {job.task_id(0)}, which was running" in cancelled.stdout
    assert "1 tasks cancelled" in cancelled.stdout
    sc.release(directories[1])
    sc.wait_for_end(directories[1:])
    sc.wait_until(sc.queue_is_empty, "an empty queue")
    seen = run_status.look(tmp_path, [directories[0].name]).runs[directories[0].name]
    assert seen.state == "resumable" and "was cancelled" in seen.reason
    assert (
        "told to stop: cancelled" in sc.log_of(directories[0], job) and len(run_directory.attempts(directories[0])) == 1
    )
    assert list((directories[0] / "checkpoints").iterdir())
    sc.submit(directories[:1], digits_root)
    sc.wait_for_end(directories)
    same(directories, quiet)


@pytest.mark.parametrize("requeue", [True, False])
def test_where_preemption_cancels(queue, digits_root, tmp_path, quiet, requeue):
    """The worker puts its task back; where the site forbids that, submitting again is the recovery."""
    directories = runs(tmp_path, digits_root, 1)
    sc.hold(directories)
    sc.submit(directories, digits_root, partition="lowc", node="n1", save_seconds=0, requeue=requeue, work=sc.Held)
    sc.wait_until(lambda: sc.started(directories[0], 3), "started")
    sc.preempt()
    if not requeue:
        sc.wait_until(lambda: sc.queue_is_empty("grid"), "the end")
        seen = run_status.look(tmp_path, [directories[0].name]).runs[directories[0].name]
        assert seen.state == "resumable" and seen.reason and not seen.lives
        sc.submit(directories, digits_root)
    sc.wait_for_end(directories)
    same(directories, quiet)
    attempts = run_directory.attempts(directories[0])
    assert attempts[-1]["resumed_from"] and ("slurm_restart_count" in attempts[-1]["slurm"]) == requeue


def test_a_lost_node_whose_process_lives_on(queue, digits_root, tmp_path):
    """Two attempts of one run are alive at once: the lost node's daemon is dead, its process is not.

    The run outlives the wait of its requeued task.
    """
    directories = runs(tmp_path, digits_root, 1, cycles=60)
    sc.hold(directories, cycles=40)
    (job,) = sc.submit(directories, digits_root, save_seconds=0, work=sc.Held)
    sc.wait_until(lambda: sc.started(directories[0]), "started")
    first = run_directory.attempts(directories[0])[0]["pid"]
    node = next(task.node for task in slurm.tasks() if task.name == job.name)
    queue.stop_daemon(queue.state / f"slurmd-{node}.pid", 9)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=lost"], check=True)
    try:
        sc.wait_until(lambda: len(run_directory.attempts(directories[0])) == 2, "a second attempt")
        assert os.path.exists(f"/proc/{first}"), "the first attempt had ended before the second began"
        sc.release(directories[0])
        sc.wait_for_end(directories)
        sc.wait_until(lambda: not os.path.exists(f"/proc/{first}"), "the old process ended")
    finally:
        queue.start_node(queue.state, node)
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
    reference = new_run(tmp_path / "quiet", digits_root, seed=1, cycles=60)
    run(reference, Execution(str(digits_root)))
    assert results(directories[0]) == results(reference)


def test_a_pack_of_four_resumes_its_unfinished_runs(queue, digits_root, tmp_path, quiet):
    directories = runs(tmp_path, digits_root, 4)
    sc.hold(directories[2:])
    (job,) = sc.submit(
        directories,
        digits_root,
        partition="low0",
        node="n1",
        cpus=2,
        save_seconds=0,
        runs_per_task=4,
        parallel_runs=2,
        work=sc.Held,
    )
    assert len(job.runs) == 1 and "_" not in job.task_id(0)
    sc.wait_until(lambda: sum(run_directory.state_of(one).name == "done" for one in directories) >= 2, "half of them")
    sc.wait_until(lambda: any(map(sc.started, directories)), "a third")
    sc.preempt()
    sc.wait_for_end(directories)
    same(directories, quiet)
    assert (
        len(run_directory.attempts(directories[0])) == 1
        and max(len(run_directory.attempts(one)) for one in directories) >= 2
    )


def test_max_array_size_makes_three_arrays_of_25_runs(queue, digits_root, tmp_path):
    queue.write_config(queue.state, max_array_size=11)
    subprocess.run(["scontrol", "reconfigure"], check=True)
    try:
        assert slurm.max_array_size() == 11
        directories = runs(tmp_path, digits_root, 25)
        made = sc.submit(directories, digits_root, work=sc.NoWork)
        assert [len(one.runs) for one in made] == [11, 11, 3]
        sc.wait_for_end(directories)
    finally:
        queue.write_config(queue.state)
        subprocess.run(["scontrol", "reconfigure"], check=True)


def test_a_poison_run_stops_after_five_attempts_and_names_memory(queue, digits_root, tmp_path):
    directories = runs(tmp_path, digits_root, 2)
    (job,) = sc.submit(directories, digits_root, work=sc.Poison, runs_per_task=2)
    sc.wait_until(sc.queue_is_empty, "an end")
    for directory in directories:
        state = run_directory.state_of(directory)
        assert state.name == "failed" and len(run_directory.attempts(directory)) == 5
        assert "out of memory, most likely" in state.reason and re.search(r"memory_gb: \d+", state.reason)
        assert (directory / "attempts" / "0005.error").exists()
    shown = run_command("status", "--outputs", tmp_path, cwd=tmp_path, check=0).stdout
    assert "2 failed" in shown and "memory_gb" in shown


@pytest.fixture
def place(tmp_path, digits_root, queue):
    (tmp_path / "grid.yaml").write_text(GRID + "resources: {minutes: 5}\n")
    (tmp_path / "site.yaml").write_text("partition: low\ncpus: 1\n")
    return tmp_path


def slurm_submit(place, root, *more, check=0):
    return submit_grid(place, root, "--cluster", "slurm", "--site", "site.yaml", *more, check=check)


def test_the_doors_from_the_bill_to_the_tables(place, digits_root):
    bill = slurm_submit(place, digits_root, "--dry-run").stdout
    assert "tasks: 3 of 1 runs" in bill and "at most 0.2 core-hours" in bill and "#SBATCH --array=0-2%3" in bill
    assert "wckey" not in bill and "#SBATCH --requeue" in bill and "srun" in bill and not (place / "outputs").exists()
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
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*.pkl"))
    name = next(run_directory.run_directories(place / "outputs")).name
    assert f"{name}: done" in run_command("status", "logs", name, cwd=place, check=0).stdout
    later = slurm_submit(place, digits_root, "--dry-run", "--set", "cycles=4").stdout
    assert "to submit: 3" in later


def test_the_aggregator_waits_for_a_requeued_task(queue, digits_root, tmp_path):
    directories = runs(tmp_path, digits_root, 1)
    sc.hold(directories)
    made = sc.submit(directories, digits_root, partition="low0", node="n1", save_seconds=0, work=sc.Held)
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
def test_sbatch_that_fails_makes_no_duplicates(queue, digits_root, tmp_path, quiet, monkeypatch, before, calls):
    """Twice busy: it is tried again. The answer lost after success: the queue is asked, and nothing is sent again."""
    sbatch = subprocess.run(["which", "sbatch"], capture_output=True, text=True).stdout.strip()
    stub = tmp_path / "bin" / "sbatch"
    stub.parent.mkdir()
    stub.write_text(STUB.format(folder=tmp_path, fails=2, before=before.format(sbatch=sbatch), sbatch=sbatch))
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(sbatch, "BACK_OFF", (0, 0, 0))
    directories = runs(tmp_path, digits_root, 2)
    (job,) = sc.submit(directories, digits_root)
    assert (tmp_path / "count").read_text().strip() == str(calls)
    assert (
        len([task for task in slurm.tasks() if task.name.startswith("grid") and (task.lives or task.name == job.name)])
        == 2
    )
    sc.wait_for_end(directories)
    same(directories, quiet)
    assert [len(run_directory.attempts(one)) for one in directories] == [1, 1]


def test_a_launcher_that_died_after_sbatch_is_reconciled(place, digits_root):
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
    assert out.returncode == 2 and "invalid partition" in out.stderr and len(out.stderr.strip().splitlines()) == 1
    assert "to submit: 3" in slurm_submit(place, digits_root, "--dry-run").stdout


def test_probe_site_drafts_a_profile_that_can_be_read(place):
    out = run_command("submit", "--probe-site", "--site", "drafted.yaml", cwd=place, check=0)
    assert "partition low0" in out.stdout and "MaxArraySize 1001" in out.stdout and "gpu:fake:2" in out.stdout
    assert read_site(place / "drafted.yaml").partition == "low"


NOBODY = 65534


def python_for_nobody(home):
    """(interpreter, PYTHONPATH) that a user without rights can run: a copy where root's own lies in a closed folder."""
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
    """The same doors as somebody without rights: everything is theirs, and nobody else's to read."""
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
        command = [
            "runuser",
            "-u",
            "nobody",
            "--",
            python,
            "-m",
            "dc_hpc.submit",
            "--grid",
            "grid.yaml",
            "--data",
            ".",
            "--cluster",
            "slurm",
            "--site",
            "site.yaml",
            "--yes",
        ]
        environment = os.environ | {"HOME": str(home), "MPLCONFIGDIR": str(home), "PYTHONPATH": path}
        made = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        ended = home / "outputs" / "slurm" / "grid"  # three runs and the aggregator: nothing is written any more
        sc.wait_until(lambda: len(list(ended.glob("*_result.pkl"))) == 4, "the report")
        written = list((home / "outputs").rglob("*"))
        assert {one.stat().st_uid for one in written} == {NOBODY}
        assert all(one.stat().st_mode & 0o077 == 0 for one in written if not one.is_symlink())
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_signal_in_the_middle_of_a_save(queue, digits_root, tmp_path, quiet):
    """The save is finished first; nobody preempted the task, so it ends, and submitting again goes on."""
    directories = runs(tmp_path, digits_root, 1)
    (job,) = sc.submit(directories, digits_root, work=sc.SignalledWhileSaving, save_seconds=0)
    sc.wait_until(sc.queue_is_empty, "an end")
    assert (tmp_path / "signalled").exists() and "told to stop: asked" in sc.log_of(directories[0], job)
    assert run_directory.state_of(directories[0]).name == "resumable" and not list(directories[0].rglob(".*.tmp*"))
    sc.submit(directories, digits_root)
    sc.wait_for_end(directories)
    same(directories, quiet)
    assert run_directory.attempts(directories[0])[-1]["resumed_from"]


def test_scale_2500_runs(queue, digits_root, tmp_path):
    """A grid of 2,500 points: to its arrays through submit's own path, run, looked at and aggregated."""
    (tmp_path / "grid.yaml").write_text(GRID.replace("[1, 2, 3]", "1..2500") + "resources: {runs_per_task: 125}\n")
    outputs, grid = tmp_path / "outputs", read_grid(tmp_path / "grid.yaml", data_root=digits_root)
    directories = create_runs(outputs, list(grid.runs.values()))
    made = sc.submit(directories, digits_root, work=sc.NoWork, runs_per_task=125)
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


FMNIST = [
    word for setting in ("k=5", "cycles=3", "seed=1..8", "probe=off", "features=none") for word in ("--set", setting)
]


@pytest.fixture(scope="module")
def quiet_fmnist(fmnist_root, tmp_path_factory):
    """The eight runs on Fashion-MNIST, undisturbed, on this machine's cores."""
    place = tmp_path_factory.mktemp("fmnist")
    arguments = ["--grid", REPOSITORY / "jobs" / "fmnist_k.yaml", "--data", fmnist_root, *FMNIST]
    run_command("submit", *arguments, "--outputs", place, cwd=place, check=0)
    return {one.name: results(one) for one in run_directory.run_directories(place)}


@pytest.mark.parametrize(
    "partition, user_signal",
    [
        ("low0", False),
        pytest.param("low", False, marks=pytest.mark.slow),
        pytest.param("low", True, marks=pytest.mark.slow),
        pytest.param("low0", True, marks=pytest.mark.slow),
    ],
)
def test_eight_runs_on_fashion_mnist_preempted_twice(
    queue, fmnist_root, quiet_fmnist, tmp_path, partition, user_signal
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
    sc.submit(directories, fmnist_root, partition=partition, work=sc.Held)
    for number in (1, 2):
        sc.wait_until(lambda: sum(map(sc.started, directories)) >= 2, "two runs under way")
        for node in ("n1", "n2"):
            sc.preempt(node=node)
        sc.wait_until(lambda: not any(map(sc.started, directories)), f"preempted, {number}")
    for directory in directories:
        sc.release(directory)
    sc.wait_for_end(directories, 900)
    assert {one.name: results(one) for one in directories} == quiet_fmnist
    assert sum(len(run_directory.attempts(one)) for one in directories) > 8


@pytest.mark.slow
def test_a_lost_node_on_fashion_mnist(queue, fmnist_root, quiet_fmnist, tmp_path):
    (tmp_path / "site.yaml").write_text("partition: low\ncpus: 1\n")
    arguments = ["--grid", REPOSITORY / "jobs" / "fmnist_k.yaml", "--data", fmnist_root, *FMNIST]
    run_command("submit", *arguments, "--cluster", "slurm", "--site", "site.yaml", "--yes", cwd=tmp_path, check=0)
    directories = list(run_directory.run_directories(tmp_path / "outputs"))
    sc.wait_until(lambda: sum(map(sc.started, directories)) >= 2, "two runs under way")
    queue.stop_daemon(queue.state / "slurmd-n1.pid", 9)
    subprocess.run(["scontrol", "update", "nodename=n1", "state=down", "reason=lost"], check=True)
    try:
        sc.wait_for_end(directories, 900)
    finally:
        queue.start_node(queue.state, "n1")
        subprocess.run(["scontrol", "update", "nodename=n1", "state=resume"], check=False)
    assert {one.name: results(one) for one in directories} == quiet_fmnist
