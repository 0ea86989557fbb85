"""DeepCluster, section 3.1 of the paper, in its order.

    for each cycle:   (A) features of the whole data set -> clustering -> pseudo-labels
                      (B) a fresh head, epochs of training the network on the pseudo-labels

The algorithm takes images. It has no parameter for ground truth, so the ground truth cannot leak into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dc_hpc.algorithm.arrays import Array, as_labels
from dc_hpc.algorithm.backends.cpu import last_two_layers
from dc_hpc.algorithm.backends.evaluation import evaluate_in_batches
from dc_hpc.algorithm.backends.training import Step, dropout_seed, training_step
from dc_hpc.algorithm.beyond.halting import HaltRule
from dc_hpc.algorithm.beyond.soft_reset import reset_softly
from dc_hpc.algorithm.clustering import Clustering, LinearFeatures, cluster_by_kmeans, takes_linear_features
from dc_hpc.algorithm.divergence import DivergenceError
from dc_hpc.algorithm.nets import OUTPUT, feature_dimension, new_head
from dc_hpc.algorithm.randomness import key, numpy_generator
from dc_hpc.algorithm.schedule import Schedule
from dc_hpc.algorithm.state import State, next_cycle
from dc_hpc.algorithm.views import ImageViews, Views


@dataclass(frozen=True)
class Cycle:
    """One finished phase of one cycle.

    index: 0-based cycle. phase: "clustered" or "trained". pseudo_labels: int64 (n,). previous_pseudo_labels: those
    of the cycle before, None at the first. features, inertia, components_alive, effective_rank, spectrum_alpha,
    silhouette: those of the clustering (see Clustering); None after training. loss: mean of the loss over the epochs of
    this cycle; None after clustering. labels_cycle, halted: where a rule halts the clustering, the cycle whose
    pseudo-labels the net trains on from now on, and whether that was the last clustering.
    """

    index: int
    phase: str
    pseudo_labels: Tensor
    previous_pseudo_labels: Tensor | None = None
    features: Tensor | None = None
    inertia: float | None = None
    components_alive: int | None = None
    effective_rank: float | None = None
    spectrum_alpha: float | None = None
    silhouette: float | None = None
    loss: float | None = None
    labels_cycle: int | None = None
    halted: bool | None = None


class ClusterFunction(Protocol):
    """Clusters features, float32 (n, D), into at most k clusters; `seed` (63 bits) decides every random draw."""

    def __call__(self, features: Tensor, /, *, k: int, seed: int) -> Clustering: ...


LossFunction = Callable[[Tensor, Tensor], Tensor]
# Told where the computation is: (stage, how much of it is done, how much there is).
ProgressFunction = Callable[[str, int, int], None]


def ignore_progress(stage: str, done: int, total: int) -> None:
    """The ProgressFunction of a caller that does not watch."""


def deep_cluster(
    state: State,
    images: Array | ImageViews,
    *,
    views: Views | None = None,
    k: int,
    seed: int,
    schedule: Schedule,
    batch_size: int,
    cluster: ClusterFunction = cluster_by_kmeans,
    loss: LossFunction = cross_entropy,
    first_clustering: Clustering | None = None,
    halt_rule: HaltRule | None = None,
    soft_reset: float = 0.0,
    on_progress: ProgressFunction = ignore_progress,
) -> Iterator[Cycle]:
    """Run DeepCluster from `state` on; yield after each phase, the only places where saving is safe.

    images: uint8 with `views`, a tensor (n, c, h, w) on the trunk's device or a NumPy array (n, h, w) or (n, h, w, c);
    or both joined in an ImageViews. k: number of clusters. cluster: from features to pseudo-labels; functools.partial
    sets the options of `cluster_by_kmeans`. loss: from logits (b, outputs) and pseudo-labels (b,) to a scalar, by
    tensor operations alone: a GPU records them once and repeats them. first_clustering: that of cycle 0, where another
    run has computed it; it is used unchanged. halt_rule: when clustering halts before the schedule says so, and on
    which pseudo-labels the net trains. soft_reset: the fraction by which `reset_softly` moves the weights back to fresh
    ones before the features of each clustering after the first, but for a last one that no training follows.
    on_progress: called with "features" and a number of images, "clustering", and "training" and a number of batches.

    `state` is updated in place before each yield. Going on from a saved state gives the same bits as never having
    stopped. Raises ValueError at the first step when an argument does not fit the images or the net. Raises
    DivergenceError, a ValueError, after the first epoch with a loss that is NaN or infinite; `state` is spoilt then.
    """
    if not isinstance(images, ImageViews):
        if views is None:
            raise ValueError("views is missing: pass Views(resize=..., crop=..., mean=..., std=...)")
        images = ImageViews(images, views)
    if not 1 <= k <= len(images):
        raise ValueError(f"k {k} must be between 1 and the {len(images)} images")
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be 1 or more")
    for cycle in range(next_cycle(state), schedule.end):
        clustered = (state.cycle, state.phase) == (cycle, "clustered")
        halted = halt_rule is not None and halt_rule.halted(state.scores)
        if schedule.clusters_in(cycle) and not clustered and not halted:
            if soft_reset and cycle > 0 and schedule.trains_in(cycle):
                reset_softly(state.trunk, soft_reset, seed=seed, cycle=cycle)
            known = first_clustering if cycle == 0 else None
            clustered_now = _cluster(
                state, images, cycle, k=k, seed=seed, cluster=cluster, known=known, on_progress=on_progress
            )
            yield clustered_now if halt_rule is None else _keep(state, clustered_now, halt_rule)
        if schedule.trains_in(cycle):
            epochs = schedule.epochs_per_cycle
            yield _train(
                state,
                images,
                cycle,
                k=k,
                seed=seed,
                epochs=epochs,
                batch_size=batch_size,
                loss=loss,
                on_progress=on_progress,
            )


def _cluster(
    state: State,
    images: ImageViews,
    cycle: int,
    *,
    k: int,
    seed: int,
    cluster: ClusterFunction,
    known: Clustering | None,
    on_progress: ProgressFunction,
) -> Cycle:
    """(A): the features of all images are clustered; the assignments become the pseudo-labels."""
    if known is None:
        features = features_for(cluster, state.trunk, images, on_progress)
        on_progress("clustering", 0, 0)
        try:
            known = cluster(features, k=k, seed=key(seed, cycle, "kmeans"))
        except DivergenceError as error:
            if cycle == 0:
                raise
            why = str(error).partition(";")[0]
            raise DivergenceError(f"training diverged before clustering in cycle {cycle} ({why}); lower lr") from None
    labels = as_labels(known.labels, len(images), "Clustering.labels").to(images.device)
    previous, state.pseudo_labels = state.pseudo_labels, labels
    state.cycle, state.phase = cycle, "clustered"
    return Cycle(cycle, "clustered", labels, previous, *known[1:])


def _keep(state: State, new: Cycle, rule: HaltRule) -> Cycle:
    """Leave in the state the pseudo-labels that the rule trains on: those of the clustering `new`, or those before."""
    state.scores[new.index] = rule.score(new.pseudo_labels, new.previous_pseudo_labels, new.effective_rank)
    kept = rule.kept(state.scores)
    if kept != new.index:
        state.pseudo_labels = new.previous_pseudo_labels
    return replace(new, labels_cycle=kept, halted=rule.halted(state.scores))


def _train(
    state: State,
    images: ImageViews,
    cycle: int,
    *,
    k: int,
    seed: int,
    epochs: int,
    batch_size: int,
    loss: LossFunction,
    on_progress: ProgressFunction,
) -> Cycle:
    """(B): a fresh head, then epochs of SGD on (image, pseudo-label)."""
    labels = state.pseudo_labels
    if labels is None:
        raise ValueError(f"there are no pseudo-labels to train on in cycle {cycle}: the state says {state.phase!r}")
    # k outputs; more only when a caller put labels of its own into the state, as the leak experiment does
    outputs = max(k, int(labels.max()) + 1)
    features = feature_dimension(state.trunk, images.clustering(slice(0, 2)))
    head = new_head(features, outputs, seed=seed, cycle=cycle).to(images.device)
    step = training_step(state.trunk, head, loss, state.optimizer, state.optimizer.with_parameters(head.parameters()))
    sampling, augmentation = numpy_generator(seed, cycle, "sampling"), numpy_generator(seed, cycle, "augmentation")
    losses = []
    with dropout_seed(key(seed, cycle, "dropout"), images.device):
        for epoch in range(epochs):
            order = torch.from_numpy(balanced_order(labels.cpu().numpy(), sampling)).to(images.device)
            batches = torch.split(order, batch_size)

            def on_batch(number: int, done: int = epoch * len(batches), total: int = epochs * len(batches)) -> None:
                on_progress("training", done + number, total)

            losses.append(_epoch(step, images, labels, batches, augmentation, on_batch))
            if not math.isfinite(losses[-1]):
                raise _divergence(cycle, f"loss {losses[-1]}", state.trunk, batches)
    if not all(bool(tensor.isfinite().all()) for tensor in state.trunk.state_dict().values()):
        raise _divergence(cycle, f"loss {losses[-1]:g}, weights NaN or infinite", state.trunk, batches)
    state.cycle, state.phase = cycle, "trained"
    return Cycle(cycle, "trained", labels, loss=float(np.mean(losses)))


def _divergence(cycle: int, what: str, trunk: nn.Module, batches: Sequence[Tensor]) -> DivergenceError:
    normalized = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in trunk.modules())
    way_out = "lower lr"
    if normalized and min(map(len, batches)) == 1:
        way_out = "a batch has one image, of which batch norm may make NaN: change batch_size, or lower lr"
    return DivergenceError(f"training diverged in cycle {cycle} ({what}); {way_out}")


def _epoch(
    step: Step,
    images: ImageViews,
    labels: Tensor,
    batches: tuple[Tensor, ...],
    augmentation: np.random.Generator,
    on_batch: Callable[[int], None],
) -> float:
    """A step on each batch of indices; the mean loss over their images."""
    total = torch.zeros((), dtype=torch.float64, device=images.device)
    with np.errstate(all="ignore"):  # the loss says it when numbers are not finite
        for number, indices in enumerate(batches):
            on_batch(number)
            total += step(images.training(indices, augmentation), labels[indices]) * len(indices)
    return total.item() / sum(map(len, batches))


def features_for(
    cluster: ClusterFunction, trunk: nn.Module, images: ImageViews, on_progress: ProgressFunction = ignore_progress
) -> Any:
    """The features of every image as a clustering takes them: a tensor as of `extract_features`, or LinearFeatures."""
    apart = linear_features(trunk, images, on_progress) if takes_linear_features(cluster) else None
    return extract_features(trunk, images, on_progress) if apart is None else apart


def extract_features(trunk: nn.Module, images: ImageViews, on_progress: ProgressFunction = ignore_progress) -> Tensor:
    """What the trunk returns for every image: float32 (n, D), clustering view, eval mode. Maps are flattened.

    The nets of the paper end with a Linear layer and no ReLU. Raises ValueError: the net returns no row for each image.
    """
    dimension = feature_dimension(trunk, images.clustering(slice(0, 2)))
    return _values(trunk, OUTPUT, dimension, images, on_progress)


def linear_features(
    trunk: nn.Module, images: ImageViews, on_progress: ProgressFunction = ignore_progress
) -> LinearFeatures | None:
    """The features of every image without the trunk's last layer; None where that is no Linear layer, or a narrow one.

    Of a layer with more inputs than outputs the inputs would take more memory, and their covariance more time.
    """
    layers = last_two_layers(trunk)
    if layers is None:
        return None
    name, last = layers
    if last.in_features > last.out_features:
        return None
    rows = _values(trunk, name, last.in_features, images, on_progress)
    bias = last.weight.new_zeros(last.out_features) if last.bias is None else last.bias.detach().clone()
    return LinearFeatures(rows, last.weight.detach().clone(), bias)


@torch.no_grad()
def _values(trunk: nn.Module, layer: str, dimension: int, images: ImageViews, on_progress: ProgressFunction) -> Tensor:
    """The values of one layer for every image, float32 (n, dimension), clustering view, eval mode."""
    found = torch.empty(len(images), dimension, device=images.device)
    for rows, values in evaluate_in_batches(trunk, [layer], images.clustering, len(images)):
        found[rows] = values[layer].flatten(1)
        on_progress("features", rows.stop, len(images))
    return found


def balanced_order(pseudo_labels: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The images of one epoch, uniform over the pseudo-classes: int64 (m,), shuffled.

    Each of the k' non-empty clusters contributes int(n / k') + 1 images, drawn with replacement only where it has no
    more than that. Without this a few large clusters would rule the loss (the trivial solutions of Caron et al. 2018).
    """
    grouped = np.argsort(pseudo_labels, kind="stable")
    sizes = np.bincount(pseudo_labels)
    members = [group for group in np.split(grouped, np.cumsum(sizes)[:-1]) if len(group)]
    each = len(pseudo_labels) // len(members) + 1
    drawn = [rng.choice(group, each, replace=len(group) <= each) for group in members]
    return rng.permutation(np.concatenate(drawn))
