"""Builds the stages of one network by name."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from dc_hpc.benchmark.stages import clustering, files, images
from dc_hpc.benchmark.stages.images import NetworkFixture
from dc_hpc.benchmark.stages.sizes import Setting
from dc_hpc.benchmark.timing import Stage

_OF_IMAGES = {
    "views": images.views,
    "sampling": images.sampling,
    "forward": images.forward,
    "train": images.train,
    "probe": images.probe,
}
_OF_POINTS = {
    "pca": clustering.pca,
    "kmeans_init": clustering.kmeans_init,
    "kmeans_torch": clustering.kmeans_torch,
    "kmeans_faiss": clustering.kmeans_faiss,
    "kmeans_sklearn": clustering.kmeans_sklearn,
    "agreement": clustering.agreement_stage,
}


class StageBuilder:
    """The stages of one network at one size on one device. folder: where the stages that write put their files."""

    def __init__(self, setting: Setting, device: str, folder: Path):
        self.setting, self.device, self.folder = setting, device, folder

    @cached_property
    def fixture(self) -> NetworkFixture:
        """What the stages of images share; made when the first of them is built."""
        return NetworkFixture(self.setting, self.device)

    def build(self, name: str) -> Stage:
        """One of constants.STAGES, ready to be timed. Raises timing.InvalidTiming, see the stages."""
        if name in _OF_IMAGES:
            return _OF_IMAGES[name](self.fixture)
        if name in _OF_POINTS:
            return _OF_POINTS[name](self.setting, self.device)
        if name == "checkpoint":
            return files.checkpoint(self.fixture, self.folder)
        return files.dump(self.setting, self.folder)
