"""Symbolic links below outputs: nothing is written, removed or read through one."""

from __future__ import annotations

import pytest
from support.small_runs import new_run
from support.stub_slurm import GRID, run_with_environment, stub_slurm

from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.storage import run_directory


@pytest.mark.parametrize(
    "where, command",
    [
        ("runs", "submit"),
        ("slurm", "submit"),
        ("slurm/grid", "submit"),
        ("tables", "aggregate"),
        ("figures", "aggregate"),
        ("slurm/submissions", "slurm"),
    ],
)
def test_nothing_is_written_through_a_link(tmp_path, digits_root, where, command):
    outside, outputs = tmp_path / "outside", tmp_path / "outputs"
    outside.mkdir()
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "site.yaml").write_text("partition: low\n")
    new_run(outputs, digits_root)
    if where == "runs":
        (outputs / "runs").rename(tmp_path / "real")
    link = outputs / where
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    arguments = ["--jobs", tmp_path] if command == "aggregate" else ["--grid", "grid.yaml"]
    more = {}
    if command == "slurm":
        more, command = stub_slurm(tmp_path / "tools"), "submit"
        arguments += ["--cluster", "slurm", "--site", "site.yaml", "--yes"]
    out = run_with_environment(command, *arguments, "--data", digits_root, cwd=tmp_path, **more)
    assert out.returncode == 2 and "symbolic link" in out.stderr or "no run in" in out.stderr, out.stdout + out.stderr
    assert not list(outside.iterdir())


def test_a_linked_file_is_replaced_and_what_it_points_to_left(tmp_path, digits_root):
    outputs, outside = tmp_path / "outputs", tmp_path / "outside"
    new_run(outputs, digits_root)
    outside.write_text("mine")
    (outputs / "tables").mkdir()
    for name in ("report.html", "tables/runs.csv"):
        (outputs / name).symlink_to(outside)
    assert run_with_environment("aggregate", "--data", digits_root, "--jobs", tmp_path, cwd=tmp_path).returncode == 0
    assert outside.read_text() == "mine" and not (outputs / "report.html").is_symlink()


@pytest.mark.parametrize("where", ["checkpoints", "attempts", "features", "quarantine"])
def test_a_linked_folder_of_a_run_is_neither_written_nor_tidied(tmp_path, digits_root, where):

    outputs, outside = tmp_path / "outputs", tmp_path / "outside"
    outside.mkdir()
    (outside / "c000001-trained-0123456789abcdef.safetensors").write_text("mine")
    (outside / ".x.99999999.0123456789abcdef.tmp").write_text("mine")
    directory = new_run(outputs, digits_root, cycles=1)
    (directory / where).symlink_to(outside)
    before = sorted(outside.iterdir())
    try:
        run(directory, Execution(str(digits_root)))
    except InputError as error:
        assert "symbolic link" in str(error)
    run_directory.tidy(directory)
    assert sorted(outside.iterdir()) == before and all(path.read_text() == "mine" for path in before)


def test_a_linked_run_directory_is_refused(tmp_path, digits_root):
    directory = new_run(tmp_path / "outputs", digits_root)
    directory.rename(tmp_path / "outside")
    directory.symlink_to(tmp_path / "outside")
    before = sorted((tmp_path / "outside").rglob("*"))
    with pytest.raises(InputError, match="symbolic link"):
        new_run(tmp_path / "outputs", digits_root)
    assert sorted((tmp_path / "outside").rglob("*")) == before
