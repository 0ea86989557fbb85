"""A training or a probe whose loss is no longer finite: the run says so, and no number comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.commands import run_command
from support.small_runs import new_run, results

from dc_hpc.algorithm import ImageViews, Schedule, Views, deep_cluster, init_state, linear_probe
from dc_hpc.algorithm.divergence import DivergenceError
from dc_hpc.algorithm.nets import lenet5
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.report.frames.runs import load, records, runs_csv
from dc_hpc.scheduler import run_status
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import run_directory

WILD = {"lr": 9e5, "cycles": 4, "halt_cycle": 1}  # halted, so that no clustering looks at the features
WILD_PROBE = {"probe_lr": 1000.0, "probe_weight_decay": 1000.0, "cycles": 1, "last_cycle": "train", "probe_epochs": 6}


@pytest.fixture(scope="module")
def diverged(digits_root, tmp_path_factory) -> Path:
    """The directory of a run that diverged in a task that would try it five times."""
    directory = new_run(tmp_path_factory.mktemp("wild") / "outputs", digits_root, **WILD)
    assert TaskPayload((str(directory),), Execution(str(digits_root)), attempts=5)() == {str(directory): "failed"}
    return directory


def test_the_first_loss_that_is_not_finite_ends_the_run(diverged: Path) -> None:
    losses = pd.read_csv(diverged / "metrics.csv").loss
    cycle = int(losses.notna().sum())
    state = run_directory.state_of(diverged)
    assert state.name == "failed" and state.cycles_done == cycle < 4
    assert state.reason.startswith(f"DivergenceError: training diverged in cycle {cycle} (loss ")
    assert state.reason.endswith("; lower lr") and "\n" not in state.reason
    assert np.isfinite(losses.dropna()).all() and not (diverged / "result.json").exists()


def test_a_task_tries_it_once(diverged: Path) -> None:
    assert len(run_directory.attempts(diverged)) == 1


def test_a_task_that_slurm_queues_again_leaves_it_alone(digits_root, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    directory = new_run(tmp_path, digits_root, **WILD)
    task = TaskPayload((str(directory),), Execution(str(digits_root)), attempts=5)
    task(), monkeypatch.setenv("SLURM_RESTART_COUNT", "1"), task()
    assert len(run_directory.attempts(directory)) == 1
    monkeypatch.setenv("SLURM_JOB_ID", "8")  # a person has submitted it again
    task()
    assert len(run_directory.attempts(directory)) == 2


def test_submit_leaves_it_alone_until_a_person_asks_for_it(digits_root, tmp_path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "base: fmnist\nprotocol: code\nfixed: {dataset: digits, k: 6, lr: 900000, cycles: 4, halt_cycle: 1}\n"
        "sweep: {seed: [1]}\n"
    )
    arguments = ("submit", "--grid", "grid.yaml", "--data", digits_root)
    assert "training diverged in cycle" in run_command(*arguments, cwd=tmp_path, check=1).stdout
    again = run_command(*arguments, cwd=tmp_path, check=0).stdout
    assert "to submit: 0" in again
    assert "1 of the failed has diverged and would again; submit --only failed starts it all the same" in again
    assert "to submit: 1" in run_command(*arguments, "--only", "failed", "--dry-run", cwd=tmp_path, check=0).stdout
    shown = run_command("status", cwd=tmp_path, check=0).stdout
    assert "DivergenceError: training diverged in cycle" in shown and "submit --only failed" in shown
    (run_found,) = json.loads(run_command("status", "--json", cwd=tmp_path, check=0).stdout)["runs"]
    assert run_found["state"] == "failed" and "training diverged in cycle" in run_found["reason"]


def test_the_tables_say_that_it_diverged(diverged: Path) -> None:
    runs, _ = load(diverged.parents[1])
    (row,) = records(runs)
    assert row["state"] == "failed" and "diverged in cycle" in row["state_reason"] and row["accuracy"] is None
    assert "nan" not in runs_csv(runs).replace(row["state_reason"], "")


def test_a_checkpoint_that_holds_a_nan_loss_ends_the_run(digits_root, tmp_path) -> None:
    """Version 0.1 went on with NaN; such runs are in people's folders."""
    directory = new_run(tmp_path, digits_root, cycles=2)
    assert run(directory, Execution(str(digits_root), save_seconds=0), stop=lambda: True) == "stopped"
    checkpoint, _ = run_directory.load_checkpoint(directory)
    assert checkpoint is not None
    history = [row | {"loss": float("nan")} for row in checkpoint.history]
    run_directory.save_checkpoint(directory, cycle=0, phase="trained", tensors=checkpoint.tensors, history=history)
    assert run(directory, Execution(str(digits_root))) == "failed"
    assert "training diverged in cycle 0 (loss nan)" in run_directory.state_of(directory).reason


# ---- the algorithm itself


def cycles_of(images: torch.Tensor, *, lr: float, batch_size: int = 32, batch_norm: bool = True, **schedule: int):
    views = Views(resize=32, crop=32, mean=(0.3,), std=(0.3,), training="none")
    state = init_state(lenet5(batch_norm=batch_norm), seed=1, lr=lr, momentum=0.9, weight_decay=1e-3)
    return deep_cluster(
        state, ImageViews(images, views), k=3, seed=1, schedule=Schedule(**schedule), batch_size=batch_size
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (96, 1, 8, 8), np.uint8))


def test_clustering_of_features_that_overflow_is_named_with_its_cycle(images, monkeypatch) -> None:
    monkeypatch.setattr("dc_hpc.algorithm.deepcluster.math.isfinite", lambda value: True)  # the loss hid it
    with pytest.raises(DivergenceError, match=r"training diverged (in|before clustering in) cycle \d"):
        for _ in cycles_of(images, lr=9e5, batch_norm=False, cycles=6):
            pass


def test_weights_that_the_last_step_spoils_count_too(images, monkeypatch) -> None:
    from dc_hpc.algorithm import deepcluster

    def spoilt(step, *arguments):
        loss = whole(step, *arguments)
        with torch.no_grad():
            found["state"].trunk.state_dict()["fc1.weight"][0, 0] = float("inf")
        return loss

    found = {}
    train, whole = deepcluster._train, deepcluster._epoch
    monkeypatch.setattr(
        deepcluster, "_train", lambda state, *a, **b: found.update(state=state) or train(state, *a, **b)
    )
    monkeypatch.setattr(deepcluster, "_epoch", spoilt)
    with pytest.raises(
        DivergenceError, match=r"diverged in cycle 0 \(loss 1\.\d+, weights NaN or infinite\); lower lr"
    ):
        list(cycles_of(images, lr=0.01, cycles=1))


@pytest.mark.parametrize(("batch_norm", "way"), [(True, "a batch has one image"), (False, "lower lr")])
def test_a_batch_of_one_image_is_named_where_batch_norm_may_be_the_cause(images, monkeypatch, batch_norm, way) -> None:
    monkeypatch.setattr("dc_hpc.algorithm.deepcluster._epoch", lambda *_: float("nan"))
    with pytest.raises(DivergenceError, match=rf"training diverged in cycle 0 \(loss nan\); {way}"):
        list(cycles_of(images, lr=0.01, batch_size=1, batch_norm=batch_norm, cycles=1))


# ---- the probe


def test_a_probe_that_diverges_gives_no_accuracy(digits_root, tmp_path) -> None:
    directory = new_run(tmp_path / "outputs", digits_root, probe=("conv2", "fc1"), **WILD_PROBE)
    assert run(directory, Execution(str(digits_root))) == "done"
    result = run_directory.read_result(directory)
    numbers = [result[name] for name in result if name.startswith("accuracy")]
    assert numbers == [None] * 5 and result["probe_loss"] is None and result["ia"] > 0
    assert result["probe_diverged"] == "conv2 fc1"
    state = run_directory.state_of(directory)
    assert state.reason == "diverged: the probe of conv2, fc1 has no accuracy; lower probe_lr"
    runs, _ = load(tmp_path / "outputs")
    (row,) = records(runs)
    assert row["accuracy"] is None and row["accuracy_fc1"] is None and row["state_reason"] == state.reason
    assert "probe_diverged" not in row
    (found,) = run_status.collect(tmp_path / "outputs", [directory.name]).runs.values()
    assert found.state == "done" and not found.has_diverged and not found.is_missing
    shown = run_command("status", cwd=tmp_path, check=0).stdout
    assert f"{directory.name}" in shown and " diverged " in shown
    assert "probe_diverged" in results(directory)["result.json"].decode()


def test_each_layer_is_judged_by_itself(digits_root, tmp_path, monkeypatch) -> None:
    from dc_hpc.experiment import probing

    given = probing.activations

    def spoilt(trunk, images, layers, **options):
        found = given(trunk, images, layers, **options)
        found["fc1"][0, 0] = float("inf")
        return found

    monkeypatch.setattr(probing, "activations", spoilt)
    directory = new_run(tmp_path, digits_root, probe=("conv2", "fc1"), cycles=1)
    assert run(directory, Execution(str(digits_root))) == "done"
    result = run_directory.read_result(directory)
    assert result["accuracy"] == result["accuracy_conv2"] > 10 and result["accuracy_fc1"] is None
    assert result["probe_diverged"] == "fc1"


def test_outputs_of_a_probe_that_are_no_numbers_are_no_accuracy() -> None:
    train, labels = np.zeros((8, 2), np.float32), np.arange(8) % 2
    test = np.array([[1, 2], [np.nan, 1]], np.float32)
    with pytest.raises(DivergenceError, match="the probe diverged .outputs NaN or infinite.; lower its lr"):
        linear_probe(train, labels, test, np.array([0, 1]), classes=2, seed=1, epochs=1)
