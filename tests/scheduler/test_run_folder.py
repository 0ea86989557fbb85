"""A network file system may show the folder of a run late; the task waits for it and never makes it itself."""

import errno
import os
import threading
import time
from pathlib import Path

from support.small_runs import new_run

from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler.tasks import run_folder
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import run_directory


class Brief(TaskPayload):
    """Runs that only make an attempt."""

    def run_function(self):
        return _attempt


def _attempt(directory, execution, stop):
    number = run_directory.start_attempt(directory, {})
    run_directory.update_attempt(directory, number, {"ended": "done"})
    return "done"


def test_a_folder_that_appears_late_is_waited_for(digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root)
    hidden = directory.rename(tmp_path / "elsewhere")
    threading.Timer(2.0, lambda: hidden.rename(directory)).start()
    outcomes = Brief((str(directory),), Execution(str(digits_root)), attempts=5)()
    assert outcomes == {str(directory): "done"} and len(run_directory.attempts(directory)) == 1


def test_a_folder_that_never_appears_is_one_line_and_is_not_made(digits_root, tmp_path, monkeypatch, capfd):
    """Until now the task tried five times within seconds, and made a folder without settings."""
    monkeypatch.setattr(run_folder, "VISIBLE_SECONDS", 1.0)
    monkeypatch.setattr(run_folder.is_visible, "__kwdefaults__", {"seconds": 1.0})
    directory = new_run(tmp_path, digits_root)
    hidden = directory.rename(tmp_path / "elsewhere")
    begun = time.monotonic()
    outcomes = Brief((str(directory),), Execution(str(digits_root)), attempts=5)()
    assert outcomes == {str(directory): "failed"} and 1.0 <= time.monotonic() - begun < 30
    said = capfd.readouterr().err
    assert said.count("this node does not see") == 1 and "Traceback" not in said
    assert not directory.exists() and not (hidden / "attempts").exists()


def test_a_stale_handle_is_looked_through(digits_root, tmp_path, monkeypatch):
    """NFS answers ESTALE where a node remembers a folder that was replaced, until it has asked its server again."""
    directory, look, stale = new_run(tmp_path, digits_root), os.stat, [errno.ESTALE] * 2

    def stat(path, *rest, **more):
        if Path(path).name == "config.json" and stale:
            raise OSError(stale.pop(), "Stale file handle", str(path))
        return look(path, *rest, **more)

    monkeypatch.setattr(os, "stat", stat)
    assert run_folder.is_visible(directory, lambda: False, seconds=60.0) and not stale


def test_a_signal_ends_the_waiting(tmp_path):
    begun = time.monotonic()
    assert not run_folder.is_visible(tmp_path / "none", lambda: True)
    assert time.monotonic() - begun < 1
