"""The networks of the paper: a trunk f_theta per data set, the head g_W of one cycle, their initialisation.

A trunk of the paper is a flat `nn.Sequential` whose children carry the names that the paper and the probe use
(`conv2`, `relu5`), and whose output is that of its last Linear layer, before any ReLU: the features that are clustered
(section 3.1). `net_specs.py` says what each net consists of. Any other `nn.Module` that makes features of images can be
a trunk, too.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from dc_hpc.algorithm.backends.determinism import same_generators
from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.algorithm.randomness import torch_generator

SOBEL = ("off", "fixed", "random")
DRAWS = ("ours", "authors")
OUTPUT = ""  # the name that torch gives a net among its own modules; here: what the whole net returns


def build_net(name: str, *, batch_norm: bool = True, sobel: str | None = None) -> nn.Sequential:
    """The trunk of NET_SPECS[name], not yet initialised.

    batch_norm: whether each convolution is followed by one, as conv -> batch norm -> ReLU. sobel: one of SOBEL, the
    filter in front; None is "fixed" for a net that reads colour, as in the paper, else "off". Raises ValueError: a
    Sobel filter in front of a net that does not read three colours.
    """
    spec = NET_SPECS[name]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = spec.channels
    if _sobel_of(name, sobel) != "off":
        layers["sobel"] = Sobel(frozen_kernels=sobel != "random")
        channels = 2
    for number, conv in enumerate(spec.convolutions, 1):
        layers[f"conv{number}"] = nn.Conv2d(
            channels, conv.filters, conv.kernel, stride=conv.stride, padding=conv.padding
        )
        if batch_norm:
            layers[f"bn{number}"] = nn.BatchNorm2d(conv.filters)
        layers[f"relu{number}"] = nn.ReLU()
        if conv.pool:
            layers[f"pool{number}"] = nn.MaxPool2d(conv.pool.kernel, stride=conv.pool.stride)
        channels = conv.filters
    layers["flatten"] = nn.Flatten()
    values = spec.flattened
    for number, width in enumerate(spec.widths, 1):
        if spec.dropout:
            layers[f"dropout{number}"] = nn.Dropout(spec.dropout)
        layers[f"fc{number}"] = nn.Linear(values, width)
        if number < len(spec.widths):
            layers[f"fc{number}_relu"] = nn.ReLU()
        values = width
    return nn.Sequential(layers)


def lenet5(*, batch_norm: bool = True, sobel: str = "off") -> nn.Sequential:
    """LeNet-5 for 1 x 32 x 32 images (section 3.3): 84 features, 60,900 parameters with batch norm.

    Every convolution is conv -> batch norm -> ReLU. A Sobel filter needs colour, so only `sobel="off"` is allowed.
    """
    return build_net("lenet5", batch_norm=batch_norm, sobel=sobel)


def alexnet_small(*, batch_norm: bool = True, sobel: str = "fixed") -> nn.Sequential:
    """The paper's minimized AlexNet for 3 x 32 x 32 images (section 3.3): 1,024 features.

    Five convolutions with 48, 126, 192, 192 and 128 filters, without padding; every pooling window moves by one.
    `relu5`, which the paper probes, has 128 x 2 x 2 = 512 values.
    """
    return build_net("alexnet_small", batch_norm=batch_norm, sobel=sobel)


def alexnet(*, batch_norm: bool = True, sobel: str = "fixed") -> nn.Sequential:
    """The AlexNet of appendix A for 3 x 224 x 224 images: 2,048 features.

    `relu5` is 256 x 13 x 13; the probe of appendix A averages it down to 9,216 values.
    """
    return build_net("alexnet", batch_norm=batch_norm, sobel=sobel)


NET_BUILDERS = {name: partial(build_net, name) for name in NET_SPECS}


class Sobel(nn.Sequential):
    """Colour to edges, frozen: a 1 x 1 convolution to one channel, then the two 3 x 3 Sobel kernels. Bias is zero.

    The paper uses it in front of both AlexNets (section 3.3). `frozen_kernels` says whether `initialise` must leave
    the kernels alone (`sobel: fixed`, the paper's text) or draws them like any convolution (`sobel: random`): the
    authors' code initialises after building the filter and so overwrites it.
    """

    def __init__(self, *, frozen_kernels: bool):
        grey, edges = nn.Conv2d(3, 1, 1), nn.Conv2d(1, 2, 3, padding=1)
        super().__init__(OrderedDict(grey=grey, edges=edges))
        self.frozen_kernels = frozen_kernels
        horizontal = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        with torch.no_grad():
            grey.weight.fill_(1 / 3)
            edges.weight.copy_(torch.stack([horizontal, horizontal.T]).unsqueeze(1))
            bias_of(grey).zero_()
            bias_of(edges).zero_()
        self.requires_grad_(False)


def initialise(trunk: nn.Module, *, seed: int, draws: str = "ours") -> None:
    """Draw the random filters theta of a fresh trunk, in place, from the distributions of the authors' code.

    conv N(0, sqrt(2 / (kh kw out))), bias 0; batch norm 1 and 0, running mean 0 and variance 1; Linear N(0, 0.01),
    bias 0. The Sobel filter has a key of its own, so `fixed` and `random` share all the other filters of a seed.
    Layers of other kinds are drawn by their `reset_parameters`. Frozen layers (`requires_grad` is off) and parameters
    outside such layers keep their values.

    draws: one of DRAWS. With "authors" the numbers are those that the authors' code draws for the seed, see
    `_draw_as_authors`. Raises ValueError for another word.
    """
    if draws not in DRAWS:
        raise ValueError(f"draws {draws!r} is not one of {', '.join(DRAWS)}")
    if draws == "authors":
        _draw_as_authors(trunk, seed)
        return
    frozen: set[nn.Module] = set()
    for sobel in (layer for layer in trunk.modules() if isinstance(layer, Sobel)):
        frozen.update(sobel.modules())
        if not sobel.frozen_kernels:
            _draw(sobel.modules(), torch_generator(seed, 0, "sobel"))
    for layer in trunk.modules():
        own = list(layer.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            frozen.add(layer)
    _draw((layer for layer in trunk.modules() if layer not in frozen), torch_generator(seed, 0, "init"))


def new_head(features: int, k: int, *, seed: int, cycle: int) -> nn.Sequential:
    """The classifier g_W over k pseudo-classes, drawn anew for one cycle: ReLU, then Linear(features, k).

    It reads what a trunk returns, vectors (n, features) or maps that have so many values.
    """
    linear = undrawn_linear(features, k)
    head = nn.Sequential(OrderedDict(flatten=nn.Flatten(), relu=nn.ReLU(), linear=linear))
    _draw(head.modules(), torch_generator(seed, cycle, "head"))
    return head


def undrawn_linear(values: int, outputs: int) -> nn.Linear:
    """A Linear layer whose weights the caller draws. It leaves the global random generators as they are.

    torch's skip_init is meant for this, but imports torch's compiler, which takes a third of a second.
    """
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(values, outputs)


@torch.no_grad()
def feature_dimension(trunk: nn.Module, batch: Tensor) -> int:
    """D, the number of features that the trunk gives an image, found by a forward pass in eval mode.

    batch: inputs of the trunk, float32 (n, c, h, w). The trunk, its modes and the random generators stay as they are.
    Raises ValueError: the trunk does not return a tensor with a row for each image.
    """
    training = [layer for layer in trunk.modules() if layer.training]
    with same_generators(batch.device):
        features = trunk.eval()(batch)
    for layer in training:
        layer.training = True
    if not isinstance(features, Tensor) or features.dim() < 2 or len(features) != len(batch):
        found = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
        raise ValueError(
            f"the net must return one tensor (n, D), a row of features for each of the n images; for {len(batch)} "
            f"images of shape {tuple(batch.shape[1:])} it returns {found}"
        )
    return features[0].numel()


def bias_of(layer: nn.Conv2d) -> Tensor:
    """The bias of a convolution; all convolutions of this package have one."""
    assert layer.bias is not None
    return layer.bias


@torch.no_grad()
def _draw(layers: Iterable[nn.Module], generator: torch.Generator) -> None:
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            height, width = layer.kernel_size
            deviation = math.sqrt(2 / (height * width * layer.out_channels))
            _normal(layer.weight, deviation, generator)
        elif isinstance(layer, nn.Linear):
            _normal(layer.weight, 0.01, generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        elif hasattr(layer, "reset_parameters"):
            _reset(layer, generator)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            layer.bias.zero_()


@torch.no_grad()
def _draw_as_authors(trunk: nn.Module, seed: int) -> None:
    """Draw the filters of a net of the paper as `torch.manual_seed(seed)` and the authors' code do, in place.

    torch initialises every layer that their code builds. That is overwritten at once, so only the number of these draws
    counts. Then their code draws the weights, those of the Sobel filter first, and those of a convolution filter by
    filter. A fixed Sobel filter keeps its kernels and costs the same draws, so `fixed` and `random` share all the other
    filters of a seed here, too.
    """
    drawn = copy.deepcopy(trunk).cpu()  # torch's generators on other devices draw other numbers
    sobels = [layer for layer in drawn.modules() if isinstance(layer, Sobel)]
    kept = [(one, copy.deepcopy(one.state_dict())) for one in sobels if one.frozen_kernels]
    weighted = [layer for layer in drawn.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer in weighted:
            layer.reset_parameters()
        for layer in weighted:
            if isinstance(layer, nn.Conv2d):
                height, width = layer.kernel_size
                for kernel in layer.weight:  # torch draws 16 numbers or more in another way than fewer
                    kernel.normal_(0, math.sqrt(2 / (height * width * layer.out_channels)))
            else:
                layer.weight.normal_(0, 0.01)
            if layer.bias is not None:
                layer.bias.zero_()
    for norm in (layer for layer in drawn.modules() if isinstance(layer, nn.BatchNorm2d)):
        norm.reset_parameters()
    for sobel, kernels in kept:
        sobel.load_state_dict(kernels)
    trunk.load_state_dict(drawn.state_dict())


def _reset(layer: nn.Module, generator: torch.Generator) -> None:
    """Draw a layer as torch does, from a seed of `generator`; on the CPU, so that the device changes no filter."""
    seed = int(torch.randint(2**62, (), generator=generator))
    drawn = copy.deepcopy(layer).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        drawn.reset_parameters()  # type: ignore[operator]  # a layer that has this method
    layer.load_state_dict(drawn.state_dict())


def _normal(weight: Tensor, deviation: float, generator: torch.Generator) -> None:
    weight.copy_(torch.empty(weight.shape).normal_(0, deviation, generator=generator))


def _sobel_of(name: str, sobel: str | None) -> str:
    """The Sobel filter of a net: the one asked for, else the paper's."""
    channels = NET_SPECS[name].channels
    if sobel is None:
        return "fixed" if channels == 3 else "off"
    if sobel != "off" and channels != 3:
        raise ValueError(
            f"sobel {sobel!r} needs three colours and {name} reads {'one' if channels == 1 else channels}; allowed: off"
        )
    if sobel not in SOBEL:
        raise ValueError(f"sobel {sobel!r} is not one of {', '.join(SOBEL)}")
    return sobel
