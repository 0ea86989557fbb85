"""The tables of all runs by data set, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support.recorded_runs import config_of, record, row_of

from dc_hpc.errors import InputError
from dc_hpc.report import test_sets
from dc_hpc.report.frames.runs import load_runs, records
from dc_hpc.report.frames.single_run import Run
from dc_hpc.report.statistics import LEVEL, RESAMPLES
from dc_hpc.report.tables.overall import overall_tables
from dc_hpc.report.test_sets import images_words, mean_at, noise_of, standard_error
from dc_hpc.storage.atomic_files import DamagedFile

OLD_SVHN = "f1a09205f59b55a9211c884bc035181acecc6e46e6e46eb1fe5e000d46464856"


def rows_of(base="fmnist", n=3, **more):
    return [
        row_of(config_of(base, seed=seed), ia=0.1, accuracy=80.0, seconds=7200.0, seconds_clustered=25.0 * (seed + 1),
               seconds_trained=73.5 * (seed + 1), clusterings=50, attempts=1 + (seed == 0)) | more
        for seed in range(n)
    ]  # fmt: skip


def test_the_tables_by_hand():
    rows = [*rows_of(), *rows_of("svhn", dataset="svhn-derived", data_digest=OLD_SVHN)]
    sets, shares, cost = overall_tables(rows)
    found = {row[0]: dict(zip(sets.columns, row)) for row in sets.rows}
    assert (found["fmnist"]["test_images"], found["svhn-derived"]["test_images"]) == (10_000, 1_952)
    assert found["fmnist"]["standard_error"] == pytest.approx(0.4) and standard_error(50, 10_000) == 0.5
    one = dict(zip(shares.columns, shares.rows[0]))
    assert (one["runs"], one["share_median"], one["seconds_clustered_median"]) == (
        3,
        0.25,
        1.0,
    )  # 50 clusterings, 49 epochs
    assert one["seconds_trained_median"] == 3.0 and (one["cycles"], one["numerics"]) == (50, 1)
    other = rows_of(cycles=4, clusterings=4, last_cycle="train") + rows_of(numerics=2)
    lines = overall_tables([*rows, *other])[1].rows
    assert len(lines) == 4  # other lengths and other numerics stand apart
    one = dict(zip(cost.columns, cost.rows[0]))
    assert (one["training"], one["runs"], one["resumed"], one["hours"]) == ("clustered", 3, 1, 6.0)


def test_the_number_of_test_images():
    assert (
        test_sets.test_images_of({"accuracy": 50.0, "dataset": "svhn"}) == 26_032
        and test_sets.test_images_of({"accuracy": 50.0, "dataset": "cells"}) is None
    )
    assert test_sets.test_images_of({"accuracy": 50.0, "dataset": "svhn-derived", "data_digest": OLD_SVHN}) == 1_952
    assert (
        test_sets.test_images_of(
            {"accuracy": 50.0, "dataset": "svhn-derived", "data_digest": OLD_SVHN, "test_images": 26_032}
        )
        == 26_032
    )
    assert (
        images_words([{"accuracy": 50.0, "dataset": "svhn"}, {"accuracy": 50.0, "dataset": "fmnist"}])
        == "tested on 10,000 or 26,032 images"
    )
    assert images_words([{"accuracy": 50.0, "dataset": "cells"}]) == ""


def test_without_predictions_the_images_have_the_binomial_error():
    noise = noise_of([{"accuracy": 80.0, "dataset": "svhn-derived", "data_digest": OLD_SVHN}])
    assert len(noise) == RESAMPLES and noise.std() == pytest.approx(standard_error(80, 1_952), rel=0.05)
    both = noise_of([{"accuracy": 80.0, "dataset": "fmnist"}], [{"accuracy": 80.0, "dataset": "fmnist"}])
    assert both.std() == pytest.approx(0.4 * 2**0.5, rel=0.05)


def test_with_predictions_two_equal_nets_have_no_error_between_them():
    correct = np.random.default_rng(0).random(10_000) < 0.8
    row = {"accuracy": 80.0, "dataset": "fmnist", "correct": correct}
    assert noise_of([row]).std() == pytest.approx(0.4, rel=0.05)
    assert not noise_of([row], [row]).any()
    other = row | {"correct": correct ^ (np.arange(10_000) < 100)}  # a hundred images otherwise
    assert noise_of([row], [other]).std() == pytest.approx(0.1, rel=0.2)  # sqrt(100) of 10,000 images


def test_the_bootstrap_of_two_levels_covers_seeds_and_images():
    """Of studies with both kinds of noise, 95 % hold the truth; without the images far fewer do."""
    rng, held, blind = np.random.default_rng(1), 0, 0
    for _ in range(200):
        shared = rng.normal(0, 2.0)  # the test set lifts or lowers all seeds together
        values = 60 + shared + rng.normal(0, 1.0, 5)
        with_images = mean_at(values, rng.normal(0, 2.0, RESAMPLES))(LEVEL)
        without = mean_at(values, np.zeros(RESAMPLES))(LEVEL)
        held += with_images.low < 60 < with_images.high
        blind += without.low < 60 < without.high
    assert held / 200 > 0.9 and blind / 200 < 0.7


def test_seeds_alone_give_nearly_students_interval():
    from dc_hpc.report.statistics import mean_interval

    values = [60.0, 61.0, 63.0, 58.0, 62.0]
    found, student = mean_at(values, np.zeros(RESAMPLES))(LEVEL), mean_interval(values)
    assert found.high - found.low == pytest.approx(student.high - student.low, rel=0.12)
    assert mean_at(values[:2], np.zeros(RESAMPLES))(LEVEL) is None


def test_the_predictions_of_the_runs_are_read(tmp_path, monkeypatch):
    kept, other, damaged = (
        record(tmp_path, config_of("fmnist", seed=seed, cycles=1), accuracy=75.0) for seed in (1, 2, 3)
    )
    layer = SimpleNamespace(last=np.array([1, 2, 3, 4]), best=np.array([1, 2, 3, 0]), labels=np.array([1, 2, 3, 0]))

    def predictions(run):
        if run.path == kept:
            return {"conv2": layer, "fc2": SimpleNamespace(**vars(layer) | {"last": np.zeros(4, dtype=int)})}
        if run.path == damaged:
            raise DamagedFile(run.path / "predictions.h5", "cut short")
        raise InputError("kept none")

    monkeypatch.setattr(Run, "predictions", property(predictions))
    rows = {row["run_id"]: row for row in test_sets.with_predictions(records(load_runs(tmp_path)), tmp_path)}
    assert rows[kept.name]["correct"].tolist() == [True, True, True, False]
    assert rows[kept.name]["correct_best"].tolist() == [True] * 4
    assert rows[kept.name]["correct_fc2"].tolist() == [False, False, False, True]
    assert "correct" not in rows[other.name] and "correct" not in rows[damaged.name]
    assert rows[damaged.name]["accuracy"] == 75.0
    assert "predictions.h5: damaged, cut short" in rows[damaged.name]["state_reason"]


def test_each_layer_has_the_error_of_its_own_images():
    """Nearly all images right at the first layer, a quarter at another: a binomial share of .25 errs by .43 points."""
    rng = np.random.default_rng(0)
    row = {"accuracy": 98.0, "accuracy_fc2": 25.0, "dataset": "fmnist"}
    row |= {"correct": rng.random(10_000) < 0.98, "correct_fc2": rng.random(10_000) < 0.25}
    assert noise_of([row], name="accuracy_fc2").std() == pytest.approx(0.433, rel=0.05)
    assert noise_of([row]).std() == pytest.approx(0.14, rel=0.1)
    del row["correct_fc2"]
    assert noise_of([row], name="accuracy_fc2").std() == pytest.approx(0.433, rel=0.05)
