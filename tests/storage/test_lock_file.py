"""One process at a time holds a lock, on one machine and on several, and a dead one does not keep it."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from dc_hpc.errors import InputError
from dc_hpc.storage import atomic_files, lock_file
from dc_hpc.storage.lock_file import held


@pytest.fixture
def said():
    return []


def dead_holder(path, **changes):
    """A lock as a process leaves it that was killed."""
    me = vars(lock_file._myself()) | {"pid": 2**22 + 1, "started": "1"} | changes
    atomic_files.write_checksummed(path, me)
    return me


def test_its_file_names_the_holder_and_is_removed(tmp_path, said):
    path = tmp_path / "slurm" / "submit.lock"
    with held(path, said.append) as lock:
        content = json.loads(path.read_text())
        assert content["pid"] == os.getpid() and content["host"] and content["user"] and content["time"]
        lock.check()
    assert not path.exists() and said == []


def test_of_many_processes_one_works_at_a_time(tmp_path):
    program = f"""
import sys, time
from pathlib import Path
from dc_hpc.storage import lock_file
folder = Path({str(tmp_path)!r})
lock_file._LOOK_SECONDS = 0.01
for _ in range(8):
    with lock_file.held(folder / "lock", lambda text: None):
        number = int((folder / "count").read_text())
        time.sleep(0.005)
        (folder / "count").write_text(str(number + 1))
"""
    (tmp_path / "count").write_text("0")
    workers = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [one.wait(120) for one in workers] == [0] * 4
    assert (tmp_path / "count").read_text() == "32"


def test_the_lock_of_a_process_that_was_killed_is_broken_at_once(tmp_path, said):
    dead_holder(tmp_path / "lock")
    with held(tmp_path / "lock", said.append):
        pass
    assert len(said) == 1 and "removed the lock" in said[0] and str(2**22 + 1) in said[0]
    # the number of the dead process may belong to another process by now
    dead_holder(tmp_path / "lock", pid=os.getpid(), started="1")
    with held(tmp_path / "lock", said.append):
        pass


def test_the_lock_of_another_machine_is_broken_when_nobody_touches_it(tmp_path, said, monkeypatch):
    monkeypatch.setattr(lock_file, "STALE_SECONDS", 0.6)
    monkeypatch.setattr(lock_file, "_LOOK_SECONDS", 0.05)
    path = tmp_path / "lock"
    dead_holder(path, host="other", machine="other 1 2")
    touching = threading.Event()

    def touch():
        for _ in range(10):
            os.utime(path)
            time.sleep(0.1)
        touching.set()

    thread = threading.Thread(target=touch)
    thread.start()
    with held(path, said.append):
        assert touching.is_set()  # it is kept while its holder lives
    thread.join()
    assert "waiting for another submission" in said[0] and "on other" in said[0] and "removed" in said[1]


def test_a_living_holder_is_waited_for_and_then_named(tmp_path, said, monkeypatch):
    monkeypatch.setattr(lock_file, "PATIENCE_SECONDS", 0.3)
    with held(tmp_path / "lock", said.append):
        with pytest.raises(InputError, match=f"is held by .* process {os.getpid()}, since .*; run the same command"):
            with held(tmp_path / "lock", said.append):
                pass
        assert (tmp_path / "lock").exists()


def test_a_holder_that_stood_still_sends_nothing(tmp_path, said):
    path = tmp_path / "lock"
    with held(path, said.append) as lock:
        dead_holder(path, host="other")
        with pytest.raises(InputError, match="belongs to .* on other"):
            lock.check()
    assert path.exists()  # it is the other one's


def test_a_holder_touches_its_file(tmp_path, said, monkeypatch):
    monkeypatch.setattr(lock_file, "TOUCH_SECONDS", 0.05)
    with held(tmp_path / "lock", said.append):
        os.utime(tmp_path / "lock", (1, 1))
        deadline = time.monotonic() + 20
        while (tmp_path / "lock").stat().st_mtime < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_who_breaks_a_lock_that_was_renewed_puts_it_back(tmp_path, said):
    path = tmp_path / "lock"
    stale = dead_holder(path)
    seen = lock_file._seen(path)
    renewed = dead_holder(path, token="new")
    lock_file._break(path, seen, None, said.append)
    assert stale != renewed and json.loads(path.read_text())["token"] == "new" and said == []
    assert [one.name for one in tmp_path.iterdir()] == ["lock"]
