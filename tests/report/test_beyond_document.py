"""docs/BEYOND.md is filled by aggregate, with runs and without, and names every panel and grid beyond the paper."""

import re
from pathlib import Path

import pytest
import typer
from support.recorded_runs import config_of, record

from dc_hpc import aggregate as command
from dc_hpc.errors import InputError
from dc_hpc.report import output_files
from dc_hpc.report.document import renew
from dc_hpc.report.questions.catalog import QUESTIONS
from dc_hpc.report.tables.places import PLACE

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "BEYOND.md"


def filled(tmp_path, monkeypatch):
    """The document after `aggregate` of the runs in tmp_path. Its sentences are of the committed runs, not of these."""
    document = tmp_path / "BEYOND.md"
    document.write_text(PLACE.sub("", DOCUMENT.read_text("utf-8")), "utf-8")
    monkeypatch.setattr(output_files, "write_figures", lambda *arguments, **more: 0)
    with pytest.raises(typer.Exit) as ended:
        command.aggregate(outputs=tmp_path, jobs=ROOT / "jobs", data=ROOT / "nowhere", document=[document], only=None)
    assert ended.value.exit_code == 0
    return document.read_text("utf-8")


def test_the_document_has_every_panel_and_grid():
    text = DOCUMENT.read_text("utf-8")
    panels = [panel for one in QUESTIONS if one.name.startswith("beyond") for panel in one.panels]
    assert re.findall(r"<!-- (questions|beyond_[a-z_]+) -->", text) == ["questions", *(panel.name for panel in panels)]
    assert {grid for panel in panels for grid in panel.grids} == {
        path.stem for path in (ROOT / "jobs").glob("beyond_*")
    }
    assert all(path.stem in text for path in (ROOT / "jobs").glob("beyond_*"))


def test_what_has_runs_is_filled_and_the_rest_says_not_run_yet(tmp_path, monkeypatch):
    for seed in (1, 2, 3):
        for settings in ({"halt_cycle": 1}, {"halt_cycle": 1, "teacher_seed": 100 + seed}):
            record(tmp_path, config_of("fmnist", seed=seed, cycles=3, **settings), ia=0.4, accuracy=80.0 + seed)
    text = filled(tmp_path, monkeypatch)
    place = re.search(r"<!-- beyond_teacher_fmnist -->\n(.*?)<!-- end -->", text, re.DOTALL)[1]
    assert "another net's labels" in place and "3 cycles" in place
    assert text.count("Not run yet.\n<!-- end -->") == 5
    questions = re.search(r"<!-- questions -->\n(.*?)<!-- end -->", text, re.DOTALL)[1]
    assert "3 of 8 seeds" in questions and "cycles=3" in questions and "not run" in questions


def test_a_table_that_no_panel_has_is_still_refused(tmp_path):
    (tmp_path / "tables").mkdir()
    document = tmp_path / "notes.md"
    document.write_text("<!-- beyond_halting_fmnist -->\n<!-- end -->\n<!-- beyond_haltin -->\n<!-- end -->\n")
    with pytest.raises(InputError, match="names beyond_haltin, and"):
        renew(document, tmp_path / "tables", panels={"beyond_halting_fmnist"})
