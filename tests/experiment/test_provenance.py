"""The code that ran, and the copy of it that a submission may run from."""

import subprocess
import sys

import pytest
from support.package import PACKAGE

from dc_hpc.experiment import provenance


def test_a_snapshot_can_do_what_the_package_can(tmp_path):
    """The aggregator of a submission runs from the copy: it needs the templates of the page, too."""
    folder = provenance.snapshot(tmp_path)
    copied = {path.relative_to(folder / "dc_hpc") for path in (folder / "dc_hpc").rglob("*") if path.is_file()}
    expected = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.suffix not in ("", ".pyc", ".typed")}
    assert copied == {path for path in expected if "__pycache__" not in path.parts}
    code = "import dc_hpc.report.page as page; print(page.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert str(folder) in done.stdout
    assert provenance.snapshot(tmp_path) == folder


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of a package in two commits, which git takes for another person's; its latest commit."""
    package = tmp_path / "checkout" / "dc_hpc"
    package.mkdir(parents=True)
    git = ["git", "-C", str(package.parent), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    for text in ("1", "2"):
        (package / "code.py").write_text(text)
        (package / "__init__.py").touch()
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", text], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    plain = subprocess.run(["git", "-C", str(package), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert "dubious ownership" in plain.stderr, "git refuses the folder, as it does that of a colleague"
    return package, head


def test_the_commit_of_a_checkout_of_another_person_is_recorded(checkout):
    package, head = checkout
    assert provenance.commit() == {"commit": head, "dirty": False}
    (package / "code.py").write_text("3")
    record = provenance.code_record()
    assert record["commit"] == head and record["dirty"] and "+3" in record["diff"]


def test_the_commit_is_read_from_the_files_where_git_is_missing(checkout, monkeypatch):
    package, head = checkout
    subprocess.run(["git", "-c", "safe.directory=*", "-C", package.parent, "pack-refs", "--all"], check=True)
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == {"commit": head, "dirty": None}
    (package.parent / ".git" / "HEAD").write_text("not a commit\n")
    assert provenance.commit() == {"commit": None, "dirty": None}


@pytest.mark.parametrize("place", [".venv/lib/site-packages/dc_hpc", "dc_hpc_copy"])
def test_the_commit_of_another_project_around_the_package_is_not_recorded(checkout, monkeypatch, place):
    """An installation in `.venv` within a person's own checkout, and a copy beside its files: git tracks neither."""
    package, _ = checkout
    (package.parent / ".gitignore").write_text(".venv\n")
    installed = package.parent / place
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    monkeypatch.setattr(provenance, "_PACKAGE", installed)
    assert provenance.commit() == {"commit": None, "dirty": None}
    record = provenance.code_record()
    assert record["commit"] is None and record["diff"] == ""


def test_no_program_of_the_checkout_is_started(checkout, tmp_path):
    package, head = checkout
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    trap.chmod(0o755)
    with (package.parent / ".git" / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {trap}\n[diff]\n\texternal = {trap}\n")
    (package / "code.py").write_text("3")
    assert provenance.code_record()["commit"] == head and not (tmp_path / "started").exists()
