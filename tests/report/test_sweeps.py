"""A person's own sweeps: which runs make them, and what their table and figure show."""

from __future__ import annotations

import csv
import io
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from support.recorded_runs import JOBS, config_of, findings_of, frame, grid_rows, row_of

from dc_hpc.report.figures.style import style
from dc_hpc.report.frames.runs import no_cycles, records
from dc_hpc.report.page import page
from dc_hpc.report.panels.panel import FigureSources
from dc_hpc.report.statistics import LEVEL, RESAMPLES
from dc_hpc.report.tables.text_tables import csv_of
from dc_hpc.report.test_sets import mean_at

NOTHING = FigureSources(no_cycles(), Path("/nonexistent"), lambda name: None)


def own(seed=1, *, accuracy=50.0, ia=0.3, state="done", base="fmnist", **settings):
    """A run of a data set of one's own."""
    config = config_of(base, **({"dataset": "cells", "data_digest": "d" * 64, "seed": seed, "cycles": 4} | settings))
    return row_of(config, state=state, ia=ia, accuracy=accuracy if config.probe else None)


def lines_of(found) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_of(found.tables[0]))))


def figure_of(found):
    with style():
        return found.panel.figure(found.rows, NOTHING)


def words_of(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_one_setting_is_points_with_intervals():
    accuracies = {0.01: (40.0, 42.0, 47.0), 0.1: (60.0, 61.0, 62.0), 1.0: (10.0, 10.0, 10.0)}
    rows = [own(seed, lr=lr, accuracy=a) for lr, found in accuracies.items() for seed, a in enumerate(found)]
    (found,) = findings_of(frame(rows)).sweeps
    assert found.panel.name == "sweep_cells_lr" and found.panel.axis == ("lr",)
    lines = lines_of(found)
    assert [(line["lr"], line["accuracy_n"], line["training"]) for line in lines] == [
        ("0.01", "3", "clustered"),
        ("0.1", "3", "clustered"),
        ("1.0", "3", "clustered"),
    ]
    low, high = mean_at(accuracies[0.01], np.zeros(RESAMPLES))(LEVEL)  # cells has no known number of test images
    assert (float(lines[0]["accuracy_mean"]), float(lines[0]["accuracy_mean_low"])) == (43.0, pytest.approx(low))
    assert found.tables[0].lines[0][:3] == ["0.01", "3", f"43.0 ({low:.1f} to {high:.1f})"]
    figure = figure_of(found)
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "accuracy (%)",
        "Initial Alignment (NMI)",
        "last NMI with the truth",
    ]
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [0.01, 0.1, 1.0] and line.get_ydata().tolist() == [43.0, 61.0, 10.0]
    assert figure.axes[0].get_xscale() == "log" and line.get_linestyle() == "-"


def test_two_settings_are_a_line_for_each_value_of_the_second():
    rows = [
        own(seed, k=k, sobel=sobel, base="svhn", dataset="cells", accuracy=k + seed)
        for k in (5, 10, 20)
        for sobel in ("off", "fixed")
        for seed in (1, 2, 3)
    ]
    (found,) = findings_of(frame(rows)).sweeps
    assert found.panel.axis == ("k", "sobel") and len(lines_of(found)) == 6
    figure = figure_of(found)
    assert len(figure.axes[0].lines) == 2
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"sobel off", "sobel fixed"}


def test_a_third_setting_is_a_row_of_axes_and_a_fourth_is_a_table_only():
    rows = [
        own(seed, k=k, lr=lr, momentum=m, accuracy=50.0) for k in (5, 6, 7) for lr in (1.0, 2.0) for m in (0.1, 0.9)
        for seed in (1, 2)
    ]  # fmt: skip
    (found,) = findings_of(frame(rows)).sweeps
    assert len(found.panel.axis) == 3 and len(figure_of(found).axes) == 2 * 3
    more = [own(seed, k=k, lr=lr, momentum=m, weight_decay=w)
            for k in (5, 6) for lr in (1.0, 2.0) for m in (0.1, 0.9) for w in (0.1, 0.2) for seed in (1,)]  # fmt: skip
    (found,) = findings_of(frame(more)).sweeps
    assert figure_of(found) is None and "More than three settings: no figure." in found.tables[0].caption


_FIVE = (0.1, 0.2, 0.3, 0.4, 0.5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pca": (None, 2, 4, 8, 16, 32, 64), "k": (5, 6)}, "The figure has the first 6 values of pca only."),
        ({"lr": _FIVE, "k": range(2, 7), "momentum": _FIVE}, "More than 4 values of momentum: no figure."),
    ],
)
def test_the_caption_says_what_the_figure_leaves_out(settings, words):
    swept = (dict(zip(settings, values)) for values in product(*settings.values()))
    (found,) = findings_of(frame([own(1, **one) for one in swept])).sweeps
    assert words in found.tables[0].caption


def test_sweeps_that_cross_are_two():
    rows = [own(seed, lr=lr) for lr in (0.01, 0.1, 0.2, 0.3) for seed in (1, 2)]
    rows += [own(seed, k=k) for k in (10, 20, 50, 100) for seed in (1, 2)]
    found = findings_of(frame(rows)).sweeps
    assert {one.panel.axis: len(lines_of(one)) for one in found} == {("lr",): 4, ("k",): 5}


def test_settings_that_vary_together_are_one_axis():
    rows = [own(seed, protocol=protocol) for protocol in ("text", "code") for seed in (1, 2)]
    (found,) = findings_of(frame(rows)).sweeps
    assert found.panel.axis == ("protocol",)
    zipped = [own(1, lr=lr, batch_size=size) for lr, size in ((0.1, 64), (0.2, 128), (0.4, 256))]
    (found,) = findings_of(frame(zipped)).sweeps
    assert len(found.panel.axis) == 1 and found.tables[0].heads[:2] == ["batch_size", "lr"]


def test_never_is_a_word_on_a_categorical_axis():
    rows = [own(seed, halt_cycle=halt) for halt in (None, 1, 2) for seed in (1, 2, 3)]
    (found,) = findings_of(frame(rows)).sweeps
    assert [line["halt_cycle"] for line in lines_of(found)] == ["1", "2", "never"]
    ax = figure_of(found).axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "never"]


def test_a_single_seed_is_joined_by_no_line():
    (found,) = findings_of(frame([own(1, k=k) for k in (5, 10, 20)])).sweeps
    (line,) = figure_of(found).axes[0].lines
    assert line.get_linestyle() == "None" and not figure_of(found).axes[0].collections


def test_runs_of_no_cycles_are_random_floors_by_name():
    rows = [own(seed, k=k, accuracy=60.0) for k in (5, 10) for seed in (1, 2)]
    rows += [own(seed, cycles=0, accuracy=40.0 + seed) for seed in (1, 2, 3)]
    rows += [own(seed, labels=True, accuracy=90.0, ia=None) for seed in (1, 2)]
    findings = findings_of(frame(rows))
    (found,) = findings.sweeps
    lines = lines_of(found)
    assert [(line["training"], line["accuracy_mean"]) for line in lines[2:]] == [
        ("random floor", "42.0"),
        ("supervised ceiling", "90.0"),
    ]
    assert "random floor" in words_of(figure_of(found)) and "supervised ceiling" in words_of(figure_of(found))
    alone = findings_of(frame([own(seed, cycles=0) for seed in (1, 2)]))
    assert lines_of(alone.sweeps[0])[0]["training"] == "random floor"
    assert "random floor" in alone.sweeps[0].tables[0].lines[0]
    assert [line[0] for line in found.tables[0].lines] == ["5", "10", "random floor", "supervised ceiling"]


def test_runs_of_ia_alone_add_their_ia_and_no_line():
    rows = [own(seed, k=k) for k in (5, 10) for seed in (1, 2)]
    rows += [own(seed, k=k, cycles=0, probe=()) for k in (5, 10) for seed in range(1, 9)]
    (found,) = findings_of(frame(rows)).sweeps
    assert [(line["accuracy_n"], line["ia_n"]) for line in lines_of(found)] == [("2", "8"), ("2", "8")]
    assert [ax.get_title(loc="left") for ax in figure_of(found).axes] == ["n = 2", "n = 8", "n = 2"]
    (alone,) = findings_of(frame([own(seed, k=k, cycles=0, probe=()) for k in (5, 10) for seed in (1, 2)])).sweeps
    assert lines_of(alone)[0]["training"] == "IA only" and [ax.get_ylabel() for ax in figure_of(alone).axes] == [
        "Initial Alignment (NMI)"
    ]


def test_seeds_that_are_not_done_are_missing():
    rows = [own(seed, k=k) for k in (5, 10) for seed in (1, 2)] + [own(7, k=10, state="failed")]
    (found,) = findings_of(frame(rows)).sweeps
    assert [line[-1] for line in found.tables[0].lines] == ["", "seed 7"]


def test_other_images_of_the_same_name_are_another_sweep():
    rows = [own(1, k=k, data_digest=digest * 64) for k in (5, 10) for digest in "ab"]
    assert [one.panel.name for one in findings_of(frame(rows)).sweeps] == ["sweep_cells_k", "sweep_cells_k_2"]


def test_the_papers_runs_are_nobodys_own_sweep():
    """Every run of every grid of the paper is in its panels, at the paper's settings."""
    names = sorted(path.stem for path in JOBS.glob("*.yaml") if path.stem not in ("fmnist_demo", "fmnist_table_1"))
    findings = findings_of(frame(grid_rows(*names)), jobs=JOBS)
    assert findings.sweeps == [] and findings.of_the_paper


def test_other_settings_and_trials_of_the_papers_data_come_before_its_panels():
    trial = [row_of(config_of("fmnist", k=k, seed=1, cycles=3), ia=0.3, accuracy=80.0) for k in (5, 20)]
    other = [row_of(config_of("fmnist", lr=lr, seed=1), ia=0.3, accuracy=80.0) for lr in (0.2, 0.3)]
    findings = findings_of(frame(trial + other))
    assert {line["lr"] for found in findings.sweeps for line in lines_of(found)} == {"0.1", "0.2", "0.3"}
    assert [found.panel.name for found in findings.shown][: len(findings.sweeps)] == [
        found.panel.name for found in findings.sweeps
    ]
    assert "fig_4a" in [found.panel.name for found in findings.shown]
    made = page(findings, outputs=Path("outputs"))
    assert made.index("Your own sweeps") < made.index("The claims of the paper") < made.index('id="fig_4a"')


def test_the_page_of_ones_own_data_has_nothing_of_the_paper():
    findings = findings_of(frame([own(seed, k=k) for k in (5, 10) for seed in (1, 2)]))
    made = page(findings, outputs=Path("outputs"))
    assert "Your own sweeps" in made and "The claims of the paper" not in made and "Not run yet" not in made
    assert "<b>The paper</b>" not in made and not findings.of_the_paper and findings.panels == []
    assert set(re.findall('href="#([^"]+)"', made)) <= set(re.findall('id="([^"]+)"', made))


def test_one_setting_alone_is_a_line_without_a_figure():
    (found,) = findings_of(frame([own(seed) for seed in (1, 2, 3)])).sweeps
    assert len(found.tables[0].lines) == 1 and figure_of(found) is None and found.panel.name == "sweep_cells"


def test_damaged_runs_and_runs_without_settings_are_left_out():
    rows = [own(seed, k=k) for k in (5, 10) for seed in (1, 2)]
    rows += [own(9, k=500, state="damaged"), {"run_id": "notes", "state": "damaged"}]
    (found,) = findings_of(frame(rows)).sweeps
    assert [line["k"] for line in lines_of(found)] == ["5", "10"]
    assert records(frame(rows))[-1]["dataset"] is None
