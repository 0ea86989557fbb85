"""The progress file of an attempt: what is written is read; anything else is no progress."""

import math

import pytest

from dc_hpc.storage import run_progress
from dc_hpc.storage.run_progress import RunProgress


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "attempts").mkdir()
    return tmp_path


def test_the_progress_of_the_newest_attempt_is_read(directory):
    assert run_progress.read(directory) is None
    run_progress.write(directory, 1, RunProgress("features"))
    newest = RunProgress("training", 5, 20, cycle=3, nmi=0.25, loss=1.5)
    run_progress.write(directory, 2, newest)
    assert run_progress.read(directory) == newest
    assert [oct(path.stat().st_mode)[-3:] for path in (directory / "attempts").iterdir()] == ["600", "600"]


def test_an_attempt_removes_its_own_file_and_older_ones_but_no_younger_one(directory):
    for number in (1, 2, 3):
        run_progress.write(directory, number, RunProgress("features"))
    run_progress.remove(directory, 2)
    assert [path.name for path in (directory / "attempts").iterdir()] == ["0003.progress"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"stage": "sleeping"}',
        '{"stage": "training", "done": -1}',
        '{"stage": "training", "done": "1"}',
        '{"stage": "training", "nmi": "high"}',
        '{"stage": "training", "other": 1}',
        '{"stage": ["training"]}',
    ],
)
def test_another_content_is_no_progress(directory, content):
    (directory / "attempts" / "0001.progress").write_text(content)
    assert run_progress.read(directory) is None


def test_a_loss_that_is_not_finite_is_none(directory):
    run_progress.write(directory, 1, RunProgress("training", loss=math.nan, nmi=math.inf))
    assert run_progress.read(directory) == RunProgress("training")


@pytest.mark.parametrize(
    "progress, words",
    [
        (RunProgress("loading"), "loading"),
        (RunProgress("features", 45, 100), "features 45 %"),
        (RunProgress("clustering"), "k-means"),
        (RunProgress("training", 119, 938), "training batch 120 of 938"),
        (RunProgress("probe"), "probe"),
        (RunProgress("probe", 0, 20), "probe epoch 1 of 20"),
    ],
)
def test_the_phase_in_words(progress, words):
    assert progress.phase == words
