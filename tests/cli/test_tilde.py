"""`~` is a person's home in every option and key that is a path, where the shell leaves it alone, too."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.commands import GRID, run_command

from dc_hpc import aggregate, bench, fetch, select, status, submit
from dc_hpc.cli import PATHS, command_of
from dc_hpc.report.frames.runs import load_runs
from dc_hpc.scheduler.site import read_site

APPS = {
    "fetch": fetch.app,
    "submit": submit.app,
    "status": status.app,
    "select": select.app,
    "aggregate": aggregate.app,
    "bench": bench.app,
}


def options_of(command, name: str):
    yield from ((f"{name} {param.opts[0]}", param) for param in command.params)
    for sub in getattr(command, "commands", {}).values():
        yield from options_of(sub, f"{name} {sub.name}")


OPTIONS = dict(found for name, app in APPS.items() for found in options_of(command_of(app), name))
PATH_OPTIONS = [name for name, param in OPTIONS.items() if param.metavar in PATHS]


def test_every_option_with_a_default_or_the_type_of_a_path_is_one() -> None:
    """What the program takes as a path, help calls DIR or FILE: those expand it."""
    for name, param in OPTIONS.items():
        types = str(vars(param).get("type_descriptor") or param.type)
        assert (name in PATH_OPTIONS) == ("Path" in types), name
    assert {"submit --grid", "submit --site", "aggregate --runs", "aggregate --document", "status logs --outputs",
            "select --write", "bench --json", "fetch --data"} <= set(PATH_OPTIONS)  # fmt: skip


@pytest.mark.parametrize("option", PATH_OPTIONS)
def test_an_option_expands_it(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/person")
    param = OPTIONS[option]
    for given, expected in (("~/scratch/x", "/home/person/scratch/x"), ("a~b/~", "a~b/~")):
        found = param.process_value(None, [given] if param.multiple else given)
        assert os.fspath(found[0] if param.multiple else found) == expected


def test_commands_leave_no_folder_of_that_name(tmp_path: Path, digits_root: Path, monkeypatch) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir(), work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "grid.yaml").write_text(GRID)
    shutil.copytree(digits_root, home / "data")
    options = ("--set=seed=[1]", "--set=cycles=0", "--set=probe=off", "--outputs=~/scratch", "--cluster=debug")
    run_command("submit", "--grid=~/grid.yaml", "--data=~/data", *options, cwd=work, check=0)
    monkeypatch.setenv("DC_HPC_DATA", "~/data")
    run_command("submit", "--grid", "~/grid.yaml", "--dry-run", "--outputs", "~/scratch", cwd=work, check=0)
    assert "1 done" in run_command("status", "--outputs=~/scratch", cwd=work, check=0).stdout
    assert list(work.iterdir()) == [] and len(list((home / "scratch/runs").iterdir())) == 1
    assert len(load_runs("~/scratch")) == 1


def test_the_command_of_a_container(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/person")
    (tmp_path / "site.yaml").write_text("container: apptainer exec --bind=~/a:~/b,/c~/d ~/img.sif\n")
    expected = "apptainer exec --bind=/home/person/a:/home/person/b,/c~/d /home/person/img.sif"
    assert read_site(tmp_path / "site.yaml").container == expected
