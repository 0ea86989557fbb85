"""The command that makes tables, figures, claims and the page from run directories."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from support.recorded_runs import JOBS, record_figure_4

from dc_hpc import aggregate as command
from dc_hpc.errors import InputError
from dc_hpc.report import output_files
from dc_hpc.report.document import renew
from dc_hpc.report.panels.paper import PANELS

ROOT = Path(__file__).parents[2]
NOWHERE = Path("/nonexistent")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    outputs = tmp_path_factory.mktemp("command") / "outputs"
    record_figure_4(outputs)
    return outputs


def run_cli(outputs: Path, **options) -> None:
    command.aggregate(
        **(
            {"outputs": outputs, "jobs": JOBS, "data": NOWHERE, "runs": None, "document": None, "only": None}
            | {"verbose": False}
            | options
        )
    )


def collect(outputs: Path, **options) -> int:
    """The exit code of the command."""
    with pytest.raises(typer.Exit) as ended:
        run_cli(outputs, **options)
    return ended.value.exit_code


def tables_in(outputs: Path) -> dict[str, bytes]:
    """The files of the tables but missing.csv, whose commands name the folder of the runs."""
    return {path.name: path.read_bytes() for path in (outputs / "tables").iterdir() if path.name != "missing.csv"}


def test_the_command_writes_tables_figures_and_a_page(tree, capsys):
    assert collect(tree) == 0
    said = capsys.readouterr().out
    tables = {path.name for path in (tree / "tables").iterdir()}
    assert {
        "runs.csv",
        "cycles.csv",
        "claims.csv",
        "claims.md",
        "settings.csv",
        "fig_4a.csv",
        "fig_4a.md",
        "fig_4a.tex",
    } <= tables
    shown = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (tree / "tables" / "fig_4a.md").read_text().splitlines()
        if line.startswith("|")
    ]
    place, best = shown[0].index("accuracy %"), shown[0].index("best epoch %")
    assert [(line[0], line[place], line[best]) for line in shown[2:]] == [
        ("5", "83.50", "84.00"),
        ("20", "80.50", "81.00"),
        ("200", "9.50", "10.00"),
    ]
    assert {"fig_4a.png", "fig_4a.pdf", "nmi_fmnist.png"} <= {path.name for path in (tree / "figures").iterdir()}
    assert (tree / "report.html").stat().st_size > 20_000
    assert "5 done, 1 failed, 1 damaged" in said
    assert "failed: fmnist-k200-seed5-" in said and "damaged: fmnist-k7-seed2-" in said
    assert "python -m dc_hpc.submit --grid" in said and str(tree / "report.html") in said
    assert max(map(len, said.replace(str(tree), "outputs").replace(str(JOBS), "jobs").splitlines())) <= 120


def test_a_second_time_gives_the_same_bytes(tree, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764374400")  # else the page says the minute in which it was made

    def everything():
        parts = (tree / "tables", tree / "figures", tree / "report.html")
        return {path: path.read_bytes() for part in parts for path in ([part] if part.is_file() else part.iterdir())}

    collect(tree)
    before = everything()
    collect(tree)
    assert everything() == before


def test_a_committed_table_gives_the_committed_tables(tree, tmp_path, monkeypatch):
    collect(tree)
    monkeypatch.setattr(output_files, "write_figures", lambda *arguments, **more: 0)
    assert collect(tmp_path / "again", runs=[tree / "tables" / "runs.csv"]) == 0
    made = tables_in(tmp_path / "again")
    assert made == tables_in(tree)
    page = (tmp_path / "again" / "report.html").read_text()
    # As missing.csv: the runs of a table are somewhere else, and submit goes on in its own folder.
    assert "dc_hpc.submit --grid" in page and "--outputs" not in page


def test_the_parts_of_a_table_are_joined_to_the_whole(tree, tmp_path, monkeypatch):
    """As the tables of two clusters: a run in both counts once, and as done where one of them has it done."""
    collect(tree)
    monkeypatch.setattr(output_files, "write_figures", lambda *arguments, **more: 0)
    kept = {path.name: path.read_bytes() for path in (tree / "tables").iterdir()}
    header, *runs = kept["runs.csv"].decode().splitlines(keepends=True)
    above, *cycles = kept["cycles.csv"].decode().splitlines(keepends=True)
    done = next(line for line in runs if ",done," in line)
    early = done.replace(",done,", ",running,", 1)
    rest = [line for line in runs if line != done]
    parts = [[early, *rest[::2]], rest[1::2] + rest[:1], [done]]
    for place, part in enumerate(parts):
        (tmp_path / str(place)).mkdir()
        names = {line.split(",")[0] for line in part}
        mine = [line for line in cycles if line.split(",")[0] in names]
        (tmp_path / str(place) / "runs.csv").write_text(header + "".join(part))
        (tmp_path / str(place) / "cycles.csv").write_text(above + "".join(mine))
    assert collect(tmp_path / "again", runs=[tmp_path / str(place) / "runs.csv" for place in range(3)]) == 0
    assert tables_in(tmp_path / "again") == tables_in(tree)


def test_a_run_without_a_name_is_one_line(tree, tmp_path):
    collect(tree)
    (tmp_path / "runs.csv").write_text("run_id,state,dataset,k,seed\n,done,svhn,5,1\nx,done,svhn,5,2\n")
    with pytest.raises(InputError, match="a run has no run_id"):
        run_cli(tmp_path / "again", runs=[tree / "tables" / "runs.csv", tmp_path / "runs.csv"])


def test_a_document_gets_its_tables_renewed(tree, tmp_path, capsys):
    document = tmp_path / "RESULTS.md"
    document.write_text("Ours.\n\n<!-- fig_4a -->\nold\n<!-- end -->\n\nAnd <!-- claims -->\n<!-- end --> more.\n")
    assert collect(tree, document=[document]) == 0
    tables = {name: (tree / "tables" / f"{name}.md").read_text() for name in ("fig_4a", "claims")}
    assert document.read_text() == (
        f"Ours.\n\n<!-- fig_4a -->\n{tables['fig_4a']}<!-- end -->\n\n"
        f"And <!-- claims -->\n{tables['claims']}<!-- end --> more.\n"
    )
    before = document.read_bytes()
    assert collect(tree, document=[document]) == 0 and document.read_bytes() == before


def test_a_missing_document_is_an_error_before_anything_is_written(tree, tmp_path):
    with pytest.raises(InputError, match="cannot be read .No such file or directory."):
        run_cli(tmp_path / "new", runs=[tree / "tables" / "runs.csv"], document=[tmp_path / "none.md"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "text, words",
    [
        ("no table\n", "each table needs"),
        ("<!-- fig_4a -->\nwithout an end\n", "each table needs"),
        ("<!-- fig_4a -->\n<!-- end -->\n<!-- fig_4b -->\nno end\n<!-- end --> <!-- end -->\n", "each table needs"),
        ("<!-- fig_99 -->\n<!-- end -->\n", "names fig_99, and .* has no table of that name"),
        (None, "cannot be read"),
    ],
)
def test_a_document_that_names_no_table_is_left_alone(tree, tmp_path, text, words):
    document = tmp_path / "RESULTS.md"
    if text is not None:
        document.write_text(text)
    with pytest.raises(InputError, match=words):
        renew(document, tree / "tables")
    assert text is None or document.read_text() == text


def test_only_draws_what_is_named_and_leaves_the_page(tree, tmp_path):
    outputs = tmp_path / "outputs"
    shutil.copytree(tree / "runs", outputs / "runs")
    assert collect(outputs, only=["fig_4"]) == 0
    assert [path.name for path in sorted((outputs / "figures").iterdir())] == ["fig_4a.pdf", "fig_4a.png"]
    assert not (outputs / "report.html").exists()


def test_a_failing_figure_loses_no_table_and_no_page(tree, tmp_path, monkeypatch, capsys):
    def broken(panel, *arguments):
        raise ZeroDivisionError("no ink\nleft")

    monkeypatch.setattr(type(PANELS["fig_4a"]), "figure", broken)
    outputs = tmp_path / "outputs"
    shutil.copytree(tree / "runs", outputs / "runs")
    assert collect(outputs) == 1
    assert "figure fig_4a failed: ZeroDivisionError: no ink left" in capsys.readouterr().out
    assert (outputs / "tables" / "fig_4a.csv").exists()
    assert "no ink left" in (outputs / "report.html").read_text()


@pytest.mark.parametrize(
    "make, options, words",
    [
        (lambda path: None, {}, "is not a folder"),
        (lambda path: (path / "runs").mkdir(parents=True), {}, "submit runs first"),
        (lambda path: path.mkdir(), {"only": ["fig_44"]}, "did you mean|allowed: sweep, table_1"),
        (lambda path: path.mkdir(), {"runs": [Path("/nonexistent/runs.csv")]}, "cannot be read"),
    ],
)
def test_bad_input_is_one_line(tmp_path, make, options, words):
    outputs = tmp_path / "outputs"
    make(outputs)
    with pytest.raises(InputError, match=words):
        run_cli(outputs, **options)


def test_a_folder_that_cannot_be_written_is_bad_input(tree, tmp_path):
    outputs = tmp_path / "outputs"
    shutil.copytree(tree / "runs", outputs / "runs")
    (outputs / "tables").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        run_cli(outputs)


def test_nothing_is_written_through_a_link(tree, tmp_path):
    outputs = tmp_path / "outputs"
    shutil.copytree(tree / "runs", outputs / "runs")
    (tmp_path / "elsewhere").mkdir()
    (outputs / "tables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        run_cli(outputs)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_command_ends_with_two_for_bad_input(tmp_path):
    command = [sys.executable, "-m", "dc_hpc.aggregate", "--outputs", str(tmp_path / "none")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith("dc_hpc: --outputs") and ended.stderr.count("\n") == 1


def modules_after(code: str) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ended.stdout.split())


def test_help_waits_for_nothing_and_the_report_needs_no_torch():
    assert not modules_after("import dc_hpc.aggregate") & {
        "torch",
        "pandas",
        "numpy",
        "matplotlib",
        "sklearn",
        "pydantic",
    }
    paths = (ROOT / "dc_hpc" / "report").rglob("[a-z]*.py")
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    assert len(modules) > 30
    assert not modules_after("\n".join(f"import {name}" for name in modules)) & {
        "torch",
        "matplotlib",
        "sklearn",
        "faiss",
    }


def test_a_wrong_folder_ends_with_two_and_writes_nothing(tmp_path):
    command = [sys.executable, "-m", "dc_hpc.aggregate", "--outputs", "typo"]
    (tmp_path / "data").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr == (
        "dc_hpc: --outputs: typo is not a folder; give the one that `python -m dc_hpc.submit` wrote to\n"
    )
    assert not (tmp_path / "typo").exists()


def test_one_screen_by_default_and_everything_with_verbose(tree, capsys):
    assert collect(tree) == 0
    short = capsys.readouterr().out
    assert collect(tree, verbose=True) == 0
    long = capsys.readouterr().out
    assert len(short.splitlines()) <= 40 < len(long.splitlines())
    assert "Fashion-MNIST, swept: k." in short and "Figure 4a" not in short and "Figure 4a" in long
    assert "more: --verbose" in short and "more: --verbose" not in long


def test_only_applies_to_claims_and_sweeps(tree, capsys):
    assert collect(tree, only=["fig_4"], verbose=True) == 0
    said = capsys.readouterr().out
    assert "fig_4a, fmnist" in said and "fig_3a" not in said and "swept:" not in said
    assert collect(tree, only=["fig_4"]) == 0
    assert "Figure 4a: number of clusters" in capsys.readouterr().out
    assert collect(tree, only=["sweep"]) == 0
    said = capsys.readouterr().out
    assert "swept: k" in said and "fig_" not in said.replace("figures", "")
    assert "fig_3a" in (tree / "tables" / "claims.csv").read_text()  # the files stay whole
