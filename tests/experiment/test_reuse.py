"""Work done once for several runs: every file is the same as if each had computed all of it alone."""

import errno
import json
import os
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import REPOSITORY, run_command
from support.small_runs import new_run, results, small_config
from torch import nn

from dc_hpc.algorithm.state import init_state
from dc_hpc.config.grid import read_grid
from dc_hpc.config.run_config import run_id
from dc_hpc.experiment import process_cache, reuse
from dc_hpc.experiment.donors import copy_to_halted_runs
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.process_cache import ProcessCache
from dc_hpc.experiment.run import run
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import feature_dumps, run_directory


@pytest.fixture
def alone(tmp_path, digits_root):
    """The files of a run that computed everything itself."""

    def of(**changes):
        directory = new_run(
            tmp_path / "alone" / str(changes).translate(dict.fromkeys(map(ord, " {}':,"), "-")), digits_root, **changes
        )
        assert run(directory, Execution(str(digits_root))) == "done"
        return results(directory)

    return of


def test_an_ia_study_looks_at_the_images_once_for_each_seed(tmp_path, digits_root, alone, monkeypatch):
    passes, true_forward = [], process_cache.features_for
    monkeypatch.setattr(process_cache, "features_for", lambda *args: passes.append(1) or true_forward(*args))
    decomposed, true_components = [], process_cache.principal_components
    monkeypatch.setattr(process_cache, "principal_components", lambda one: decomposed.append(1) or true_components(one))
    points = [
        {"k": k, "pca": pca, "seed": seed, "cycles": 0, "probe": ()}
        for seed in (1, 2)
        for k in (4, 6)
        for pca in (None, 8, 5)
    ]
    cache, execution = ProcessCache(keep=True), Execution(str(digits_root))
    directories = [new_run(tmp_path, digits_root, **point) for point in points]
    assert [run(one, execution, cache=cache) for one in directories] == ["done"] * 12
    assert (len(passes), len(decomposed)) == (2, 2)
    assert [results(one) for one in directories] == [alone(**point) for point in points]


def test_halted_runs_go_on_from_the_run_that_never_halts(tmp_path, digits_root, alone):
    changes = [{"halt_cycle": halt, "cycles": 6} for halt in (1, 2, 4, None)]
    changes.append({"halt_cycle": 4, "resume_leak": 5, "cycles": 6})
    directories = {run_id(small_config(digits_root, **one)): new_run(tmp_path, digits_root, **one) for one in changes}
    order = reuse.ordered({name: run_directory.read_config(one) for name, one in directories.items()})
    outcomes = TaskPayload(tuple(str(directories[name]) for name in order), Execution(str(digits_root)))()
    assert set(outcomes.values()) == {"done"}
    for one in changes:
        assert results(directories[run_id(small_config(digits_root, **one))]) == alone(**one)
    never = run_id(small_config(digits_root, cycles=6))
    begun = {
        run_directory.read_config(one).halt_cycle: run_directory.attempts(one)[-1]["resumed_from"]
        for one in directories.values()
    }
    assert begun == {1: None, None: None, 2: f"cycle 0 trained of {never}", 4: f"cycle 2 trained of {never}"}
    configs = [run_directory.read_config(one) for one in directories.values()]
    assert reuse.reuse_savings([configs]) == (4, 1 + 3 + 3) and reuse.reuse_savings([configs[:3]]) == (2, 1)


def test_the_longest_of_halted_runs_is_a_donor_too(tmp_path, digits_root, alone):
    """Table A.1 has no run that never halts."""
    long, short = ({"halt_cycle": halt, "cycles": 6} for halt in (5, 3))
    directories = [new_run(tmp_path, digits_root, **one) for one in (long, short)]
    for one in directories:
        run(one, Execution(str(digits_root)))
    assert run_directory.attempts(directories[1])[-1]["resumed_from"] == f"cycle 1 trained of {directories[0].name}"
    assert [results(one) for one in directories] == [alone(**long), alone(**short)]


@pytest.mark.parametrize("changes", [{"soft_reset": 0.3}, {"halt_rule": "plateau"}])
def test_cycles_that_would_make_no_valid_run_are_given_to_none(tmp_path, digits_root, alone, changes):
    """With a `reassign` of 2, halting after 2 cycles leaves one clustering, which these settings do not allow."""
    changes = changes | {"reassign": 2, "cycles": 6}
    directories = [new_run(tmp_path, digits_root, **changes, **more) for more in ({}, {"halt_cycle": 3})]
    assert [run(one, Execution(str(digits_root))) for one in directories] == ["done", "done"]
    assert run_directory.attempts(directories[1])[-1]["resumed_from"] == f"cycle 1 trained of {directories[0].name}"
    assert [results(one) for one in directories] == [alone(**changes), alone(**changes, halt_cycle=3)]


@pytest.mark.parametrize(
    ("of_donor", "of_both", "damaged"),
    [
        ({"features": "none"}, {}, False),
        ({}, {"reassign": 2}, False),  # the last clustering of the recipient is one whose features the donor leaves out
        ({}, {}, True),
    ],
)
def test_features_that_the_donor_lacks_are_no_error_of_the_donor(
    tmp_path, digits_root, alone, of_donor, of_both, damaged
):
    donor = new_run(tmp_path, digits_root, cycles=6, **of_donor, **of_both)
    halted = new_run(tmp_path, digits_root, cycles=6, halt_cycle=4, **of_both)

    def after_a_phase():
        if damaged:
            feature_dumps.features_path(donor, 0).write_bytes(b"damaged")
        return False

    execution = Execution(str(digits_root))
    assert run(donor, execution, stop=after_a_phase) == "done", run_directory.state_of(donor).reason
    assert not run_directory.checkpoints(halted) and run(halted, execution) == "done"
    assert results(halted) == alone(cycles=6, halt_cycle=4, **of_both)


@pytest.mark.parametrize("obstacle", ["link", "file"])
def test_a_recipient_that_cannot_be_written_is_no_error_of_the_donor(tmp_path, digits_root, obstacle):
    donor, halted = (new_run(tmp_path, digits_root, cycles=6, halt_cycle=halt, features="none") for halt in (None, 2))
    closed = halted / "checkpoints"
    closed.touch() if obstacle == "file" else closed.symlink_to(tmp_path)
    state = init_state(nn.Linear(2, 2), seed=1, lr=0.1, momentum=0.9, weight_decay=0.0)
    copy_to_halted_runs(donor, run_directory.read_config(donor), state, 0, [])
    assert run_directory.state_of(halted).name == "new" and not list(tmp_path.glob("*.safetensors"))


def test_an_ia_run_in_a_folder_of_another_person_is_not_looked_into(tmp_path, digits_root, monkeypatch):
    """The tests may run as root, who may read everything."""
    directory = new_run(tmp_path, digits_root, cycles=0, probe=())
    look = os.stat

    def refused(path, *rest, **more):
        if isinstance(path, str | Path) and Path(path).is_relative_to(directory) and Path(path) != directory:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, *rest, **more)

    monkeypatch.setattr(os, "stat", refused)
    assert feature_dumps.read_first_clustering(directory) is None


def test_a_recipient_that_has_begun_is_left_alone(tmp_path, digits_root, alone):
    halted = new_run(tmp_path, digits_root, cycles=6, halt_cycle=4)
    assert run(halted, Execution(str(digits_root), save_seconds=0), stop=lambda: True) == "stopped"
    before = results(halted)
    run(new_run(tmp_path, digits_root, cycles=6), Execution(str(digits_root)))
    assert results(halted) == before
    run(halted, Execution(str(digits_root)))
    assert results(halted) == alone(cycles=6, halt_cycle=4)


@pytest.mark.parametrize("features", ["first_last", "none"])
def test_a_full_run_begins_with_the_clustering_of_its_ia_run(tmp_path, digits_root, alone, monkeypatch, features):
    ia = new_run(tmp_path, digits_root, cycles=0, probe=(), features=features)
    full = new_run(tmp_path, digits_root, features=features)
    assert reuse.ia_donor(run_directory.read_config(full)) == ia.name
    run(ia, Execution(str(digits_root)))
    assert len(list(ia.glob("first-*.safetensors"))) == 1 and not (ia / "trunk.safetensors").exists()
    from dc_hpc.algorithm import clustering

    calls, true_kmeans = [], clustering.kmeans
    monkeypatch.setattr(clustering, "kmeans", lambda *args, **named: calls.append(1) or true_kmeans(*args, **named))
    run(full, Execution(str(digits_root)))
    assert len(calls) == 2  # of three cycles
    assert run_directory.attempts(full)[-1]["first_clustering_from"] == ia.name
    assert results(full) == alone(features=features)


def test_a_damaged_clustering_is_computed_again(tmp_path, digits_root, alone):
    ia, full = new_run(tmp_path, digits_root, cycles=0, probe=()), new_run(tmp_path, digits_root)
    run(ia, Execution(str(digits_root)))
    (kept,) = ia.glob("first-*.safetensors")
    kept.write_bytes(kept.read_bytes()[:-1])
    run(full, Execution(str(digits_root)))
    assert "first_clustering_from" not in run_directory.attempts(full)[-1] and results(full) == alone()


class InStep(TaskPayload):
    """No worker asks for its next run before the other worker is as far: an idle one would take runs of its group."""

    def run_function(self):
        return partial(_in_step, super().run_function())


def _in_step(run, directory, execution, stop):
    outcome, mine = run(directory, execution, stop=stop), run_directory.read_config(directory)
    like = [one for one in directory.parent.iterdir() if run_directory.read_config(one).k == mine.k]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not all(run_directory.state_of(one).name == "done" for one in like):
        time.sleep(0.02)
    return outcome


def test_two_workers_do_two_reuse_groups(tmp_path, digits_root, alone):
    """Each seed stays with one worker, so its second k needs no pass of its own; a crash costs one run only."""
    points = [{"k": k, "seed": seed} for seed in (1, 2) for k in (4, 6)]
    directories = [new_run(tmp_path, digits_root, **point) for point in points]
    InStep(tuple(map(str, directories)), Execution(str(digits_root)), parallel_runs=2)()
    assert [results(one) for one in directories] == [alone(**point) for point in points]
    pids = {point["seed"]: set() for point in points}
    for point, one in zip(points, directories):
        pids[point["seed"]].add(run_directory.attempts(one)[-1]["pid"])
    assert all(len(found) == 1 for found in pids.values()) and pids[1] != pids[2]


@given(st.data())
def test_ordering_loses_nothing_and_puts_donors_first(digits_root, data):
    points = st.tuples(st.integers(1, 3), st.sampled_from([2, 4]), st.sampled_from([None, 1, 2, 4]))
    chosen = data.draw(st.lists(points, min_size=1, unique=True))
    configs = [small_config(digits_root, seed=seed, k=k, halt_cycle=halt, cycles=6) for seed, k, halt in chosen]
    named = {run_id(one): one for one in configs}
    order = reuse.ordered(named)
    assert sorted(order) == sorted(named)
    groups = [reuse.first_pass(named[name]) for name in order]
    assert sum(one != other for one, other in zip(groups, groups[1:])) == len(set(groups)) - 1
    for place, name in enumerate(order):
        recipients = {one for cycle in range(6) for one in reuse.halted_recipients(named[name], cycle)}
        assert not recipients & set(order[:place])


def test_the_cost_estimate_counts_what_is_reused(tmp_path, digits_root):
    """Figure 5b in one task: all but the last clustered cycle of each halted run comes from the never-halted one."""
    grid = read_grid(REPOSITORY / "jobs" / "svhn_halt.yaml", data_root=tmp_path)
    order = [grid.runs[name] for name in reuse.ordered(grid.runs)]
    assert reuse.reuse_savings([order]) == (4, 9 + 29 + 49)
    assert reuse.reuse_savings([[one] for one in order]) == (0, 0)
    (tmp_path / "grid.yaml").write_text(
        "base: fmnist\nprotocol: code\nfixed: {dataset: digits, cycles: 0}\nsweep: {k: [4, 6], seed: [1, 2]}\n"
    )
    out = run_command("submit", "--grid", "grid.yaml", "--data", digits_root, "--dry-run", cwd=tmp_path, check=0).stdout
    assert "not computed twice: 2 of 4 first passes over the images, 0 of 0 cycles" in out
    made = run_command(
        "submit", "--grid", "grid.yaml", "--data", digits_root, "--slots", 1, cwd=tmp_path, check=0
    ).stdout
    assert "4 of 4 runs done" in made
    pids = {json.loads(path.read_text())["pid"] for path in (tmp_path / "outputs").glob("runs/*/attempts/*.json")}
    assert len(pids) == 1
