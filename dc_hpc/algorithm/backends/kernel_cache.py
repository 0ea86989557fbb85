"""A cache for the machine code of the compiled kernels: only a user's first run on a kind of machine compiles them.

kernels.py and the modules of machine_code ask `cached_folder` for a folder with their code and give it a function that
fills one. They get a path to read from, or None and compile for themselves.

Each kind of machine has one folder in the user's own cache. Its name depends on all that could change the code (numba,
Python, the kernels' source, the CPU with its vector units), so machines that share a home directory do not get each
other's code.

A folder is built under another name and arrives in one rename, whole and with checksums of its files; after that nobody
writes to it. A folder that is damaged, or that somebody else could have written, is not used: a damaged kernel would
compute wrong numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_CHECKSUMS = "checksums.json"
_DAYS = 90  # after which a folder that no process has looked up is removed


def cached_folder(kind: list[object], build: Callable[[Path], None]) -> Path | None:
    """The folder of this kind of machine, made by `build(folder)` if there is none that is whole.

    kind: all that the code depends on, as JSON can write it: what is missing from it will be served stale. build:
    writes files into the folder that it gets and nothing else. Returns None where there can be no cache: no home, no
    space, no permission. Several processes may build the same folder at once: the first one's stays. What `build`
    raises other than OSError and RuntimeError is passed on.
    """
    try:
        root = _root()
        folder = root / f"kernels-{hashlib.sha256(json.dumps(kind).encode()).hexdigest()[:16]}"
        if is_whole(folder):
            _renew(folder)
            return folder
        _sweep(root)
        _put(folder, build)
        return folder if is_whole(folder) else None
    except (OSError, RuntimeError):  # RuntimeError: pathlib finds no home, numba no place to write
        return None


def store(folder: Path, name: str, code: bytes) -> None:
    """Write machine code into a folder that is being built."""
    (folder / name).write_bytes(code)


def is_whole(folder: Path) -> bool:
    """Whether a folder is this user's alone and has exactly the bytes that it was built with.

    Checked each time that a process looks the folder up: code that is loaded is executed without a further check.
    """
    try:
        if not _only_ours(folder):
            return False
        return bool(json.loads((folder / _CHECKSUMS).read_bytes()) == _digests(folder))
    except (OSError, ValueError):
        return False


def _root() -> Path:
    """The folder with the folders of all kinds of machines. Raises OSError: others could write to it."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dc_hpc"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _only_ours(root):
        raise OSError(f"{root} can be written by others")
    return root


def _only_ours(folder: Path) -> bool:
    """Whether this is a folder, no link, that belongs to this user and that nobody else may write to."""
    found = folder.lstat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022 and folder.is_dir() and not folder.is_symlink()


def _put(folder: Path, build: Callable[[Path], None]) -> None:
    """Build a folder beside its place and move it there, unless a whole one has come there in between.

    A damaged folder in its place is renamed, which takes no time, and removed when the whole one stands.
    """
    building = Path(tempfile.mkdtemp(prefix="building-", dir=folder.parent))  # mode 0700
    damaged = building.with_name(f"damaged-{building.name}")
    try:
        build(building)
        (building / _CHECKSUMS).write_text(json.dumps(_digests(building)))
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        elif folder.exists() and not is_whole(folder):
            folder.rename(damaged)
        with contextlib.suppress(OSError):  # another process was first
            building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)


def _renew(folder: Path) -> None:
    """Let a folder count as used now, so that no other process removes it."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def _digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below, by its path in the folder, but for the file of the checksums."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / _CHECKSUMS
    }


def _sweep(root: Path) -> None:
    """Remove folders that were last used long ago; most are for versions that are no longer installed."""
    for path in root.iterdir():
        if time.time() - path.lstat().st_mtime > _DAYS * 86400:
            shutil.rmtree(path, ignore_errors=True)
