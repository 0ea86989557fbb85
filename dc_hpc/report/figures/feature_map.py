"""Draws Figure 2: the features of a fresh net, as they were clustered, in two dimensions by t-SNE (section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dc_hpc.report.figures.style import CLASSES, GREY, MOST_GROUPS, canvas
from dc_hpc.report.panels.grouping import Row, dataset_title
from dc_hpc.storage import feature_dumps, run_directory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 2_000
_SEED = 0


def draw(rows: Sequence[Row], *, outputs: Path, labels_of: Callable[[str], np.ndarray | None]) -> Figure | None:
    """t-SNE of the first dumped features of each run, coloured by the true labels.

    The paper shows the last convolutional layer; these are the features that k-means clusters (after PCA, whitening
    and L2). Raises DamagedFile for a dump that is not whole, ValueError where the labels are those of other images.
    """
    runs = [(row, path) for row in rows if (path := _dump(outputs, row)).is_file()][:MOST_GROUPS]
    if not runs:
        return None
    figure, axes = canvas(len(runs), width=5, height=5)
    for (row, path), ax in zip(runs, axes[0]):
        features = feature_dumps.read_features(path.parents[1], 0)["features"]
        labels = labels_of(row["dataset"])
        if labels is not None and len(labels) != len(features):
            raise ValueError(f"{row['run_id']} has {len(features)} features, {row['dataset']} {len(labels)} labels")
        chosen = _sample(len(features))
        places = embed(features[chosen])
        colours = GREY if labels is None else _colours(labels[chosen])
        ax.scatter(places[:, 0], places[:, 1], s=7, linewidth=0, c=colours)
        ax.set_axis_off()
        ax.set_title(_title(row, len(chosen), labels is not None))
        if labels is not None:
            _legend(ax, sorted(set(labels[chosen].tolist())))
    return figure


def embed(features: np.ndarray) -> np.ndarray:
    """(n, q) features -> float64 (n, 2), always the same for the same features. n >= 4."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(n_components=2, random_state=_SEED, init="pca", learning_rate="auto", perplexity=perplexity, n_jobs=1)
    return np.asarray(tsne.fit_transform(features.astype(np.float32)), dtype=np.float64)


def _dump(outputs: Path, row: Row) -> Path:
    return run_directory.runs_folder(outputs) / str(row["run_id"]) / "features" / "c0000.h5"


def _sample(n: int) -> np.ndarray:
    return np.sort(np.random.default_rng(_SEED).permutation(n)[:POINTS])


def _colours(labels: np.ndarray) -> list[str]:
    return [CLASSES[label % len(CLASSES)] for label in labels.tolist()]


def _legend(ax: Axes, classes: list[int]) -> None:
    for value in classes:
        ax.scatter([], [], s=28, color=CLASSES[value % len(CLASSES)], label=str(value))
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=min(len(classes), 10),
        handletextpad=0.1,
        columnspacing=0.9,
    )


def _title(row: Row, n: int, coloured: bool) -> str:
    colours = "coloured by label" if coloured else "labels not at hand"
    name = dataset_title(row["dataset"])
    return (
        f"{name}, {row['net']}, protocol {row['protocol']}, sobel {row['sobel']}, seed {row['seed']}\n"
        f"t-SNE of {n} images, {colours}; IA {row['ia']:.3f}"
    )
