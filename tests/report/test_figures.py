"""Every figure draws the runs of its table, and draws them the same way twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from support.recorded_runs import config_of, frame, grid_rows, record, row_of, rows_of

from dc_hpc.report.figures.style import canvas, figure_bytes, key, note, style
from dc_hpc.report.frames.runs import load, no_cycles, records
from dc_hpc.report.panels.curves import CurvesPanel
from dc_hpc.report.panels.features import FeaturesPanel
from dc_hpc.report.panels.findings.kmeans_share import KmeansSharePanel
from dc_hpc.report.panels.findings.valley import ValleyPanel
from dc_hpc.report.panels.panel import FigureSources
from dc_hpc.report.panels.paper import PANELS
from dc_hpc.report.panels.search import SearchPanel
from dc_hpc.report.questions.choosing import ChoosingPanel
from dc_hpc.report.questions.valley_arms import ValleyArmsPanel

NOTHING = FigureSources(no_cycles(), Path("/nonexistent"), lambda name: None)


def figure_of(name, rows, sources=NOTHING):
    """The figure of a panel, drawn from its rows."""
    with style():
        return PANELS[name].figure(PANELS[name].select(rows), sources)


# Their figures need cycles, or pairs of runs, that the grids alone do not give; test_own_findings.py, test_questions.py
# and test_beyond_panels.py draw them.
OF_PAIRS = KmeansSharePanel | ValleyPanel | ValleyArmsPanel | ChoosingPanel


@pytest.fixture(scope="module")
def figure_runs():
    grids = {name for panel in PANELS.values() for name in panel.grids} - {"fmnist_table_1"}
    rows = grid_rows(*sorted(grids))
    return records(frame([*rows, *(row for row in grid_rows("svhn_k") if row["seed"] == 12)]))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, panel in PANELS.items()
        if not isinstance(panel, SearchPanel | FeaturesPanel | CurvesPanel | OF_PAIRS)
    ],
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
    assert legend.get_texts()[0].get_text() == "clustered, 50 cycles, n = 1 to 5"


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


def key_of(figure) -> list[str]:
    """The texts of all keys of a figure."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def joined_lines(figure) -> list:
    """The lines of a figure that join two points or more, without those over a whole axis (medians, chance)."""
    return [
        line for ax in figure.axes for line in ax.lines if len(line.get_xdata()) > 1 and len(set(line.get_xdata())) > 1
    ]


def related(base, n):
    """Runs with IA and accuracy of a baseline."""
    return rows_of(
        *(row_of(config_of(base, seed=seed), ia=0.36 + seed / 100, accuracy=80.0 + seed % 3) for seed in range(n))
    )


def halted(base, seeds, *halts, **settings):
    """Runs of some seeds at some halting positions; accuracies differ by less than a point."""
    return [
        row_of(config_of(base, seed=seed, halt_cycle=halt, **settings), accuracy=30 + seed / 10 + index / 5)
        for seed in seeds
        for index, halt in enumerate(halts)
    ]


def test_the_range_of_the_paper_is_a_band_with_an_entry_of_the_key():
    for name, base, text in (("fig_3a", "fmnist", ".37 to .41"), ("fig_3b", "svhn", ".04 to .16")):
        figure, band = figure_of(name, related(base, 4)), PANELS[name].ia_range
        assert f"the paper: IA {text}" in key_of(figure)
        for ax in figure.axes:
            drawn = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches]
            assert any(span == pytest.approx(band) for span in drawn)


def test_the_ranges_of_the_paper_are_those_of_its_words():
    """What a panel declares as printed also stands in what it says."""
    for panel in PANELS.values():
        bands = [*panel.ia_ranges.values(), *panel.accuracy_ranges.values(), *filter(None, [panel.ia_range])]
        for end in {end for band in bands for end in band if abs(end) != float("inf")}:
            assert f"{end:g}".removeprefix("0") in panel.says, panel.name


def test_medians_by_k_have_the_bands_of_the_paper():
    rows = rows_of(
        *(row_of(config_of("svhn", seed=1, k=k, cycles=0, probe=()), ia=0.05 + k / 10_000) for k in (10, 500))
    )
    key = key_of(figure_of("fig_b1", rows))
    assert "the paper: median IA below .08" in key and "the paper: median IA above .1" in key


@pytest.mark.parametrize("n, lines", [(3, 0), (4, 0), (5, 1)])
def test_a_regression_line_needs_five_runs(n, lines):
    figure = figure_of("fig_3a", related("fmnist", n))
    assert len(joined_lines(figure)) == lines
    title = figure.axes[-1].get_title(loc="left")
    assert f"n = {n}" in title and ("too few" in title) == (n < 5) == ("rho" not in title)


def test_a_relation_draws_three_settings_those_of_a_protocol_first():
    """Five settings, two of them of no protocol: a protocol with fewer runs than they have is drawn all the same."""
    views = {"none": 6, "box_per_image": 6}
    protocols = {"code": 7, "code_2021": 6, "text": 5}
    rows = [
        row_of(config_of("fmnist", seed=seed, **settings), ia=0.3 + seed / 100, accuracy=80.0 + seed)
        for settings, n in [({"training_view": view}, n) for view, n in views.items()]
        + [({"protocol": protocol}, n) for protocol, n in protocols.items()]
        for seed in range(n)
    ]
    titles = [ax.get_title(loc="left") for ax in figure_of("fig_3a", rows_of(*rows)).axes]
    drawn = [name for name in (*protocols, "mixed") if any(f"protocol {name}," in title for title in titles)]
    assert drawn == ["code", "code_2021", "text"] and len(titles) == 3


def test_single_runs_make_no_trend():
    one = figure_of("fig_5c", rows_of(*halted("cifar10", (1,), 1, 10, None)))
    assert joined_lines(one) == [] and "hollow: one run, no trend" in key_of(one)
    two = figure_of("fig_5c", rows_of(*halted("cifar10", (1, 2), 1, 10, None)))
    assert len(joined_lines(two)) == 2 and "hollow: one run, no trend" not in key_of(two)
    some = figure_of("fig_5c", rows_of(*halted("cifar10", (1, 2), 1, 10), *halted("cifar10", (1,), None)))
    assert len(joined_lines(some)) == 1


def test_small_differences_do_not_fill_an_axis():
    figures = [
        figure_of("fig_5c", rows_of(*halted("cifar10", (1, 2), 1, None))),
        figure_of("fig_3a", related("fmnist", 2)),
        figure_of("fig_4a", rows_of(*(row_of(config_of("fmnist", seed=1, k=k), accuracy=80 + k / 10) for k in (5, 7)))),
    ]
    for figure in figures:
        low, high = figure.axes[-1].get_ylim()
        assert high - low >= 10
    low, high = figures[1].axes[-1].get_xlim()
    assert high - low >= 0.05


def test_an_axis_that_is_widened_stays_within_its_quantity():
    figure = figure_of("fig_5c", rows_of(*(row | {"accuracy": 99.5} for row in halted("cifar10", (1,), 1, None))))
    low, high = figure.axes[0].get_ylim()
    assert high <= 100.3 and high - low >= 10


def test_the_axes_of_a_figure_are_shared(figure_runs):
    for name in ("fig_b1", "fig_6", "sobel_svhn"):
        figure = figure_of(name, figure_runs)
        shown = [ax for ax in figure.axes if ax.axison]
        assert len({ax.get_xlim() for ax in shown}) == len({ax.get_ylim() for ax in shown}) == 1
        assert len(shown) > 1 or name == "fig_6"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, panel in PANELS.items()
        if not isinstance(panel, SearchPanel | FeaturesPanel | CurvesPanel | OF_PAIRS)
    ],
)
def test_the_key_has_the_colour_of_every_line_and_dot(figure_runs, name):
    figure = figure_of(name, figure_runs)
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    known = {to_rgba(line.get_color()) for legend in legends for line in legend.get_lines()}
    known |= {to_rgba(patch.get_edgecolor(), 1) for legend in legends for patch in legend.get_patches()}
    handles = [handle for legend in legends for handle in legend.legend_handles]
    known |= {to_rgba(handle.get_facecolor()[0], 1) for handle in handles if hasattr(handle, "get_offsets")}
    for ax in figure.axes:
        lines = {to_rgba(line.get_color()) for line in ax.lines if len(line.get_xdata())}
        dots = {to_rgba(colour, 1) for dots in ax.collections for colour in dots.get_facecolor()}
        boxes = {to_rgba("#555555")}  # of a box, which the key shows as a square of that edge
        assert lines | dots <= known | boxes, name


@pytest.mark.parametrize(("width", "ncols"), [(6.2, 1), (5.0, 4), (4.8, 2), (3.1, 2)])
def test_no_key_is_wider_than_its_figure(width, ncols):
    names = [f"clustered, 50 cycles, protocol code_2021, k 5, draws ours, training_view {view}, n = 11 to 24"
             for view in ("box_per_batch", "box_per_image")]  # fmt: skip
    names += ["per_image_standardization on", "per_image_standardization off", "a run", "median"]
    with style():
        figure, axes = canvas(1, width=width, height=7)
        for name in names if ncols == 1 else names[2:]:
            note(axes[0][0], name)
        key(figure, axes[0], ncols=ncols)
        figure_bytes(figure, ["png"])
        (legend,) = figure.legends
        box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert " ".join(text.get_text().replace("\n", " ") for text in legend.get_texts()).count("n = 11 to 24") in (0, 2)


def test_markers_of_two_series_stand_beside_each_other():
    rows = [*halted("fmnist", (1, 2), 1, 10, None), *halted("fmnist", (1, 2), 1, 10, None, protocol="text")]
    ax = figure_of("fig_5a", rows_of(*rows)).axes[0]
    places = {}
    for line in ax.lines:
        if len(line.get_xdata()) == 1:
            places.setdefault(line.get_color(), set()).add(float(line.get_xdata()[0]))
    one, other = places.values()
    assert len(one) == len(other) == 3 and not one & other
    assert {round(place) for place in one} == {round(place) for place in other} == {0, 1, 2}


def test_distributions_of_ia_claim_no_cycles():
    """IA is that of the first clustering, so its runs have any number of cycles."""
    rows = [row_of(config_of("fmnist", seed=seed), ia=0.37 + seed / 100, accuracy=80.0) for seed in range(3)]
    rows += [row_of(config_of("fmnist", seed=seed, cycles=0, probe=()), ia=0.4) for seed in range(3, 9)]
    histogram, scatter = figure_of("fig_3a", rows_of(*rows)).axes
    assert "cycles" not in histogram.get_title(loc="left") and "n = 9" in histogram.get_title(loc="left")
    assert "50 cycles" in scatter.get_title(loc="left")


def test_no_chance_level_is_zero():
    rows = [row_of(config_of("fmnist", seed=seed, cycles=0, probe=()), ia=0.4, ia_chance=0.0001) for seed in (1, 2)]
    title = figure_of("fig_3a", rows_of(*rows)).axes[0].get_title(loc="left")
    assert "chance < 0.001" in title
    rows = [row | {"ia_chance": 0.0214} for row in rows]
    assert "chance 0.021" in figure_of("fig_3a", rows_of(*rows)).axes[0].get_title(loc="left")


def test_bounds_are_drawn_or_named_as_not_run():
    def probed(**settings):
        config = config_of("fmnist", seed=1, probe=("conv2", "fc1"), **settings)
        return row_of(config, accuracy=80.0, layers={"fc1": 70.0})

    key = key_of(figure_of("probe_layers_fmnist", rows_of(probed())))
    assert "random floor: not run" in key and "supervised ceiling: not run" in key
    key = key_of(figure_of("probe_layers_fmnist", rows_of(probed(), probed(cycles=0), probed(labels=True))))
    assert not any("not run" in text for text in key)
    assert any(text.startswith("random floor") and "cycles" not in text for text in key)
    assert any(text.startswith("supervised ceiling, 50 cycles") for text in key)


def test_crosses_of_the_paper_have_one_entry_of_the_key():
    rows = [row_of(config_of("cifar10_alexnet", seed=42, pca=pca), accuracy=65.0) for pca in (32, 999)]
    rows += [row_of(config_of("cifar10_alexnet", seed=42, pca=64), state="failed")]
    figure = figure_of("table_a2", rows_of(*rows))
    assert key_of(figure).count("the paper") == 1
    (cross,) = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert cross.get_ydata().tolist() == [64.97]
