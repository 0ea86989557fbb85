"""The doors from outside, as a person uses them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from support.commands import GRID, REPOSITORY, run_command
from support.small_runs import results

from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import launch
from dc_hpc.storage import run_directory


@pytest.fixture
def place(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path


def counts(output):
    """The line of states, as a dictionary."""
    return {name: int(number) for number, name in re.findall(r"(\d+) (done|running|resumable|failed|new)\b", output)}


def test_a_grid_is_run_then_nothing_is_left_to_do(place, digits_root):
    dry = run_command("submit", "--grid", "grid.yaml", "--data", digits_root, "--dry-run", cwd=place, check=0)
    assert "grid.yaml: 3 points" in dry.stdout and "to submit: 3" in dry.stdout and counts(dry.stdout)["new"] == 3
    assert not (place / "outputs").exists()
    first = run_command("submit", "--grid", "grid.yaml", "--data", digits_root, cwd=place, check=0)
    assert "3 of 3 runs done" in first.stdout
    again = run_command("submit", "--grid", "grid.yaml", "--data", digits_root, cwd=place, check=0)
    assert "to submit: 0" in again.stdout and counts(again.stdout)["done"] == 3


def test_the_runs_of_a_slot_and_of_one_process_are_the_same(place, digits_root):
    run_command("submit", "--grid", "grid.yaml", "--data", digits_root, "--outputs", "slots", cwd=place, check=0)
    run_command(
        "submit",
        "--grid",
        "grid.yaml",
        "--data",
        digits_root,
        "--outputs",
        "debug",
        "--cluster",
        "debug",
        cwd=place,
        check=0,
    )
    for directory in run_directory.run_directories(place / "slots"):
        assert results(directory) == results(place / "debug" / "runs" / directory.name)


def test_set_limit_and_several_grids(place, digits_root):
    (place / "more.yaml").write_text(GRID.replace("[1, 2, 3]", "[3, 4]"))
    out = run_command(
        "submit",
        "--grid",
        "grid.yaml",
        "--grid",
        "more.yaml",
        "--data",
        digits_root,
        "--dry-run",
        "--limit",
        2,
        "--set",
        "cycles=2",
        cwd=place,
        check=0,
    )
    assert counts(out.stdout)["new"] == 4 and "to submit: 2" in out.stdout


def heard():
    """Let Ctrl-C reach a child: what a shell starts with `&`, these tests perhaps, does not, nor do its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_saves_and_the_same_command_goes_on(place, digits_root):
    arguments = ["--grid", "grid.yaml", "--data", str(digits_root), "--set", "cycles=40"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dc_hpc.submit", *arguments],
        cwd=place,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=heard,
    )
    while process.poll() is None and not any(
        run_directory.state_of(d).cycles_done >= 2 for d in run_directory.run_directories(place / "outputs")
    ):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: to the door and to all it started
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on from here" in out and "Traceback" not in errors
    states = [run_directory.state_of(directory).name for directory in run_directory.run_directories(place / "outputs")]
    assert "resumable" in states and "running" not in states and "failed" not in states
    saved = list((place / "outputs").glob("runs/*/checkpoints/c*"))
    assert saved, "Ctrl-C let the runs save"
    run_command("submit", *arguments, cwd=place, check=0)
    run_command("submit", *arguments, "--outputs", "whole", cwd=place, check=0)
    for directory in run_directory.run_directories(place / "outputs"):
        assert results(directory) == results(place / "whole" / "runs" / directory.name)


def test_without_waiting_the_door_returns_and_the_runs_go_on(place, digits_root):
    """Whoever reads its output has all of it at once, and need not wait for the runs."""
    started = run_command(
        "submit", "--grid", "grid.yaml", "--data", digits_root, "--set", "cycles=40", "--no-wait", cwd=place, check=0
    )
    assert "started" in started.stdout
    assert not all(
        run_directory.state_of(one).name == "done" for one in run_directory.run_directories(place / "outputs")
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        states = [
            run_directory.state_of(directory).name for directory in run_directory.run_directories(place / "outputs")
        ]
        if states == ["done"] * 3:
            return
        time.sleep(0.3)
    pytest.fail(f"states after two minutes: {states}")


@pytest.mark.parametrize("cards", [None, "1,3", "MIG-41b3"])
def test_a_local_job_sees_the_cards_of_its_submitter(tmp_path, monkeypatch, cards):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if cards is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
    monkeypatch.setattr(launch, "TaskPayload", lambda *_, **__: partial(os.getenv, "CUDA_VISIBLE_DEVICES"))
    job = launch.submit_local([], Execution("data"), slots=1, folder=tmp_path / "job", survive_logout=False)
    assert job.result() == cards


def test_a_failed_run_is_shown_kept_and_tried_again(place, digits_root):
    run_command("submit", "--grid", "grid.yaml", "--data", digits_root, "--limit", 1, cwd=place, check=0)
    new = run_command(
        "submit", "--grid", "grid.yaml", "--data", digits_root, "--limit", 1, "--set", "lr=1e5", cwd=place
    )
    assert new.returncode == 1 and "1 failed" not in new.stdout.splitlines()[1]
    assert "failed:" in new.stdout and "ValueError" in new.stdout and ".error" in new.stdout
    again = run_command(
        "submit", "--grid", "grid.yaml", "--data", digits_root, "--set", "lr=1e5", "--dry-run", cwd=place
    )
    assert counts(again.stdout)["failed"] == 1 and "to submit: 3" in again.stdout
    run_command("submit", "--grid", "grid.yaml", "--data", digits_root, "--limit", 1, "--set", "lr=1e5", cwd=place)
    (failed,) = [
        one for one in run_directory.run_directories(place / "outputs") if run_directory.state_of(one).name == "failed"
    ]
    assert [one["ended"] for one in run_directory.attempts(failed)] == ["failed", "failed"]


BAD = [
    (["--grid", "none.yaml"], "none.yaml"),
    (["--grid", "grid.yaml", "--cluster", "slum"], "--cluster 'slum' is not allowed; allowed: local, slurm, debug"),
    (["--grid", "grid.yaml", "--engine", "cuml"], "--engine 'cuml' is not allowed; allowed: torch, faiss, sklearn"),
    (["--grid", "grid.yaml", "--set", "cycle=2"], "unknown key 'cycle'; did you mean \"cycles\"?"),
    (["--grid", "grid.yaml", "--set", "halt_cycle=0"], "halt_cycle 0 is not allowed; allowed: greater than or"),
    (["--grid", "grid.yaml", "--set", "pca=85"], "pca 85 is larger than the 84 features of lenet5"),
    (["--grid", "grid.yaml", "--set", "k=1501"], "k 1501 is larger than the 1500 training images of digits"),
    (["--grid", "grid.yaml", "--set", "k=[]"], "k is an empty list"),
    (["--grid", "grid.yaml", "--set", "dataset=fmnist"], "python -m dc_hpc.fetch fmnist"),
    (["--grid", "grid.yaml", "--set", "dataset=nothere"], "dataset 'nothere' is neither one of fmnist"),
    (["--grid", "grid.yaml", "--slots", "0"], "--slots"),
    (["--grid", "grid.yaml", "--outputs", "grid.yaml"], "--outputs grid.yaml cannot be written"),
    (["--grid", "grid.yaml", "--frob"], "--frob"),
    ([], "--grid"),
]


@pytest.mark.parametrize("arguments, message", BAD, ids=[" ".join(arguments) or "nothing" for arguments, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(place, digits_root, arguments, message):
    out = run_command("submit", *arguments, "--data", digits_root, cwd=place)
    assert out.returncode == 2, out.stdout + out.stderr
    assert message in out.stderr and len(out.stderr.strip().splitlines()) == 1 and "Traceback" not in out.stderr
    assert not (place / "outputs").exists()


def test_a_card_that_is_not_there_is_one_line_and_leaves_nothing(place, digits_root, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on a machine with cards, too
    out = run_command("submit", "--grid", "grid.yaml", "--data", digits_root, "--device", "cuda", cwd=place)
    assert out.returncode == 2 and out.stderr == (
        "dc_hpc: device cuda is not available on this machine; allowed: cpu, auto\n"
    )
    assert not (place / "outputs").exists()


def test_slurm_without_slurm_is_one_line(place, digits_root, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    out = run_command(
        "submit",
        "--grid",
        "grid.yaml",
        "--data",
        digits_root,
        "--cluster",
        "slurm",
        "--site",
        REPOSITORY / "slurm" / "default.yaml",
        cwd=place,
    )
    assert out.returncode == 2 and "--cluster slurm needs sbatch" in out.stderr
    assert len(out.stderr.strip().splitlines()) == 1


@pytest.fixture
def stand_in(place, monkeypatch):
    """sbatch, srun and squeue on PATH that keep what they are given; the true cluster has tests of its own."""
    tools = place / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text('#!/bin/sh\nfor last; do :; done\ncp "$last" "$SEEN"\n$ANSWER\n')
    (tools / "srun").write_text("#!/bin/sh\n")
    (tools / "squeue").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(place / "sbatch.txt"))
    monkeypatch.setenv("ANSWER", "echo Submitted batch job 77")
    return place


def test_an_array_carries_what_the_grid_and_the_site_say(stand_in, digits_root):
    (stand_in / "site.yaml").write_text(
        "partition: low\naccount: lab7\nmemory_gb: 8\narray_throttle: 1\n"
        "setup: [module load cuda]\nextra: {constraint: a100}\n"
    )
    (stand_in / "grid.yaml").write_text(GRID + "resources: {minutes: 90, runs_per_task: 2}\n")
    out = run_command(
        "submit",
        "--grid",
        "grid.yaml",
        "--data",
        digits_root,
        "--cluster",
        "slurm",
        "--site",
        "site.yaml",
        "--yes",
        "--no-aggregate",
        cwd=stand_in,
        check=0,
    )
    assert re.search(r"submitted job 77 \(grid-[0-9a-f]{8}\): 2 tasks", out.stdout)
    script = (stand_in / "sbatch.txt").read_text()
    for line in (
        "--array=0-1%1",
        "--partition=low",
        "--account=lab7",
        "--mem=8GB",
        "--time=90",
        "--requeue",
        "--constraint=a100",
        "--job-name=grid-[0-9a-f]{8}",
    ):
        assert re.search(f"^#SBATCH {line}$", script, re.M), script
    assert "module load cuda" in script and "SRUN_CPUS_PER_TASK" in script
    assert [run_directory.state_of(d).name for d in run_directory.run_directories(stand_in / "outputs")] == ["new"] * 3


def test_nothing_is_submitted_while_the_queue_cannot_be_seen(stand_in, digits_root):
    """sbatch may work while squeue does not: what waits would be submitted a second time."""
    arguments = [
        "--grid",
        "grid.yaml",
        "--data",
        digits_root,
        "--cluster",
        "slurm",
        "--site",
        REPOSITORY / "slurm" / "default.yaml",
        "--yes",
        "--no-aggregate",
    ]
    run_command("submit", *arguments, cwd=stand_in, check=0)
    (stand_in / "sbatch.txt").unlink()
    (stand_in / "tools" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    out = run_command("submit", *arguments, cwd=stand_in, check=2)
    assert "nobody knows which runs are in its queue" in out.stderr and not (stand_in / "sbatch.txt").exists()
    assert "3 points" in run_command("submit", *arguments, "--dry-run", cwd=stand_in, check=0).stdout


def test_each_grid_gets_its_own_arrays_and_resources(stand_in, digits_root):
    """A run that two grids share goes with the first."""
    (stand_in / "site.yaml").write_text("partition: low\n")
    (stand_in / "more.yaml").write_text(GRID.replace("[1, 2, 3]", "[3, 4]") + "resources: {minutes: 7}\n")
    out = run_command(
        "submit",
        "--grid",
        "grid.yaml",
        "--grid",
        "more.yaml",
        "--data",
        digits_root,
        "--cluster",
        "slurm",
        "--site",
        "site.yaml",
        "--yes",
        "--no-aggregate",
        cwd=stand_in,
        check=0,
    )
    assert re.findall(r"\((grid|more)-[0-9a-f]{8}\): (\d) tasks", out.stdout) == [("grid", "3"), ("more", "1")]
    assert "#SBATCH --time=7\n" in (stand_in / "sbatch.txt").read_text()


def test_a_refusing_cluster_is_one_line(stand_in, digits_root, monkeypatch):
    monkeypatch.setenv("ANSWER", "exit 1")
    out = run_command(
        "submit",
        "--grid",
        "grid.yaml",
        "--data",
        digits_root,
        "--cluster",
        "slurm",
        "--site",
        REPOSITORY / "slurm" / "default.yaml",
        "--yes",
        cwd=stand_in,
    )
    assert out.returncode == 2 and "sbatch refused" in out.stderr and "Traceback" not in out.stderr


@pytest.mark.parametrize(
    "text, message",
    [
        ("partition: 'low\\nrm -rf ~'\n", "1: partition"),
        ("partion: low\n", "1: unknown key 'partion'; did you mean \"partition\"?"),
        ("gpus: -1\n", "1: gpus -1 is not allowed"),
    ],
)
def test_a_wrong_site_is_refused_with_its_line(stand_in, digits_root, text, message):
    (stand_in / "site.yaml").write_text(text)
    out = run_command(
        "submit",
        "--grid",
        "grid.yaml",
        "--data",
        digits_root,
        "--cluster",
        "slurm",
        "--site",
        "site.yaml",
        cwd=stand_in,
    )
    assert out.returncode == 2 and message in out.stderr and not (stand_in / "outputs").exists()


def test_a_truncated_data_file_is_refused_by_name(place, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / "digits.npz").write_bytes(b"PK\x03\x04 not the rest")
    out = run_command("submit", "--grid", "grid.yaml", "--data", root, cwd=place)
    assert out.returncode == 2 and "digits.npz" in out.stderr and not (place / "outputs").exists()


def test_a_damaged_known_set_is_refused_by_name(place, fmnist_root, tmp_path):
    root = tmp_path / "data" / "FashionMNIST" / "raw"
    root.mkdir(parents=True)
    for file in (fmnist_root / "FashionMNIST" / "raw").glob("*-ubyte"):
        (root / file.name).write_bytes(file.read_bytes()[:-1])
    out = run_command(
        "submit", "--grid", REPOSITORY / "jobs" / "fmnist_demo.yaml", "--data", tmp_path / "data", cwd=place
    )
    assert out.returncode == 2 and "damaged" in out.stderr and "dc_hpc.fetch fmnist" in out.stderr
    assert not (place / "outputs").exists()


def test_the_console_script_has_the_same_doors(place, digits_root):
    script = Path(sys.executable).with_name("dc-hpc")
    helped = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert all(name in helped.stdout for name in ("submit", "aggregate", "fetch"))
    bill = subprocess.run(
        [script, "submit", "--grid", "grid.yaml", "--data", digits_root, "--dry-run"],
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "to submit: 3" in bill.stdout


def test_figure_4a_small_on_fashion_mnist_killed_in_the_middle(tmp_path, fmnist_root):
    """The first whole path on real data: run, die by SIGKILL, run again, finish, nothing left."""
    arguments = [
        "--grid",
        REPOSITORY / "jobs" / "fmnist_k.yaml",
        "--data",
        fmnist_root,
        "--set",
        "cycles=2",
        "--set",
        "k=[5, 20]",
        "--set",
        "seed=[2, 5]",
        "--set",
        "probe_epochs=2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "dc_hpc.submit", *map(str, arguments)],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while process.poll() is None and not any(
        run_directory.state_of(d).cycles_done >= 1 for d in run_directory.run_directories(tmp_path / "outputs")
    ):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = run_command("submit", *arguments, cwd=tmp_path, check=0)
    assert "runs done" in finished.stdout
    third = run_command("submit", *arguments, cwd=tmp_path, check=0)
    assert "to submit: 0" in third.stdout and counts(third.stdout)["done"] == 4
    results_ = [json.loads(path.read_text()) for path in (tmp_path / "outputs").glob("runs/*/result.json")]
    assert len(results_) == 4 and all(0.3 < result["ia"] < 0.55 and result["accuracy"] > 60 for result in results_)
