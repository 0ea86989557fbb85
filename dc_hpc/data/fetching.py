"""Fetches official data sets into the data root. A set arrives whole and verified, or not at all."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

from dc_hpc.data.catalog import DATASETS, Form
from dc_hpc.data.official import FAILURES, archive_members, faults
from dc_hpc.errors import InputError

STALL_SECONDS = 60.0


def fetch(name: str, root: str | Path, *, report: Callable[[str], None] = print) -> None:
    """Verify the files of an official data set in the data root, or fetch them if they are missing.

    Files that verify are left alone. Otherwise the sources are tried in order: compressed files put there by
    hand, a package of the system, torchvision's download. What arrives is complete and verified before it is
    moved to its place, file by file. Raises InputError that tells what to do by hand when no source works.
    """
    if name not in DATASETS:
        raise InputError(
            f"data set {name!r} cannot be fetched; allowed are {', '.join(DATASETS)}; own images need none"
        )
    root = Path(root)
    for form in DATASETS[name].forms:
        if not faults(form.files, root):
            report(f"{name}: is there and verified ({root / form.folder})")
            return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as temporary:
            stage, form, source = _fill(name, root, Path(temporary), report)
            for file in form.files:
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(stage / file, root / file)
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error}); give another folder with --data") from error
    report(f"{name}: fetched from {source} and verified ({root / form.folder})")


def _fill(name: str, root: Path, temporary: Path, report: Callable[[str], None]) -> tuple[Path, Form, str]:
    """Try the sources until one gives files that verify; return their folder, their form, the source's name."""
    reasons: list[str] = []
    for source, form, fill in _sources(name, root):
        stage = temporary / str(len(reasons))
        stage.mkdir()
        report(f"{name}: trying {source}")
        try:
            fill(stage)
        except FAILURES as error:
            reasons.append(f"{source}: {error}")
            continue
        wrong = faults(form.files, stage)
        if not wrong:
            return stage, form, source
        reasons.append(f"{source}: {wrong[0]}")
    raise InputError(
        f"{name} could not be fetched: {DATASETS[name].by_hand.format(root=root)}, or run this command on a machine "
        f"with internet; what was tried: {'; '.join(reasons)}"
    )


def _sources(name: str, root: Path) -> list[tuple[str, Form, Callable[[Path], None]]]:
    """(its name, the form of its files, function that fills a folder) of each source that may have the files."""
    dataset, sources = DATASETS[name], []
    first = dataset.forms[0]
    if first.reader == "idx":
        for folder in (root / first.folder, dataset.package):
            if folder is not None and any(folder.glob("*-ubyte.gz")):
                sources.append((f"{folder}/*.gz", first, partial(_gunzip, first, folder)))
    for form in dataset.forms:
        archive = root / form.archive
        if form.archive and archive.is_file():
            sources.append((str(archive), form, partial(_untar, form, archive)))
    return [*sources, ("torchvision's download", first, partial(_download, name))]


def _gunzip(form: Form, folder: Path, stage: Path) -> None:
    for file in map(Path, form.files):
        (stage / file).parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(folder / f"{file.name}.gz") as source, (stage / file).open("wb") as target:
            shutil.copyfileobj(source, target)


def _untar(form: Form, archive: Path, stage: Path) -> None:
    for file, content in archive_members(archive, list(form.files)).items():
        (stage / file).parent.mkdir(parents=True, exist_ok=True)
        (stage / file).write_bytes(content)


def _download(name: str, stage: Path) -> None:
    """Have torchvision download one set into `stage`, without its progress bars and with a timeout."""
    import torchvision.datasets

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name == "svhn":
                for split in ("train", "test"):
                    torchvision.datasets.SVHN(stage / "SVHN", split=split, download=True)
            else:
                getattr(torchvision.datasets, DATASETS[name].torchvision)(stage, download=True)
    finally:
        socket.setdefaulttimeout(before)
