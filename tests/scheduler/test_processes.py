"""Desks: which GPU each computes on. No GPU is needed; what a desk asks torch for is written down."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from support.small_runs import new_run

from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import run_directory


class Noting(TaskPayload):
    """Runs that only note on which card they are, and end when every desk that there will be has begun one."""

    def run_function(self):
        return partial(_note, self.parallel_runs)


def _note(desks, directory, execution, stop):
    number = run_directory.start_attempt(directory, {"pid": os.getpid()})
    notes, dies = directory.parent.parent / "notes", directory / "to die"
    (notes / f"{directory.name}-{number}").write_text(f"{os.getpid()} {_CARD[-1]}")
    wanted = desks + (0 if dies.exists() else (notes / "one more").exists())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len({path.read_text() for path in notes.glob("*-*")}) < wanted:
        time.sleep(0.01)
    if dies.exists():
        dies.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    run_directory.update_attempt(directory, number, {"ended": "done"})
    return "done"


_CARD = ["the only one"]


@pytest.fixture
def cards(monkeypatch):
    """So many cards as a test says; what a process sets is in its own memory, a desk's after the fork."""

    def are(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", _CARD.append)

    yield are
    assert _CARD == ["the only one"], "the task's own process touches no card: a child could not use it after that"


def cards_of_desks(folder: Path, digits_root, *, desks, device="auto", runs=6, first_dies=False):
    """The card of each process that was a desk."""
    directories = [new_run(folder, digits_root, seed=seed) for seed in range(runs)]
    (folder / "notes").mkdir()
    if first_dies:
        (directories[0] / "to die").touch()
        (folder / "notes" / "one more").touch()
    Noting(tuple(map(str, directories)), Execution(str(digits_root), device=device), parallel_runs=desks)()
    notes = dict(path.read_text().split(" ", 1) for path in (folder / "notes").glob("*-*"))
    return sorted(notes.values())


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_desks_go_around_the_cards(digits_root, tmp_path, cards, device):
    cards(2)
    assert cards_of_desks(tmp_path, digits_root, desks=5, device=device) == ["0", "0", "0", "1", "1"]


@pytest.mark.parametrize("device, count", [("cpu", 2), ("auto", 0), ("cuda", 1)])
def test_where_there_is_no_choice_none_is_made(digits_root, tmp_path, cards, device, count):
    cards(count)
    assert cards_of_desks(tmp_path, digits_root, desks=2, device=device) == ["the only one"] * 2


def test_a_new_desk_takes_the_card_of_the_one_that_died(digits_root, tmp_path, cards):
    cards(2)
    assert cards_of_desks(tmp_path, digits_root, desks=2, first_dies=True) == ["0", "0", "1"]
