"""DeepCluster and how it is measured: pure computation on tensors, usable without the rest of the package."""

from dc_hpc.algorithm.agreement import agreement, cluster_health, label_entropy
from dc_hpc.algorithm.clustering import kmeans, reduce_features
from dc_hpc.algorithm.deepcluster import Cycle, State, deep_cluster, extract_features, init_state
from dc_hpc.algorithm.nets import alexnet, alexnet_small, lenet5
from dc_hpc.algorithm.probe import activations, linear_probe
from dc_hpc.algorithm.views import ImageViews, Views

__all__ = [
    "Cycle", "ImageViews", "State", "Views", "activations", "agreement", "alexnet", "alexnet_small", "cluster_health",
    "deep_cluster", "extract_features", "init_state", "kmeans", "label_entropy", "lenet5", "linear_probe", "reduce_features",
]  # fmt: skip
