"""Makes the net and the two views of the images from the settings of a run."""

from __future__ import annotations

from torch import nn

from dc_hpc.algorithm.nets import NET_BUILDERS
from dc_hpc.algorithm.views import Views
from dc_hpc.config.run_config import RunConfig


def build_trunk(config: RunConfig) -> nn.Sequential:
    """The net of a run, its filters not drawn yet."""
    return NET_BUILDERS[config.net](batch_norm=config.batch_norm, sobel=config.sobel)


def views_of(config: RunConfig) -> Views:
    """The clustering view and the training view of a run's images."""
    return Views(config.resize, config.crop, config.mean, config.std, config.training_view)
