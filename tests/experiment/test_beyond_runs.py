"""Runs with a halting rule, soft resets or a teacher: interrupted or whole, alone or beside others, equal bytes.

None of what they decide sees a label.
"""

import json
import random

import numpy as np
import pandas as pd
import pytest
from support.kill_runs import kill_at_random
from support.small_runs import new_run, results, small_config

from dc_hpc.config.run_config import run_id
from dc_hpc.experiment import reuse
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.process_cache import ProcessCache
from dc_hpc.experiment.run import run
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import feature_dumps, run_directory, serialization

RANK = {"halt_rule": "effective_rank", "halt_patience": 2, "cycles": 10}
PLATEAU = {"halt_rule": "plateau", "halt_patience": 1, "halt_tolerance": 0.05, "cycles": 7}
RESET = {"soft_reset": 0.3, "cycles": 5}
TEACHER = {"teacher_seed": 9, "halt_cycle": 1, "cycles": 3}
KINDS = {"rank": RANK, "plateau": PLATEAU, "reset": RESET, "teacher": TEACHER, "rank_reset": RANK | {"soft_reset": 0.1}}


def finish(directory, root):
    assert run(directory, Execution(str(root))) == "done", run_directory.state_of(directory).reason
    return results(directory)


@pytest.fixture(scope="module")
def whole(digits_root, tmp_path_factory):
    """The files of the uninterrupted run of each kind."""
    outputs = tmp_path_factory.mktemp("whole")
    return {name: finish(new_run(outputs, digits_root, **kind), digits_root) for name, kind in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_stops_after_every_phase_is_the_uninterrupted_one(kind, whole, digits_root, tmp_path):
    directory, attempts = new_run(tmp_path, digits_root, **KINDS[kind]), 0
    while run(directory, Execution(str(digits_root), save_seconds=0), stop=lambda: True) == "stopped":
        attempts += 1
    assert attempts >= 3 and results(directory) == whole[kind]


@pytest.mark.crash
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_at_random_is_the_uninterrupted_one(kind, whole, digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root, **KINDS[kind])
    kill_at_random(directory, digits_root, random.Random(kind), kills=3)
    assert finish(directory, digits_root) == whole[kind]


def rows_of(files):
    return pd.read_csv(pd.io.common.BytesIO(files["metrics.csv"]))


def result_of(files):
    return json.loads(files["result.json"])


def test_effective_rank_trains_on_the_labels_of_the_highest_and_halts(whole):
    rows, result = rows_of(whole["rank"]), result_of(whole["rank"])
    clustered = rows[rows.reassign]
    for place in range(len(clustered)):
        assert rows.labels_cycle[place] == clustered.effective_rank[: place + 1].idxmax()
    best = clustered.effective_rank.idxmax()
    assert len(clustered) == best + 3 < 10, "two clusterings without progress, then none"
    assert list(rows.halted) == [False] * (best + 2) + [True] * (len(rows) - best - 2)
    assert result["clusterings"] == len(clustered) and result["halting_cycle"] == best + 2
    assert result["labels_cycle_last"] == best
    assert (rows.nmi_true[~rows.reassign] == rows.nmi_true[best]).all(), "the labels of the best clustering stay"


def test_plateau_halts_when_the_agreement_rises_no_more(whole):
    rows = rows_of(whole["plateau"])
    last = int(rows[rows.reassign].cycle.max())
    rises = rows.nmi_prev[1 : last + 1].to_numpy()
    assert last < 6 and rises[-1] <= max(rises[:-1]) + 0.05
    assert (rows.labels_cycle[: last + 1] == rows.cycle[: last + 1]).all() and (rows.labels_cycle[last:] == last).all()
    assert result_of(whole["plateau"])["halting_cycle"] == last


def test_until_it_halts_a_plateau_run_is_the_run_without_a_rule(whole, digits_root, tmp_path):
    plain = rows_of(finish(new_run(tmp_path, digits_root, cycles=7), digits_root))
    rows = rows_of(whole["plateau"])
    same = int(rows[rows.reassign].cycle.max()) + 1
    names = [name for name in plain.columns if name not in ("labels_cycle", "halted")]
    pd.testing.assert_frame_equal(rows.loc[: same - 1, names], plain.loc[: same - 1, names], check_dtype=False)
    assert plain.labels_cycle.isna().all() and "halting_cycle" not in result_of(whole["reset"])


def test_a_soft_reset_changes_nothing_before_the_second_clustering(whole, digits_root, tmp_path):
    plain = finish(new_run(tmp_path, digits_root, cycles=5), digits_root)
    one, other = (rows_of(files) for files in (plain, whole["reset"]))
    assert one.iloc[0].dropna().equals(other.iloc[0].dropna())
    assert one.effective_rank[1] != other.effective_rank[1]


def test_no_reset_comes_before_a_clustering_that_no_training_follows(digits_root, tmp_path):
    """The authors' program ends with a clustering; a reset there would only damage the net that is probed."""
    plain = finish(new_run(tmp_path, digits_root, cycles=2), digits_root)
    reset = finish(new_run(tmp_path, digits_root, cycles=2, soft_reset=0.9), digits_root)
    assert result_of(plain)["accuracy"] == result_of(reset)["accuracy"]
    assert rows_of(plain).equals(rows_of(reset))
    trained = finish(new_run(tmp_path, digits_root, cycles=2, soft_reset=0.9, last_cycle="train"), digits_root)
    assert rows_of(trained).effective_rank[1] != rows_of(plain).effective_rank[1]


def test_the_labels_of_a_student_are_those_of_its_teachers_own_run(digits_root, tmp_path, whole):
    teacher = finish(new_run(tmp_path, digits_root, seed=9, halt_cycle=1, cycles=3), digits_root)
    student = whole["teacher"]
    assert rows_of(student).nmi_true[0] == rows_of(teacher).nmi_true[0] and rows_of(student).loss[0] > 0
    schema = {"features": ("f", 2), "pseudo_labels": ("u", 1)}
    (tmp_path / "t").mkdir()
    for name, files in (("t", teacher), ("s", student)):
        (tmp_path / f"{name}.h5").write_bytes(files["features/c0000.h5"])
    found = [serialization.read_hdf5(tmp_path / f"{name}.h5", schema)[0] for name in "ts"]
    assert all(np.array_equal(found[0][name], found[1][name]) for name in schema)
    assert student["trunk.safetensors"] != teacher["trunk.safetensors"]


def test_a_student_takes_the_clustering_of_its_teachers_ia_run(digits_root, tmp_path, whole):
    ia = new_run(tmp_path, digits_root, seed=9, cycles=0, probe=())
    finish(ia, digits_root)
    student = new_run(tmp_path, digits_root, **TEACHER)
    assert finish(student, digits_root) == whole["teacher"]
    assert run_directory.attempts(student)[-1]["first_clustering_from"] == ia.name


def test_an_ia_run_of_an_earlier_version_is_not_taken(digits_root, tmp_path, whole, monkeypatch):
    """It lacks the younger measures, and the student would lack them, too."""
    ia = new_run(tmp_path, digits_root, seed=9, cycles=0, probe=())
    with monkeypatch.context() as older:
        older.setattr(feature_dumps, "MEASURED", feature_dumps.MEASURED[:3])
        finish(ia, digits_root)
    student = new_run(tmp_path, digits_root, **TEACHER)
    assert finish(student, digits_root) == whole["teacher"]
    assert "first_clustering_from" not in run_directory.attempts(student)[-1]


def test_in_one_task_they_share_what_they_have_in_common(digits_root, tmp_path, whole):
    """The halted run goes on from the longer one's cycles; teacher, student and their cache change no byte."""
    changes = [RANK, RANK | {"halt_cycle": 3}, TEACHER, {"seed": 9, "halt_cycle": 1, "cycles": 3}]
    alone = [
        finish(new_run(tmp_path / "alone" / str(i), digits_root, **one), digits_root) for i, one in enumerate(changes)
    ]
    directories = [new_run(tmp_path / "task", digits_root, **one) for one in changes]
    ordered = reuse.ordered({one.name: run_directory.read_config(one) for one in directories})
    outcomes = TaskPayload(
        tuple(str(directories[0].with_name(name)) for name in ordered), Execution(str(digits_root))
    )()
    assert set(outcomes.values()) == {"done"} and [results(one) for one in directories] == alone
    never = run_id(small_config(digits_root, **RANK))
    assert run_directory.attempts(directories[1])[-1]["resumed_from"] == f"cycle 1 trained of {never}"


@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_labels_change_no_decision(kind, whole, digits_root, tmp_path):
    """Ground truth cannot reach a rule, a reset or a teacher: trunk, pseudo-labels and label-free measures stay."""
    shuffled = tmp_path / "data"
    shuffled.mkdir()
    content = dict(np.load(digits_root / "digits.npz"))
    content["train_labels"] = np.random.default_rng(0).permutation(content["train_labels"])
    np.savez(shuffled / "digits.npz", **content)
    directory = new_run(tmp_path, shuffled, probe=(), features="every", **KINDS[kind])
    plain = new_run(tmp_path, digits_root, probe=(), features="every", **KINDS[kind])
    one, other = finish(directory, shuffled), finish(plain, digits_root)
    weights = [feature_dumps.read_trunk(place) for place in (directory, plain)]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    dumps = [feature_dumps.written_cycles(place) for place in (directory, plain)]
    assert dumps[0] == dumps[1]
    for cycle in dumps[0]:
        found = [feature_dumps.read_features(place, cycle) for place in (directory, plain)]
        assert np.array_equal(found[0]["pseudo_labels"], found[1]["pseudo_labels"])
    rows = [rows_of(files) for files in (one, other)]
    with_labels = [name for name in rows[0] if name.endswith("_true") or name in ("nmi_true_chance", "label_entropy")]
    assert len(with_labels) == 4 and not rows[0].nmi_true.equals(rows[1].nmi_true)
    pd.testing.assert_frame_equal(*(found.drop(columns=with_labels) for found in rows))


def test_first_passes_are_shared_by_students_of_one_teacher(digits_root, tmp_path, monkeypatch):
    from dc_hpc.experiment import process_cache

    passes, true_forward = [], process_cache.features_for
    monkeypatch.setattr(process_cache, "features_for", lambda *args: passes.append(1) or true_forward(*args))
    cache = ProcessCache(keep=True)
    for seed in (1, 2, 9):
        teacher = {} if seed == 9 else {"teacher_seed": 9}
        directory = new_run(tmp_path, digits_root, seed=seed, halt_cycle=1, cycles=2, features="none", **teacher)
        assert run(directory, Execution(str(digits_root)), cache=cache) == "done"
    assert len(passes) == 1
