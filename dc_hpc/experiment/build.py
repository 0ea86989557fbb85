"""Makes the net and the two views of the images from the settings of a run."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from dc_hpc.algorithm.backends.determinism import same_generators
from dc_hpc.algorithm.nets import NET_BUILDERS, initialise
from dc_hpc.algorithm.probe import activations, check_layers
from dc_hpc.algorithm.randomness import key
from dc_hpc.algorithm.views import ImageViews, Views
from dc_hpc.config.own_nets import is_own_net, read_source, source_path
from dc_hpc.config.run_config import RunConfig
from dc_hpc.errors import InputError
from dc_hpc.storage import feature_dumps


def build_trunk(config: RunConfig, *, own_nets: str | None = None) -> nn.Module:
    """The net of a run, its filters not drawn yet.

    own_nets: the folder of the files of a person's own nets, which are executed; None where that is not allowed.
    InputError: it is not allowed; the file is missing or not the one that the run was made for; what the function
    makes is no net, or has no layer that is to be probed.
    """
    if not is_own_net(config.net):
        return NET_BUILDERS[config.net](batch_norm=config.batch_norm, sobel=config.sobel)
    if own_nets is None:
        raise InputError(
            f"net {config.net} is Python code of your own, which was not allowed to run; allow it with "
            "submit --allow-own-nets, or in a notebook with run.trunk(own_nets=FOLDER)"
        )
    name = config.net.partition(":")[2]
    module = _executed(config, Path(own_nets))
    if not callable(getattr(module, name, None)):
        raise InputError(f"net {config.net}: {source_path(config.net, Path(own_nets))} has no function {name}")
    with same_generators(torch.device("cpu")):
        torch.default_generator.manual_seed(key(config.seed, 0, "init"))
        trunk = getattr(module, name)()
        if not isinstance(trunk, nn.Module):
            raise InputError(
                f"net {config.net}: {name}() returns a {type(trunk).__name__}; it must return an nn.Module"
            )
        try:
            check_layers(trunk, config.probe)
            _check_probe(getattr(module, name)(), config)
        except ValueError as error:
            raise InputError(f"net {config.net}: probe {error}") from None
    return trunk


def _check_probe(trunk: nn.Module, config: RunConfig) -> None:
    """ValueError before the training: a probed layer has no row for each image, or is smaller than the average pool.

    trunk: another instance of the net, because its own forward pass may change it.
    """
    black = torch.zeros(2, len(config.mean), config.crop, config.crop, dtype=torch.uint8)
    views = Views(config.crop, config.crop, config.mean, config.std, "none")
    activations(trunk, ImageViews(black, views), config.probe, average_pool=config.probe_average_pool)


def fresh_trunk(config: RunConfig, *, own_nets: str | None = None) -> nn.Module:
    """The net of a run with its random filters, on the CPU; errors as `build_trunk`."""
    trunk = build_trunk(config, own_nets=own_nets)
    initialise(trunk, seed=config.seed, draws=config.draws)
    return trunk


def finished_trunk(directory: Path, config: RunConfig, *, own_nets: str | None = None) -> nn.Module:
    """The net of a finished run with its weights, in eval mode, on the CPU; errors as `build_trunk`.

    The net of a run that trains nothing has its random filters.
    """
    if config.cycles == 0:
        return fresh_trunk(config, own_nets=own_nets).eval()
    trunk = build_trunk(config, own_nets=own_nets)
    weights = feature_dumps.read_trunk(directory)
    trunk.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    return trunk.eval()


def views_of(config: RunConfig) -> Views:
    """The clustering view and the training view of a run's images."""
    return Views(
        config.resize,
        config.crop,
        config.mean,
        config.std,
        config.training_view,
        per_image_standardization=config.per_image_standardization,
    )


def _executed(config: RunConfig, folder: Path) -> ModuleType:
    """The module of a person's own net. The bytes that are executed are those whose digest the run names."""
    path, source = source_path(config.net, folder), read_source(config.net, folder)
    digest = hashlib.sha256(source).hexdigest()
    if digest != config.net_digest:
        raise InputError(
            f"net {config.net}: {path} is not the file that this run was made for; put the old one back, or submit the "
            "grid again to make new runs"
        )
    name = f"dc_hpc_own_net_{digest}"  # no name of another module, whatever the file is called
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module  # dataclasses look for their module there
        try:
            exec(compile(source, str(path), "exec"), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
