"""submit --claim: the runs that the verdict on a claim needs."""

from __future__ import annotations

import pytest
from support.commands import REPOSITORY, run_command
from typer.testing import CliRunner

from dc_hpc.cli import one_of
from dc_hpc.report.claims.plans import PLANS
from dc_hpc.submit import app


def dry_run(tmp_path, *arguments):
    ended = run_command("submit", *arguments, "--dry-run", "--outputs", tmp_path / "outputs", cwd=REPOSITORY)
    return ended.returncode, ended.stdout, ended.stderr


def test_a_claim_is_submitted_as_planned(tmp_path):
    code, output, _ = dry_run(tmp_path, "--claim", "fig_5a.dip", "--claim", "fig_3a.ia_accuracy")
    assert code == 0 and "jobs/fmnist_halt.yaml: 25 points" in output
    assert "jobs/fmnist_ia_accuracy.yaml: 47 points" in output


def test_a_setting_of_a_person_comes_first(tmp_path):
    code, output, _ = dry_run(tmp_path, "--claim", "fig_5a.dip", "--set", "halt_cycle=[1,10]", "--set", "seed=[1,2]")
    assert code == 0 and "jobs/fmnist_halt.yaml: 4 points" in output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--claim", "fig_5a.dp"], 'no such claim; did you mean "fig_5a.dip"'),
        (["--claim", "dip"], "--claim dip: no such claim"),
        ([], "--grid is missing"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    code, output, error = dry_run(tmp_path, *arguments)
    assert code == 2 and output == "" and error.count("\n") == 1 and message in error
    assert not (tmp_path / "outputs").exists()


def test_the_names_are_completed():
    assert one_of(tuple(PLANS))("fig_5b.") == ["fig_5b.halting_spread", "fig_5b.once_is_best", "fig_5b.dip",
                                               "fig_5b.halting_saves_time"]  # fmt: skip
    assert "--claim" in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
