"""Declares every metric of a run once: its name, type, unit and meaning.

The writer of metrics.csv, its reader, the columns of the report's tables and their types are derived from these
declarations. A file that lacks a column, because it is older than the metric, reads as missing values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# flag: True or False. The unit of an agreement (NMI, AMI, a share) is "", it has no dimension.
DType = Literal["int", "float", "flag", "text"]


@dataclass(frozen=True)
class Metric:
    """One column: its name in files and tables, the type of its values, their unit and one line of meaning."""

    name: str
    dtype: DType
    unit: str
    meaning: str


# The columns of metrics.csv, a row a cycle.
CYCLE_METRICS = (
    Metric("cycle", "int", "", "number of the cycle, from 0"),
    Metric("reassign", "flag", "", "whether this cycle clustered, and did not keep the labels of the cycle before"),
    Metric("nmi_prev", "float", "", "NMI with the pseudo-labels of the cycle before"),
    Metric("nmi_true", "float", "", "NMI of the pseudo-labels with the true labels"),
    Metric("ami_prev", "float", "", "AMI with the pseudo-labels of the cycle before"),
    Metric("ami_true", "float", "", "AMI of the pseudo-labels with the true labels"),
    Metric("nmi_true_chance", "float", "", "NMI with the true labels to expect of shuffled pseudo-labels"),
    Metric("label_entropy", "float", "nats", "entropy of the true labels in a cluster, mean over the clusters"),
    Metric("clusters_empty", "int", "clusters", "clusters without an image"),
    Metric("cluster_size_min", "int", "images", "size of the smallest cluster that is not empty"),
    Metric("cluster_size_median", "float", "images", "median size of the clusters that are not empty"),
    Metric("cluster_size_max", "int", "images", "size of the largest cluster"),
    Metric("effective_clusters", "float", "clusters", "exp of the entropy of the cluster sizes"),
    Metric("inertia", "float", "", "sum of the squared distances of the clustered features to their centroids"),
    Metric("inertia_per_point", "float", "", "inertia divided by the number of images; features have the norm 1"),
    Metric("effective_rank", "float", "", "exp of the entropy of the PCA spectrum of the features"),
    Metric("spectrum_alpha", "float", "", "decay of the PCA spectrum: minus the slope of log variance by log rank"),
    Metric("components_alive", "int", "", "components of the PCA that have variance, of those kept; none without PCA"),
    Metric("silhouette", "float", "", "mean silhouette of a fixed sample of 1,000 images, by the clustered features"),
    Metric("nmi_brightness", "float", "", "NMI of the pseudo-labels with the deciles of the images' mean brightness"),
    Metric("labels_cycle", "int", "", "cycle whose labels this cycle trains on, where a halt_rule chooses them"),
    Metric("halted", "flag", "", "whether the halt_rule has halted the clustering by the end of this cycle"),
    Metric("loss", "float", "nats", "cross-entropy with the pseudo-labels, mean over the cycle's training"),
)  # fmt: skip

# The numbers of result.json. A run has accuracy_LAYER beside them for each probed layer, in percent.
RESULTS = (
    Metric("ia", "float", "", "Initial Alignment: NMI of the first clustering with the true labels (section 4.1.1)"),
    Metric("ia_ami", "float", "", "AMI of the first clustering with the true labels"),
    Metric("ia_chance", "float", "", "Initial Alignment to expect of shuffled pseudo-labels"),
    Metric("accuracy", "float", "%", "test accuracy of the probe's last epoch, at the layer that the paper probes"),
    Metric("accuracy_best", "float", "%", "test accuracy of the probe's best epoch, at the same layer"),
    Metric("accuracy_batch_mean", "float", "%", "mean over test batches, as the authors compute their accuracy"),
    Metric("test_images", "int", "images", "number of test images that the accuracies are of"),
    Metric("probe_loss", "float", "nats", "training loss of the probe's last epoch, at the same layer"),
    Metric("clusterings", "int", "", "number of clusterings"),
    Metric("epochs", "int", "", "number of cycles that trained"),
    Metric("nmi_true_last", "float", "", "nmi_true of the last clustering"),
    Metric("ami_true_last", "float", "", "ami_true of the last clustering"),
    Metric("nmi_prev_last", "float", "", "nmi_prev of the last clustering"),
    Metric("ami_prev_last", "float", "", "ami_prev of the last clustering"),
    Metric("label_entropy_last", "float", "nats", "label_entropy of the last clustering"),
    Metric("clusters_empty_last", "int", "clusters", "clusters_empty of the last clustering"),
    Metric("loss_last", "float", "nats", "loss of the last cycle that trained"),
    Metric("halting_cycle", "int", "", "cycle of the last clustering, where the halt_rule has halted it"),
    Metric("labels_cycle_last", "int", "", "labels_cycle of the last cycle, where a halt_rule chooses the labels"),
)  # fmt: skip

# What else result.json holds. Aggregate reads trunk_sha256 of it.
RESULT_RECORD = (
    Metric("format", "int", "", "version of the file's form"),
    Metric("run_id", "text", "", "name of the run"),
    Metric("metrics_sha256", "text", "", "SHA-256 of metrics.csv"),
    Metric("trunk_sha256", "text", "", "SHA-256 of the trained weights; missing where the run trains nothing"),
    Metric("probe_diverged", "text", "", "layers whose probe diverged and has no accuracy, where there is one"),
    Metric("predictions_sha256", "text", "", "SHA-256 of predictions.h5; missing where the run probes nothing"),
    Metric("sha256", "text", "", "SHA-256 of the other keys"),
)


# The data sets of predictions.h5, whole numbers (n,) in the order of the test images.
PREDICTIONS = (
    Metric("LAYER.last", "int", "", "class that the probe of a layer gives each test image after its last epoch"),
    Metric("LAYER.best", "int", "", "class that it gives each test image after its best epoch, the first of equals"),
    Metric("labels", "int", "", "true class of each test image"),
)


def names(metrics: tuple[Metric, ...]) -> tuple[str, ...]:
    """Their names, in order."""
    return tuple(one.name for one in metrics)
