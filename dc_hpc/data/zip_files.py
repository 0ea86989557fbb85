"""Finds the images in a zip that somebody else has made, or says in one line why they cannot be read.

Zips differ: some hold the images below a folder of any name, old Windows tools separate folders by backslashes, and
systems leave files of their own in them. All of that is accepted where it has one meaning.
"""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path

from dc_hpc.errors import InputError

PARTS = ("train", "test")
LITTER = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir")  # what systems leave about, in lower case
_READABLE = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflate", zipfile.ZIP_BZIP2: "bzip2"}
_READABLE |= {zipfile.ZIP_LZMA: "lzma"}
_UNREADABLE = {9: "deflate64", 93: "zstd", 95: "xz", 98: "ppmd"}


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name belongs to a system and not to a person's data."""
    return name.startswith(".") or name.lower() in LITTER


def image_members(path: Path, archive: zipfile.ZipFile, limit: int) -> dict[str, zipfile.ZipInfo]:
    """Return {PART/CLASS/FILE: member} of a zip, in its order, without the folder that all of them may lie in.

    Raises InputError: a member that no zip of images needs (a link, a name that points outside), that cannot be read
    (encrypted, an odd compression), a class without an image, train/ in several folders, more than `limit` bytes.
    """
    given = {}
    for member in archive.infolist():
        name = member.filename.replace("\\", "/")
        _refuse_hostile(path, member, name)
        if any(map(is_litter, name.split("/"))):
            continue
        if name in given:
            raise InputError(f"{path}: holds {name} twice; zip it again")
        given[name] = member
    top = _top_folder(path, given)
    inside = {name.removeprefix(top): one for name, one in given.items() if name.startswith(top)}
    kept = {name: one for name, one in inside.items() if name.split("/")[0] in PARTS}
    members = {name: one for name, one in kept.items() if not name.endswith("/")}
    for name, one in members.items():
        _refuse_unreadable(path, name, one)
    if sum(one.file_size for one in members.values()) > limit:
        raise InputError(
            f"{path}: unpacks to more than {limit / 2**30:g} GiB; a zip may not; unpack it into {path.stem}/"
        )
    for name in kept:
        if name.count("/") == 2 and name.endswith("/") and not any(other.startswith(name) for other in members):
            raise InputError(f"{path}: {name[:-1]} holds no image; a class needs at least one; zip it again")
    return members


def folders_of(archive: zipfile.ZipFile) -> set[str]:
    """The folders of a zip down to the second level, as they are, each with a slash at its end."""
    folders = [member.filename.replace("\\", "/").split("/")[:-1] for member in archive.infolist()]
    return {"/".join(parts[:2]) + "/" for parts in folders if parts and not any(map(is_litter, parts))}


def _top_folder(path: Path, names: Iterable[str]) -> str:
    """The folder that holds train/ and test/, with a slash at its end; "" where they lie at the top or nowhere."""
    tops = {found[1]: None for name in names if (found := re.match(r"((?:[^/]+/)*?)(?:train|test)/", name))}
    for likely in ("", f"{path.stem}/"):
        if likely in tops:
            return likely
    if len(tops) > 1:
        named = " and in ".join(list(tops)[:3])
        raise InputError(f"{path}: holds train/ or test/ in {named}; one folder must hold both; zip that one alone")
    return next(iter(tops), "")


def _refuse_hostile(path: Path, member: zipfile.ZipInfo, name: str) -> None:
    if name.startswith("/") or ".." in name.split("/") or re.match(r"[A-Za-z]:", name):
        raise InputError(
            f"{path}: member {member.filename!r} points outside; allowed are names like train/CLASS/FILE.png"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(
            f"{path}: member {member.filename!r} is a symbolic link; allowed are plain files; zip it without"
        )


def _refuse_unreadable(path: Path, name: str, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 1:
        raise InputError(f"{path}: {name} is encrypted; zip the images again without a password")
    if member.compress_type not in _READABLE:
        method = _UNREADABLE.get(member.compress_type, f"method {member.compress_type}")
        raise InputError(
            f"{path}: {name} is compressed by {method}; allowed: {', '.join(_READABLE.values())}; zip the images "
            f"again, or unpack them into {path.stem}/"
        )
