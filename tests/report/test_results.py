"""docs/results, and the numbers of RESULTS.md, BEYOND.md and the README, come from the committed runs.csv alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import typer

from dc_hpc import aggregate as command
from dc_hpc.report import output_files
from dc_hpc.report.tables.places import PLACE

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
DOCUMENTS = [ROOT / "docs" / "RESULTS.md", ROOT / "docs" / "BEYOND.md", ROOT / "README.md"]


@pytest.fixture(scope="module")
def again(tmp_path_factory) -> Path:
    """The report and the documents, made again from the committed runs.csv; their tables and places are emptied."""
    outputs = tmp_path_factory.mktemp("results")
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        emptied = re.sub(r"(<!-- [a-z0-9_]+ -->\n).*?(<!-- end -->)", r"\1\2", text, flags=re.DOTALL)
        emptied = PLACE.sub(r"\1?\4", emptied)
        assert emptied != text
        (outputs / path.name).write_text(emptied, "utf-8")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(typer.Exit) as ended:
        patch.setattr(output_files, "write_figures", lambda *arguments, **more: 0)
        command.aggregate(
            outputs=outputs,
            jobs=ROOT / "jobs",
            data=ROOT / "nowhere",
            only=None,
            runs=[RESULTS / "tables" / "runs.csv"],
            document=[outputs / path.name for path in DOCUMENTS],
            verbose=False,
        )
    assert ended.value.exit_code == 0
    return outputs


def test_the_committed_tables_come_out_byte_for_byte(again):
    committed = {path.name: path.read_bytes() for path in (RESULTS / "tables").iterdir()}
    made = {path.name: path.read_bytes() for path in (again / "tables").iterdir()}
    assert len(committed) > 10 and made == committed


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_and_numbers_of_a_document_are_the_committed_ones(again, path):
    assert (again / path.name).read_bytes() == path.read_bytes()


def numbers_of_nobody(text: str) -> list[str]:
    """The numbers of more than two digits in the sentences of a document that no table gives it.

    Code, tables, places, pictures, quotations of the paper and years do not count.
    """
    kinds = (
        r"```.*?```", r"<!-- [a-z0-9_]+ -->\n.*?<!-- end -->", PLACE.pattern, r"`[^`\n]*`", r"\]\([^)]*\)", r'"[^"]*"',
        r"\b(?:19|20)\d\d\b",
    )  # fmt: skip
    for kind in kinds:
        text = re.sub(kind, " ", text, flags=re.DOTALL)
    found = re.findall(r"(?<![\w.])\.?\d[\d.,]*", text)
    return [number for number in found if len(re.sub(r"\D", "", number)) > 2]


def test_every_number_of_the_results_comes_from_a_table():
    assert numbers_of_nobody((ROOT / "docs" / "RESULTS.md").read_text("utf-8")) == []
    results = (ROOT / "README.md").read_text("utf-8").split("## Six results")[1].split("\n## ")[0]
    assert results.count("<!-- =") > 10 and numbers_of_nobody(results) == []


def test_a_number_of_nobody_is_found():
    text = 'Of `k: 500` <!-- =a.b -->.123<!-- end --> in 2022, "(0.37 0.41)", 12.5 or .012 of 1,789 and 40.\n'
    assert numbers_of_nobody(text) == ["12.5", ".012", "1,789"]


def test_the_document_shows_figures_that_are_there():
    shown = re.findall(r"!\[[^]]*]\(([^)]+)\)", (ROOT / "docs" / "RESULTS.md").read_text("utf-8"))
    assert shown and all((ROOT / "docs" / path).is_file() for path in shown)
    kept = {path.suffix for path in (RESULTS / "figures").iterdir()}
    assert kept == {".png"}, "`make results` removes the figures as PDF, which nothing shows"


def test_a_changed_run_changes_a_table(again, tmp_path):
    """The negative control: with one other IA the tables differ."""
    tables = tmp_path / "tables"
    shutil.copytree(RESULTS / "tables", tables)
    head, *lines = (tables / "runs.csv").read_text("utf-8").splitlines(keepends=True)
    place = head.split(",").index("ia")
    for number, line in enumerate(lines):
        cells = line.split(",")
        if cells[place]:
            cells[place] = "0.999"
            lines[number] = ",".join(cells)
            break
    (tables / "runs.csv").write_text("".join([head, *lines]), "utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(typer.Exit):
        patch.setattr(output_files, "write_figures", lambda *arguments, **more: 0)
        command.aggregate(
            outputs=tmp_path / "again",
            jobs=ROOT / "jobs",
            data=ROOT / "nowhere",
            only=None,
            runs=[tables / "runs.csv"],
            document=None,
            verbose=False,
        )
    names = [path.name for path in (again / "tables").glob("*.md")]
    assert any(
        (tmp_path / "again" / "tables" / name).read_bytes() != (again / "tables" / name).read_bytes() for name in names
    )
