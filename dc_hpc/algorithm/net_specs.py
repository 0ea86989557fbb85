"""The networks of the paper as data: one entry of NET_SPECS is a whole net.

`nets.py` builds the trunk from its entry; settings and tables are checked against what follows from it (input, number
of features, layers that can be probed). This module imports no torch, so a login node can read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class MaxPool:
    """A max-pool: the side of its window and the step from one window to the next, in pixels."""

    kernel: int
    stride: int


@dataclass(frozen=True)
class Conv:
    """A convolution, its ReLU and the max-pool after it, if there is one. All sizes are sides in pixels."""

    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    pool: MaxPool | None = None


@dataclass(frozen=True)
class NetSpec:
    """One net: convolutions, then fully connected layers, with a ReLU between any two layers.

    channels, size: of the square input image. convolutions: in their order. widths: outputs of the fully connected
    layers; the last is D, the number of features that are clustered. dropout: the probability in front of each fully
    connected layer, 0 for none.
    """

    channels: int
    size: int
    convolutions: tuple[Conv, ...]
    widths: tuple[int, ...]
    dropout: float = 0.0

    @property
    def features(self) -> int:
        """D, the number of features that the net gives an image."""
        return self.widths[-1]

    @property
    def flattened(self) -> int:
        """The number of values that the convolutions leave of an image."""
        return self.convolutions[-1].filters * list(self.sides.values())[-1] ** 2

    @property
    def sides(self) -> dict[str, int]:
        """The side in pixels of the map of each layer that has one, in their order; those of batch norm included."""
        sides: dict[str, int] = {}
        side = self.size
        for number, conv in enumerate(self.convolutions, 1):
            side = (side + 2 * conv.padding - conv.kernel) // conv.stride + 1
            sides |= dict.fromkeys((f"conv{number}", f"bn{number}", f"relu{number}"), side)
            if conv.pool:
                side = (side - conv.pool.kernel) // conv.pool.stride + 1
                sides[f"pool{number}"] = side
        return sides

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that can be probed, in their order; those of batch norm included."""
        return tuple(self._layers())

    def _layers(self) -> Iterator[str]:
        yield from self.sides
        for number in range(1, len(self.widths)):
            yield from (f"fc{number}", f"fc{number}_relu")
        yield f"fc{len(self.widths)}"


NET_SPECS = {
    # section 3.3, for the grey images of MNIST and Fashion-MNIST
    "lenet5": NetSpec(
        channels=1,
        size=32,
        convolutions=(Conv(6, 5, pool=MaxPool(2, 2)), Conv(16, 5, pool=MaxPool(2, 2))),
        widths=(120, 84),
    ),
    # section 3.3, the minimized AlexNet for SVHN and CIFAR10; every window of a pool moves by one
    "alexnet_small": NetSpec(
        channels=3,
        size=32,
        convolutions=(
            Conv(48, 8, stride=3, pool=MaxPool(2, 1)),
            Conv(126, 2, pool=MaxPool(2, 1)),
            Conv(192, 3),
            Conv(192, 2),
            Conv(128, 2, pool=MaxPool(2, 1)),
        ),
        widths=(1024, 1024),
        dropout=0.5,
    ),
    # appendix A
    "alexnet": NetSpec(
        channels=3,
        size=224,
        convolutions=(
            Conv(64, 11, stride=4, padding=2, pool=MaxPool(3, 2)),
            Conv(192, 5, padding=2, pool=MaxPool(3, 2)),
            Conv(384, 3, padding=1),
            Conv(256, 3, padding=1),
            Conv(256, 3, padding=1, pool=MaxPool(3, 2)),
        ),
        widths=(2048, 2048),
        dropout=0.5,
    ),
}
