"""Records which code ran: the commit, later changes, package versions. It can also copy the code to run from there."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dc_hpc.storage import atomic_files
from dc_hpc.storage.atomic_files import DamagedFile

_PACKAGES = ("dc-hpc", "torch", "torchvision", "numpy", "scikit-learn", "numba", "faiss-cpu", "faiss-gpu", "submitit")
_PACKAGE = Path(__file__).parents[1]
_LARGEST_DIFF = 1 << 20
_COPIED = (".py", ".html", ".css", ".js", ".csv")  # code, the templates of the page, constants of a finding
_MADE_FROM = "snapshot.json"


def versions() -> dict[str, str]:
    """The packages that decide results, as installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> dict[str, Any]:
    """The commit of the code that runs and whether it was changed since; None where it is no checkout.

    A snapshot holds the commit that it was copied from, because the checkout around it may have changed since.
    """
    try:
        made_from = atomic_files.read_json(_PACKAGE.parent / _MADE_FROM)
        return {"commit": made_from["commit"], "dirty": made_from["dirty"]}
    except (OSError, DamagedFile, KeyError, TypeError):
        pass
    head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if head is None:
        return {"commit": _commit_in_files(), "dirty": None}
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:  # installed within another project's checkout
        return {"commit": None, "dirty": None}
    return {"commit": head.strip(), "dirty": None if changes is None else bool(changes.strip())}


def code_record() -> dict[str, Any]:
    """What a submission records of the code: commit, dirty, the diff of a dirty checkout, package versions."""
    record = commit()
    diff = _git("diff", "HEAD") if record["dirty"] else ""
    return record | {"diff": (diff or "")[:_LARGEST_DIFF], "versions": versions()}


def snapshot(outputs: Path) -> Path:
    """A copy of the package, named after its content; returns the folder to put on PYTHONPATH."""
    files = [path for path in sorted(_PACKAGE.rglob("*")) if path.is_file() and path.suffix in _COPIED]
    sources = {path.relative_to(_PACKAGE): path.read_bytes() for path in files}
    content = b"\0".join(str(name).encode() + b"\0" + text for name, text in sources.items())
    folder = (outputs / "slurm" / "snapshots" / atomic_files.sha256_hex(content)[:12]).absolute()
    for name, text in sources.items():
        target = folder / _PACKAGE.name / name
        atomic_files.make_directory(target.parent)
        atomic_files.write_once(target, text)
    atomic_files.write_json(folder / _MADE_FROM, commit(), once=True)
    return folder


def _commit_in_files() -> str | None:
    """The commit by the files of a checkout that git does not read: it is not installed, or refuses the folder."""
    try:
        folder = _PACKAGE.parent / ".git"
        if folder.is_file():  # of a worktree: the path of its own part of the repository
            folder = (folder.parent / folder.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (folder / "HEAD").read_text().strip()
        if head.startswith("ref: "):
            head = _commit_of_branch(folder, head.removeprefix("ref: "))
    except (OSError, ValueError):
        return None
    return head if re.fullmatch("[0-9a-f]{40,64}", head) else None


def _commit_of_branch(folder: Path, branch: str) -> str:
    """The commit of a branch such as refs/heads/main; "" where the files do not say. Raises OSError."""
    common = folder / "commondir"
    shared = (folder / common.read_text().strip()) if common.is_file() else folder
    if (shared / branch).is_file():
        return (shared / branch).read_text().strip()
    lines = (shared / "packed-refs").read_text().splitlines()
    return next((line.split()[0] for line in lines if line.endswith(f" {branch}")), "")


def _git(*arguments: str) -> str | None:
    """What git prints of the checkout; None where it fails.

    A checkout often belongs to another person, who keeps it for a group. Git refuses such a folder, because the
    folder's own configuration can name programs that git starts. This program runs the code of the folder anyway, so
    it allows the folder, and starts none of these programs.
    """
    allowed = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "--no-optional-locks"]
    options = ["--no-ext-diff", "--no-textconv"] if arguments[0] == "diff" else []
    command = ["git", *allowed, "-C", str(_PACKAGE), arguments[0], *options, *arguments[1:]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
