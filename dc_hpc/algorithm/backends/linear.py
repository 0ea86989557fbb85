"""Large Linear layers in training on a CPU: the gradient of their weight is never written, SGD makes it as it goes.

The gradient of a weight of 1024 x 1024 is 4 MB that would be written, read once by SGD, and forgotten. The layer leaves
its optimizer the two matrices that it is the product of; the optimizer computes it block by block where it moves the
weight (panel_products.descend).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.backends.sgd import SGD

_FEWEST_INPUTS, _SMALLEST = 128, 100_000  # of layers with fewer inputs or weights there is nothing to gain


def descending(layers: nn.Sequential, optimizers: Sequence[SGD]) -> nn.Sequential:
    """The same layers, of which the large Linear ones leave the gradient of their weight to the optimizer as factors.

    All other layers, and those that something else could watch or share, stay as they are.
    """
    if not kernels.available():
        return layers
    places = [parameter for layer in layers for parameter in layer.parameters()]
    owners = {parameter: optimizer for optimizer in optimizers for parameter in optimizer.parameters}

    def replaced(layer: nn.Module) -> nn.Module:
        if not _is_plain_and_large(layer) or sum(layer.weight is one for one in places) > 1:
            return layer
        owner = owners.get(cast(nn.Parameter, layer.weight))
        return _DescendingLinear(cast(nn.Linear, layer), owner) if owner else layer

    return nn.Sequential(*map(replaced, layers))


def _is_plain_and_large(layer: nn.Module) -> bool:
    if type(layer) is not nn.Linear or layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return False
    weight = layer.weight
    if type(weight) is not nn.Parameter or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return False
    is_large = layer.in_features >= _FEWEST_INPUTS and weight.numel() >= _SMALLEST
    return is_large and weight.is_contiguous() and weight.requires_grad and not weight._backward_hooks


class _DescendingLinear(nn.Module):
    """A Linear layer; the backward pass gives its optimizer the factors of the gradient of its weight."""

    def __init__(self, layer: nn.Linear, optimizer: SGD):
        super().__init__()
        self.layer, self.optimizer = layer, optimizer

    def forward(self, value: Tensor) -> Tensor:
        """As the layer."""
        found: Tensor
        if value.dim() == 2 and value.dtype == torch.float32:
            found = _Factored.apply(self.optimizer, value, self.layer.weight, self.layer.bias)
        else:
            found = self.layer(value)
        return found


class _Factored(torch.autograd.Function):
    """x @ weight.T + bias, whose backward pass returns no gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, optimizer: SGD, value: Tensor, weight: nn.Parameter, bias: Tensor | None) -> Tensor:
        ctx.optimizer, ctx.weight, ctx.has_bias = optimizer, weight, bias is not None
        ctx.save_for_backward(value, weight)
        return linear(value, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, weight = ctx.saved_tensors
        ctx.optimizer.add_factors(ctx.weight, gradient, value)
        back = gradient @ weight if ctx.needs_input_grad[1] else None
        return None, back, None, gradient.sum(0) if ctx.has_bias else None
