"""Every table and figure of the paper, and the experiments beside it, as data: which runs, which grids, what it says.

An Entry is a table or figure under the paper's name; its panels are its parts, one for each data set. The runs of a
panel follow its baseline. Protocol, cycles, Sobel filter and probe may differ, so that a small trial shows too, as a
group of its own. The numbers in `paper` and the ranges are those that the paper prints; of its figures only its words
are known.
"""

from __future__ import annotations

from dc_hpc.report.panels.accuracy import AccuracyPanel
from dc_hpc.report.panels.alignment import AlignmentPanel
from dc_hpc.report.panels.both import BothPanel
from dc_hpc.report.panels.curves import CurvesPanel
from dc_hpc.report.panels.features import FeaturesPanel
from dc_hpc.report.panels.findings.kmeans_share import KmeansSharePanel
from dc_hpc.report.panels.findings.luminance import LuminancePanel
from dc_hpc.report.panels.findings.published import MNIST_IA
from dc_hpc.report.panels.findings.seed_by_seed import SeedBySeedPanel
from dc_hpc.report.panels.findings.valley import ValleyPanel
from dc_hpc.report.panels.layers import LayersPanel
from dc_hpc.report.panels.panel import Band, Entry, Panel, entry
from dc_hpc.report.panels.relation import RelationPanel
from dc_hpc.report.panels.search import SearchPanel
from dc_hpc.report.questions.catalog import QUESTIONS

_K, _HALT, _PCA = ("k",), ("halt_cycle",), ("pca",)
_SEARCH = ("lr", "weight_decay", "momentum", "batch_norm", "k", "pca", "batch_size")
_FMNIST_K, _SVHN_K, _CIFAR10_K = (5, 7, 10, 12, 20, 200, 500), (10, 50, 100, 500), (10, 100, 1000, 2000)
_COMPONENTS = (32, 64, 128, 256)
_DIP = "On all three data sets accuracy first falls as clustering goes on for longer, then rises again."
_PCA_SAME = "All numbers of PCA components give a very similar distribution of IA."

_INF = float("inf")
_IA_BY_K = {
    10: Band(-_INF, 0.08), 50: Band(-_INF, 0.08), 100: Band(0.1, _INF), 500: Band(0.1, _INF),
}  # fmt: skip
_ACCURACY_BY_K = {10: Band(20, 40), 50: Band(20, 40), 100: Band(25, 60), 500: Band(25, 60)}

_ENTRIES = (
    entry("table_1", "Table 1: the hyperparameter search", "3.2", (
        SearchPanel("table_1a", "fmnist",
              "Chosen: lr .1, weight decay .001, momentum .1, batch norm on, k 5, PCA off, batch size "
              "128 (50 cycles, no Sobel filter).",
              axis=_SEARCH, grids=("fmnist_table_1",)),
        SearchPanel("table_1b", "svhn",
              "Chosen: lr .1, weight decay .001, momentum .5, k 200, PCA 256, batch size 64 (100 "
              "cycles, Sobel and batch norm on).",
              axis=_SEARCH, fixed={"resize": 42}, grids=("svhn_table_1_stage_1", "svhn_table_1_stage_2")),
        SearchPanel("table_1c", "cifar10",
              "Chosen: k 1000, PCA 256, batch size 64; lr .1, weight decay .001 and momentum .9 were "
              "not searched.",
              axis=_SEARCH, grids=("cifar10_table_1_stage_1", "cifar10_table_1_stage_2")),
    )),
    entry("fig_2", "Figure 2: the feature space of a random net, by t-SNE", "4.1", (
        FeaturesPanel("fig_2a", "mnist",
              "Random filters suit digits: similar digits fall in the same regions.",
              grids=("mnist_fig_2",)),
        FeaturesPanel("fig_2b", "cifar10",
              "Similar classes do not fall in wide regions, but many images of a class lie near each "
              "other in narrow ones.",
              grids=("cifar10_fig_2",)),
    )),
    entry("fig_3", "Figure 3: Initial Alignment against accuracy", "4.1.2", (
        RelationPanel("fig_3a", "fmnist",
              "IA between .37 and .41; no relation with accuracy: the lowest IA is good enough. (To support that there "
              "is no relation, a rho within .3 of 0, takes 44 runs at least.)",
              grids=("fmnist_ia_accuracy", "fmnist_ia"), ia_range=Band(0.37, 0.41)),
        RelationPanel("fig_3b", "svhn",
              "IA between .04 and .16; accuracy rises with IA.",
              grids=("svhn_ia_accuracy", "svhn_ia"), ia_range=Band(0.04, 0.16)),
        RelationPanel("fig_3c", "cifar10",
              "IA between .065 and .085; accuracy rises with IA.",
              grids=("cifar10_ia_accuracy", "cifar10_ia"), ia_range=Band(0.065, 0.085)),
    )),
    entry("fig_4", "Figure 4: number of clusters against accuracy", "4.1.3", (
        AccuracyPanel("fig_4a", "fmnist",
              "Accuracy falls with k.",
              axis=_K, values=_FMNIST_K, grids=("fmnist_k",)),
        AccuracyPanel("fig_4b", "svhn",
              "Accuracy rises with k.",
              axis=_K, values=_SVHN_K, grids=("svhn_k",)),
        AccuracyPanel("fig_4c", "cifar10",
              "Accuracy rises with k.",
              axis=_K, values=_CIFAR10_K, fixed={"pca": 64, "batch_size": 256}, grids=("cifar10_k",)),
    )),
    entry("fig_5", "Figure 5: clustering halted after some cycles", "4.2", (
        AccuracyPanel("fig_5a", "fmnist",
              f"Continuous clustering improved the accuracy, approximately one degree. {_DIP}",
              axis=_HALT, grids=("fmnist_halt",)),
        AccuracyPanel("fig_5b", "svhn",
              "An effect of approximately 40 degrees in accuracy; clustering once performed better than clustering for "
              f"10, 30, 50, and 100 cycles. {_DIP}",
              axis=_HALT, fixed={"k": 500}, grids=("svhn_halt",)),
        AccuracyPanel("fig_5c", "cifar10",
              f"Continuous clustering improved the accuracy, approximately one degree. {_DIP}",
              axis=_HALT, grids=("cifar10_halt",)),
    )),
    entry("fig_6", "Figure 6: median Initial Alignment against accuracy, by k", "4.3", (
        BothPanel("fig_6", "svhn",
              "k 10 and 50: median IA below .08, accuracy 20 to 40. k 100 and 500: above .1, accuracy "
              "25 to 60. IA(500) - IA(100) = .04, their median accuracies differ by less than 2 points.",
              axis=_K, values=_SVHN_K, grids=("svhn_k_ia", "svhn_k"), ia_ranges=_IA_BY_K,
              accuracy_ranges=_ACCURACY_BY_K),
    )),
    entry("table_a1", "Table A.1: halting on CIFAR10 with AlexNet", "A.2", (
        AccuracyPanel("table_a1", "cifar10_alexnet",
              "One run of 150 cycles each. The effect of continuous clustering is minimal.",
              axis=_HALT, values=(15, 30, 50, 100), fixed={"cycles": 150},
              grids=("cifar10_alexnet_halt",), paper={15: 62.00, 30: 64.06, 50: 65.18, 100: 66.98}),
    )),
    entry("table_a2", "Table A.2: PCA components on CIFAR10 with AlexNet", "A.3", (
        AccuracyPanel("table_a2", "cifar10_alexnet",
              "One run each. The number of PCA components contributes little.",
              axis=_PCA, values=_COMPONENTS,
              grids=("cifar10_alexnet_pca",), paper={32: 64.97, 64: 64.80, 128: 65.50, 256: 65.47}),
    )),
    entry("fig_a1", "Figure A.1: Initial Alignment against accuracy, CIFAR10 with AlexNet", "A.1", (
        RelationPanel("fig_a1", "cifar10_alexnet",
              "The higher IA is, the higher the accuracy. (Its job clusters without PCA, and measures IA with ten "
              "starts of k-means.)",
              fixed={"pca": None}, free=("kmeans_n_init", "kmeans_iterations"),
              grids=("cifar10_alexnet_ia_accuracy", "cifar10_alexnet_ia")),
    )),
    entry("fig_b1", "Figure B.1: distribution of Initial Alignment by k", "B.1", (
        AlignmentPanel("fig_b1", "svhn",
              "The more clusters, the further the distribution lies towards high IA. (Section 4.3: medians below "
              ".08 at k 10 and 50, above .1 at k 100 and 500.)",
              axis=_K, values=_SVHN_K, grids=("svhn_k_ia",), ia_ranges=_IA_BY_K),
    )),
    entry("fig_b2", "Figure B.2: distribution of Initial Alignment by PCA components", "B.2", (
        AlignmentPanel("fig_b2", "svhn",
              f"{_PCA_SAME} (The paper shows 32, 64 and 256.)",
              axis=_PCA, values=_COMPONENTS, grids=("svhn_pca_ia",)),
    )),
    entry("fig_b3", "Figure B.3: median Initial Alignment against accuracy, by PCA components", "B.2", (
        BothPanel("fig_b3", "svhn",
              f"{_PCA_SAME} So do the accuracies.",
              axis=_PCA, values=_COMPONENTS, grids=("svhn_pca_ia", "svhn_pca_accuracy")),
    )),
    entry("sobel", "Initial Alignment with a random, a true and no Sobel filter", "ours", (
        AlignmentPanel("sobel_svhn", "svhn",
              "The paper says Sobel. Its authors' code overwrites the filter with random weights.",
              axis=("sobel",), grids=("svhn_sobel",)),
        AlignmentPanel("sobel_cifar10", "cifar10",
              "The paper says Sobel. Its authors' code overwrites the filter with random weights.",
              axis=("sobel",), grids=("cifar10_sobel",)),
    ), short="Sobel"),
    entry("ia_k", "Initial Alignment by k, where the paper does not show it", "ours", (
        AlignmentPanel("ia_k_fmnist", "fmnist",
              "Not in the paper, which shows accuracy by k (Figure 4).",
              axis=_K, values=(5, 10, 20, 200), grids=("fmnist_k_ia",)),
        AlignmentPanel("ia_k_cifar10", "cifar10",
              "Not in the paper, which shows accuracy by k (Figure 4).",
              axis=_K, values=(10, 100, 1000, 2000), grids=("cifar10_k_ia",)),
    ), short="IA by k"),
    entry("ia_init", "Initial Alignment by the initialisation of k-means", "ours", (
        AlignmentPanel("ia_init_fmnist", "fmnist",
              "Not in the paper. Its Fashion-MNIST runs begin k-means with k-means++.",
              axis=("kmeans_init",), grids=("fmnist_ia",)),
        AlignmentPanel("ia_init_svhn", "svhn",
              "Not in the paper. Its SVHN runs begin k-means with random points.",
              axis=("kmeans_init",), grids=("svhn_ia",)),
        AlignmentPanel("ia_init_cifar10", "cifar10",
              "Not in the paper. Its CIFAR10 runs begin k-means with random points.",
              axis=("kmeans_init",), grids=("cifar10_ia",)),
    ), short="IA by k-means init"),
    entry("luminance", "What the random grey filter keeps, and Initial Alignment", "ours", (
        LuminancePanel("luminance_svhn", "svhn",
              "Not in the paper. The authors' code overwrites the Sobel layer, so that three random weights turn "
              "colours into grey.",
              axis=_K, grids=("svhn_sobel", "svhn_k_ia")),
        LuminancePanel("luminance_cifar10", "cifar10",
              "Not in the paper. The authors' code overwrites the Sobel layer, so that three random weights turn "
              "colours into grey.",
              axis=_K, grids=("cifar10_sobel", "cifar10_k_ia")),
    ), short="Grey filter"),
    entry("kmeans_share", "Initial Alignment of the same nets, clustered twice", "ours", (
        KmeansSharePanel("kmeans_share_fmnist", "fmnist",
              "The paper takes the spread of IA over seeds for that of the random filters.",
              axis=("kmeans_init",), grids=("fmnist_ia",)),
        KmeansSharePanel("kmeans_share_svhn", "svhn",
              "The paper takes the spread of IA over seeds for that of the random filters.",
              axis=("kmeans_init",), grids=("svhn_ia",)),
        KmeansSharePanel("kmeans_share_cifar10", "cifar10",
              "The paper takes the spread of IA over seeds for that of the random filters.",
              axis=("kmeans_init",), grids=("cifar10_ia",)),
    ), short="k-means twice"),
    entry("valley", "The valley: never-halted runs, cycle by cycle", "ours", (
        ValleyPanel("valley_svhn", "svhn",
              "Not in the paper, which sees accuracy fall and rise again along the halts.",
              grids=("svhn_ia_accuracy",)),
        ValleyPanel("valley_svhn_k500", "svhn",
              "Not in the paper, which sees accuracy fall and rise again along the halts.",
              fixed={"k": 500}, grids=("svhn_halt",)),
        ValleyPanel("valley_cifar10", "cifar10",
              "Not in the paper, which sees accuracy fall and rise again along the halts.",
              grids=("cifar10_ia_accuracy",)),
    ), short="The valley"),
    entry("leak", "Figure 5, clean and with the labels leaked at a restart", "ours", (
        AccuracyPanel("leak_fmnist", "fmnist",
              "Not in the paper. A restart of the authors' code after the halt trains on the labels of "
              "the data set.",
              axis=("halt_cycle", "resume_leak"), grids=("fmnist_halt", "fmnist_halt_leak")),
        AccuracyPanel("leak_svhn", "svhn",
              "Not in the paper. A restart of the authors' code after the halt trains on the labels of "
              "the data set; the paper's point at halt 1 lies 40 points above the others.",
              axis=("halt_cycle", "resume_leak"), fixed={"k": 500}, grids=("svhn_halt", "svhn_halt_leak")),
    ), short="Leaked labels"),
    entry("probe_layers", "Accuracy by probed layer, between a random net and a supervised one", "ours", (
        LayersPanel("probe_layers_fmnist", "fmnist",
              "The paper probes conv2.",
              grids=("fmnist_bounds", "fmnist_layers")),
        LayersPanel("probe_layers_svhn", "svhn",
              "The paper probes relu5.",
              grids=("svhn_bounds",)),
        LayersPanel("probe_layers_cifar10", "cifar10",
              "The paper probes relu5.",
              grids=("cifar10_bounds",)),
        LayersPanel("probe_layers_mnist", "mnist",
              "Not in the paper.",
              grids=("mnist_bounds",)),
        LayersPanel("probe_layers_cifar10_alexnet", "cifar10_alexnet",
              "The paper probes relu5, pooled, with 30 epochs.",
              grids=("cifar10_alexnet_bounds",)),
    ), short="Probed layers"),
    entry("nmi", "Agreement over the cycles: with the cycle before, and with the truth", "3.2", (
        CurvesPanel("nmi_fmnist", "fmnist",
              "If the model converges, NMI with the cycle before rises and settles; if it learns, so "
              "does NMI with the truth.",
              grids=("fmnist_ia_accuracy",)),
        CurvesPanel("nmi_svhn", "svhn",
              "If the model converges, NMI with the cycle before rises and settles; if it learns, so "
              "does NMI with the truth.",
              grids=("svhn_ia_accuracy",)),
        CurvesPanel("nmi_svhn_k500", "svhn",
              "The never halted run of Figure 5b. The paper sees accuracy fall and rise again along the halts.",
              fixed={"k": 500}, grids=("svhn_halt",)),
        CurvesPanel("nmi_cifar10", "cifar10",
              "If the model converges, NMI with the cycle before rises and settles; if it learns, so "
              "does NMI with the truth.",
              grids=("cifar10_ia_accuracy",)),
    ), short="NMI over cycles"),
    entry("mnist_ia", "Initial Alignment of MNIST, by the initialisation of k-means", "ours", (
        AlignmentPanel("mnist_ia", "mnist",
              "Not in the paper. A dump of the authors' own job (100 seeds) has median .407, quartiles "
              ".386 and .433, range .306 to .501.",
              axis=("kmeans_init",), grids=("mnist_ia",), ia_range=Band(0.386, 0.433),
              source="quartiles of the authors' own job"),
    ), short="MNIST"),
    entry("mnist_authors", "Initial Alignment of MNIST with the authors' draws, seed by seed", "ours", (
        SeedBySeedPanel("mnist_authors", "mnist",
              "Not in the paper. Its first author published these numbers of 100 seeds beside his code, the only ones "
              "of single runs.",
              fixed={"draws": "authors"}, grids=("mnist_ia_authors",), published=MNIST_IA,
              source="published by the authors"),
    ), short="MNIST, seed by seed"),
    entry("draws", "Initial Alignment with our draws and with the authors'", "ours", (
        AlignmentPanel("draws_fmnist", "fmnist",
              "The seeds of Figure 3a with the nets that the authors' code draws for them. Figure 3a has IA between "
              ".37 and .41.",
              axis=("draws",), grids=("fmnist_ia_authors",), ia_range=Band(0.37, 0.41)),
        AlignmentPanel("draws_svhn", "svhn",
              "The seeds of Figure 3b with the nets that the authors' code draws for them. Figure 3b has IA between "
              ".04 and .16.",
              axis=("draws",), grids=("svhn_ia_authors",), ia_range=Band(0.04, 0.16)),
        AlignmentPanel("draws_cifar10", "cifar10",
              "The seeds of Figure 3c with the nets that the authors' code draws for them. Figure 3c has IA between "
              ".065 and .085.",
              axis=("draws",), grids=("cifar10_ia_authors",), ia_range=Band(0.065, 0.085)),
    ), short="Authors' draws"),
    *QUESTIONS,
)  # fmt: skip

ENTRIES: dict[str, Entry] = {found.name: found for found in _ENTRIES}
PANELS: dict[str, Panel] = {panel.name: panel for found in ENTRIES.values() for panel in found.panels}
