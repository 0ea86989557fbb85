"""A lock that processes on several machines take on a shared folder, for work that only one of them may do at a time.

The lock is a file that names its holder. It is made in one step, also over NFS. A holder touches the file while it
works. A lock is stale, and is removed, when its holder was a process of this machine and has ended, or when another
machine's holder has stopped touching it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dc_hpc.errors import InputError
from dc_hpc.storage import atomic_files
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.processes import process_start

TOUCH_SECONDS = 10.0
STALE_SECONDS = 120.0  # by the clock of the one who waits; NFS may show a touch a minute late
PATIENCE_SECONDS = 600.0
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. machine: host, boot and process namespace, within which a pid means something."""

    host: str
    pid: int
    user: str
    time: str
    machine: str
    started: str
    token: str

    def __str__(self) -> str:
        return f"{self.user} on {self.host}, process {self.pid}, since {self.time}"

    def has_ended(self) -> bool:
        """Whether the holder was a process of this machine and is no more."""
        return self.machine == _machine() and process_start(self.pid) != self.started


class HeldLock:
    """A lock that this process holds."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path, self.holder = path, holder
        self._released = threading.Event()
        self._touching = threading.Thread(target=self._touch, daemon=True)
        self._touching.start()

    def check(self) -> None:
        """InputError when the lock is somebody else's by now, because this process was stopped for minutes."""
        found = _holder(self.path)
        if found != self.holder:
            raise InputError(
                f"{self.path} belongs to {found or 'nobody'} by now, because this command stood still for too long; "
                "run the same command again"
            )

    def release(self) -> None:
        """Remove the file if it is still this process's."""
        self._released.set()
        self._touching.join()
        with contextlib.suppress(OSError):
            if _holder(self.path) == self.holder:
                self.path.unlink()

    def _touch(self) -> None:
        while not self._released.wait(TOUCH_SECONDS):
            with contextlib.suppress(OSError):
                if _holder(self.path) == self.holder:
                    os.utime(self.path)


@contextlib.contextmanager
def held(path: Path, say: Callable[[str], None]) -> Iterator[HeldLock]:
    """Hold the lock `path` inside. say: prints who holds it when this process has to wait.

    InputError naming the holder when a living one keeps the lock for ten minutes.
    """
    lock = _take(path, say)
    try:
        yield lock
    finally:
        lock.release()


def _take(path: Path, say: Callable[[str], None]) -> HeldLock:
    atomic_files.make_directory(path.parent)
    me, begun = _myself(), time.monotonic()
    seen: object = None
    changed, told = begun, False
    while not atomic_files.write_checksummed(path, asdict(me), once=True):
        there, now = _seen(path), time.monotonic()
        if there != seen:
            seen, changed = there, now
        holder = _holder(path)
        if there and (now - changed > STALE_SECONDS or (holder and holder.has_ended())):
            _break(path, there, holder, say)
            continue
        if now - begun > PATIENCE_SECONDS:
            raise InputError(
                f"{path} is held by {holder or 'an unknown process'}; run the same command again later, or remove "
                "that file when the process is gone"
            )
        if not told and holder:
            say(f"waiting for another submission to this folder ({holder})")
            told = True
        time.sleep(_LOOK_SECONDS)
    return HeldLock(path, me)


def _break(path: Path, stale: object, holder: Holder | None, say: Callable[[str], None]) -> None:
    """Remove a stale lock. Of several processes that try, one gets the file; one that got a new lock puts it back."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _seen(aside) == stale:
        say(f"removed the lock of a submission that has ended ({holder or 'unknown'})")
    else:
        with contextlib.suppress(OSError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _seen(path: Path) -> tuple[int, int, bytes] | None:
    try:
        content = atomic_files.read_bytes(path, 1 << 16)
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except DamagedFile:
        return (0, 0, b"")
    return (status.st_ino, status.st_mtime_ns, content)


def _holder(path: Path) -> Holder | None:
    try:
        return Holder(**atomic_files.read_checksummed(path))
    except (OSError, DamagedFile, TypeError):
        return None


def _myself() -> Holder:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a user database
        user = str(os.getuid())
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    started = process_start(os.getpid()) or ""
    return Holder(socket.gethostname(), os.getpid(), user, since, _machine(), started, secrets.token_hex(8))


def _machine() -> str:
    boot, namespace = "", 0
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    return f"{socket.gethostname()} {boot} {namespace}"
