"""One run: every setting that changes its result, checked, and the name that follows from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.algorithm.schedule import last_phase
from dc_hpc.config import beyond
from dc_hpc.config.allowed import Name
from dc_hpc.config.explain import explain
from dc_hpc.config.own_nets import PATTERN as OWN_NET
from dc_hpc.config.own_nets import is_own_net
from dc_hpc.config.settings import DeclaredSettings, Setting
from dc_hpc.config.yaml_reader import did_you_mean, short
from dc_hpc.data.catalog import DATASETS

if TYPE_CHECKING:
    NetName = str
else:
    NetName = Literal[tuple(NET_SPECS)] | Annotated[str, Field(pattern=OWN_NET)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Positive = Annotated[float, Field(gt=0, lt=1e6, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, lt=1e6, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
NumberOfCycles = Annotated[int, Field(ge=0, le=100_000)]
Channels = tuple[NotNegative, ...]
Deviations = tuple[Positive, ...]


class RunConfig(DeclaredSettings):
    """The settings of one run, in the words of the paper (Table 1, section 3.3).

    A field with a default is neutral at that value and then left out of the identity, so that adding a field renames
    no run. Therefore: a new field always has a default, and a default never changes. Every field declares what it
    affects; see `Setting`.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    dataset: Annotated[Name, Setting("first_pass", "data set: an official one, or images of one's own")]
    net: Annotated[NetName, Setting("first_pass", "network, or module:function of one's own", follows=True)]
    k: Annotated[Count, Setting("first_clustering", "number of clusters")]
    seed: Annotated[Seed, Setting("first_pass", "seed of every random draw", keeps_apart=False)]
    cycles: Annotated[
        NumberOfCycles,
        Setting("training", "cycles of one epoch each, N_c; 0 clusters the untrained net once", free_in_panels=True),
    ]
    last_cycle: Annotated[
        Literal["train", "skip", "stop"],
        Setting("training", "whether the last cycle trains, ends after its clustering, or is left out", follows=True),
    ]
    batch_norm: Annotated[bool, Setting("first_pass", "batch norm after every convolution")]
    sobel: Annotated[
        Literal["off", "fixed", "random"],
        Setting("first_pass", "frozen filter before the first convolution: none, Sobel's, or a random one"),
    ]
    lr: Annotated[Positive, Setting("training", "learning rate of SGD, constant")]
    momentum: Annotated[BelowOne, Setting("training", "momentum of SGD")]
    weight_decay: Annotated[NotNegative, Setting("training", "weight decay of SGD")]
    batch_size: Annotated[Count, Setting("training", "images in a training step")]
    kmeans_init: Annotated[
        Literal["k-means++", "random"],
        Setting("first_clustering", "how the first centroids of k-means are drawn", follows=True),
    ]
    resize: Annotated[Count, Setting("first_pass", "side to which images are resized, in pixels", follows=True)]
    crop: Annotated[Count, Setting("first_pass", "side of the centre that the net sees, in pixels", follows=True)]
    mean: Annotated[Channels, Setting("first_pass", "mean of each channel, pixels being 0 to 1", follows=True)]
    std: Annotated[Deviations, Setting("first_pass", "standard deviation of each channel", follows=True)]
    training_view: Annotated[
        Literal["none", "flip", "box_per_batch", "box_per_image", "box_per_image_flip"],
        Setting("training", "how training images are changed at random", follows=True),
    ]

    data_digest: Annotated[
        str | None,
        Setting(
            "first_pass",
            "SHA-256 of the whole file of own images; of earlier versions",
            "none",
            in_grids=False,
            follows=True,
        ),
    ] = None
    train_digest: Annotated[
        str | None,
        Setting(
            "first_pass", "SHA-256 of the training part of images of one's own", "none", in_grids=False, follows=True
        ),
    ] = None
    test_digest: Annotated[
        str | None,
        Setting(
            "probe",
            "SHA-256 of the test part of images of one's own, where the run is probed",
            "none",
            in_grids=False,
            follows=True,
        ),
    ] = None
    net_digest: Annotated[
        str | None,
        Setting("first_pass", "SHA-256 of the file of a net of one's own", "none", in_grids=False, follows=True),
    ] = None
    pca: Annotated[Count | None, Setting("first_clustering", "whitened PCA components that are clustered", "off")] = (
        None
    )
    halt_cycle: Annotated[
        Count | None, Setting("training", "number of clusterings, after which the labels stay (section 4.2)", "never")
    ] = None
    reassign: Annotated[Count, Setting("training", "a clustering in every so many cycles")] = 1
    epochs_per_cycle: Annotated[Count, Setting("training", "training epochs in a cycle, N_e")] = 1
    kmeans_iterations: Annotated[Count, Setting("first_clustering", "iterations of k-means at most")] = 20
    draws: Annotated[
        Literal["ours", "authors"],
        Setting(
            "first_pass",
            "whose random numbers the filters and the first clustering have: this program's, or those of the authors' "
            "code for the seed",
            free_in_panels=True,
        ),
    ] = "ours"
    per_image_standardization: Annotated[
        bool,
        Setting(
            "first_pass",
            "give each image by itself mean 0 and standard deviation 1, in place of `mean` and `std`",
        ),
    ] = False
    kmeans_n_init: Annotated[
        Count, Setting("first_clustering", "starts of k-means from other centroids; that of the least inertia counts")
    ] = 1
    # What goes beyond the paper (docs/BEYOND.md).
    halt_rule: Annotated[
        Literal["effective_rank", "plateau"] | None,
        Setting("training", "rule that halts the clustering without a label, and chooses the labels to keep", "none"),
    ] = None
    halt_patience: Annotated[
        Count, Setting("training", "clusterings without progress after which the halt_rule halts")
    ] = 3
    halt_tolerance: Annotated[
        NotNegative, Setting("training", "by how much the score of the halt_rule must rise to count as progress")
    ] = 0.0
    soft_reset: Annotated[
        Fraction | None,
        Setting(
            "training",
            "how far the weights go back to fresh ones before each later clustering that is trained on",
            "off",
        ),
    ] = None
    teacher_seed: Annotated[
        Seed | None,
        Setting("first_pass", "seed of the net whose first clustering gives the labels of this one", "none"),
    ] = None
    # The only two settings that let ground truth in: a supervised ceiling, and the authors' restart (run.py says how).
    labels: Annotated[bool, Setting("training", "train on the true labels: the supervised ceiling")] = False
    resume_leak: Annotated[
        Count | None,
        Setting("training", "cycle from which a restart leaks the true labels into training", "never"),
    ] = None
    probe: Annotated[
        tuple[str, ...],
        Setting("probe", "layers that are probed; `accuracy` is that of the first", "none"),
    ] = ()
    probe_flip: Annotated[bool, Setting("probe", "mirror the probe's training images at random", follows=True)] = False
    probe_crop: Annotated[
        bool, Setting("probe", "cut the probe's training images out of the resized ones at random", follows=True)
    ] = False
    probe_average_pool: Annotated[
        Count | None,
        Setting("probe", "average pool before the probe, by this factor", "off", follows=True),
    ] = None
    probe_epochs: Annotated[Count, Setting("probe", "epochs of the probe")] = 20
    probe_lr: Annotated[Positive, Setting("probe", "learning rate of the probe at its start")] = 0.01
    probe_momentum: Annotated[BelowOne, Setting("probe", "momentum of the probe's SGD")] = 0.9
    probe_weight_decay: Annotated[NotNegative, Setting("probe", "weight decay of the probe's SGD")] = 1e-4
    probe_batch_size: Annotated[Count, Setting("probe", "images in a step of the probe")] = 256

    protocol: Annotated[
        Literal["text", "code", "code_2021", "mixed"],
        Setting("none", "whose protocol the other settings are: a reading of them", identity=False),
    ] = "mixed"
    features: Annotated[
        Literal["none", "first", "first_last", "every"] | Count,
        Setting("none", "cycles whose features are written", identity=False, keeps_apart=False),
    ] = "first_last"

    @model_validator(mode="before")
    @classmethod
    def _same_result(cls, values: Any) -> Any:
        """Some settings that give the same result get the same name.

        Halting at or after the last cycle becomes None, never. A run that is its own teacher has none. Others keep
        their own names: with a `reassign` of 2 or more, several values of halt_cycle halt after the same clustering.
        """
        if isinstance(values, dict):
            if values.get("teacher_seed") is not None and values["teacher_seed"] == values.get("seed"):
                values = values | {"teacher_seed": None}
            halt, cycles, last_cycle = (values.get(name) for name in ("halt_cycle", "cycles", "last_cycle"))
            if type(halt) is int and type(cycles) is int and last_phase(cycles, str(last_cycle)) <= halt:
                return values | {"halt_cycle": None}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        for problem in _misfits(self):
            raise ValueError(problem)
        return self


def _misfits(c: RunConfig) -> Iterator[str]:
    """What does not fit together among settings that are each allowed; each line begins with the setting."""
    official = DATASETS.get(c.dataset)
    yield from _misfits_of_own_net(c) if is_own_net(c.net) else _misfits_of_net(c)
    if c.resize < c.crop:
        yield f"resize {c.resize} is smaller than crop {c.crop}"
    if official and c.k > official.train_images:
        yield f"k {c.k} is larger than the {official.train_images} images of {c.dataset}"
    if c.last_cycle == "stop" and c.cycles == 1:
        yield "last_cycle stop leaves nothing of 1 cycle: give cycles of 2 or more, or 0 for the Initial Alignment"
    if c.labels and (c.halt_cycle is not None or c.cycles == 0):
        yield "labels on trains on the truth and never clusters: leave halt_cycle out and give cycles of 1 or more"
    if c.resume_leak is not None and (c.halt_cycle is None or c.halt_cycle > c.resume_leak):
        yield (
            f"resume_leak {c.resume_leak} needs a halt_cycle of at most {c.resume_leak}: a run that still clusters "
            "replaces its labels"
        )
    if c.draws == "authors" and c.kmeans_init == "random" and c.seed < 1:
        yield (
            f"seed {c.seed} has no draws of the authors where faiss clusters: their code draws its seed below the seed "
            "of the run; give a seed of 1 or more, or draws ours"
        )
    if len(set(c.probe)) < len(c.probe):
        yield f"probe names a layer twice: {', '.join(c.probe)}"
    yield from beyond.misfits(c)


def _misfits_of_own_net(c: RunConfig) -> Iterator[str]:
    """What does not fit a net of a person's own, whose layers and features are known when it is built."""
    official = DATASETS.get(c.dataset)
    if len(c.mean) != len(c.std) or not c.mean:
        yield f"mean has {len(c.mean)} numbers and std {len(c.std)}; give both one for each channel of the images"
    if official and official.channels != len(c.mean):
        yield f"mean needs {official.channels} numbers for {c.dataset}, not {len(c.mean)}"
    if c.sobel != "off":
        yield f"sobel {c.sobel} belongs to the nets of the paper; with net {c.net} it must be off"
    if c.draws != "ours":
        yield f"draws {c.draws} belongs to the nets of the paper; with net {c.net} it must be ours"
    if not c.batch_norm:
        yield f"batch_norm off belongs to the nets of the paper; net {c.net} decides by itself, so leave it out"
    for layer in c.probe:
        if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", layer) or len(layer) > 100:
            yield f"probe layer {short(repr(layer), 100)} is no name of a layer; for example conv2 or layer4.1.conv2"


def _misfits_of_net(c: RunConfig) -> Iterator[str]:
    """What does not fit a net of the paper."""
    net, official = NET_SPECS[c.net], DATASETS.get(c.dataset)
    channels = official.channels if official else net.channels
    layers = [layer for layer in net.layers if c.batch_norm or not layer.startswith("bn")]
    if channels != net.channels:
        yield (
            f"net {c.net} reads {net.channels} channels and dataset {c.dataset} has {channels}; pair lenet5 with "
            "fmnist or mnist, the AlexNets with svhn or cifar10"
        )
    for name, values in (("mean", c.mean), ("std", c.std)):
        if len(values) != net.channels:
            yield f"{name} needs {net.channels} numbers for {c.net}, not {len(values)}"
    if c.crop != net.size:
        yield f"crop {c.crop} does not fit {c.net}; allowed: {net.size}"
    if c.pca is not None and c.pca > net.features:
        yield f"pca {c.pca} is larger than the {net.features} features of {c.net}; allowed: 1 to {net.features}, or off"
    if net.channels != 3 and c.sobel != "off":
        reads = "one" if net.channels == 1 else net.channels
        yield f"sobel {c.sobel} needs three colours and {c.net} reads {reads}; allowed: off"
    for layer in c.probe:
        if layer not in layers:
            parts = [part.strip() for part in layer.split(",")]
            meant = f"; write [{', '.join(parts)}]" if set(parts) <= set(layers) else did_you_mean(layer, layers)
            yield f"probe layer {layer} is not in {c.net}{meant}; allowed: {', '.join(layers)}, or none"
        side = net.sides.get(layer)  # fully connected layers have no map, and are not pooled
        if c.probe_average_pool is not None and side is not None and c.probe_average_pool > side:
            yield (
                f"probe_average_pool {c.probe_average_pool} is larger than layer {layer} of {c.net}, which has "
                f"{side} x {side} pixels; allowed: 1 to {side}, or off"
            )


def canonical_json(config: RunConfig) -> str:
    """The settings that change the result, neutral ones left out, as one line of JSON with sorted keys."""
    fields, values = RunConfig.model_fields, dict(config)
    settings = {
        name: value
        for name, value in config.model_dump(mode="json").items()
        if RunConfig.declared[name].identity and (fields[name].is_required() or values[name] != fields[name].default)
    }
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)


def run_id(config: RunConfig) -> str:
    """The name of the run and of its directory: the settings that people look for, then 12 hex digits of SHA-256.

    Everything that changes the result is in it; host, threads, k-means backend and what is dumped are not.
    """
    halt = f"-halt{config.halt_cycle}" if config.halt_cycle else ""
    truth = "-labels" if config.labels else f"-leak{config.resume_leak}" if config.resume_leak else ""
    only_ia = "-ia" if config.cycles == 0 else ""
    digest = hashlib.sha256(canonical_json(config).encode()).hexdigest()[:12]
    return f"{config.dataset}-k{config.k}{halt}{truth}{only_ia}-seed{config.seed}-{digest}"


def make_config(settings: dict[str, Any]) -> RunConfig:
    """A checked RunConfig, or InputError about the first thing that is wrong."""
    try:
        return RunConfig(**settings)
    except ValidationError as error:
        raise explain(error, RunConfig) from None
