"""One run in one directory: measured numbers, resuming after any death, and what a failure leaves."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import normalized_mutual_info_score
from support.small_runs import new_run, results, small_config

from dc_hpc.algorithm import NUMERICS
from dc_hpc.experiment import run as run_module
from dc_hpc.experiment.execution import Execution, StopSignal
from dc_hpc.experiment.run import run
from dc_hpc.storage import feature_dumps, metrics_csv, run_directory, serialization

LONG = {"cycles": 7, "features": "every"}


def finish(directory, root, **changes):
    return run(directory, Execution(str(root), **changes))


@pytest.fixture(scope="module")
def reference(digits_root, tmp_path_factory):
    """The files of an uninterrupted run of LONG."""
    directory = new_run(tmp_path_factory.mktemp("reference"), digits_root, **LONG)
    assert finish(directory, digits_root) == "done"
    return results(directory)


def test_a_run_leaves_what_the_design_says(digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root)
    assert finish(directory, digits_root) == "done"
    assert set(results(directory)) == {
        "config.json",
        "metrics.csv",
        "features/c0000.h5",
        "features/c0002.h5",
        "trunk.safetensors",
        "predictions.h5",
        "result.json",
    }
    result, metrics = run_directory.read_result(directory), pd.read_csv(directory / "metrics.csv")
    assert result["ia"] == metrics.nmi_true[0] and result["clusterings"] == 3 and result["epochs"] == 2
    assert tuple(metrics.columns) == metrics_csv.METRICS and list(metrics.cycle) == [0, 1, 2]
    assert np.isnan(metrics.nmi_prev[0]) and 0 < metrics.nmi_prev[1] < 1
    assert 10 < result["accuracy"] <= result["accuracy_best"] <= 100
    attempt = run_directory.attempts(directory)[0]
    assert attempt["numerics"] == NUMERICS
    assert attempt["ended"] == "done" and attempt["device"] and attempt["versions"]["torch"] and attempt["blas"]
    assert {row["stage"] for row in attempt["seconds"]} == {"load", "clustered", "trained", "probe"}
    assert all(oct(path.stat().st_mode)[-3:] in ("600", "700") for path in directory.rglob("*"))


def test_the_dumped_features_are_the_clustered_ones(digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root, pca=8, features="first")
    finish(directory, digits_root)
    dump, attributes = serialization.read_hdf5(
        directory / "features" / "c0000.h5", {"features": ("f", 2), "pseudo_labels": ("u", 1)}
    )
    assert dump["features"].shape == (1500, 8) and dump["features"].dtype == np.float16
    assert np.allclose(np.linalg.norm(dump["features"].astype(float), axis=1), 1, atol=1e-2)
    assert dump["pseudo_labels"].dtype == np.uint16 and dump["pseudo_labels"].max() < 6
    assert attributes["run_id"] == directory.name and attributes["cycle"] == 0 and attributes["k"] == 6


def test_the_numbers_of_a_config_reach_the_algorithm_under_their_names(digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root, k=7, pca=5, cycles=0, probe=())
    finish(directory, digits_root)
    schema = {"features": ("f", 2), "pseudo_labels": ("u", 1)}
    dumped, attributes = serialization.read_hdf5(directory / "features" / "c0000.h5", schema)
    assert dumped["features"].shape[1] == 5 and len(set(dumped["pseudo_labels"].tolist())) == 7 == attributes["k"]


def test_nmi_is_that_of_scikit_learn_on_the_dumped_labels(digits_root, tmp_path):
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    directory = new_run(tmp_path, digits_root)
    finish(directory, digits_root)
    dump, _ = serialization.read_hdf5(
        directory / "features" / "c0000.h5", {"features": ("f", 2), "pseudo_labels": ("u", 1)}
    )
    truth = np.load(digits_root / "digits.npz")["train_labels"]
    result = run_directory.read_result(directory)
    assert result["ia"] == pytest.approx(normalized_mutual_info_score(truth, dump["pseudo_labels"]), abs=1e-10)
    assert result["ia_ami"] == pytest.approx(adjusted_mutual_info_score(truth, dump["pseudo_labels"]), abs=1e-10)


def test_every_clustering_has_the_statistics_of_its_features(digits_root, tmp_path):
    """None of them looks at a label: shuffled labels leave them as they are."""
    directory = new_run(tmp_path, digits_root, pca=20, features="every", cycles=2)
    assert finish(directory, digits_root) == "done"
    metrics = pd.read_csv(directory / "metrics.csv")
    images = np.load(digits_root / "digits.npz")["train_images"]
    means = images.reshape(len(images), -1).mean(1)
    deciles = np.argsort(np.argsort(means, kind="stable")) * 10 // len(means)
    assert np.bincount(deciles).min() >= len(means) // 10
    for cycle in range(2):
        path = feature_dumps.features_path(directory, cycle)
        found, attributes = serialization.read_hdf5(path, {"features": ("f", 2), "pseudo_labels": ("u", 1)})
        row = metrics.iloc[cycle]
        assert row.nmi_brightness == pytest.approx(normalized_mutual_info_score(deciles, found["pseudo_labels"]))
        assert row.inertia_per_point == pytest.approx(row.inertia / len(images))
        assert row.components_alive == attributes["components_alive"] == (found["features"] != 0).any(0).sum()
        assert 1 < row.effective_rank < 84


def test_running_a_finished_run_changes_nothing(digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root, cycles=1)
    finish(directory, digits_root)
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    assert finish(directory, digits_root) == "done"
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


@pytest.mark.parametrize("phase", [0, 2, 5])  # the last one: before the probe
def test_a_slower_attempt_leaves_the_files_of_the_done_run_alone(digits_root, tmp_path, phase):
    """Two attempts may live at once. The slower one is stopped a phase later, with fewer cycles than the result has."""
    faster, slower = (new_run(tmp_path / name, digits_root, last_cycle="train") for name in ("faster", "slower"))
    finish(faster, digits_root)
    written, phases = results(faster), iter(range(9))

    def another_ends_the_run():
        now = next(phases)
        if now == phase:
            for name in written:
                (slower / name).parent.mkdir(exist_ok=True)
                shutil.copy2(faster / name, slower / name)
        return now > phase

    assert run(slower, Execution(str(digits_root), save_seconds=0), stop=another_ends_the_run) == "done"
    metrics_csv.read_metrics(slower)
    assert results(slower) == written and next(phases) == phase + 1
    for name in ("metrics.csv", "trunk.safetensors", "predictions.h5"):
        assert (slower / name).stat().st_mtime_ns == (faster / name).stat().st_mtime_ns
    assert run_directory.attempts(slower)[-1]["ended"] == "done"


def test_an_attempt_that_replaced_the_metrics_of_a_done_run_writes_them_again(digits_root, tmp_path, monkeypatch):
    """The other attempt ends the run after this one has looked for a result and before it writes metrics.csv."""
    faster, slower = (new_run(tmp_path / name, digits_root) for name in ("faster", "slower"))
    finish(faster, digits_root)
    written, looks, is_done = results(faster), iter(range(99)), run_directory.is_done

    def ended_after_this_look(directory):
        found = is_done(directory)
        if next(looks) == 2:
            shutil.copytree(faster, slower, dirs_exist_ok=True, ignore=shutil.ignore_patterns("attempts"))
        return found

    monkeypatch.setattr(run_directory, "is_done", ended_after_this_look)
    assert run(slower, Execution(str(digits_root), save_seconds=0)) == "done"
    metrics_csv.read_metrics(slower)
    assert results(slower) == written and next(looks) > 4


def test_an_ia_only_run_has_the_ia_of_the_full_run(digits_root, tmp_path):
    full, only = new_run(tmp_path, digits_root), new_run(tmp_path, digits_root, cycles=0, probe=())
    finish(full, digits_root), finish(only, digits_root)
    assert run_directory.read_result(only)["ia"] == run_directory.read_result(full)["ia"]
    assert "accuracy" not in run_directory.read_result(only) and run_directory.read_result(only)["epochs"] == 0


def test_a_halted_run_has_the_rows_of_the_unhalted_one_before_the_halt(digits_root, tmp_path, reference):
    directory = new_run(tmp_path, digits_root, halt_cycle=3, **LONG)
    finish(directory, digits_root)
    rows, whole = (directory / "metrics.csv").read_text().splitlines(), reference["metrics.csv"].decode().splitlines()
    assert rows[:4] == whole[:4] and rows[4] != whole[4]
    metrics = pd.read_csv(directory / "metrics.csv")
    assert list(metrics.reassign) == [True] * 3 + [False] * 3 and metrics.nmi_prev[3:].isna().all()
    assert (metrics.nmi_true[2:] == metrics.nmi_true[2]).all()


def test_shuffled_labels_change_the_numbers_and_not_the_pseudo_labels(digits_root, tmp_path):
    """Ground truth cannot reach the algorithm."""
    shuffled = tmp_path / "data"
    shuffled.mkdir()
    content = dict(np.load(digits_root / "digits.npz"))
    content["train_labels"] = np.random.default_rng(0).permutation(content["train_labels"])
    np.savez(shuffled / "digits.npz", **content)
    runs = {}
    for root in (digits_root, shuffled):
        runs[root] = new_run(tmp_path, root, probe=(), features="every")
        finish(runs[root], root)
    one, other = results(runs[digits_root]), results(runs[shuffled])
    read = {"features": ("f", 2), "pseudo_labels": ("u", 1)}
    for name in ("features/c0000.h5", "features/c0001.h5", "features/c0002.h5"):
        first, _ = serialization.read_hdf5(runs[digits_root] / name, read)
        second, _ = serialization.read_hdf5(runs[shuffled] / name, read)
        assert np.array_equal(first["pseudo_labels"], second["pseudo_labels"])
    weights = [feature_dumps.read_trunk(runs[root]) for root in runs]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert one["result.json"] != other["result.json"]


def test_the_supervised_ceiling_trains_on_the_truth(digits_root, tmp_path):
    settings = dict(k=10, cycles=15, momentum=0.9, batch_size=32, probe=("fc2",), training_view="none")
    plain, ceiling = new_run(tmp_path, digits_root, **settings), new_run(tmp_path, digits_root, labels=True, **settings)
    finish(plain, digits_root), finish(ceiling, digits_root)
    result, metrics = run_directory.read_result(ceiling), pd.read_csv(ceiling / "metrics.csv")
    assert result["clusterings"] == 0 and result["ia"] is None and (metrics.nmi_true == 1).all()
    assert metrics.loss.iloc[-1] < 1
    assert result["accuracy"] > run_directory.read_result(plain)["accuracy"] + 5


def test_the_leak_puts_the_truth_in_from_its_cycle_on_and_only_when_asked(digits_root, tmp_path):
    """The authors' restart: six clusters until then, the ten classes of the data set after."""
    clean = new_run(tmp_path, digits_root, halt_cycle=1, cycles=4)
    leaked = new_run(tmp_path, digits_root, halt_cycle=1, resume_leak=2, cycles=4)
    finish(clean, digits_root), finish(leaked, digits_root)
    one, other = (pd.read_csv(directory / "metrics.csv") for directory in (clean, leaked))
    assert list(one.loss[:2]) == list(other.loss[:2]) and one.loss[2] != other.loss[2]
    assert other.nmi_true[2] == 1 and (one.nmi_true < 0.9).all()


def test_every_layer_may_be_probed_beside_the_papers(digits_root, tmp_path):
    one = new_run(tmp_path, digits_root)
    more = new_run(tmp_path, digits_root, probe=("conv2", "relu2", "pool2", "fc1"))
    finish(one, digits_root), finish(more, digits_root)
    first, second = run_directory.read_result(one), run_directory.read_result(more)
    assert first["accuracy"] == second["accuracy"] == second["accuracy_conv2"]
    assert {"accuracy_relu2", "accuracy_pool2", "accuracy_fc1"} <= set(second)


def start(directory, root, *options):
    command = [sys.executable, "-m", "dc_hpc.experiment.run", str(directory), "--data", str(root), *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored where the tests run in the background
    )


def wait_for_attempt(directory, process, number):
    while process.poll() is None and len(run_directory.attempts(directory)) < number:
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_saves_ends_and_the_next_start_goes_on(digits_root, tmp_path, reference, number):
    directory = new_run(tmp_path, digits_root, **LONG)
    process = start(directory, digits_root)
    while process.poll() is None and not any(a.get("cycles_done") for a in run_directory.attempts(directory)):
        time.sleep(0.02)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "stopped" in output and "Traceback" not in errors
    state = run_directory.state_of(directory)
    assert state.name == "resumable" and state.cycles_done >= 1
    assert len(list((directory / "checkpoints").glob("*"))) == 1  # save_seconds is 60: only the signal saved
    assert finish(directory, digits_root) == "done"
    assert results(directory) == reference
    assert run_directory.attempts(directory)[1]["resumed_from"]


def test_a_living_run_is_running_and_a_dead_one_resumable(digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root, cycles=4000)
    process = start(directory, digits_root)
    wait_for_attempt(directory, process, 1)
    assert run_directory.state_of(directory).name == "running"
    process.kill()
    process.communicate()
    assert run_directory.state_of(directory).name == "resumable"


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_taken(digits_root, tmp_path, reference):
    directory = new_run(tmp_path, digits_root, **LONG)
    phases = iter(range(9))
    ended = run(directory, Execution(str(digits_root), save_seconds=0), stop=lambda: next(phases) == 6)
    assert ended == "stopped"
    newest = sorted((directory / "checkpoints").iterdir())[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    os.chmod(newest, 0o600)
    newest.write_bytes(content)
    assert finish(directory, digits_root) == "done"
    last = run_directory.attempts(directory)[-1]
    assert "quarantine" in last["complaints"][0] and last["resumed_from"] == "cycle 2 trained"
    kept = {name: data for name, data in results(directory).items() if "quarantine" not in name}
    assert kept == reference


@pytest.mark.parametrize(("cycle", "begins"), [(3, "cycle 2 trained"), (2, None)])
def test_lost_features_are_computed_again_though_the_run_is_preempted(digits_root, tmp_path, reference, cycle, begins):
    """The new checkpoints are those of earlier cycles than the ones that were there."""
    directory = new_run(tmp_path, digits_root, **LONG)
    once, phases = Execution(str(digits_root), save_seconds=0), iter(range(9))
    assert run(directory, once, stop=lambda: next(phases) == 7) == "stopped"
    feature_dumps.features_path(directory, cycle).unlink()
    resumed = []
    for _ in range(2):
        assert run(directory, once, stop=lambda: True) == "stopped"
        resumed.append(run_directory.attempts(directory)[-1]["resumed_from"])
    assert resumed == [begins, "cycle 3 clustered" if begins else "cycle 0 clustered"]
    assert finish(directory, digits_root) == "done"
    assert {name: data for name, data in results(directory).items() if "quarantine" not in name} == reference
    assert "it is gone" in run_directory.attempts(directory)[1]["complaints"][0]


def test_a_failed_run_keeps_its_traceback_and_may_be_run_again(digits_root, tmp_path, monkeypatch):
    directory = new_run(tmp_path, digits_root, cycles=1)
    with monkeypatch.context() as broken:
        broken.setattr("dc_hpc.experiment.run.clustering_row", lambda *_: 1 / 0)
        assert finish(directory, digits_root) == "failed"
    state = run_directory.state_of(directory)
    assert (state.name, state.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert "in _measure" in (directory / "attempts" / "0001.error").read_text()
    assert finish(directory, digits_root) == "done" and run_directory.state_of(directory).name == "done"


def test_images_that_changed_since_are_refused(digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root)
    other = tmp_path / "data"
    other.mkdir()
    content = dict(np.load(digits_root / "digits.npz"))
    content["train_images"] = content["train_images"][::-1]
    np.savez(other / "digits.npz", **content)
    assert finish(directory, other) == "failed"
    assert "not the one this run was made for" in run_directory.state_of(directory).reason


def test_a_directory_that_is_no_run_is_one_line(tmp_path):
    process = start(tmp_path, tmp_path)
    _, errors = process.communicate()
    assert process.returncode != 0 and "is not a run directory" in errors and "Traceback" not in errors


@pytest.fixture
def handlers():
    """The handlers of signals are afterwards those of before; Ctrl-C is not ignored."""
    numbers = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_second_ctrl_c_leaves_at_once(handlers, capsys):
    stop = StopSignal(ctrl_c=True)
    signal.raise_signal(signal.SIGINT)
    assert stop() and "press Ctrl-C again" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    StopSignal(ctrl_c=True)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN, "of a job in the background of a shell"


def command(directory, root, monkeypatch, *options):
    """The exit code of the command of a run, in this process."""
    monkeypatch.setattr(sys, "argv", ["run", str(directory), "--data", str(root), *options])
    before = os.umask(0o077)
    try:
        with pytest.raises(SystemExit) as end:
            run_module.main()
    finally:
        os.umask(before)
    return end.value.code


def test_a_run_that_is_left_at_once_has_no_traceback(handlers, tmp_path, monkeypatch):
    def left(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "run", left)
    assert command(tmp_path, tmp_path, monkeypatch) == 130


def test_a_run_that_cannot_record_its_attempts_is_one_line(handlers, digits_root, tmp_path, monkeypatch, capsys):
    directory = new_run(tmp_path, digits_root)
    (tmp_path / "elsewhere").mkdir()
    (directory / "attempts").symlink_to(tmp_path / "elsewhere")
    assert command(directory, digits_root, monkeypatch) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "symbolic link" in line and "nothing could be recorded" in line and not any((tmp_path / "elsewhere").iterdir())
    )


def test_the_old_name_of_the_kmeans_backend_has_the_same_choices(handlers, tmp_path, monkeypatch, capsys):
    assert command(tmp_path, tmp_path, monkeypatch, "--engine", "cuml") == 2
    assert "choose from" in capsys.readouterr().err


def test_the_kmeans_backends_agree_on_a_whole_small_run(digits_root, tmp_path):
    accuracies = []
    for backend in ("torch", "faiss", "sklearn"):
        directory = new_run(tmp_path / backend, digits_root)
        assert finish(directory, digits_root, kmeans_backend=backend) == "done"
        accuracies.append(run_directory.read_result(directory)["ia"])
    assert max(accuracies) - min(accuracies) < 0.02


def test_the_small_config_is_what_it_says(digits_root):
    assert small_config(digits_root).protocol == "code"
    assert small_config(digits_root, protocol="text").probe_flip is False


def test_an_execution_is_recorded_under_the_names_that_files_have_always_had():
    execution = Execution("data", device="cpu", threads=2, kmeans_backend="faiss")
    record = execution.to_record()
    assert record["engine"] == "faiss" and "kmeans_backend" not in record
    assert Execution.from_record(record | {"compile": True}) == execution
