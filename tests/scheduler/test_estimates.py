"""Estimates: lengths against what real runs computed, then sums by hand."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import GRID, run_command
from support.small_runs import new_run, small_config

from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.scheduler import run_status, submissions
from dc_hpc.scheduler.estimates import (
    CPU,
    GPU,
    Estimate,
    Length,
    MeasuredTimes,
    estimate,
    length_of,
    measure,
    measure_datasets,
    read_length,
)
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.storage import run_directory

LENET = ("fmnist", "lenet5")
ON_CPU, ON_GPU = (*LENET, CPU), (*LENET, GPU)
TIMES = MeasuredTimes(training={ON_CPU: 3.0, ON_GPU: 0.25}, clustering={ON_CPU: {5: 1.0, 500: 5.0}, ON_GPU: {5: 0.5}})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"halt_cycle": 1},
        {"halt_cycle": 2, "resume_leak": 3},
        {"reassign": 2},
        {"reassign": 2, "halt_cycle": 2},
        {"cycles": 0},
        {"labels": True},
        {"last_cycle": "train"},
        {"protocol": "text"},
    ],
    ids=str,
)
def test_a_length_counts_what_a_run_computes(digits_root, tmp_path, settings):
    """The length of a real run has as many clusterings and trainings as its attempt record."""
    directory = new_run(tmp_path, digits_root, **{"cycles": 4, "probe": (), "features": "none", **settings})
    assert run(directory, Execution(str(digits_root))) == "done"
    stages = [row["stage"] for row in run_directory.attempts(directory)[-1]["seconds"]]
    length = read_length(directory)
    assert length == length_of(run_directory.read_config(directory).model_dump())
    assert (length.clusterings(), length.trainings) == (stages.count("clustered"), stages.count("trained"))
    assert length.cycles == max(run_directory.read_config(directory).cycles, 1)


def test_seconds_left_by_hand():
    halted = Length(*LENET, k=5, cycles=50, trainings=50, until=10)
    assert TIMES.left(halted, 0, CPU) == 50 * 3 + 10 * 1
    assert TIMES.left(halted, 0, GPU) == 50 * 0.25 + 10 * 0.5
    assert TIMES.left(halted, 4, CPU) == 46 * 3 + 6 * 1
    assert TIMES.left(halted, 20, CPU) == 30 * 3
    assert TIMES.left(Length(*LENET, k=500, cycles=1, trainings=0, until=1), 0, CPU) == 5
    assert TIMES.left(Length(*LENET, k=40, cycles=1, trainings=0, until=1), 0, CPU) == 1, "by ratio nearer to 5"
    assert TIMES.left(Length(*LENET, k=60, cycles=1, trainings=0, until=1), 0, CPU) == 5
    assert TIMES.left(Length("svhn", "alexnet_small", 5, 50, 50, 50), 0, CPU) is None
    trained = MeasuredTimes(training={ON_CPU: 3.0})
    assert trained.left(halted, 10, CPU) == 120 and trained.left(halted, 9, CPU) is None
    assert trained.left(halted, 10, GPU) is None, "only a CPU was measured"


def test_a_probe_and_the_data_count_too():
    """A net is probed at two layers after its last cycle; on the GPU its probe was not measured."""
    probed = Length(*LENET, 5, 50, 50, 50, layers=2)
    times = replace(TIMES, probing={ON_CPU: 8.0}, loading={ON_CPU: 0.5})
    assert times.left(probed, 50, CPU) == 0.5 + 2 * 8 and times.left(probed, 49, CPU) == 0.5 + 3 + 1 + 2 * 8
    assert times.left(probed, 50, GPU) is None, "nothing that is left was measured"
    assert times.left(probed, 49, GPU) == 0.75, "the probe is left out"
    left = estimate(times, [(probed, 50, CPU), (probed, 49, GPU), (replace(probed, layers=0), 50, GPU)])
    assert (left.cycles, left.seconds, left.without_probe) == (1, 17.25, 1)
    assert left.doubts() == "without the probe of 1 run, not measured yet" and left.at_least() == "at least "
    assert estimate(times, [(replace(probed, layers=0), 50, GPU)]).seconds == 0, "nothing is left"


def test_nothing_measured_is_unknown_and_not_zero():
    left = estimate(MeasuredTimes(), [(Length(*LENET, 5, 50, 50, 50), 0, CPU)])
    assert left.seconds is None and left.elapsed(2) is None and left.unmeasured == {CPU: 1}
    assert estimate(MeasuredTimes(), []).seconds == 0


def test_runs_side_by_side_take_as_long_as_the_longest_of_them_at_least():
    runs = [(Length(*LENET, 5, 50, 50, 50), 0, CPU), (Length(*LENET, 5, 1, 1, 1), 0, CPU)]
    left = estimate(TIMES, runs)
    assert left.elapsed(1) == 204 and left.elapsed(2) == 200 and estimate(TIMES, runs[:1] * 4).elapsed(2) == 400


def test_an_estimate_names_what_it_leaves_out_and_guesses():
    runs = [
        (Length(*LENET, 5, 50, 50, 50), 40, CPU),
        (Length(*LENET, 500, 50, 50, 1), 0, CPU),
        (Length(*LENET, 10, 2, 2, 2), 0, CPU),
        (Length(*LENET, 5, 50, 50, 50), 46, GPU),
        (Length("svhn", "alexnet_small", 5, 100, 100, 100), 10, GPU),
    ]
    left = estimate(TIMES, runs)
    assert left == Estimate(
        cycles=10 + 50 + 2 + 4 + 90, seconds=40 + 155 + 8 + 3, longest=155, unmeasured={GPU: 1}, other_k=1
    )
    assert left.doubts() == (
        "without 1 run whose net and data were not measured on a GPU yet; 1 run counted like the "
        "nearest k that was measured"
    )
    assert estimate(TIMES, runs[:2]).doubts() == ""


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 7), st.integers(0, 60))
def test_the_done_and_the_remaining_clusterings_are_all_clusterings(trainings, until, reassign, done):
    length = Length(*LENET, 5, max(trainings, 1), trainings, until, reassign)
    before = len([cycle for cycle in range(min(done, until)) if cycle % reassign == 0])
    assert before + length.clusterings(done) == length.clusterings()
    assert TIMES.left(length, done, CPU) <= TIMES.left(length, 0, CPU)


def test_medians_of_each_kind(digits_root, tmp_path):
    """Two values of k, a run that is new, and a run whose config cannot be read, which adds its hours only."""

    def recorded(name_of, seconds, **settings):
        directory = new_run(tmp_path, digits_root, **settings)
        rows = [{"stage": name_of, "cycle": cycle, "seconds": value} for cycle, value in enumerate(seconds)]
        run_directory.start_attempt(directory, {"started": 0.0, "finished": 360.0, "seconds": rows})
        return directory

    one = recorded("clustered", [1.0, 9.0, 2.0], k=5)
    two = recorded("clustered", [4.0], k=6)
    three = recorded("trained", [7.0, 8.0, 100.0], k=6, seed=2)
    recorded("probe", [30.0], seed=5, probe=("pool1", "conv2", "fc1"))
    recorded("probe", [8.0], seed=6)
    recorded("load", [0.5], k=5, seed=7)
    broken = recorded("trained", [1e6], k=6, seed=3)
    (broken / "config.json").write_text("{")
    new_run(tmp_path, digits_root, seed=4)
    names = [path.name for path in run_directory.run_directories(tmp_path)]
    lengths = {name: read_length(run_directory.runs_folder(tmp_path) / name) for name in names}
    assert lengths[broken.name] is None and len(names) == 8
    measured = measure(tmp_path, run_status.collect(tmp_path, names), lengths)
    kind = ("digits", "lenet5", CPU)
    assert measured.training == {kind: 8.0} and measured.clustering == {kind: {5: 2.0, 6: 4.0}}
    assert measured.probing == {kind: 9.0} and measured.loading == {kind: 0.5}, "a layer of three took 10 seconds"
    assert measured.hours == pytest.approx(0.7) and {one, two, three}
    assert measure_datasets(tmp_path, {"digits"}) == MeasuredTimes(
        measured.training, measured.clustering, measured.probing, measured.loading
    )
    assert (
        measure_datasets(tmp_path, {"digit", "fmnist"})
        == measure_datasets(tmp_path / "none", {"digits"})
        == MeasuredTimes()
    )


def test_cycles_on_a_gpu_and_on_a_cpu_are_measured_apart(digits_root, tmp_path):
    """One run moved from a GPU to a CPU; the record of another is older than the key `gpu`, so its device decides."""

    def recorded(directory, seconds, **fields):
        rows = [{"stage": "trained", "cycle": cycle, "seconds": value} for cycle, value in enumerate(seconds)]
        run_directory.start_attempt(directory, {"started": 0.0, "finished": 360.0, "seconds": rows, **fields})

    moved, old, new, sent = (new_run(tmp_path, digits_root, seed=seed) for seed in (1, 2, 3, 4))
    recorded(moved, [0.25, 0.5, 0.25], gpu=True, execution={"device": "auto"})
    recorded(moved, [5.0, 6.0, 7.0], gpu=False, execution={"device": "auto"})
    recorded(old, [0.25, 0.25], execution={"device": "cuda"})
    submission = Submission("big-1", "/", ((sent.name, moved.name),), 60, gpus=1, job="1")
    submissions.write(tmp_path, submission)
    names = [one.name for one in (moved, old, new, sent)]
    lengths = {name: read_length(run_directory.runs_folder(tmp_path) / name) for name in names}
    measured = measure(tmp_path, run_status.collect(tmp_path, names, tasks=[]), lengths)
    on_cpu, on_gpu = ("digits", "lenet5", CPU), ("digits", "lenet5", GPU)
    assert measured.training == measure_datasets(tmp_path, {"digits"}).training == {on_cpu: 6.0, on_gpu: 0.25}
    assert [measured.device_of(one.name) for one in (moved, old, sent)] == [CPU, GPU, GPU]
    assert measured.device_of(new.name) == GPU, "as most of the others"
    assert MeasuredTimes().device_of(new.name) == CPU


def test_the_cost_estimate_and_status_agree_with_the_records(digits_root, tmp_path):
    """One run of a grid over k was computed. The estimate counts another k like it, and says so."""
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "site.yaml").write_text("partition: low\ncpus: 1\n")
    arguments = ["submit", "--grid", "grid.yaml", "--data", digits_root]
    run_command(*arguments, "--limit", 1, cwd=tmp_path, check=0)
    cluster = ["--cluster", "slurm", "--site", "site.yaml", "--dry-run"]
    shown = run_command(*arguments, *cluster, "--set", "k=[6,9]", cwd=tmp_path, check=0).stdout
    assert "estimate: " in shown and "core-hours for" in shown and "counted like the nearest k" in shown
    other = run_command(*arguments, *cluster, "--set", "seed=[8,9]", cwd=tmp_path, check=0).stdout
    assert "core-hours for 6 cycles" in other and "nearest" not in other, (
        "the run with another seed is of the same kind"
    )
    unlike = run_command(*arguments, *cluster, "--set", "dataset=fmnist", cwd=tmp_path, check=0).stdout
    assert "estimate: no run like these was measured on a CPU yet in outputs; try --limit 1 first" in unlike
    status = run_command("status", "--json", cwd=tmp_path, check=0).stdout
    assert '"hours_left": ' in status and '"runs_not_estimated": 0' in status


def test_the_estimate_leaves_out_cycles_that_are_copied(digits_root, tmp_path):
    """1 and 3 cycles are copied from the run that never halts; where it is done, 1 from the run that halts at 4."""
    (tmp_path / "grid.yaml").write_text(
        "base: fmnist\nprotocol: code\nfixed: {dataset: digits, cycles: 6, probe: off}\n"
        "sweep: {seed: [1, 2], halt_cycle: [2, 4, 6]}\nresources: {runs_per_task: 6}\n"
    )
    (tmp_path / "site.yaml").write_text("partition: low\ncpus: 1\n")
    arguments = ["submit", "--grid", "grid.yaml", "--data", digits_root]
    run_command(*arguments, "--limit", 1, cwd=tmp_path, check=0)
    out = run_command(
        *arguments, "--cluster", "slurm", "--site", "site.yaml", "--dry-run", cwd=tmp_path, check=0
    ).stdout
    assert f"core-hours for {(5 + 6) + (5 + 3 + 6)} cycles" in out, out


def test_a_config_of_a_small_run_has_its_length(digits_root):
    assert length_of(small_config(digits_root).model_dump()) == Length("digits", "lenet5", 6, 3, 2, 3, layers=1)
    with pytest.raises(KeyError):
        length_of({})


WRONG = [{"k": 0}, {"cycles": -1}, {"reassign": -2}, {"k": "many"}, {"cycles": None}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_an_invalid_config_has_no_length(digits_root, tmp_path, wrong):
    directory = new_run(tmp_path, digits_root)
    record = json.loads((directory / "config.json").read_text())
    record.pop("sha256", None)
    (directory / "config.json").write_text(json.dumps(record | {"config": record["config"] | wrong}))
    assert read_length(directory) is None
