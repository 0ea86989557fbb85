"""Stochastic gradient descent with momentum: by torch's own update, and for large Linear layers by machine code.

torch.optim.SGD gives the same bits, but its first instance in a process imports torch's compiler. That takes a second,
which matters for a run of four minutes that is started hundreds of times.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from dc_hpc.algorithm.backends.machine_code.panel_products import descend


class SGD:
    """velocity = momentum * velocity + gradient + weight_decay * parameter; parameter -= lr * velocity.

    It leaves out parameters that need no gradient and, in a step, those that have none. lr, momentum, weight_decay:
    the constants, which may be changed between steps. velocity: of each parameter that has made a step, of its shape,
    dtype and device; the first step's is the gradient with its weight decay.

    parameters: those that need a gradient, in the order given. lr, momentum and weight_decay are Python numbers: a
    CUDA graph keeps those of its recording.

    The gradient of a matrix may also come as factors (`add_factors`): the step then computes it where it moves the
    matrix, it is never stored, and the factors are used up. A step leaves `grad` as it is.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float):
        self.parameters = [p for p in parameters if p.requires_grad]
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.velocity: dict[nn.Parameter, Tensor] = {}
        self._factors: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}

    def with_parameters(self, parameters: Iterable[nn.Parameter]) -> SGD:
        """An SGD of other parameters with the same constants and no velocity."""
        return SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def zero_grad(self) -> None:
        """Forget the gradients and the factors; `zero_grad` of a module would leave the factors."""
        for parameter in self.parameters:
            parameter.grad = None
        self._factors.clear()

    @torch.no_grad()
    def add_factors(self, parameter: nn.Parameter, left: Tensor, right: Tensor) -> None:
        """Add left.T @ right to the gradient of a parameter (o, i): float32 (n, o) and (n, i) on the CPU.

        `parameter.grad` stays as it is. What is added goes with the next step or `zero_grad`.
        """
        if parameter in self._factors:
            before = self._factors[parameter]
            left, right = torch.cat([before[0], left]), torch.cat([before[1], right])
        self._factors[parameter] = left.contiguous(), right.contiguous()

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient, in place."""
        for parameter, (left, right) in self._factors.items():
            self._descend(parameter, left, right)
        self._factors.clear()
        moved = [p for p in self.parameters if p.grad is not None]
        for group in ([p for p in moved if p in self.velocity], [p for p in moved if p not in self.velocity]):
            velocities = [self.velocity.get(p) for p in group]
            # torch takes all parameters of one call for new, or none; on a CPU fused is the fastest of its updates
            sgd(
                list[Tensor](group),
                [p.grad for p in group if p.grad is not None],
                velocities,
                fused=True,
                lr=self.lr,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
            self.velocity.update((p, v) for p, v in zip(group, velocities) if v is not None)

    def _descend(self, parameter: nn.Parameter, left: Tensor, right: Tensor) -> None:
        """A parameter's step from the factors of its gradient, or that gradient where torch's update must make it.

        That is where a stored gradient is to be added, and where there is no velocity to write to.
        """
        if parameter.grad is not None or self.momentum == 0:
            product = left.T @ right
            parameter.grad = product if parameter.grad is None else parameter.grad + product
            return
        if parameter not in self.velocity:  # momentum times nothing: the first step's is the gradient
            self.velocity[parameter] = torch.zeros_like(parameter)
        constants = {"lr": self.lr, "momentum": self.momentum, "weight_decay": self.weight_decay}
        descend(parameter, self.velocity[parameter], left, right, torch.empty_like(right), **constants)
