"""Files are whole or absent, whatever happens while they are written, and nothing bad is read silently."""

from __future__ import annotations

import errno
import itertools
import json
import os
import pickle
import random
import resource
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stored_files import mode, names, python, read_safetensors

from dc_hpc.errors import InputError
from dc_hpc.storage import atomic_files, serialization
from dc_hpc.storage.atomic_files import DamagedFile

# ---- writing


def test_replace_text_and_json_round_trip_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(0o644)
    atomic_files.replace_bytes(path, b"\x00new")
    assert (path.read_bytes(), mode(path)) == (b"\x00new", 0o600)
    atomic_files.write_text(tmp_path / "t.csv", "é,1\r\n")
    assert (tmp_path / "t.csv").read_bytes() == "é,1\r\n".encode()
    assert atomic_files.write_json(tmp_path / "j.json", {"b": [1, None], "a": 0.1}) is True
    assert (tmp_path / "j.json").read_text() == '{\n "a": 0.1,\n "b": [\n  1,\n  null\n ]\n}\n'
    assert atomic_files.read_json(tmp_path / "j.json") == {"a": 0.1, "b": [1, None]}
    assert names(tmp_path) == ["a.bin", "j.json", "t.csv"]


def test_write_once_keeps_the_first(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert atomic_files.write_json(path, {"accuracy": 1}, once=True) is True
    assert atomic_files.write_json(path, {"accuracy": 2}, once=True) is False
    assert atomic_files.read_json(path) == {"accuracy": 1}
    assert (mode(path), path.stat().st_nlink, names(tmp_path)) == (0o600, 1, ["result.json"])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_not_finite_json_is_refused_before_anything_is_written(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic_files.write_json(tmp_path / "a.json", {"loss": number})
    assert names(tmp_path) == []


def test_directories_are_0700_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        atomic_files.make_directory(tmp_path / "outputs" / "runs" / "a" / "checkpoints")
        atomic_files.write_text(tmp_path / "outputs" / "runs" / "a" / "x", "x")
    finally:
        os.umask(before)
    made = [tmp_path / "outputs", *(tmp_path / "outputs").rglob("*")]
    assert {path.name: oct(mode(path)) for path in made} == {
        **dict.fromkeys(("outputs", "runs", "a", "checkpoints"), "0o700"),
        "x": "0o600",
    }
    atomic_files.make_directory(tmp_path / "outputs" / "runs")  # again: nothing to do


def test_a_folder_may_appear_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_files, "_status", lambda *_: None)  # another process was faster after this look
    atomic_files.make_directory(tmp_path)


def test_relative_paths_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atomic_files.make_directory("outputs/runs")
    atomic_files.write_text("outputs/runs/a", "a")
    atomic_files.write_text("here", "b")
    assert atomic_files.write_digested(Path("outputs"), "c", ".bin", b"x").parent == Path("outputs")
    assert atomic_files.quarantine("here").parent == Path("quarantine")


# ---- symbolic links


WRITERS = {
    "replace_bytes": lambda folder: atomic_files.replace_bytes(folder / "f", b"x"),
    "write_once": lambda folder: atomic_files.write_once(folder / "f", b"x"),
    "write_json": lambda folder: atomic_files.write_json(folder / "f", {}),
    "write_digested": lambda folder: atomic_files.write_digested(folder, "f", ".bin", b"x"),
    "make_directory": lambda folder: atomic_files.make_directory(folder / "new" / "newer"),
    "quarantine": lambda folder: atomic_files.quarantine(folder / "kept"),
}


@pytest.mark.parametrize("place", ["runs", "runs/a", "runs/a/checkpoints"])
@pytest.mark.parametrize("writer", WRITERS)
def test_no_write_follows_a_link_below_outputs(tmp_path: Path, writer: str, place: str) -> None:
    outside = tmp_path / "outside"
    rest = Path("runs/a/checkpoints").relative_to(place)
    (outside / rest).mkdir(parents=True)
    (outside / rest / "kept").write_text("kept")
    link = tmp_path / "outputs" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    with pytest.raises(InputError, match=r"symbolic link.*put a real folder there"):
        WRITERS[writer](link / rest)
    assert sorted(outside.rglob("*")) == before


def test_a_linked_quarantine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "quarantine").symlink_to(tmp_path / "outside")
    (tmp_path / "bad").write_text("bad")
    with pytest.raises(InputError, match="symbolic link"):
        atomic_files.quarantine(tmp_path / "bad")
    assert names(tmp_path / "outside") == []


def test_outputs_itself_may_be_a_link_to_a_scratch_disk(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "outputs").symlink_to(tmp_path / "scratch")
    atomic_files.make_directory(tmp_path / "outputs" / "runs")
    atomic_files.write_text(tmp_path / "outputs" / "runs" / "a", "a")
    assert (tmp_path / "scratch" / "runs" / "a").read_text() == "a"


def test_a_linked_file_is_replaced_not_followed_and_not_read(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text('{"a": 1}')
    link.symlink_to(target)
    with pytest.raises(DamagedFile, match="symbolic link"):
        atomic_files.read_json(link)
    assert atomic_files.write_once(link, b"x") is False
    atomic_files.replace_bytes(link, b"new")
    assert (target.read_text(), link.is_symlink(), link.read_bytes()) == ('{"a": 1}', False, b"new")


def test_a_named_pipe_and_a_folder_are_damaged_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(DamagedFile, match="not a regular file"):
            atomic_files.read_json(path)


# ---- failures at every system call


CALLS = ("open", "write", "fsync", "close", "replace", "link")


class FailingSystem:
    """Replaces one function of `os`: its `at`-th call, or all from there on, fails with `code`."""

    def __init__(self, call: str, at: int, code: int, *, forever: bool):
        self.real, self.at, self.code, self.forever, self.calls = getattr(os, call), at, code, forever, 0

    def __call__(self, *arguments: object, **options: object) -> object:
        self.calls += 1
        if self.calls == self.at or (self.forever and self.calls > self.at):
            if self.real is os.close:
                self.real(*arguments)  # Linux frees the descriptor even when close reports an error
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*arguments, **options)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("write", [atomic_files.replace_bytes, atomic_files.write_once])
def test_an_error_at_every_call_is_plain_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path, bytes], object],
    forever: bool,
    code: int,
) -> None:
    failed = 0
    for number, (call, at) in enumerate(itertools.product(CALLS, (1, 2, 3))):
        path = tmp_path / f"{number}" / "file"
        path.parent.mkdir()
        if write is atomic_files.replace_bytes:
            path.write_bytes(b"old")
        old = path.read_bytes() if path.exists() else None
        failing = FailingSystem(call, at, code, forever=forever)
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                write(path, b"new")
                assert failing.calls < at, (call, at)
            except OSError as error:
                failed += 1
                assert (error.errno, error.filename) == (code, str(path)), (call, at)
        # After the rename the new content is there although its durability could not be confirmed.
        assert (path.read_bytes() if path.exists() else None) in (old, b"new")
        assert set(names(path.parent)) <= {"file"}, (call, at)
        write(path, b"new")  # works once the trouble is over
        assert path.read_bytes() == b"new"
    assert failed >= 7


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data)[:7]))
    atomic_files.replace_bytes(tmp_path / "a", bytes(range(256)))
    assert (tmp_path / "a").read_bytes() == bytes(range(256))


def test_file_and_folder_are_synced_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def record(call: str) -> None:
        real = getattr(os, call)

        def recorded(*arguments: object, **options: object) -> object:
            handle = arguments[0]
            kind = call
            if call == "fsync":
                kind = "sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file"
            order.append(kind)
            return real(*arguments, **options)

        monkeypatch.setattr(os, call, recorded)

    for call in ("fsync", "replace", "link"):
        record(call)
    atomic_files.replace_bytes(tmp_path / "a", b"x")
    atomic_files.write_once(tmp_path / "b", b"x")
    assert order == ["sync file", "replace", "sync folder", "sync file", "link", "sync folder"]


@pytest.mark.parametrize("call", ["replace", "link"])
def test_nfs_may_report_failure_for_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    real = getattr(os, call)

    def done_but_failed(*arguments: object, **options: object) -> None:
        real(*arguments, **options)
        raise OSError({"replace": errno.ENOENT, "link": errno.EEXIST}[call], "as NFS says")

    monkeypatch.setattr(os, call, done_but_failed)
    write = {"replace": atomic_files.replace_bytes, "link": atomic_files.write_once}[call]
    assert write(tmp_path / "a", b"ours") in (None, True)
    assert ((tmp_path / "a").read_bytes(), names(tmp_path)) == (b"ours", ["a"])


def test_a_rename_that_failed_is_not_taken_for_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"another's")

    def lost(source: str, *_: object, src_dir_fd: int, **__: object) -> None:
        os.unlink(source, dir_fd=src_dir_fd)
        raise OSError(errno.ENOENT, "gone")

    monkeypatch.setattr(os, "replace", lost)
    with pytest.raises(FileNotFoundError):
        atomic_files.replace_bytes(tmp_path / "a", b"ours")


@pytest.mark.parametrize("renameat2", [True, False])
@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_write_once_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, renameat2: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    if not renameat2:
        monkeypatch.setattr(atomic_files.ctypes, "CDLL", lambda *_, **__: object())
    assert atomic_files.write_once(tmp_path / "a", b"first") is True
    assert atomic_files.write_once(tmp_path / "a", b"second") is False
    assert ((tmp_path / "a").read_bytes(), names(tmp_path)) == (b"first", ["a"])


RACE = """
import os, sys
from dc_hpc.storage import atomic_files
if sys.argv[3] == "no links":
    def refuse(*_, **__): raise PermissionError(1, "no links here")
    os.link = refuse
sys.stdin.readline()
print(atomic_files.write_once(sys.argv[1], sys.argv[2].encode() * 10000))
"""


@pytest.mark.parametrize("links", ["links", "no links"])
def test_of_16_processes_one_writes_once(tmp_path: Path, links: str) -> None:
    path = tmp_path / "result.json"
    racers = [python(RACE, path, letter, links, stdin=subprocess.PIPE) for letter in "abcdefghijklmnop"]
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert sorted(said) == ["False"] * 15 + ["True"]
    winner = "abcdefghijklmnop"[said.index("True")]
    assert path.read_text() == winner * 10000
    assert names(tmp_path) == ["result.json"]


# ---- kills and full disks


WRITING = """
import sys
from dc_hpc.storage import atomic_files
print("ready", flush=True)
while True:
    for version in range(256):
        atomic_files.replace_bytes(sys.argv[1], bytes([version]) * 300_000)
"""


def test_20_kills_never_tear_a_file(tmp_path: Path) -> None:
    path, chance, versions = tmp_path / "state", random.Random(0), set()
    atomic_files.replace_bytes(path, b"\x00" * 300_000)
    for number in range(20):
        writer = python(WRITING, path)
        writer.stdout.readline()
        end, content = time.monotonic() + chance.uniform(0.0, 0.15), b"\x00"
        while time.monotonic() < end or (number == 0 and content[:1] == b"\x00"):  # on a slow disk, too, some are seen
            content = path.read_bytes()  # a reader beside the writer
            assert content == content[:1] * 300_000
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        content = path.read_bytes()
        assert content == content[:1] * 300_000
        versions.add(content[:1])
    assert len(versions) > 1  # the kills did hit a writer at work


FULL = """
import os, sys
import numpy as np
from dc_hpc.storage import atomic_files, serialization
folder = sys.argv[1]
data = serialization.hdf5_bytes({"features": np.ones((1000, 100))}, {})
assert len(data) > 1 << 16
writers = {
    "a": lambda: atomic_files.replace_bytes(folder + "/a", data),
    "b": lambda: atomic_files.write_once(folder + "/b", data),
    "c": lambda: atomic_files.write_digested(folder, "c", ".h5", data),
}
for name, write in writers.items():
    try:
        write()
    except OSError as error:
        print(name, type(error).__name__, error.errno, os.listdir(folder))
"""


def test_a_full_disk_is_a_plain_error_with_nothing_left(tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    writer = python(FULL, tmp_path, preexec_fn=limit)
    said, _ = writer.communicate(timeout=60)
    assert writer.returncode == 0
    assert said.splitlines() == [f"{name} OSError {errno.EFBIG} []" for name in "abc"]


# ---- damaged files


HOSTILE_JSON = {
    "empty": b"",
    "truncated": b'{"a": [1, 2',
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "duplicate": b'{"a": 1, "a": 1}',
    "inner duplicate": b'[{"b": {"a": 1, "a": 2}}]',
    "NaN": b'{"a": NaN}',
    "Infinity": b"[-Infinity]",
    "overflow": b"[1e999]",
    "deep": b"[" * 200_000,
    "giant integer": b"9" * 10_000,
    "more than one": b"{} {}",
}


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_damaged_json_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a\n\x1b.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        atomic_files.read_json(path)
    assert caught.value.path == path
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(path)) + 200


def test_a_json_file_over_64_mb_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "big.json", "wb") as stream:
        stream.truncate(atomic_files.MAX_JSON_BYTES + 1)
    with pytest.raises(DamagedFile, match="at most"):
        atomic_files.read_json(tmp_path / "big.json")


def test_missing_is_not_damaged(tmp_path: Path) -> None:
    for read in (atomic_files.read_json, read_safetensors):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


def test_damaged_file_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(DamagedFile("a", "b c")))
    assert (str(copy), copy.path, copy.why) == ("a: damaged, b c", Path("a"), "b c")


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    path = tmp_path_factory.getbasetemp() / "property.json"
    atomic_files.write_json(path, data)
    assert atomic_files.read_json(path) == data
    assert path.read_text() == json.dumps(data, sort_keys=True, indent=1) + "\n"


def test_digested_round_trip_and_quarantine(tmp_path: Path) -> None:
    path = atomic_files.write_digested(tmp_path, "c0042", ".safetensors", b"state")
    assert path.name == f"c0042-{atomic_files.sha256_hex(b'state')[:16]}.safetensors"
    assert atomic_files.read_digested(path) == b"state"
    moved = [atomic_files.quarantine(path)]
    path.write_bytes(b"state again")
    moved.append(atomic_files.quarantine(path))
    assert [each.read_bytes() for each in moved] == [b"state", b"state again"]
    assert (names(tmp_path), mode(tmp_path / "quarantine")) == (["quarantine"], 0o700)
    with pytest.raises(FileNotFoundError):
        atomic_files.quarantine(path)


@pytest.mark.parametrize("name", ["plain.bin", "c-0123.bin", "c-0123456789ABCDEF.bin", "c-0123456789abcdef"])
def test_a_name_without_the_right_digest_is_damaged(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DamagedFile, match="digest"):
        atomic_files.read_digested(tmp_path / name)


def test_1000_mutations_of_a_digested_file_are_all_found(tmp_path: Path) -> None:
    chance = random.Random(0)
    data = serialization.safetensors_bytes({"w": np.arange(200, dtype=np.float32)}, {"cycle": "1"})
    path = atomic_files.write_digested(tmp_path, "c0001", ".safetensors", data)
    for number in range(1000):
        bad = bytearray(data)
        if number % 4 == 3:
            del bad[chance.randrange(len(bad)) :]
        else:
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(DamagedFile, match="digest"):
            atomic_files.read_digested(path)
