"""Every table compiles at the width of an article."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dc_hpc.report.findings import collect, panels_of, read
from dc_hpc.report.output_files import write_tables
from dc_hpc.report.tables.latex import latex_of
from dc_hpc.report.tables.text_tables import Item, table_of

ROOT = Path(__file__).parents[2]
NOWHERE = Path("/nonexistent")
MOST = 5.0  # points that a line may stick out


@pytest.fixture(scope="module")
def pdflatex() -> str:
    """The compiler; where there is none, a failure in CI and a skipped test elsewhere."""
    found = shutil.which("pdflatex")
    if found is None:
        missing = "pdflatex is not installed; apt-get install texlive-latex-base texlive-latex-recommended"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return found


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, str]:
    """The LaTeX of every table of the committed runs, by name."""
    folder = tmp_path_factory.mktemp("latex")
    runs = ROOT / "docs" / "results" / "tables" / "runs.csv"
    write_tables(collect(*read(folder, [runs]), panels_of([]), jobs=ROOT / "jobs", data=NOWHERE), folder)
    return {path.stem: path.read_text() for path in sorted((folder / "tables").glob("*.tex"))}


def compiled(pdflatex: str, folder: Path, tables: dict[str, str]) -> dict[str, list[str]]:
    """table -> what the compiler complains of: overfull boxes above MOST, floats larger than a page, errors."""
    body = "".join(f"\\typeout{{TABLE {name}}}\n{text}\\clearpage\n" for name, text in tables.items())
    packages = "\\usepackage{array,booktabs,longtable}"
    (folder / "all.tex").write_text(
        f"\\documentclass{{article}}\n{packages}\n\\begin{{document}}\n{body}\\end{{document}}\n"
    )
    command = [pdflatex, "-interaction=nonstopmode", "-no-shell-escape", "all.tex"]
    said = subprocess.run(command, cwd=folder, capture_output=True, timeout=120).stdout.decode("latin-1")
    assert "Output written on all.pdf" in said, said[-2000:]
    found, name = {}, ""
    for line in said.splitlines():
        if line.startswith("TABLE "):
            name = line.removeprefix("TABLE ").strip()
            found[name] = []
        over = re.match(r"Overfull \\hbox \(([0-9.]+)pt too wide", line)
        if (over and float(over[1]) > MOST) or "Float too large" in line or line.startswith("!"):
            found[name].append(line)
    return found


def test_all_tables_of_the_committed_runs_fit_an_article(pdflatex, tables, tmp_path):
    assert len(tables) > 30 and {"claims", "settings", "fig_3a", "fig_3a_points"} <= set(tables)
    found = compiled(pdflatex, tmp_path, tables)
    assert list(found) == list(tables) and {name: said for name, said in found.items() if said} == {}


def test_the_check_sees_a_table_that_is_too_wide(pdflatex, tmp_path):
    wide = "\\begin{tabular}{" + "l" * 12 + "}" + " & ".join(["a long cell"] * 12) + "\\end{tabular}\n"
    assert any("Overfull" in line for line in compiled(pdflatex, tmp_path, {"wide": wide})["wide"])


def test_no_table_has_notes_for_the_one_who_works_on_the_runs(tables):
    assert all("missing" not in text.split("midrule")[0] and "seeds 3" not in text for text in tables.values())


def line(i: int, settings: int, words: str = "") -> list[Item]:
    names = [f"a_setting_{j}" for j in range(settings)]
    return [
        *(Item(name, i, name, f"{i}.125", role="setting") for name in names),
        Item("n", i, "n", str(i)),
        Item("text", words, "a text", words),
        Item(None, head="range", text="-0.10 to 0.30"),
        Item(None, head="missing", text="seeds 1 2 3", role="note"),
    ]


def test_a_small_table_stays_as_it_is():
    text = latex_of(table_of("small", "A table_1 of 5 %.", [line(1, 2, "-1 & 3")]))
    assert "\\begin{table}" in text and "\\centering\\normalsize" in text and "p{" not in text
    assert "range" in text and "missing" not in text
    assert r"A table\_\allowbreak{}1 of 5 \%." in text and r"$-$1 \& 3 & $-$0.10 to 0.30" in text


def test_a_wide_table_folds_its_texts_and_a_wider_one_joins_its_settings(pdflatex, tmp_path):
    rows = [line(i, 3, "many words that no line can hold beside the numbers, as it seems to me " * 2) for i in range(9)]
    folded = latex_of(table_of("folded", "Folded.", rows))
    assert "scriptsize" in folded and "raggedright" in folded and "range" not in folded and "setting" in folded
    joined = latex_of(table_of("joined", "Joined.", [line(i, 9) for i in range(9)]))
    assert "\nsettings & n" in joined and r"a\_\allowbreak{}setting\_\allowbreak{}8 8.125" in joined
    assert compiled(pdflatex, tmp_path, {"folded": folded, "joined": joined}) == {"folded": [], "joined": []}


def test_a_long_table_is_broken_over_pages(pdflatex, tmp_path):
    text = latex_of(table_of("long", "Long.", [line(i, 2) for i in range(200)]))
    assert text.count("\\begin{longtable}") == 1 and "\\endfirsthead" in text and text.count(" \\\\\n") == 200 + 2
    assert compiled(pdflatex, tmp_path, {"long": text}) == {"long": []}
