"""Writes what this package writes to an outputs folder: whole files, atomically, never through a symbolic link.

A file is written aside, synced, then renamed (replace) or linked (write once): whenever a job is killed, a
reader finds a whole version or none. Nothing is appended to, so that reading and writing need no lock; `lock_file.py`
has one for submitting. Other folders are written to by the modules that own them: the data root by `data/fetching.py`,
the user's cache by `backends/kernel_cache.py` (tests/storage/test_writers.py lists all).

Below a folder named `outputs` every folder must be a real one, elsewhere the last one must; `outputs` itself may be a
link, because clusters put it on a scratch disk. All functions raise `OSError` with the full path when the system
refuses, a full disk included, and leave no temporary file. A file not to be trusted is a `DamagedFile`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dc_hpc.errors import InputError
from dc_hpc.storage.processes import process_lives

# numpy, h5py and safetensors are imported where they are used: `status` reads many small JSON files and no
# array, and must answer at once from a slow shared file system.

AnyPath = str | os.PathLike[str]

MAX_JSON_BYTES = 64 << 20
MAX_ARRAY_BYTES = 4 << 30  # a dump of unreduced AlexNet features of SVHN, in float16, is 0.30 GB
DIGEST_DIGITS = 16
_CHECKSUM = "sha256"
# Set for a process and all that it starts where a site profile says `group_readable: true`.
GROUP_VARIABLE = "DC_HPC_GROUP_READABLE"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # else a named pipe waits for ever
_LINKS_UNSUPPORTED = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_RENAME_NOREPLACE = 1


class DamagedFile(ValueError):
    """A file that is there but cannot be trusted. Its message is one line, made of `path` and `why`."""

    def __init__(self, path: AnyPath, why: str):
        super().__init__(path, why)  # both, so that it survives pickling between processes
        self.path, self.why = Path(path), why

    def __str__(self) -> str:
        line = " ".join(f"{self.path}: damaged, {self.why}".split())
        return "".join(letter if letter.isprintable() else "?" for letter in line)


def share_with_group() -> None:
    """Let the group read what this process and those that it starts write: files 0640, folders 0750."""
    os.environ[GROUP_VARIABLE] = "1"
    set_umask()


def set_umask() -> None:
    """Let other libraries too write files that only their owner can read, or the group after `share_with_group`."""
    os.umask(0o027 if _shared() else 0o077)


def replace_bytes(path: AnyPath, data: bytes) -> None:
    """Write `data` to `path` (mode 0600, or 0640 after `share_with_group`), replacing what was there in one step."""
    _write_whole(path, data, _rename)


def replace_content(path: AnyPath, data: bytes) -> None:
    """`replace_bytes` of a person's own file: a symbolic link to it is followed, and its mode stays."""
    file = Path(os.path.realpath(path))
    mode = stat.S_IMODE(file.stat().st_mode)

    def rename_with_mode(directory: int, temporary: str, name: str, data: bytes) -> bool:
        os.chmod(temporary, mode, dir_fd=directory)
        return _rename(directory, temporary, name, data)

    _write_whole(file, data, rename_with_mode)


def replace_unsynced(path: AnyPath, data: bytes) -> None:
    """`replace_bytes` without waiting for the disk: for a file that nobody needs after a crash of the machine."""
    _write_whole(path, data, _rename, durable=False)


def write_once(path: AnyPath, data: bytes) -> bool:
    """Write `data` to `path` unless something is there; False if there was: the first writer wins."""
    return _write_whole(path, data, _link)


def write_text(path: AnyPath, text: str) -> None:
    """Write `text` as UTF-8, replacing what was there. Line ends stay as they are."""
    replace_bytes(path, text.encode("utf-8"))


def write_json(path: AnyPath, data: Any, once: bool = False) -> bool:
    """Write `data` as canonical JSON; True if it was written. Raises ValueError for NaN and infinities."""
    text = json.dumps(data, sort_keys=True, indent=1, allow_nan=False) + "\n"
    return _write_whole(path, text.encode("utf-8"), _link if once else _rename)


def write_checksummed(path: AnyPath, data: dict[str, Any], once: bool = False) -> bool:
    """`write_json` with the SHA-256 of `data` in it, under the key `sha256`; `read_checksummed` checks it."""
    return write_json(path, data | {_CHECKSUM: _content_digest(data)}, once)


def write_digested(directory: AnyPath, stem: str, suffix: str, data: bytes) -> Path:
    """Write `directory/stem-<first 16 digits of the SHA-256>suffix` and return its path."""
    path = Path(directory) / f"{stem}-{sha256_hex(data)[:DIGEST_DIGITS]}{suffix}"
    replace_bytes(path, data)
    return path


def make_directory(path: AnyPath) -> None:
    """Make the folder and its parents, each with mode 0700. One that exists is left as it is.

    After `share_with_group` the mode is 0750, and the group may enter the folders of this user that exist.
    """
    folder = Path(os.path.abspath(path))
    with _opened(folder, folder, create=True) as directory:
        _open_to_group(directory)


def quarantine(path: AnyPath) -> Path:
    """Move a bad file into `quarantine/` beside it, under a new unique name; returns where it is now.

    Raises FileNotFoundError when it is gone: another attempt of the same run was faster.
    """
    moved = Path(path).parent / "quarantine" / f"{Path(path).name}.{secrets.token_hex(8)}"
    old, new = Path(os.path.abspath(path)), Path(os.path.abspath(moved))
    with _opened(old.parent, old) as out_of, _opened(new.parent, old, create=True) as into:
        try:
            os.rename(old.name, new.name, src_dir_fd=out_of, dst_dir_fd=into)
        except OSError:
            if _status(out_of, old.name) or not _status(into, new.name):  # as in _rename
                raise
        _sync_directory(into)
        _sync_directory(out_of)
    return moved


def sweep(directory: AnyPath) -> None:
    """Remove the unfinished files of killed processes below a folder; those of running processes stay."""
    for path in Path(directory).rglob(".*.tmp"):
        owner = re.fullmatch(r"\..+\.(\d+)\.[0-9a-f]{16}\.tmp", path.name)
        if owner and not process_lives(int(owner[1])):
            path.unlink(missing_ok=True)


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of `data`: 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_digested(path: AnyPath) -> bytes:
    """The content of a file of `write_digested`; DamagedFile unless it matches the digest in its name."""
    named = re.search(rf"-([0-9a-f]{{{DIGEST_DIGITS}}})(?:\.[A-Za-z0-9]+)*\Z", Path(path).name)
    if named is None:
        raise DamagedFile(path, "its name carries no digest")
    data = read_bytes(path, MAX_ARRAY_BYTES)
    if sha256_hex(data)[:DIGEST_DIGITS] != named[1]:
        raise DamagedFile(path, "its content does not match the digest in its name")
    return data


def read_json(path: AnyPath) -> Any:
    """The data of a JSON file; DamagedFile for anything `write_json` could not have written."""
    content = read_bytes(path, MAX_JSON_BYTES)
    try:
        return strict_json(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"not valid JSON ({error})") from None


def read_checksummed(path: AnyPath) -> dict[str, Any]:
    """The data of a file of `write_checksummed`; DamagedFile where they do not match their checksum."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise DamagedFile(path, "not a JSON object")
    content = {name: value for name, value in data.items() if name != _CHECKSUM}
    if data.get(_CHECKSUM) != _content_digest(content):
        raise DamagedFile(path, "its content does not match the digest in it")
    return content


def _content_digest(data: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(data, allow_nan=False))  # as a reader finds it: keys are texts, tuples are lists
    return sha256_hex(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())


def strict_json(content: bytes) -> Any:
    """Parse JSON strictly: ValueError for a key that is there twice, for NaN and for infinities."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key appears twice")
        return dict(pairs)

    def finite(number: str) -> float:
        if not math.isfinite(float(number)):
            raise ValueError("a number is not finite")
        return float(number)

    text = content.decode("utf-8")
    return json.loads(text, object_pairs_hook=unique, parse_constant=finite, parse_float=finite)


def read_bytes(path: AnyPath, limit: int, directory: int | None = None, first: int | None = None) -> bytes:
    """The content of a regular file of at most `limit` bytes; no link is followed, no pipe waited for.

    first: only so many bytes of it.
    """
    try:
        handle = os.open(path, _READ_FILE, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DamagedFile(path, "it is a symbolic link and could lead anywhere") from None
        raise
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise DamagedFile(path, f"it is not a regular file of at most {limit} bytes")
        with open(handle, "rb", closefd=False) as stream:
            return stream.read(status.st_size if first is None else first)
    finally:
        os.close(handle)


def _write_whole(
    path: AnyPath, data: bytes, give_name: Callable[[int, str, str, bytes], bool], *, durable: bool = True
) -> bool:
    full = Path(os.path.abspath(path))
    # no other process has this name, and `sweep` sees whose it was
    temporary = f".{full.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp"
    with _opened(full.parent, full) as directory:
        try:
            _write_aside(directory, temporary, data, durable)
            given = give_name(directory, temporary, full.name, data)
        finally:
            with contextlib.suppress(OSError):  # already renamed, or another error is under way
                os.unlink(temporary, dir_fd=directory)
        if durable:
            _sync_directory(directory)
    return given


def _write_aside(directory: int, temporary: str, data: bytes, durable: bool) -> None:
    handle = os.open(temporary, _NEW_FILE, 0o600, dir_fd=directory)
    try:
        if _shared():
            os.fchmod(handle, 0o640)  # whatever the umask is
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        if durable:
            os.fsync(handle)  # a failed sync is final: the pages may be lost, so it is never tried again
    finally:
        os.close(handle)  # NFS may report a full quota only here


def _rename(directory: int, temporary: str, name: str, data: bytes) -> bool:
    try:
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        # NFS may rename, lose the answer, and report the repeated request as failed.
        with contextlib.suppress(OSError, DamagedFile):
            if not _status(directory, temporary) and read_bytes(name, len(data), directory) == data:
                return True
        raise
    return True


def _link(directory: int, temporary: str, name: str, data: bytes) -> bool:
    try:
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        ours, there = _status(directory, temporary), _status(directory, name)
        if ours and there and os.path.samestat(ours, there):  # as in _rename: done, though reported as failed
            return True
        if error.errno == errno.EEXIST:
            return False
        if error.errno in _LINKS_UNSUPPORTED:
            return _rename_if_absent(directory, temporary, name, data)
        raise
    return True


def _rename_if_absent(directory: int, temporary: str, name: str, data: bytes) -> bool:
    """For file systems without hard links. O_EXCL on the final name would show readers half a file, so the
    finished file is renamed: by the kernel's no-replace rename or, where there is none, after a look. Two
    writers may then win in one instant, but readers see whole files, and attempts of one run write equal
    bytes."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    source, target = os.fsencode(temporary), os.fsencode(name)
    if rename and rename(directory, source, directory, target, _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno() if rename else errno.ENOSYS
    if code == errno.EEXIST or _status(directory, name):
        return False
    if code not in (errno.EINVAL, *_LINKS_UNSUPPORTED):
        raise OSError(code, os.strerror(code))
    return _rename(directory, temporary, name, data)


@contextlib.contextmanager
def _opened(folder: Path, named: Path, create: bool = False) -> Iterator[int]:
    """The open folder. All work goes through it, so that what was checked and what is used are one object.
    Errors of calls inside an open folder name a part of the path or nothing; `named` is put in."""
    parts = folder.parts
    cut = max(1, len(parts) - (parts[::-1].index("outputs") if "outputs" in parts else 1))
    trusted, names = Path(*parts[:cut]), parts[cut:]
    while create and not trusted.is_dir():
        trusted, names = trusted.parent, (trusted.name, *names)
    try:
        with contextlib.ExitStack() as stack:
            directory = os.open(trusted, _DIRECTORY)
            stack.callback(os.close, directory)
            for name in names:
                directory = _enter(directory, name, folder, create)
                stack.callback(os.close, directory)
            yield directory
    except OSError as error:
        error.filename, error.filename2 = str(named), None
        raise


def _enter(directory: int, name: str, folder: Path, create: bool) -> int:
    if create and not _status(directory, name):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=directory)
            _sync_directory(directory)
    try:
        entered = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    except OSError:
        found = _status(directory, name)
        if found and stat.S_ISLNK(found.st_mode):
            raise InputError(
                f"{folder}: {name!r} on the way is a symbolic link and nothing is written through one;"
                " put a real folder there"
            ) from None
        raise
    if create:
        _open_to_group(entered)
    return entered


def _shared() -> bool:
    return os.environ.get(GROUP_VARIABLE) == "1"


def _open_to_group(directory: int) -> None:
    """Let the group list and enter an open folder of this user, where it may read what is written."""
    found = os.fstat(directory)
    if _shared() and found.st_uid == os.geteuid() and found.st_mode & 0o050 != 0o050:
        os.fchmod(directory, stat.S_IMODE(found.st_mode) | 0o050)  # a setgid bit stays


def _sync_directory(directory: int) -> None:
    try:
        os.fsync(directory)  # makes names durable
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync a folder at all
            raise


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
