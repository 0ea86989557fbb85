"""Large Linear layers in training on a CPU, without a stored gradient of their weight.

The gradient of a weight of 1024 x 1024 is 4 MB that would be written, read once by SGD, and forgotten. It is a product
of two smaller matrices, the gradient of the layer's results and the layer's inputs:

    forward pass    y = x @ weight.T + bias                             torch
    backward pass   gradients of x and bias                             torch
                    (gradient of y, x) -> `SGD.add_factors`             nothing is computed
    SGD.step        gradient of weight, and the step of weight by it    `panel_products.descend`, block by block

So `weight.grad` of such a layer stays None. Code that reads or clips gradients must not be put between the backward
pass and the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.backends.sgd import SGD

# With fewer inputs or weights there is nothing to gain. LeNet-5 has no layer above these limits; AlexNet-small has fc1,
# fc2 and, from k 98 on, the head. To move a limit is to change the order of sums of some layer: it changes bits.
_FEWEST_INPUTS, _SMALLEST = 128, 100_000


def descending(layers: nn.Sequential, optimizers: Sequence[SGD]) -> nn.Sequential:
    """The same layers, of which the large Linear ones leave the gradient of their weight to the optimizer as factors.

    layers: in training, on any device; the parameters are shared with the result and not copied. optimizers: a layer is
    replaced only where one of them moves its weight. All other layers, and those that something else could watch or
    share, stay as they are. Without numba the layers come back unchanged.
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
    """Whether a Linear layer is worth it, is on the CPU in float32, and has no hook that could see the gradient."""
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
        """The layer's own values, (n, inputs) to (n, outputs); only matrices of float32 leave factors."""
        found: Tensor
        if value.dim() == 2 and value.dtype == torch.float32:
            found = _Factored.apply(self.optimizer, value, self.layer.weight, self.layer.bias)
        else:
            found = self.layer(value)
        return found


class _Factored(torch.autograd.Function):
    """value @ weight.T + bias, whose backward pass returns no gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, optimizer: SGD, value: Tensor, weight: nn.Parameter, bias: Tensor | None) -> Tensor:
        """Of value (n, i), weight (o, i) and bias (o,) the result (n, o), by torch; all float32 on the CPU."""
        # the parameter beside the saved tensor: SGD knows parameters by identity, which saved_tensors does not promise
        ctx.optimizer, ctx.weight, ctx.has_bias = optimizer, weight, bias is not None
        ctx.save_for_backward(value, weight)
        return linear(value, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """From the gradient (n, o): those of value and bias; (gradient, value) go to the optimizer as factors."""
        value, weight = ctx.saved_tensors
        ctx.optimizer.add_factors(ctx.weight, gradient, value)
        back = gradient @ weight if ctx.needs_input_grad[1] else None
        return None, back, None, gradient.sum(0) if ctx.has_bias else None
