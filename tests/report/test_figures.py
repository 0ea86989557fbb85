"""Every figure draws the runs of its table, and draws them the same way twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from support.recorded_runs import config_of, frame, grid_rows, record, row_of, rows_of

from dc_hpc.report.figures.style import figure_bytes, style
from dc_hpc.report.frames.runs import load, no_cycles, records
from dc_hpc.report.panels.curves import CurvesPanel
from dc_hpc.report.panels.features import FeaturesPanel
from dc_hpc.report.panels.panel import FigureSources
from dc_hpc.report.panels.paper import PANELS
from dc_hpc.report.panels.search import SearchPanel

NOTHING = FigureSources(no_cycles(), Path("/nonexistent"), lambda name: None)


def figure_of(name, rows, sources=NOTHING):
    """The figure of a panel, drawn from its rows."""
    with style():
        return PANELS[name].figure(PANELS[name].select(rows), sources)


@pytest.fixture(scope="module")
def figure_runs():
    grids = {name for panel in PANELS.values() for name in panel.grids} - {"fmnist_table_1"}
    rows = grid_rows(*sorted(grids))
    return records(frame([*rows, *(row for row in grid_rows("svhn_k") if row["seed"] == 12)]))


@pytest.mark.parametrize(
    "name", [name for name, panel in PANELS.items() if not isinstance(panel, SearchPanel | FeaturesPanel | CurvesPanel)]
)
def test_every_figure_draws(figure_runs, name):
    figure = figure_of(name, figure_runs)
    with style():
        figure.draw_without_rendering()
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    assert any(word in words for word in ("MNIST", "SVHN", "CIFAR10")) and ("n = " in words or "n=" in words)
    assert "protocol" in words or name.startswith("sobel")


def test_a_figure_without_runs_is_none():
    assert all(figure_of(name, []) is None for name in PANELS)


def test_ia_alone_shows_its_distribution_alone():
    rows = [row_of(config_of("svhn", seed=seed, cycles=0, probe=()), ia=0.1 + seed / 100) for seed in (1, 2)]
    figure = figure_of("fig_3b", rows_of(*rows))
    assert len(figure.axes) == 1 and "n = 2" in figure.axes[0].get_title(loc="left")


def test_a_profile_over_layers_says_how_few_runs_a_layer_has():
    rows = [
        row_of(config_of("fmnist", seed=seed, probe=("conv2",)), accuracy=80.0 + seed, accuracy_conv2=80.0 + seed)
        for seed in range(4)
    ]
    rows.append(
        row_of(
            config_of("fmnist", seed=9, probe=("conv2", "fc1")), accuracy=81.0, accuracy_conv2=81.0, accuracy_fc1=70.0
        )
    )
    figure = figure_of("probe_layers_fmnist", rows_of(*rows))
    (legend,) = figure.legends
    assert [text.get_text().rpartition(", ")[2] for text in legend.get_texts()] == ["n = 1 to 5"]


def test_equal_figures_have_equal_bytes(figure_runs):
    made = []
    for _ in range(2):
        figure = figure_of("fig_4b", figure_runs)
        with style():
            made.append(figure_bytes(figure))
    assert made[0] == made[1]
    assert made[0]["png"].startswith(b"\x89PNG") and made[0]["pdf"].startswith(b"%PDF")


def test_curves_and_feature_maps_come_from_the_directories(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    features = (rng.normal(size=(120, 8)) * 0.2 + labels[:, None]).astype(np.float16)
    config = config_of("mnist", seed=0, cycles=0, probe=(), features="first")
    record(tmp_path, config, ia=0.4, features=(features, labels.astype(np.int64)))
    for seed in (1, 2):
        record(tmp_path, config_of("fmnist", seed=seed, cycles=3), ia=0.39, accuracy=80.0)
    runs, cycles = load(tmp_path)
    rows, asked = records(runs), []

    def labels_of(name):
        asked.append(name)
        return labels

    sources = FigureSources(cycles, tmp_path, labels_of)
    points = figure_of("fig_2a", rows, sources).axes[0].collections[0]
    places = np.asarray(points.get_offsets())
    assert asked == ["mnist"] and places.shape == (120, 2)
    assert len(np.unique(points.get_facecolors(), axis=0)) == 3
    # Three groups far apart stay apart: almost every point's nearest neighbour has its own label.
    distance = np.linalg.norm(places[:, None] - places, axis=2) + 1e9 * np.eye(120)
    assert np.mean(labels[distance.argmin(1)] == labels) > 0.95
    line = figure_of("nmi_fmnist", rows, sources).axes[0].lines[0]
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert line.get_ydata().tolist() == pytest.approx([0.39, 0.391, 0.392])
    with pytest.raises(ValueError, match="120 features, mnist 7 labels"):
        figure_of("fig_2a", rows, FigureSources(cycles, tmp_path, lambda name: labels[:7]))
