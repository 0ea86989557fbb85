"""The stages whose input is images: views, sampling, forward, train, probe. No time depends on what the images show."""

from __future__ import annotations

import copy
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from dc_hpc.algorithm.deepcluster import balanced_order, deep_cluster, extract_features
from dc_hpc.algorithm.nets import NET_BUILDERS, new_head
from dc_hpc.algorithm.probe import activations, linear_probe
from dc_hpc.algorithm.randomness import key, numpy_generator
from dc_hpc.algorithm.schedule import Schedule
from dc_hpc.algorithm.state import init_state
from dc_hpc.algorithm.views import ImageViews, Views
from dc_hpc.benchmark.stages import flop_counts, peers
from dc_hpc.benchmark.stages.sizes import Setting
from dc_hpc.benchmark.timing import Peer, Stage

SEED = 1
CLASSES = 10
EAGER = "torch eager"


class NetworkFixture:
    """What the image stages of one network share.

    pixels: uint8 (n, c, h, w) of noise. images: their views. labels: pseudo-labels, int64 (n,). state: the State that
    ours trains. eager: a copy of its trunk, which torch computes layer by layer: the trunks are plain torch modules,
    and what makes ours fast is in algorithm/backends, which calling a module does not reach.
    """

    def __init__(self, setting: Setting, device: str):
        self.setting, self.device = setting, device
        base, n, side = setting.baseline, setting.size.images, setting.image_side
        rng = np.random.default_rng(SEED)
        pixels = rng.integers(0, 256, (n, setting.spec.channels, side, side), dtype=np.uint8)
        self.pixels = torch.from_numpy(pixels).to(device)
        self.views = Views(base["resize"], base["crop"], base["mean"], base["std"], "flip")
        self.images = ImageViews(self.pixels, self.views)
        k = max(2, min(base["k"], n // 4))
        self.labels = torch.from_numpy(rng.permutation(np.arange(n) % k)).to(device)
        sobel = "off" if setting.network == "lenet5" else "fixed"
        trunk = NET_BUILDERS[setting.network](batch_norm=True, sobel=sobel).to(device)
        self.state = init_state(
            trunk, seed=SEED, lr=base["lr"], momentum=base["momentum"], weight_decay=base["weight_decay"]
        )
        self._initial = {name: value.clone() for name, value in trunk.state_dict().items()}
        self.eager = copy.deepcopy(trunk)
        self.reset()

    @property
    def k(self) -> int:
        """The number of clusters; the pseudo-labels use each of them."""
        return int(self.labels.max()) + 1

    def reset(self) -> None:
        """Give both nets the filters from before any training, without momentum."""
        self.state.trunk.load_state_dict(self._initial)
        self.eager.load_state_dict(self._initial)
        self.state.optimizer.velocity.clear()
        self.state.cycle, self.state.phase, self.state.pseudo_labels = 0, "clustered", self.labels

    def layers(self, until: str | None = None) -> list[flop_counts.Layer]:
        """The layers that multiply, for one image."""
        return flop_counts.layers(self.eager, self.setting.spec.channels, self.setting.spec.size, until=until)

    def stage(self, name: str, size: str, count: float, unit: str, **rest: Any) -> Stage:
        """A stage of this network on this device."""
        return Stage(name, self.setting.network, size, count, unit, device=self.device, **rest)


def views(fixture: NetworkFixture) -> Stage:
    """The clustering views of all images, built and normalised. A run does this once, its peer in every cycle."""
    n, base = len(fixture.pixels), fixture.setting.baseline
    dataset = peers.pil_images(fixture.pixels, fixture.views, mirror=False)

    def ours() -> Tensor:
        images, batch = ImageViews(fixture.pixels, fixture.views), torch.empty(0)
        for start in range(0, n, peers.EAGER_BATCH):
            batch = images.clustering(slice(start, start + peers.EAGER_BATCH))
        return batch

    def peer() -> Tensor:
        return peers.last_batch(dataset, batch_size=peers.EAGER_BATCH, order=None, device=fixture.device)

    count = flop_counts.views_bytes(n, fixture.setting.spec.channels, fixture.setting.image_side, base["crop"])
    return fixture.stage(
        "views",
        f"{n:,} images",
        count,
        "bytes",
        ours=ours,
        peers=(Peer("PIL + DataLoader", peer),),
        difference=_largest_difference,
        tolerance=1e-5,
    )


def sampling(fixture: NetworkFixture) -> Stage:
    """The batches of one epoch: the class-balanced draw, then the images of each batch, mirrored at random."""
    batch_size, base = fixture.setting.batch_size, fixture.setting.baseline
    labels = fixture.labels.cpu().numpy()
    dataset = peers.pil_images(fixture.pixels, fixture.views, mirror=True)

    def order() -> np.ndarray:
        return balanced_order(labels, numpy_generator(SEED, 0, "sampling"))

    def ours() -> Tensor:
        rng, batch = numpy_generator(SEED, 0, "augmentation"), torch.empty(0)
        for indices in torch.from_numpy(order()).to(fixture.device).split(batch_size):
            batch = fixture.images.training(indices, rng)
        return batch

    def peer() -> Tensor:
        return peers.last_batch(dataset, batch_size=batch_size, order=order(), device=fixture.device)

    drawn = len(order())
    return fixture.stage(
        "sampling",
        f"{drawn:,} images, batch {batch_size}",
        flop_counts.sampling_bytes(drawn, fixture.setting.spec.channels, base["crop"]),
        "bytes",
        ours=ours,
        peers=(Peer("PIL + DataLoader", peer),),
        difference=_difference_up_to_mirror,
        tolerance=1e-5,
    )


def forward(fixture: NetworkFixture) -> Stage:
    """The features of all images in eval mode."""
    n = len(fixture.pixels)
    fixture.reset()
    return fixture.stage(
        "forward",
        f"{n:,} images",
        flop_counts.forward_flop(n, fixture.layers()),
        "FLOP",
        ours=lambda: extract_features(fixture.state.trunk, fixture.images),
        peers=(Peer(EAGER, lambda: peers.eager_features(fixture.eager, fixture.images)),),
        difference=_relative_difference,
        tolerance=1e-3,
    )


def train(fixture: NetworkFixture) -> Stage:
    """One epoch of SGD on the pseudo-labels, with a fresh head and the batches."""
    base, batch_size, features = fixture.setting.baseline, fixture.setting.batch_size, fixture.setting.spec.features
    labels = fixture.labels.cpu().numpy()

    def ours() -> float | None:
        phases = deep_cluster(
            fixture.state, fixture.images, k=fixture.k, seed=SEED, schedule=Schedule(1), batch_size=batch_size
        )
        return next(phases).loss

    def peer() -> float:
        head = new_head(features, fixture.k, seed=SEED, cycle=0)
        eager_head = nn.Sequential(nn.ReLU(), nn.Linear(features, fixture.k))
        eager_head[-1].load_state_dict(dict(head[-1].state_dict()))
        return peers.eager_epoch(
            fixture.eager,
            eager_head.to(fixture.device),
            fixture.images,
            fixture.labels,
            batch_size=batch_size,
            order=balanced_order(labels, numpy_generator(SEED, 0, "sampling")),
            lr=base["lr"],
            momentum=base["momentum"],
            weight_decay=base["weight_decay"],
            dropout=key(SEED, 0, "dropout"),
            augmentation=numpy_generator(SEED, 0, "augmentation"),
        )

    drawn = len(balanced_order(labels, numpy_generator(SEED, 0, "sampling")))
    return fixture.stage(
        "train",
        f"{drawn:,} images, batch {batch_size}, k {fixture.k}",
        flop_counts.training_flop(drawn, fixture.layers(), features=features, k=fixture.k),
        "FLOP",
        ours=ours,
        peers=(Peer(EAGER, peer),),
        difference=lambda a, b: abs(a - b) / abs(a),
        tolerance=0.02,
        before=fixture.reset,
    )


class _ProbeSettings(TypedDict):
    classes: int
    seed: int
    epochs: int
    lr: float
    momentum: float
    weight_decay: float
    batch_size: int


def probe(fixture: NetworkFixture) -> Stage:
    """The linear probe: activations once, then the classifier's epochs. Its peer runs the trunk in every epoch."""
    fixture.reset()
    size, base = fixture.setting.size, fixture.setting.baseline
    layer, pool = base["probe"][0], base.get("probe_average_pool")
    n, test_n = min(size.probe_images, len(fixture.pixels)), max(2, size.probe_images // 5)
    rng = np.random.default_rng(SEED)
    train_images = ImageViews(fixture.pixels[:n], fixture.views)
    test_images = ImageViews(fixture.pixels[-test_n:], fixture.views)
    labels, test_labels = (
        torch.from_numpy(rng.integers(0, CLASSES, count)).to(fixture.device) for count in (n, test_n)
    )
    settings: _ProbeSettings = {
        "classes": CLASSES,
        "seed": SEED,
        "epochs": size.probe_epochs,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "batch_size": 256,
    }

    def values_of(images: ImageViews) -> Tensor:
        return activations(fixture.state.trunk, images, [layer], average_pool=pool)[layer]

    def ours() -> tuple[float, float]:
        found = linear_probe(values_of(train_images), labels, values_of(test_images), test_labels, **settings)
        return found.accuracy, found.loss

    def peer() -> tuple[float, float]:
        return peers.uncached_probe(
            fixture.eager, train_images, labels, test_images, test_labels, layer=layer, average_pool=pool, **settings
        )

    values = values_of(ImageViews(fixture.pixels[:1], fixture.views)).shape[1]
    return fixture.stage(
        "probe",
        f"{n:,} + {test_n:,} images, {size.probe_epochs} epochs",
        flop_counts.probe_flop(
            fixture.layers(layer), train=n, test=test_n, values=values, classes=CLASSES, epochs=size.probe_epochs
        ),
        "FLOP",
        ours=ours,
        peers=(Peer("uncached, eager", peer),),
        difference=_probe_difference,
        tolerance=0.01,
    )


def _largest_difference(ours: Tensor, peer: Tensor) -> float:
    return float((ours - peer).abs().max())


def _relative_difference(ours: Tensor, peer: Tensor) -> float:
    return _largest_difference(ours, peer) / float(ours.abs().max())


def _difference_up_to_mirror(ours: Tensor, peer: Tensor) -> float:
    """Ours and the peer draw their mirrors from different generators, so an image may be mirrored in one of them."""
    straight, mirrored = ((ours - other).abs().flatten(1).amax(1) for other in (peer, peer.flip(-1)))
    return float(torch.minimum(straight, mirrored).max())


def _probe_difference(ours: tuple[float, float], peer: tuple[float, float]) -> float:
    """The relative difference of the losses; the accuracies may differ by an image or two, where rounding decides."""
    return max(abs(ours[1] - peer[1]) / abs(ours[1]), abs(ours[0] - peer[0]) / 1e3)
