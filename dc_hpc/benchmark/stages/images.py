"""The stages that see images: views, sampling, forward, train, probe. No time depends on what the images show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dc_hpc.algorithm.deepcluster import State, balanced_order, deep_cluster, extract_features, init_state
from dc_hpc.algorithm.nets import NET_BUILDERS, new_head
from dc_hpc.algorithm.probe import activations, linear_probe
from dc_hpc.algorithm.randomness import key, numpy_generator
from dc_hpc.algorithm.views import ImageViews, Views
from dc_hpc.benchmark.plain_nets import plain_net
from dc_hpc.benchmark.stages import flop_counts, peers
from dc_hpc.benchmark.stages.sizes import Setting
from dc_hpc.benchmark.timing import Peer, Stage

SEED = 1
CLASSES = 10
EAGER = "torch eager"


@dataclass
class NetworkFixture:
    """What the image stages of one network share: images, both nets with equal weights, pseudo-labels."""

    setting: Setting
    device: str
    images: Tensor = field(init=False)
    views: Views = field(init=False)
    seen: ImageViews = field(init=False)
    labels: Tensor = field(init=False)
    plain: nn.Sequential = field(init=False)
    state: State = field(init=False)
    first: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        base, n = self.setting.baseline, self.setting.size.images
        rng = np.random.default_rng(SEED)
        side = self.setting.image_side
        pixels = rng.integers(0, 256, (n, self.setting.facts.channels, side, side), dtype=np.uint8)
        self.images = torch.from_numpy(pixels).to(self.device)
        self.views = Views(base["resize"], base["crop"], base["mean"], base["std"], "flip")
        self.seen = ImageViews(self.images, self.views)
        k = max(2, min(base["k"], n // 4))
        self.labels = torch.from_numpy(rng.permutation(np.arange(n) % k)).to(self.device)
        name = self.setting.network
        trunk = NET_BUILDERS[name](batch_norm=True, sobel="off" if name == "lenet5" else "fixed").to(self.device)
        self.state = init_state(
            trunk, seed=SEED, lr=base["lr"], momentum=base["momentum"], weight_decay=base["weight_decay"]
        )
        self.first = {name: value.clone() for name, value in trunk.state_dict().items()}
        self.plain = plain_net(name).to(self.device)
        self.renew()

    @property
    def k(self) -> int:
        """Clusters that the pseudo-labels fill, each of them."""
        return int(self.labels.max()) + 1

    def renew(self) -> None:
        """Both nets as they were before any training, with the same filters and no momentum."""
        self.state.trunk.load_state_dict(self.first)
        self.plain.load_state_dict(self.first)
        self.state.optimizer.velocity.clear()
        self.state.cycle, self.state.phase, self.state.pseudo_labels = 0, "clustered", self.labels

    def layers(self, until: str | None = None) -> list[flop_counts.Layer]:
        """What the net multiplies, for one image."""
        return flop_counts.layers(self.plain, self.setting.facts.channels, self.setting.facts.size, until=until)

    def stage(self, name: str, size: str, done: float, unit: str, **rest: Any) -> Stage:
        """A stage of this network on this device."""
        return Stage(name, self.setting.network, size, done, unit, place=self.device, **rest)


def views(room: NetworkFixture) -> Stage:
    """The clustering views of all images, built and normalised: what a run does once and its peer in every cycle."""
    n, base = len(room.images), room.setting.baseline
    dataset = peers.pil_images(room.images, room.views, mirror=False)

    def ours() -> Tensor:
        seen, batch = ImageViews(room.images, room.views), torch.empty(0)
        for start in range(0, n, peers.EAGER_BATCH):
            batch = seen.clustering(slice(start, start + peers.EAGER_BATCH))
        return batch

    def peer() -> Tensor:
        return peers.last_batch(dataset, batch_size=peers.EAGER_BATCH, order=None, device=room.device)

    done = flop_counts.views_bytes(n, room.setting.facts.channels, room.setting.image_side, base["crop"])
    return room.stage(
        "views",
        f"{n:,} images",
        done,
        "bytes",
        ours=ours,
        peers=(Peer("PIL + DataLoader", peer),),
        difference=_largest,
        tolerance=1e-5,
    )


def sampling(room: NetworkFixture) -> Stage:
    """The batches of one epoch: the class-balanced draw, then the images of each batch, mirrored at random."""
    batch_size, base = room.setting.batch_size, room.setting.baseline
    labels = room.labels.cpu().numpy()
    dataset = peers.pil_images(room.images, room.views, mirror=True)

    def order() -> np.ndarray:
        return balanced_order(labels, numpy_generator(SEED, 0, "sampling"))

    def ours() -> Tensor:
        rng, batch = numpy_generator(SEED, 0, "augmentation"), torch.empty(0)
        for indices in torch.from_numpy(order()).to(room.device).split(batch_size):
            batch = room.seen.training(indices, rng)
        return batch

    def peer() -> Tensor:
        return peers.last_batch(dataset, batch_size=batch_size, order=order(), device=room.device)

    drawn = len(order())
    return room.stage(
        "sampling",
        f"{drawn:,} images, batch {batch_size}",
        flop_counts.sampling_bytes(drawn, room.setting.facts.channels, base["crop"]),
        "bytes",
        ours=ours,
        peers=(Peer("PIL + DataLoader", peer),),
        difference=_up_to_mirror,
        tolerance=1e-5,
    )


def features(room: NetworkFixture) -> Stage:
    """`forward`: the features of all images in eval mode."""
    n = len(room.images)
    room.renew()
    return room.stage(
        "forward",
        f"{n:,} images",
        flop_counts.forward_flop(n, room.layers()),
        "FLOP",
        ours=lambda: extract_features(room.state.trunk, room.seen),
        peers=(Peer(EAGER, lambda: peers.plain_features(room.plain, room.seen)),),
        difference=_relative,
        tolerance=1e-3,
    )


def train(room: NetworkFixture) -> Stage:
    """One epoch of SGD on the pseudo-labels, a fresh head and the batches included."""
    base, batch_size = room.setting.baseline, room.setting.batch_size
    labels = room.labels.cpu().numpy()

    def ours() -> float:
        phases = deep_cluster(room.state, room.seen, k=room.k, cycles=1, batch_size=batch_size, seed=SEED)
        return next(phases).loss

    def peer() -> float:
        head = new_head(room.setting.facts.features, room.k, seed=SEED, cycle=0)
        plain_head = nn.Sequential(nn.ReLU(), nn.Linear(room.setting.facts.features, room.k))
        plain_head[1].load_state_dict(dict(head[1].state_dict()))
        return peers.plain_epoch(
            room.plain,
            plain_head.to(room.device),
            room.seen,
            room.labels,
            batch_size=batch_size,
            order=balanced_order(labels, numpy_generator(SEED, 0, "sampling")),
            lr=base["lr"],
            momentum=base["momentum"],
            weight_decay=base["weight_decay"],
            dropout=key(SEED, 0, "dropout"),
            augmentation=numpy_generator(SEED, 0, "augmentation"),
        )

    drawn = len(balanced_order(labels, numpy_generator(SEED, 0, "sampling")))
    done = flop_counts.training_flop(drawn, room.layers(), features=room.setting.facts.features, k=room.k)
    return room.stage(
        "train",
        f"{drawn:,} images, batch {batch_size}, k {room.k}",
        done,
        "FLOP",
        ours=ours,
        peers=(Peer(EAGER, peer),),
        difference=lambda a, b: abs(a - b) / abs(a),
        tolerance=0.02,
        before=room.renew,
    )


def probe(room: NetworkFixture) -> Stage:
    """The linear probe: activations once, then the classifier's epochs; its peer runs the trunk in every epoch."""
    room.renew()
    size, base = room.setting.size, room.setting.baseline
    layer, pool = base["probe"][0], base.get("probe_average_pool")
    test_size = max(2, size.probe_images // 5)
    rng = np.random.default_rng(SEED)
    train_seen = ImageViews(room.images[: size.probe_images], room.views)
    test_seen = ImageViews(room.images[-test_size:], room.views)
    labels, test_labels = (
        torch.from_numpy(rng.integers(0, CLASSES, n)).to(room.device) for n in (len(train_seen), test_size)
    )
    settings = dict(
        classes=CLASSES, seed=SEED, epochs=size.probe_epochs, lr=0.01, momentum=0.9, weight_decay=1e-4, batch_size=256
    )

    def ours() -> tuple[float, float]:
        rows, test_rows = (
            activations(room.state.trunk, seen, [layer], average_pool=pool)[layer] for seen in (train_seen, test_seen)
        )
        found = linear_probe(rows, labels, test_rows, test_labels, **settings)
        return found.accuracy, found.loss

    def peer() -> tuple[float, float]:
        return peers.uncached_probe(
            room.plain, train_seen, labels, test_seen, test_labels, layer=layer, average_pool=pool, **settings
        )

    values = activations(room.state.trunk, ImageViews(room.images[:1], room.views), [layer], average_pool=pool)
    done = flop_counts.probe_flop(
        room.layers(layer),
        train=len(train_seen),
        test=test_size,
        values=values[layer].shape[1],
        classes=CLASSES,
        epochs=size.probe_epochs,
    )
    words = f"{len(train_seen):,} + {test_size:,} images, {size.probe_epochs} epochs"
    return room.stage(
        "probe",
        words,
        done,
        "FLOP",
        ours=ours,
        peers=(Peer("uncached, eager", peer),),
        difference=_probes_apart,
        tolerance=0.01,
    )


def _largest(ours: Tensor, peer: Tensor) -> float:
    return float((ours - peer).abs().max())


def _relative(ours: Tensor, peer: Tensor) -> float:
    return _largest(ours, peer) / float(ours.abs().max())


def _up_to_mirror(ours: Tensor, peer: Tensor) -> float:
    """The two draw their mirrors from different generators, so each image may be the other way round."""
    straight, mirrored = ((ours - other).abs().flatten(1).amax(1) for other in (peer, peer.flip(-1)))
    return float(torch.minimum(straight, mirrored).max())


def _probes_apart(ours: tuple[float, float], peer: tuple[float, float]) -> float:
    """The losses, relative; the accuracies may differ by an image or two where a tie is decided by rounding."""
    return max(abs(ours[1] - peer[1]) / abs(ours[1]), abs(ours[0] - peer[0]) / 1e3)
