"""A kind of panel is one class: nothing else asks for the kind, and the rows of a panel are selected once."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from matplotlib.figure import Figure
from support.recorded_runs import JOBS, findings_of, frame, grid_rows, record_figure_4, rows_of

from dc_hpc import aggregate as command
from dc_hpc.report.claims import catalog
from dc_hpc.report.claims.catalog import CLAIMS, Claim
from dc_hpc.report.claims.measures import level
from dc_hpc.report.claims.plans import PLANS, Plan
from dc_hpc.report.claims.rules import above
from dc_hpc.report.output_files import write_figures, write_page, write_tables
from dc_hpc.report.panels import matching, paper
from dc_hpc.report.panels.comparisons import comparisons
from dc_hpc.report.panels.matching import accuracy_rows
from dc_hpc.report.panels.panel import Panel, PanelRows
from dc_hpc.report.panels.paper import PANELS, entry
from dc_hpc.report.tables.text_tables import Item, table_of

PACKAGE = Path(__file__).parents[2] / "dc_hpc"
NOWHERE = Path("/nonexistent")


@dataclass(frozen=True)
class BestPanel(Panel):
    """A kind that the package does not have: the best accuracy of each value of the axis."""

    def select(self, rows):
        return PanelRows(accuracy=comparisons(self, accuracy_rows(self, rows), "accuracy"))

    def tables(self, rows):
        best = [(cell.settings["k"], max(cell.values("accuracy").values())) for cell in rows.cells("accuracy")]
        lines = [[Item("k", k, "k", f"{k}"), Item("best", accuracy, "%", f"{accuracy}")] for k, accuracy in best]
        return [table_of(self.name, self.title, lines)]

    def figure(self, rows, sources):
        figure = Figure()
        figure.subplots().plot([max(cell.values("accuracy").values()) for cell in rows.cells("accuracy")])
        return figure


@pytest.fixture
def new_kind(monkeypatch) -> None:
    """An entry with a panel of the new kind, and a claim about it."""
    panel = BestPanel("fig_9", "fmnist", "The best accuracy falls.", axis=("k",), values=(5, 20), grids=("fmnist_k",))
    added = entry("fig_9", "Figure 9: the best accuracy", "9", (panel,))
    monkeypatch.setitem(paper.ENTRIES, "fig_9", added)
    monkeypatch.setitem(paper.PANELS, "fig_9", added.panels[0])
    claim = Claim("best", "fig_9", "accuracy is above 50 at k 5", "median", level("accuracy", "k", 5), above(50))
    monkeypatch.setattr(catalog, "CLAIMS", (*CLAIMS, claim))
    monkeypatch.setitem(PLANS, "fig_9.best", Plan((2, 5, 22), {"fmnist_k": {}}))


def test_a_new_kind_is_one_class_and_one_entry(new_kind, tmp_path, capsys):
    record_figure_4(tmp_path)
    with pytest.raises(typer.Exit) as ended:
        command.aggregate(outputs=tmp_path, jobs=JOBS, data=NOWHERE, runs=None, document=None, only=None, verbose=True)
    assert ended.value.exit_code == 0
    assert (tmp_path / "tables" / "fig_9.csv").read_text() == "k,best\n5,84.0\n20,81.0\n"
    assert (tmp_path / "figures" / "fig_9.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert '<a href="#fig_9">Figure 9</a>' in page and "The best accuracy falls." in page
    assert (
        "fig_9, fmnist, code, sobel off: accuracy is above 50 at k 5: median 83.50, n = 2"
        in capsys.readouterr().out.replace("\n" + " " * 16, " ")
    )


def kinds_of(base: type) -> set[str]:
    """The names of the classes that are made of a class, directly or not."""
    return {name for cls in base.__subclasses__() for name in (cls.__name__, *kinds_of(cls))}


KINDS = kinds_of(Panel) - {"BestPanel"}


def questions_about_the_kind(source: str) -> list[str]:
    """The places of a module that read a `.kind` or test for the class of a panel."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr == "kind":
            found.append(ast.unparse(node))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            named = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
            found += [ast.unparse(node)] if named & KINDS else []
    return found


def test_no_code_asks_for_the_kind_of_a_panel():
    assert len(KINDS) == 20
    for source in ("if panel.kind == 'search': pass", "isinstance(panel, SearchPanel | BothPanel)"):
        assert len(questions_about_the_kind(source)) == 1
    for path in [*(PACKAGE / "report").rglob("*.py"), PACKAGE / "aggregate.py"]:
        assert questions_about_the_kind(path.read_text()) == [], path.name


def test_the_rows_of_a_panel_are_selected_once(monkeypatch, tmp_path):
    """Tables, claims, warnings, figures and page take the rows that `select` made."""
    selected, inside, outside = Counter(), [], []

    def counted(select):
        def counting(panel, rows):
            selected[panel.name] += 1
            inside.append(panel.name)
            try:
                return select(panel, rows)
            finally:
                inside.pop()

        return counting

    for cls in {type(panel) for panel in PANELS.values()}:
        monkeypatch.setattr(cls, "select", counted(cls.select))
    required = matching._required_settings
    monkeypatch.setattr(
        matching, "_required_settings", lambda *given: (inside or outside.append(given[0].name), required(*given))[1]
    )
    findings = findings_of(frame(grid_rows("svhn_k", "svhn_k_ia", "svhn_halt")), jobs=JOBS)
    write_tables(findings, tmp_path)
    assert write_figures(findings, tmp_path, data=NOWHERE, say=print) == 0
    write_page(findings, tmp_path)
    assert selected == Counter(list(PANELS)) and outside == []


@pytest.mark.parametrize("name", sorted({claim.panel for claim in CLAIMS}))
def test_a_panel_selects_the_numbers_of_its_claims(name):
    rows = PANELS[name].select(rows_of(*grid_rows(*PANELS[name].grids)))
    for claim in CLAIMS:
        if claim.panel == name:
            assert any(comparison.group.values(claim.value) for comparison in rows.comparisons(claim.value))
