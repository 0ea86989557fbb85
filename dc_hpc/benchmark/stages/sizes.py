"""How large the input of each stage is, and the settings of the paper's baselines that belong to a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dc_hpc.algorithm.net_specs import NET_SPECS, NetSpec
from dc_hpc.config.baselines import BASELINES

BASELINE_OF = {"lenet5": "fmnist", "alexnet_small": "cifar10", "alexnet": "cifar10_alexnet"}
IMAGE_SIDE = {"lenet5": 28, "alexnet_small": 32, "alexnet": 32}
PCA_OF_LENET5 = 40  # its baseline has none; this is the smaller one of its grid search (Table 1)


@dataclass(frozen=True)
class Size:
    """The input of every stage of one network.

    images: of views, sampling, forward, training. points: that are reduced and clustered. probe_images, probe_epochs:
    of the probe, which is tested on a fifth as many images. k: clusters. iterations: of k-means. budget: seconds of a
    stage after which no further round begins. max_features: points with more features are cut to this. momentum:
    whether the checkpoint holds it, as it does from the first training on.
    """

    images: int
    points: int
    probe_images: int
    probe_epochs: int
    k: int
    iterations: int
    budget: float
    max_features: int = 2048
    momentum: bool = True


_QUICK = {
    "lenet5": Size(256, 400, 128, 2, 5, 2, 0.05, 256, False),
    "alexnet_small": Size(96, 1100, 64, 2, 20, 2, 0.05, 256, False),
    "alexnet": Size(4, 300, 4, 1, 10, 1, 0.05, 256, False),
}
_DEFAULT = {
    "lenet5": Size(10_000, 20_000, 4_000, 20, 5, 5, 3),
    "alexnet_small": Size(1_600, 10_000, 500, 20, 1000, 5, 3),
    "alexnet": Size(32, 3_000, 16, 5, 200, 5, 3, 1024),
}
# The data sets of the paper: Fashion-MNIST has 60,000 images; CIFAR10 has 50,000 and is timed with 60,000 too.
_FULL = {
    "lenet5": Size(60_000, 60_000, 60_000, 20, 5, 20, 10),
    "alexnet_small": Size(60_000, 60_000, 10_000, 20, 1000, 20, 10),
    "alexnet": Size(512, 60_000, 256, 5, 2000, 5, 10),
}
_ALL = {"quick": _QUICK, "default": _DEFAULT, "full": _FULL}


@dataclass(frozen=True)
class Setting:
    """A network at a size. baseline: its settings in the paper. spec: its input and features."""

    network: str
    size: Size
    baseline: dict[str, Any]
    spec: NetSpec
    image_side: int

    @property
    def features(self) -> int:
        """D, the dimension of the points that are reduced."""
        return min(self.spec.features, self.size.max_features)

    @property
    def pca(self) -> int:
        """The number of components to reduce to, at most half the number of points."""
        components: int = self.baseline["pca"] or PCA_OF_LENET5
        return min(components, self.size.points // 2)

    @property
    def batch_size(self) -> int:
        """The batch size of training: the baseline's, or the number of images where that is smaller."""
        batch_size: int = self.baseline["batch_size"]
        return min(batch_size, self.size.images)


def setting(network: str, size: str) -> Setting:
    """The setting of a network at one of constants.SIZES."""
    baseline = BASELINES[BASELINE_OF[network]]
    return Setting(network, _ALL[size][network], baseline, NET_SPECS[network], IMAGE_SIDE[network])
