"""`submit` as a person uses it on this machine, and with wrong input."""

import importlib.util
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
from support.commands import GRID, REPOSITORY, run_command, submit_grid
from support.small_runs import results, small_config
from typer.testing import CliRunner

from dc_hpc import submit
from dc_hpc.config.run_config import run_id
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import launch, session
from dc_hpc.storage import run_directory


@pytest.fixture
def place(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path


def counts(output):
    """The line of states, as a dictionary."""
    return {name: int(number) for number, name in re.findall(r"(\d+) (done|running|resumable|failed|new)\b", output)}


def test_a_grid_is_run_then_nothing_is_left_to_do(place, digits_root):
    dry = submit_grid(place, digits_root, "--dry-run", check=0)
    assert "grid.yaml: 3 points" in dry.stdout and "to submit: 3" in dry.stdout and counts(dry.stdout)["new"] == 3
    assert not (place / "outputs").exists()
    first = submit_grid(place, digits_root, check=0)
    assert "3 of 3 runs done" in first.stdout
    again = submit_grid(place, digits_root, check=0)
    assert "to submit: 0" in again.stdout and counts(again.stdout)["done"] == 3


def test_the_runs_of_a_slot_and_of_one_process_are_the_same(place, digits_root):
    submit_grid(place, digits_root, "--outputs", "slots", check=0)
    submit_grid(place, digits_root, "--outputs", "debug", "--cluster", "debug", check=0)
    for directory in run_directory.run_directories(place / "slots"):
        assert results(directory) == results(place / "debug" / "runs" / directory.name)


def test_set_limit_and_several_grids(place, digits_root):
    (place / "more.yaml").write_text(GRID.replace("[1, 2, 3]", "[3, 4]"))
    out = submit_grid(
        place, digits_root, "--grid", "more.yaml", "--dry-run", "--limit", 2, "--set", "cycles=2", check=0
    )
    assert counts(out.stdout)["new"] == 4 and "to submit: 2" in out.stdout


def accept_ctrl_c():
    """Let Ctrl-C reach a child: tests that a shell starts with `&` ignore SIGINT, and a child inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_saves_and_the_same_command_continues(place, digits_root):
    arguments = ["--grid", "grid.yaml", "--data", str(digits_root), "--set", "cycles=40"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dc_hpc.submit", *arguments],
        cwd=place,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=accept_ctrl_c,
    )
    while process.poll() is None and not any(
        run_directory.state_of(d).cycles_done >= 2 for d in run_directory.run_directories(place / "outputs")
    ):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the command and to all that it started
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command continues from here" in out and "Traceback" not in errors
    states = [run_directory.state_of(directory).name for directory in run_directory.run_directories(place / "outputs")]
    assert "resumable" in states and "running" not in states and "failed" not in states
    saved = list((place / "outputs").glob("runs/*/checkpoints/c*"))
    assert saved, "Ctrl-C let the runs save"
    run_command("submit", *arguments, cwd=place, check=0)
    run_command("submit", *arguments, "--outputs", "whole", cwd=place, check=0)
    for directory in run_directory.run_directories(place / "outputs"):
        assert results(directory) == results(place / "whole" / "runs" / directory.name)


def test_without_waiting_the_command_returns_and_the_runs_continue(place, digits_root):
    """A reader of its output reaches the end at once and does not wait for the runs."""
    started = submit_grid(place, digits_root, "--set", "cycles=40", "--no-wait", check=0)
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


@pytest.mark.parametrize("gpus", [None, "1,3", "MIG-41b3"])
def test_a_local_job_sees_the_gpus_of_its_submitter(tmp_path, monkeypatch, gpus):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if gpus is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setattr(launch, "TaskPayload", lambda *_, **__: partial(os.getenv, "CUDA_VISIBLE_DEVICES"))
    job = launch.submit_local([], Execution("data"), slots=1, folder=tmp_path / "job", survive_logout=False)
    assert job.result() == gpus


def test_a_diverged_run_is_shown_kept_and_tried_again_when_a_person_says_so(place, digits_root):
    submit_grid(place, digits_root, "--limit", 1, check=0)
    new = submit_grid(place, digits_root, "--limit", 1, "--set", "lr=1e5")
    assert new.returncode == 1 and "1 failed" not in new.stdout.splitlines()[1]
    assert "failed:" in new.stdout and "DivergenceError" in new.stdout and ".error" in new.stdout
    again = submit_grid(place, digits_root, "--set", "lr=1e5", "--dry-run")
    assert counts(again.stdout)["failed"] == 1 and "to submit: 2" in again.stdout
    submit_grid(place, digits_root, "--limit", 1, "--set", "lr=1e5", "--only", "failed")
    (failed,) = [
        one for one in run_directory.run_directories(place / "outputs") if run_directory.state_of(one).name == "failed"
    ]
    assert [one["ended"] for one in run_directory.attempts(failed)] == ["failed", "failed"]


def test_only_runs_of_some_states_are_submitted(place, digits_root):
    submit_grid(place, digits_root, "--limit", 1, "--set", "lr=1e5")
    dry = ("--dry-run", "--set", "lr=1e5")
    only = submit_grid(place, digits_root, *dry, "--only", "failed", check=0).stdout
    assert "to submit: 1" in only and counts(only) == {"done": 0, "running": 0, "resumable": 0, "failed": 1, "new": 2}
    assert "to submit: 2" in submit_grid(place, digits_root, *dry, "--only", "new", check=0).stdout
    both = submit_grid(place, digits_root, *dry, "--only", "failed", "--only", "new", check=0)
    assert "to submit: 3" in both.stdout
    assert "to submit: 0" in submit_grid(place, digits_root, *dry, "--only", "resumable", check=0).stdout
    limited = submit_grid(place, digits_root, *dry, "--only", "new", "--limit", 1, check=0)
    assert "to submit: 1" in limited.stdout


def test_a_local_dry_run_estimates_the_time(place, digits_root):
    unknown = submit_grid(place, digits_root, "--dry-run", check=0).stdout
    assert "estimate: time unknown; no run like these was measured on a " in unknown
    submit_grid(place, digits_root, "--limit", 1, check=0)
    directory = next(run_directory.run_directories(place / "outputs"))
    number = run_directory.start_attempt(directory, {})
    stages = {"load": 1.0, "clustered": 200.0, "trained": 400.0, "probe": 60.0}
    seconds = [{"stage": stage, "cycle": 0, "seconds": value} for stage, value in stages.items() for _ in range(9)]
    run_directory.update_attempt(directory, number, {"ended": "done", "seconds": seconds})
    one = 1 + 3 * 200 + 2 * 400 + 60
    dry = ("--dry-run", "--set", "seed=[2,3,4,5]", "--device", "cpu", "--slots")
    assert f"estimate: {4 * one / 60:.0f} min with 1 at a time" in submit_grid(place, digits_root, *dry, 1).stdout
    assert f"estimate: {2 * one / 60:.0f} min with 2 at a time" in submit_grid(place, digits_root, *dry, 2).stdout
    assert f"estimate: {one / 60:.0f} min with 4 at a time" in submit_grid(place, digits_root, *dry, 9).stdout


BAD = [
    (["--grid", "grid.yaml", "--only", "done"], "--only 'done' is not allowed; allowed: failed, resumable, new"),
    (["--grid", "none.yaml"], "none.yaml"),
    (
        ["--grid", "grid.yaml", "--cluster", "slum"],
        "--cluster 'slum' is not allowed; did you mean \"slurm\"?; allowed: local, slurm, debug",
    ),
    (["--grid", "grid.yaml", "--kmeans-backend", "cuml"], "--kmeans-backend 'cuml' is not allowed; allowed: torch, "),
    (["--grid", "grid.yaml", "--engine", "cuml"], "--kmeans-backend 'cuml' is not allowed; allowed: torch, faiss, "),
    (["--grid", "grid.yaml", "--set", "cycle=2"], "unknown key 'cycle'; did you mean \"cycles\"?"),
    (
        ["--grid", "grid.yaml", "--set", "halt_cycle=0"],
        "halt_cycle 0 is not allowed; write never; allowed: a whole number",
    ),
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


def test_a_missing_gpu_is_one_line_and_leaves_nothing(place, digits_root, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on a machine with GPUs, too
    out = submit_grid(place, digits_root, "--device", "cuda")
    assert out.returncode == 2 and out.stderr == (
        "dc_hpc: device cuda is not available on this machine; allowed: cpu, auto\n"
    )
    assert not (place / "outputs").exists()


def test_a_truncated_data_file_is_refused_by_name(place, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / "digits.npz").write_bytes(b"PK\x03\x04 not the rest")
    out = submit_grid(place, root)
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


def test_the_console_script_has_the_same_commands(place, digits_root):
    script = Path(sys.executable).with_name("dc-hpc")
    helped = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert all(name in helped.stdout for name in ("fetch", "submit", "status", "select", "aggregate", "bench"))
    dry = subprocess.run(
        [script, "submit", "--grid", "grid.yaml", "--data", digits_root, "--dry-run"],
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "to submit: 3" in dry.stdout


def test_figure_4a_small_on_fashion_mnist_killed_in_the_middle(tmp_path, fmnist_root):
    """The whole path on real data: run, die by SIGKILL, run again, finish; then nothing is left to submit."""
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


def test_a_dry_run_names_random_floors_and_runs_for_the_alignment(place, digits_root):
    grid = GRID.replace("cycles: 3, ", "")
    for sweep, lines in {
        "cycles: [0, 2]": ["3 of them are a random floor: cycles 0 with a probe, which reads an untrained net"],
        "cycles: [2]": [],
        "zip: {cycles: [0, 0, 2], probe: [[], [conv2], [conv2]]}": [
            "3 of them are a random floor: cycles 0 with a probe, which reads an untrained net",
            "3 of them are for the Initial Alignment only: cycles 0 without a probe",
        ],
    }.items():
        (place / "grid.yaml").write_text(grid.replace("seed: [1, 2, 3]", f"seed: [1, 2, 3], {sweep}"))
        shown = submit_grid(place, digits_root, "--dry-run", check=0).stdout
        assert [line.strip() for line in shown.splitlines() if "of them" in line] == lines


def test_without_faiss_the_authors_draws_that_need_it_are_refused_before_anything_is_written(
    digits_root, tmp_path, monkeypatch
):
    """faiss is an optional package; find_spec finds none where a path hook hides it."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "faiss" else real(name, *rest))
    needs = small_config(digits_root, draws="authors", kmeans_init="random")
    with pytest.raises(
        InputError, match=r"draws authors .* calls faiss, .*: pip install \"dc-hpc\[cpu\]\", or use draws"
    ):
        session.check_faiss({run_id(needs): needs})
    for other in (small_config(digits_root, draws="authors"), small_config(digits_root, kmeans_init="random")):
        session.check_faiss({run_id(other): other})
    (tmp_path / "grid.yaml").write_text(GRID.replace("fixed: {", "fixed: {draws: authors, kmeans_init: random, "))
    words = ["--grid", str(tmp_path / "grid.yaml"), "--data", str(digits_root), "--outputs", str(tmp_path / "outputs")]
    refused = CliRunner().invoke(submit.app, words)
    assert isinstance(refused.exception, InputError) and "calls faiss" in str(refused.exception)
    assert not (tmp_path / "outputs").exists()
