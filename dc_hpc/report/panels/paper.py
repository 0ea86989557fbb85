"""Every table and figure of the paper, and the experiments beside it, as data: which runs, which grids, what
it says.

An Entry is a table or figure under the paper's name; its Panels are its parts, one a data set. What a panel
asks for follows its baseline; protocol, cycles, Sobel and the probe may differ, so that a small trial shows
too, as a group of its own. The numbers of the paper are those it prints; of its figures only its words are
known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# search: settings ranked by accuracy.        features: the space of a random net, by t-SNE.
# relation: IA against accuracy, a dot a run.  accuracy, alignment: that number along an axis.
# both: median IA against accuracy, a box a value of the axis.
# layers: accuracy by probed layer between a random and a supervised net.  curves: NMI over cycles.
Kind = Literal["search", "features", "relation", "accuracy", "alignment", "both", "layers", "curves"]


@dataclass(frozen=True)
class Panel:
    """One data set's part of a table or figure.

    base: the baseline it follows; fixed: what differs from it. axis: the settings that vary. values: those of
    the first axis that the paper shows (others are left out where any of these was run; empty: all). grids:
    the files of jobs/ that make the runs. paper: the numbers it prints, by the value of the first axis.
    """

    name: str
    base: str
    kind: Kind
    says: str
    axis: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    grids: tuple[str, ...] = ()
    paper: Mapping[Any, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A table or figure of the paper, or one of ours (section: where the paper has it, or `ours`)."""

    name: str
    title: str
    section: str
    panels: tuple[Panel, ...]


_K, _HALT, _PCA = ("k",), ("halt_cycle",), ("pca",)
_SEARCH = ("lr", "weight_decay", "momentum", "batch_norm", "k", "pca", "batch_size")
_FMNIST_K, _SVHN_K, _CIFAR10_K = (5, 7, 10, 12, 20, 200, 500), (10, 50, 100, 500), (10, 100, 1000, 2000)
_COMPONENTS = (32, 64, 128, 256)
_DIP = "On all three data sets accuracy first falls as clustering goes on for longer, then rises again."
_PCA_SAME = "All numbers of PCA components give a very similar distribution of IA."

_ENTRIES = (
    Entry("table_1", "Table 1: the hyperparameter search", "3.2", (
        Panel("table_1a", "fmnist", "search",
              "Chosen: lr .1, weight decay .001, momentum .1, batch norm on, k 5, PCA off, batch size "
              "128 (50 cycles, no Sobel filter).",
              axis=_SEARCH, grids=("fmnist_table_1",)),
        Panel("table_1b", "svhn", "search",
              "Chosen: lr .1, weight decay .001, momentum .5, k 200, PCA 256, batch size 64 (100 "
              "cycles, Sobel and batch norm on).",
              axis=_SEARCH, grids=("svhn_table_1_stage_1", "svhn_table_1_stage_2")),
        Panel("table_1c", "cifar10", "search",
              "Chosen: k 1000, PCA 256, batch size 64; lr .1, weight decay .001 and momentum .9 were "
              "not searched.",
              axis=_SEARCH, grids=("cifar10_table_1_stage_1", "cifar10_table_1_stage_2")),
    )),
    Entry("fig_2", "Figure 2: the feature space of a random net, by t-SNE", "4.1", (
        Panel("fig_2a", "mnist", "features",
              "Random filters suit digits: similar digits fall in the same regions.",
              grids=("mnist_fig_2",)),
        Panel("fig_2b", "cifar10", "features",
              "Similar classes do not fall in wide regions, but many images of a class lie near each "
              "other in narrow ones.",
              grids=("cifar10_fig_2",)),
    )),
    Entry("fig_3", "Figure 3: Initial Alignment against accuracy", "4.1.2", (
        Panel("fig_3a", "fmnist", "relation",
              "IA between .37 and .41; no relation with accuracy: the lowest IA is good enough.",
              grids=("fmnist_ia_accuracy", "fmnist_ia")),
        Panel("fig_3b", "svhn", "relation",
              "IA between .04 and .16; accuracy rises with IA.",
              grids=("svhn_ia_accuracy", "svhn_ia")),
        Panel("fig_3c", "cifar10", "relation",
              "IA between .065 and .085; accuracy rises with IA.",
              grids=("cifar10_ia_accuracy", "cifar10_ia")),
    )),
    Entry("fig_4", "Figure 4: number of clusters against accuracy", "4.1.3", (
        Panel("fig_4a", "fmnist", "accuracy",
              "Accuracy falls with k.",
              axis=_K, values=_FMNIST_K, grids=("fmnist_k",)),
        Panel("fig_4b", "svhn", "accuracy",
              "Accuracy rises with k.",
              axis=_K, values=_SVHN_K, grids=("svhn_k",)),
        Panel("fig_4c", "cifar10", "accuracy",
              "Accuracy rises with k.",
              axis=_K, values=_CIFAR10_K, fixed={"pca": 64, "batch_size": 256}, grids=("cifar10_k",)),
    )),
    Entry("fig_5", "Figure 5: clustering halted after some cycles", "4.2", (
        Panel("fig_5a", "fmnist", "accuracy",
              f"Continuous clustering is worth about 1 point. {_DIP}",
              axis=_HALT, grids=("fmnist_halt",)),
        Panel("fig_5b", "svhn", "accuracy",
              "About 40 points lie between the halting positions, and clustering once beats 10, 30, 50 "
              f"and 100 cycles of it. {_DIP}",
              axis=_HALT, fixed={"k": 500}, grids=("svhn_halt",)),
        Panel("fig_5c", "cifar10", "accuracy",
              f"Continuous clustering is worth about 1 point. {_DIP}",
              axis=_HALT, grids=("cifar10_halt",)),
    )),
    Entry("fig_6", "Figure 6: median Initial Alignment against accuracy, by k", "4.3", (
        Panel("fig_6", "svhn", "both",
              "k 10 and 50: median IA below .08, accuracy 20 to 40. k 100 and 500: above .1, accuracy "
              "25 to 60. IA(500) - IA(100) = .04, their median accuracies differ by less than 2 points.",
              axis=_K, values=_SVHN_K, grids=("svhn_k_ia", "svhn_k")),
    )),
    Entry("table_a1", "Table A.1: halting on CIFAR10 with AlexNet", "A.2", (
        Panel("table_a1", "cifar10_alexnet", "accuracy",
              "One run of 150 cycles each. The effect of continuous clustering is minimal.",
              axis=_HALT, values=(15, 30, 50, 100), fixed={"cycles": 150},
              grids=("cifar10_alexnet_halt",), paper={15: 62.00, 30: 64.06, 50: 65.18, 100: 66.98}),
    )),
    Entry("table_a2", "Table A.2: PCA components on CIFAR10 with AlexNet", "A.3", (
        Panel("table_a2", "cifar10_alexnet", "accuracy",
              "One run each. The number of PCA components contributes little.",
              axis=_PCA, values=_COMPONENTS,
              grids=("cifar10_alexnet_pca",), paper={32: 64.97, 64: 64.80, 128: 65.50, 256: 65.47}),
    )),
    Entry("fig_a1", "Figure A.1: Initial Alignment against accuracy, CIFAR10 with AlexNet", "A.1", (
        Panel("fig_a1", "cifar10_alexnet", "relation",
              "The higher IA is, the higher the accuracy.",
              grids=("cifar10_alexnet_ia_accuracy", "cifar10_alexnet_ia")),
    )),
    Entry("fig_b1", "Figure B.1: distribution of Initial Alignment by k", "B.1", (
        Panel("fig_b1", "svhn", "alignment",
              "The more clusters, the further the distribution lies towards high IA.",
              axis=_K, values=_SVHN_K, grids=("svhn_k_ia",)),
    )),
    Entry("fig_b2", "Figure B.2: distribution of Initial Alignment by PCA components", "B.2", (
        Panel("fig_b2", "svhn", "alignment",
              f"{_PCA_SAME} (The paper shows 32, 64 and 256.)",
              axis=_PCA, values=_COMPONENTS, grids=("svhn_pca_ia",)),
    )),
    Entry("fig_b3", "Figure B.3: median Initial Alignment against accuracy, by PCA components", "B.2", (
        Panel("fig_b3", "svhn", "both",
              f"{_PCA_SAME} So do the accuracies.",
              axis=_PCA, values=_COMPONENTS, grids=("svhn_pca_ia", "svhn_pca_accuracy")),
    )),
    Entry("sobel", "Initial Alignment with a random, a true and no Sobel filter", "ours", (
        Panel("sobel_svhn", "svhn", "alignment",
              "The paper says Sobel. Its authors' code overwrites the filter with random weights.",
              axis=("sobel",), grids=("svhn_sobel",)),
        Panel("sobel_cifar10", "cifar10", "alignment",
              "The paper says Sobel. Its authors' code overwrites the filter with random weights.",
              axis=("sobel",), grids=("cifar10_sobel",)),
    )),
    Entry("ia_k", "Initial Alignment by k, where the paper does not show it", "ours", (
        Panel("ia_k_fmnist", "fmnist", "alignment",
              "Not in the paper, which shows accuracy by k (Figure 4).",
              axis=_K, values=(5, 10, 20, 200), grids=("fmnist_k_ia",)),
        Panel("ia_k_cifar10", "cifar10", "alignment",
              "Not in the paper, which shows accuracy by k (Figure 4).",
              axis=_K, values=(10, 100, 1000, 2000), grids=("cifar10_k_ia",)),
    )),
    Entry("ia_init", "Initial Alignment by the initialisation of k-means", "ours", (
        Panel("ia_init_fmnist", "fmnist", "alignment",
              "Not in the paper. Its Fashion-MNIST runs begin k-means with k-means++.",
              axis=("kmeans_init",), grids=("fmnist_ia",)),
        Panel("ia_init_svhn", "svhn", "alignment",
              "Not in the paper. Its SVHN runs begin k-means with random points.",
              axis=("kmeans_init",), grids=("svhn_ia",)),
        Panel("ia_init_cifar10", "cifar10", "alignment",
              "Not in the paper. Its CIFAR10 runs begin k-means with random points.",
              axis=("kmeans_init",), grids=("cifar10_ia",)),
    )),
    Entry("leak", "Figure 5, clean and with the labels leaked at a restart", "ours", (
        Panel("leak_fmnist", "fmnist", "accuracy",
              "Not in the paper. A restart of the authors' code after the halt trains on the labels of "
              "the data set.",
              axis=("halt_cycle", "resume_leak"), grids=("fmnist_halt", "fmnist_halt_leak")),
        Panel("leak_svhn", "svhn", "accuracy",
              "Not in the paper. A restart of the authors' code after the halt trains on the labels of "
              "the data set; the paper's point at halt 1 stands 40 points above the others.",
              axis=("halt_cycle", "resume_leak"), fixed={"k": 500}, grids=("svhn_halt", "svhn_halt_leak")),
    )),
    Entry("probe_layers", "Accuracy by probed layer, between a random net and a supervised one", "ours", (
        Panel("probe_layers_fmnist", "fmnist", "layers",
              "The paper probes conv2.",
              grids=("fmnist_bounds", "fmnist_layers")),
        Panel("probe_layers_svhn", "svhn", "layers",
              "The paper probes relu5.",
              grids=("svhn_bounds",)),
        Panel("probe_layers_cifar10", "cifar10", "layers",
              "The paper probes relu5.",
              grids=("cifar10_bounds",)),
        Panel("probe_layers_mnist", "mnist", "layers",
              "Not in the paper.",
              grids=("mnist_bounds",)),
        Panel("probe_layers_cifar10_alexnet", "cifar10_alexnet", "layers",
              "The paper probes relu5, pooled, with 30 epochs.",
              grids=("cifar10_alexnet_bounds",)),
    )),
    Entry("nmi", "Agreement over the cycles: with the cycle before, and with the truth", "3.2", (
        Panel("nmi_fmnist", "fmnist", "curves",
              "If the model converges, NMI with the cycle before rises and settles; if it learns, so "
              "does NMI with the truth.",
              grids=("fmnist_ia_accuracy",)),
        Panel("nmi_svhn", "svhn", "curves",
              "If the model converges, NMI with the cycle before rises and settles; if it learns, so "
              "does NMI with the truth.",
              grids=("svhn_ia_accuracy",)),
        Panel("nmi_svhn_k500", "svhn", "curves",
              "The never halted run of Figure 5b. The paper sees accuracy fall and rise again along the halts.",
              fixed={"k": 500}, grids=("svhn_halt",)),
        Panel("nmi_cifar10", "cifar10", "curves",
              "If the model converges, NMI with the cycle before rises and settles; if it learns, so "
              "does NMI with the truth.",
              grids=("cifar10_ia_accuracy",)),
    )),
    Entry("mnist_ia", "Initial Alignment of MNIST, by the initialisation of k-means", "ours", (
        Panel("mnist_ia", "mnist", "alignment",
              "Not in the paper. A dump of the authors' own job (100 seeds) has median .407, quartiles "
              ".386 and .433, range .306 to .501.",
              axis=("kmeans_init",), grids=("mnist_ia",)),
    )),
)  # fmt: skip

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
PANELS: dict[str, Panel] = {panel.name: panel for entry in _ENTRIES for panel in entry.panels}

# Data sets as people call them; a copy of one's own keeps its own name.
TITLES = {"fmnist": "Fashion-MNIST", "mnist": "MNIST", "svhn": "SVHN", "cifar10": "CIFAR10"}
