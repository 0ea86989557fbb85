"""Ours against the published numbers, seed by seed."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from support.recorded_runs import config_of, row_of, rows_of, tables_of

from dc_hpc.report.figures.style import style
from dc_hpc.report.frames.runs import no_cycles
from dc_hpc.report.panels.findings.published import MNIST_IA
from dc_hpc.report.panels.panel import FigureSources
from dc_hpc.report.panels.paper import PANELS
from dc_hpc.report.tables.text_tables import csv_of, markdown_of

PANEL = PANELS["mnist_authors"]
SOURCES = FigureSources(no_cycles(), Path("/nonexistent"), lambda name: None)
DIFFERENCES = {0: 0.0, 1: 1e-15, 2: 0.0002, 3: -0.0004, 4: 0.0006, 5: -0.003}


def rows_with(differences, **changes):
    """Runs whose IA differs so much from the published one, by seed; of a seed without one, from .4."""
    settings = {"draws": "authors", "cycles": 0, "probe": (), "features": "none", **changes}
    configs = {seed: config_of("mnist", seed=seed, **settings) for seed in differences}
    return rows_of(*(row_of(configs[s], ia=MNIST_IA.get(s, 0.4) + off) for s, off in differences.items()))


def lines_of(table):
    return list(csv.DictReader(io.StringIO(csv_of(table))))


def test_the_published_numbers_are_those_of_the_authors_job():
    """Its median and its range, as they are known from the description of the job."""
    values = list(MNIST_IA.values())
    assert list(MNIST_IA) == list(range(100))
    assert [round(number, 3) for number in (min(values), np.median(values), max(values))] == [0.306, 0.407, 0.501]
    assert [round(MNIST_IA[seed], 4) for seed in range(4)] == [0.4796, 0.3983, 0.4304, 0.3702]


def test_the_table_counts_the_seeds_that_agree_and_names_the_one_that_agrees_least():
    summary, seeds = tables_of(PANEL, rows_with(DIFFERENCES))
    (line,) = lines_of(summary)
    assert (line["ia_n"], line["within"], line["same"], line["difference_largest_seed"]) == ("6", "4", "2", "5")
    assert float(line["difference_largest"]) == pytest.approx(0.003)
    assert float(line["difference_median"]) == pytest.approx(0.0003)
    assert [(row["seed"], row["published"]) for row in lines_of(seeds)] == [
        (str(seed), repr(MNIST_IA[seed])) for seed in DIFFERENCES
    ]
    assert float(lines_of(seeds)[5]["difference"]) == pytest.approx(-0.003)
    text = markdown_of(summary)
    assert "within .0005" in text and "0.00300" in text


def test_runs_with_our_draws_and_seeds_that_nobody_published_are_not_compared():
    rows = [*rows_with({0: 0.0, 100: 0.0}), *rows_with({1: 0.0, 2: 0.0}, draws="ours")]
    summary, seeds = tables_of(PANEL, rows)
    assert [line["ia_n"] for line in lines_of(summary)] == ["1"]
    assert [line["seed"] for line in lines_of(seeds)] == ["0"]
    assert tables_of(PANEL, rows_with({1: 0.0}, draws="ours")) == tables_of(PANEL, rows_with({100: 0.0})) == []


def test_a_run_that_is_not_done_is_a_missing_seed():
    rows = rows_with(DIFFERENCES)
    rows[3] |= {"state": "failed", "ia": None}
    assert "seed 3" in markdown_of(tables_of(PANEL, rows)[0])


@pytest.mark.parametrize("differences", [DIFFERENCES, {7: 0.0}])
def test_the_figure_has_the_line_of_identity_and_a_dot_for_each_seed(differences):
    with style():
        figure = PANEL.figure(PANEL.select(rows_with(differences)), SOURCES)
        left, right = figure.axes
        low, high = left.get_xlim()
        assert left.lines[0].get_xydata().tolist() == [[low, low], [high, high]] and left.get_ylim() == (low, high)
        dots = {seed: tuple(left.collections[0].get_offsets()[i]) for i, seed in enumerate(differences)}
        assert dots == {s: pytest.approx((MNIST_IA[s], MNIST_IA[s] + off)) for s, off in differences.items()}
        assert left.get_title("left").startswith("MNIST") and left.get_title("left").endswith(f"n = {len(differences)}")
        assert right.collections[-1].get_offsets()[:, 0].tolist() == list(differences)
        if differences is DIFFERENCES:
            title = right.get_title("left")
            assert "4 of 6 within .0005" in title and ".00300 (seed 5)" in title
        assert PANEL.figure(PANEL.select([]), SOURCES) is None


@pytest.mark.parametrize(("panel", "base"), [("draws_fmnist", "fmnist"), ("draws_svhn", "svhn")])
def test_our_draws_and_the_authors_are_two_lines_and_never_pooled(panel, base):
    rows = rows_of(
        *(
            row_of(config_of(base, seed=seed, cycles=0, probe=(), draws=draws), ia=0.1 + 0.01 * (draws == "ours"))
            for seed in (1, 2, 3)
            for draws in ("ours", "authors")
        )
    )
    lines = lines_of(tables_of(PANELS[panel], rows)[0])
    assert {line["draws"]: (line["ia_n"], float(line["ia_median"])) for line in lines} == {
        "authors": ("3", 0.1),
        "ours": ("3", pytest.approx(0.11)),
    }
