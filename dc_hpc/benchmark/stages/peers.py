"""Computes the same results with other libraries: scikit-learn, faiss, PIL with torch's DataLoader, eager torch.

Each function computes what ours computes, from the same input and the same random draws. It imports its library itself,
so that a library that is not installed costs only its own rows.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy
from torch.utils.data import DataLoader, Dataset

from dc_hpc.algorithm.randomness import numpy_generator, torch_generator
from dc_hpc.algorithm.views import ImageViews, Views

EAGER_BATCH = 256


def installed(package: str) -> bool:
    """Whether a library can be imported; it is not imported to find out."""
    return importlib.util.find_spec(package) is not None


class PilImages(Dataset[Tensor]):
    """A data set as in torchvision: an array in memory; each access makes a PIL image and transforms it."""

    def __init__(self, images: np.ndarray, transform: Callable[[Any], Tensor]):
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index]))


def pil_images(images: Tensor, views: Views, *, mirror: bool) -> PilImages:
    """uint8 (n, c, h, w) with torchvision's transforms: the clustering view, mirrored at random for training."""
    from torchvision import transforms

    steps = [transforms.Resize(views.resize), transforms.CenterCrop(views.crop)]
    steps += [transforms.RandomHorizontalFlip()] if mirror else []
    steps += [transforms.ToTensor(), transforms.Normalize(views.mean, views.std)]
    pixels = images.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return PilImages(pixels[..., 0] if pixels.shape[3] == 1 else pixels, transforms.Compose(steps))


def last_batch(dataset: PilImages, *, batch_size: int, order: np.ndarray | None, device: str) -> Tensor:
    """Load all batches with a DataLoader in this process, in `order` or in that of the data set; return the last."""
    sampler = None if order is None else order.tolist()
    batch = torch.empty(0)
    for batch in DataLoader(dataset, batch_size=batch_size, sampler=sampler):
        batch = batch.to(device)
    return batch


@torch.no_grad()
def eager_features(net: nn.Sequential, images: ImageViews) -> Tensor:
    """Features of every image by eager torch, in eval mode, batch by batch."""
    net.eval()
    batches = torch.arange(len(images), device=images.images.device).split(EAGER_BATCH)
    return torch.cat([net(images.clustering(slice(int(batch[0]), int(batch[-1]) + 1))) for batch in batches])


def eager_epoch(
    net: nn.Sequential,
    head: nn.Module,
    images: ImageViews,
    pseudo_labels: Tensor,
    *,
    order: np.ndarray,
    augmentation: np.random.Generator,
    dropout: int,
    batch_size: int,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> float:
    """One epoch of SGD with torch's defaults; returns the mean loss in nats.

    order, augmentation and dropout (a seed) are the draws that ours makes.
    """
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizers = [
        torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for parameters in (trained, list(head.parameters()))
    ]
    total = 0.0
    net.train()
    torch.manual_seed(dropout)
    for indices in torch.from_numpy(order).to(images.images.device).split(batch_size):
        loss = cross_entropy(head(net(images.training(indices, augmentation))), pseudo_labels[indices])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        total += loss.item() * len(indices)
    return total / len(order)


def uncached_probe(
    net: nn.Sequential,
    train: ImageViews,
    train_labels: Tensor,
    test: ImageViews,
    test_labels: Tensor,
    *,
    layer: str,
    average_pool: int | None,
    classes: int,
    seed: int,
    epochs: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    batch_size: int,
) -> tuple[float, float]:
    """The linear probe, which runs the frozen trunk again in every epoch; (accuracy in percent, mean loss in nats)."""
    trunk = net[: 1 + [name for name, _ in net.named_children()].index(layer)].eval()
    values = _values(trunk, test.clustering(slice(0, 1)), average_pool).shape[1]
    classifier = _classifier(values, classes, seed).to(train.images.device)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    draws = numpy_generator(seed, 0, "probe")
    step, loss, correct = 0, math.nan, 0
    for _ in range(epochs):
        total = 0.0
        for indices in torch.from_numpy(draws.permutation(len(train))).to(train.images.device).split(batch_size):
            optimizer.param_groups[0]["lr"] = lr / math.sqrt(1 + lr * weight_decay * step)
            rows = _values(trunk, train.clustering(indices), average_pool)
            batch_loss = cross_entropy(classifier(rows), train_labels[indices])
            optimizer.zero_grad()
            batch_loss.backward()
            optimizer.step()
            total, step = total + batch_loss.item() * len(indices), step + 1
        loss = total / len(train)
        correct = _correct(trunk, classifier, test, test_labels, average_pool)
    return 100 * correct / len(test), loss


@torch.no_grad()
def _values(trunk: nn.Sequential, batch: Tensor, average_pool: int | None) -> Tensor:
    value = trunk(batch)
    return (avg_pool2d(value, average_pool) if average_pool and value.dim() == 4 else value).flatten(1)


@torch.no_grad()
def _classifier(values: int, classes: int, seed: int) -> nn.Linear:
    """The initial weights of our probe: torch's default range, drawn from the probe's key."""
    classifier, bound = nn.Linear(values, classes), 1 / math.sqrt(values)
    generator = torch_generator(seed, 0, "probe")
    for parameter in (classifier.weight, classifier.bias):
        parameter.uniform_(-bound, bound, generator=generator)
    return classifier


@torch.no_grad()
def _correct(trunk: nn.Sequential, classifier: nn.Linear, test: ImageViews, labels: Tensor, pool: int | None) -> int:
    correct = 0
    for start in range(0, len(test), EAGER_BATCH):
        batch = slice(start, start + EAGER_BATCH)
        correct += int((classifier(_values(trunk, test.clustering(batch), pool)).argmax(1) == labels[batch]).sum())
    return correct


def sklearn_pca(features: np.ndarray, pca: int) -> np.ndarray:
    """PCA with whitening, then L2. The exact solver by eigenvectors where this scikit-learn has it, else the SVD."""
    from sklearn import __version__
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    solver = "covariance_eigh" if tuple(int(part) for part in __version__.split(".")[:2]) >= (1, 5) else "full"
    reduced: np.ndarray = normalize(PCA(pca, whiten=True, svd_solver=solver).fit_transform(features))
    return reduced


def faiss_pca(features: np.ndarray, pca: int) -> np.ndarray:
    """PCAMatrix with whitening, trained on all rows, then L2."""
    import faiss

    matrix = faiss.PCAMatrix(features.shape[1], pca, -0.5)
    matrix.max_points_per_d = -(-len(features) // features.shape[1])  # its default trains on 1,000 rows a column
    matrix.train(features)
    reduced: np.ndarray = matrix.apply(features)
    faiss.normalize_L2(reduced)
    return reduced


def sklearn_plusplus(points: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The first centroids (k, d) of greedy k-means++."""
    from sklearn.cluster import kmeans_plusplus

    centroids: np.ndarray = kmeans_plusplus(points, k, random_state=seed)[0]
    return centroids


def sklearn_kmeans(points: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """Labels after `iterations` of Lloyd from given centroids."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(len(centroids), init=centroids, n_init=1, max_iter=iterations, tol=0.0).fit(points)
    labels: np.ndarray = kmeans.labels_
    return labels


def faiss_kmeans(points: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """Labels after `iterations` of Lloyd on all points from given centroids."""
    import faiss

    n, d = points.shape
    kmeans = faiss.Kmeans(d, len(centroids), niter=iterations, max_points_per_centroid=n, min_points_per_centroid=1)
    kmeans.train(points, init_centroids=centroids)
    labels: np.ndarray = kmeans.index.search(points, 1)[1][:, 0]
    return labels


def sklearn_agreement(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """NMI and AMI."""
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    return float(normalized_mutual_info_score(a, b)), float(adjusted_mutual_info_score(a, b))


def torch_saved(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> bytes:
    """A checkpoint as torch.save writes it."""
    memory = io.BytesIO()
    torch.save(tensors | metadata, memory)
    return memory.getvalue()


def plain_hdf5(features: np.ndarray, pseudo_labels: np.ndarray) -> bytes:
    """The same dump as h5py writes it by default: in one piece, without checksums."""
    import h5py

    with h5py.File.in_memory() as file:
        file.create_dataset("features", data=features.astype(np.float16))
        file.create_dataset("pseudo_labels", data=pseudo_labels.astype(np.uint16))
        file.flush()
        image: bytes = file.id.get_file_image()
        return image
