"""A figure counts the runs that its table counts."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text
from support.recorded_runs import JOBS, config_of, grid_rows, record, rows_of

from dc_hpc.report.figures.style import style
from dc_hpc.report.findings import collect, panels_of, read
from dc_hpc.report.frames.runs import load, no_cycles, records
from dc_hpc.report.panels.panel import FigureSources
from dc_hpc.report.panels.paper import PANELS

ROOT = Path(__file__).parents[2]
COUNT = re.compile(r"n ?= ?(\d+)(?: to (\d+))?")


def counts_of_the_figure(figure) -> list[tuple[int, int]]:
    texts = {id(text): text.get_text() for text in figure.findobj(Text)}
    found = [match for text in texts.values() for match in COUNT.finditer(text)]
    return [(int(match[1]), int(match[2] or match[1])) for match in found]


def counts_of_the_table(table) -> set[int]:
    """Every count of seeds that a column of the table has."""
    places = [i for i, name in enumerate(table.columns) if name.endswith("_n") or name in ("n", "runs")]
    return {row[i] for row in table.rows for i in places}


@pytest.fixture(scope="module")
def committed():
    runs = ROOT / "docs" / "results" / "tables" / "runs.csv"
    findings = collect(*read(Path("x"), [runs]), panels_of([]), jobs=JOBS, data=ROOT / "nowhere")
    return findings


@pytest.mark.parametrize("name", list(PANELS))
def test_the_counts_of_a_figure_are_those_of_its_table(committed, name):
    """Over the committed runs: each n that a figure names is an n of a line of its table."""
    found = {one.panel.name: one for one in committed.panels}[name]
    if not found.tables:
        return
    with style():
        figure = found.panel.figure(
            found.rows, FigureSources(committed.cycles, Path("/nonexistent"), lambda dataset: None)
        )
    if figure is None:
        return
    counts = counts_of_the_figure(figure)
    assert counts, name
    assert {end for ends in counts for end in ends} <= counts_of_the_table(found.tables[0]), name


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, panel in PANELS.items()
        if panel.grids and not name.startswith(("table_1", "fig_2", "kmeans_share", "valley", "beyond_choosing"))
    ],
)
def test_a_seed_that_ran_twice_counts_once_in_figure_and_table(tmp_path, name):
    """Each seed of each panel is run a second time with another number of probed layers, which is the same setting."""
    panel = PANELS[name]
    rows = grid_rows(*panel.grids)
    twice = [
        row | {"run_id": f"{row['run_id']}-again", "probe": f"{row['probe']} more"} for row in rows if row["probe"]
    ]
    cycles = no_cycles()
    if name.startswith("nmi"):
        cycles = cycles_of([*rows, *twice])
    sources = FigureSources(cycles, Path("/nonexistent"), lambda dataset: None)
    counts = []
    for found in (rows, rows + twice):
        selected = panel.select(rows_of(*found))
        with style():
            figure = panel.figure(selected, sources)
        (table, *_) = panel.tables(selected)
        columns = [i for i, column in enumerate(table.columns) if column.endswith("_n")]
        counts.append((Counter(counts_of_the_figure(figure)), [[row[i] for i in columns] for row in table.rows]))
    assert counts[0] == counts[1] and sum(counts[0][0].values()) > 0


def cycles_of(rows):
    """A frame of cycles with one cycle for each run."""
    frame = no_cycles()
    made = pd.DataFrame({"run_id": [row["run_id"] for row in rows]})
    for column in frame.columns:
        if column != "run_id":
            made[column] = 0 if column == "cycle" else 0.5
    return made


def test_two_probes_of_a_seed_are_one_run_of_a_curve(tmp_path):
    """The fault as it was met: 24 seeds, two of them with a second probe, were drawn as n = 26."""
    for seed in range(1, 5):
        record(tmp_path, config_of("fmnist", seed=seed, cycles=3), ia=0.39, accuracy=80.0)
    for seed in (1, 2):
        record(tmp_path, config_of("fmnist", seed=seed, cycles=3, probe=("conv2", "fc1")), ia=0.39, accuracy=80.0)
    runs, cycles = load(tmp_path)
    panel = PANELS["nmi_fmnist"]
    selected = panel.select(records(runs))
    with style():
        figure = panel.figure(selected, FigureSources(cycles, tmp_path, lambda dataset: None))
    (table,) = panel.tables(selected)
    assert table.rows[0][table.columns.index("nmi_true_last_n")] == 4
    assert set(counts_of_the_figure(figure)) == {(4, 4)}
