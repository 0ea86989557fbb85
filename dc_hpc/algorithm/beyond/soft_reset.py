"""Soft resets: at a clustering the weights move partly towards fresh ones.

"Breaking the Reclustering Barrier" (arXiv 2411.02275) resets the encoder so before each reclustering. Like its code,
this leaves batch norm and the last layer, whose outputs are clustered, as they are. Before a last clustering that no
training follows, as in the authors' program, there is no reset: nothing would mend the net before it is probed.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from dc_hpc.algorithm.nets import initialise
from dc_hpc.algorithm.randomness import key


@torch.no_grad()
def reset_softly(trunk: nn.Module, fraction: float, *, seed: int, cycle: int) -> None:
    """Make each weight w of the reset layers (1 - fraction) w + fraction w_fresh, in place.

    w_fresh: drawn by `nets.initialise`, from a key of this seed and cycle alone. The reset layers are the convolutions
    and linear layers that train, without the last of them all (`reset_layers`). Everything else stays: batch norm with
    its running statistics, the last layer, frozen layers, and the momentum of the optimizer. The paper sets the
    momentum of the centroids to zero; here their place is taken by the head, which is new in each cycle anyway.
    Raises ValueError: fraction outside 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"soft_reset {fraction} must be between 0 and 1")
    fresh = copy.deepcopy(trunk)
    initialise(fresh, seed=key(seed, cycle, "soft_reset"))
    drawn = dict(fresh.named_parameters())
    for name in reset_layers(trunk):
        layer = trunk.get_submodule(name)
        for own, parameter in layer.named_parameters(recurse=False):
            if parameter.requires_grad:
                parameter.lerp_(drawn[f"{name}.{own}" if name else own], fraction)


def reset_layers(trunk: nn.Module) -> list[str]:
    """The names of the layers that a soft reset changes, in the order of the net."""
    layers = [
        name
        for name, layer in trunk.named_modules()
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear)
        and any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    ]
    return layers[:-1]
