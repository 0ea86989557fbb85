"""DeepCluster, section 3.1 of the paper, in its order.

    for each cycle:   (A) features of the whole data set -> PCA, whitening, L2 -> k-means -> pseudo-labels
                      (B) a fresh head, one epoch of training the network on the pseudo-labels

The algorithm takes images. It has no parameter for ground truth, so the ground truth cannot leak into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dc_hpc.algorithm.backends.cpu import evaluated_at_once, evaluation, training
from dc_hpc.algorithm.backends.cuda_graph import Replayed, Step
from dc_hpc.algorithm.backends.sgd import SGD
from dc_hpc.algorithm.clustering import Clusters, kmeans, reduce_features
from dc_hpc.algorithm.nets import feature_dimension, initialise, new_head
from dc_hpc.algorithm.randomness import key, numpy_generator
from dc_hpc.algorithm.views import ImageViews, Views

LAST_CYCLE = ("train", "skip")


@dataclass
class State:
    """Exactly what crosses from one phase to the next. Saving it is saving the run.

    trunk: the net f_theta. optimizer: its SGD with momentum. cycle, phase: the last finished phase, ("fresh",
    "clustered" or "trained"). pseudo_labels: int64 (n,), on the trunk's device; None before the first clustering.
    The head and its optimizer are not here: they live and die inside one cycle.
    """

    trunk: nn.Sequential
    optimizer: SGD
    cycle: int = 0
    phase: str = "fresh"
    pseudo_labels: Tensor | None = None


@dataclass(frozen=True)
class Cycle:
    """One finished phase of one cycle.

    index: 0-based cycle. phase: "clustered" or "trained". pseudo_labels: int64 (n,). previous_pseudo_labels: those
    of the cycle before, None at the first. features: float32 (n, q) after reduction, None where clusters were given
    without them; inertia: of the k-means; both None after training. loss: mean cross-entropy in nats over the epochs
    of this cycle; None after clustering.
    """

    index: int
    phase: str
    pseudo_labels: Tensor
    previous_pseudo_labels: Tensor | None = None
    features: Tensor | None = None
    inertia: float | None = None
    loss: float | None = None


def init_state(trunk: nn.Sequential, *, seed: int, lr: float, momentum: float, weight_decay: float) -> State:
    """A run before its first cycle: the trunk gets the random filters of `seed`, SGD gets its constants.

    The learning rate is constant and weight decay reaches every parameter, as in the authors' code.
    """
    initialise(trunk, seed=seed)
    return State(trunk, SGD(trunk.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay))


def deep_cluster(
    state: State,
    images: Tensor | ImageViews,
    *,
    views: Views | None = None,
    k: int,
    cycles: int,
    batch_size: int,
    seed: int,
    pca: int | None = None,
    halt_cycle: int | None = None,
    reassign: int = 1,
    epochs_per_cycle: int = 1,
    last_cycle: str = "train",
    kmeans_init: str = "k-means++",
    kmeans_iterations: int = 20,
    engine: str = "torch",
    replay: bool = True,
    first_features: Tensor | None = None,
    first_clusters: Clusters | None = None,
) -> Iterator[Cycle]:
    """Run DeepCluster from `state` on; yield after each phase, the only places where saving is safe.

    images: uint8 (n, c, h, w) with `views`, or both joined in a ImageViews; on the trunk's device.
    k: number of clusters. cycles: N_c; with 0 the fresh net is clustered once and nothing is trained, which is what
    the Initial Alignment is computed from (section 4.1.1). halt_cycle: number of clusterings done (section 4.2):
    clustering happens in cycles 0 .. halt_cycle - 1 and their last pseudo-labels serve from then on; None clusters in
    every cycle. reassign: cluster in every reassign-th cycle. epochs_per_cycle: N_e. last_cycle: "skip" leaves out
    the training of the last cycle, as the authors' loop does. engine: of k-means. replay: on a GPU, steps of training
    as CUDA graphs, which gives the same bits sooner. first_features, first_clusters: what another run has computed of
    cycle 0 already: the reduced features, float32 (n, q), and their clusters; they are taken as they are.

    `state` is updated in place before each yield. Going on from a saved state gives the same bits as never having
    stopped. Raises ValueError at the first step when an argument does not fit the images or the net.
    """
    seen = images if isinstance(images, ImageViews) else ImageViews(images, _required(views))
    _check(
        state,
        seen,
        k=k,
        pca=pca,
        cycles=cycles,
        halt_cycle=halt_cycle,
        last_cycle=last_cycle,
        batch_size=batch_size,
        reassign=reassign,
        epochs_per_cycle=epochs_per_cycle,
    )
    trained_cycles = cycles - 1 if last_cycle == "skip" else cycles
    for cycle in range(next_cycle(state), max(cycles, 1)):
        halted = halt_cycle is not None and cycle >= halt_cycle
        clustered = (state.cycle, state.phase) == (cycle, "clustered")
        if not clustered and not halted and cycle % reassign == 0:
            yield _cluster(
                state,
                seen,
                cycle,
                k=k,
                pca=pca,
                seed=seed,
                init=kmeans_init,
                iterations=kmeans_iterations,
                engine=engine,
                features=first_features if cycle == 0 else None,
                clusters=first_clusters if cycle == 0 else None,
            )
        if cycle < trained_cycles:
            yield _train(
                state, seen, cycle, k=k, batch_size=batch_size, seed=seed, epochs=epochs_per_cycle, replay=replay
            )


def _cluster(
    state: State,
    seen: ImageViews,
    cycle: int,
    *,
    k: int,
    pca: int | None,
    seed: int,
    init: str,
    iterations: int,
    engine: str,
    features: Tensor | None,
    clusters: Clusters | None,
) -> Cycle:
    """(A): features, reduction, k-means; the assignments become the pseudo-labels."""
    if clusters is None:
        features = reduce_features(extract_features(state.trunk, seen), pca=pca) if features is None else features
        clusters = kmeans(
            features, k=k, seed=key(seed, cycle, "kmeans"), init=init, iterations=iterations, engine=engine
        )
    previous, state.pseudo_labels = state.pseudo_labels, clusters.labels
    state.cycle, state.phase = cycle, "clustered"
    return Cycle(cycle, "clustered", clusters.labels, previous, features, clusters.inertia)


def _train(
    state: State, seen: ImageViews, cycle: int, *, k: int, batch_size: int, seed: int, epochs: int, replay: bool
) -> Cycle:
    """(B): a fresh head, then epochs of SGD on (image, pseudo-label)."""
    # k outputs; more only when a caller put labels of its own into the state, as the leak experiment does
    outputs = max(k, int(state.pseudo_labels.max()) + 1)
    head = new_head(feature_dimension(state.trunk), outputs, seed=seed, cycle=cycle).to(seen.images.device)
    head_optimizer = SGD(
        head.parameters(),
        lr=state.optimizer.lr,
        momentum=state.optimizer.momentum,
        weight_decay=state.optimizer.weight_decay,
    )
    sampling = numpy_generator(seed, cycle, "sampling")
    augmentation = numpy_generator(seed, cycle, "augmentation")
    losses, step = [], _step(state, training(state.trunk), head, head_optimizer)
    step = Replayed(step) if replay and seen.images.is_cuda else step
    with torch.random.fork_rng(devices=_cuda_devices(seen)):
        torch.manual_seed(key(seed, cycle, "dropout"))  # dropout only knows the global generator
        for _ in range(epochs):
            order = balanced_order(state.pseudo_labels.cpu().numpy(), sampling)
            losses.append(_epoch(step, seen, state.pseudo_labels, order, batch_size, augmentation))
    state.cycle, state.phase = cycle, "trained"
    return Cycle(cycle, "trained", state.pseudo_labels, loss=float(np.mean(losses)))


def _step(state: State, trunk: Callable[[Tensor], Tensor], head: nn.Module, head_optimizer: SGD) -> Step:
    """A step of SGD on a batch (b, c, h, w) and its pseudo-labels (b,); it returns the loss before it."""

    def step(batch: Tensor, labels: Tensor) -> Tensor:
        loss = cross_entropy(head(trunk(batch)), labels)
        state.optimizer.zero_grad()
        head_optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        head_optimizer.step()
        return loss.detach()

    return step


def _epoch(
    step: Step, seen: ImageViews, labels: Tensor, order: np.ndarray, batch_size: int, augmentation: np.random.Generator
) -> float:
    total = torch.zeros((), dtype=torch.float64, device=seen.images.device)
    for indices in torch.from_numpy(order).to(seen.images.device).split(batch_size):
        total += step(seen.training(indices, augmentation), labels[indices]) * len(indices)
    return total.item() / len(order)


@torch.no_grad()
def extract_features(trunk: nn.Sequential, seen: ImageViews) -> Tensor:
    """The features of every image: float32 (n, D), clustering view, eval mode, before any ReLU."""
    last, at_once = list(trunk.named_children())[-1][0], evaluated_at_once(trunk)
    evaluate = evaluation(trunk, [last])
    features = torch.empty(len(seen), feature_dimension(trunk), device=seen.images.device)
    for start in range(0, len(seen), at_once):
        features[start : start + at_once] = evaluate(seen.clustering(slice(start, start + at_once)))[last]
    return features


def balanced_order(pseudo_labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images of one epoch, uniform over the pseudo-classes: int64 (m,), shuffled.

    Each of the k' non-empty clusters gives int(n / k') + 1 images, drawn with replacement only where it has no more
    than that. Without this a few large clusters would rule the loss (the trivial solutions of Caron et al. 2018).
    """
    grouped = np.argsort(pseudo_labels, kind="stable")
    sizes = np.bincount(pseudo_labels)
    members = [group for group in np.split(grouped, np.cumsum(sizes)[:-1]) if len(group)]
    each = len(pseudo_labels) // len(members) + 1
    drawn = [rng.choice(group, each, replace=len(group) <= each) for group in members]
    return rng.permutation(np.concatenate(drawn))


def state_tensors(state: State) -> dict[str, Tensor]:
    """The State as named tensors, on the CPU: `trunk.*`, `momentum.*` where there is any, `pseudo_labels` int32."""
    tensors = {f"trunk.{name}": value for name, value in state.trunk.state_dict().items()}
    for name, parameter in state.trunk.named_parameters():
        if parameter in state.optimizer.velocity:
            tensors[f"momentum.{name}"] = state.optimizer.velocity[parameter]
    if state.pseudo_labels is not None:
        tensors["pseudo_labels"] = state.pseudo_labels.int()
    return {name: value.detach().cpu() for name, value in tensors.items()}


def load_state(state: State, tensors: dict[str, Tensor], *, cycle: int, phase: str) -> None:
    """Put `state_tensors` back into a state made by `fresh` with the same net and constants, in place."""
    trunk = {name.removeprefix("trunk."): value for name, value in tensors.items() if name.startswith("trunk.")}
    state.trunk.load_state_dict(trunk)
    for name, parameter in state.trunk.named_parameters():
        if f"momentum.{name}" in tensors:
            state.optimizer.velocity[parameter] = tensors[f"momentum.{name}"].to(parameter.device, copy=True)
    if "pseudo_labels" in tensors:
        device = next(state.trunk.parameters()).device
        state.pseudo_labels = tensors["pseudo_labels"].long().to(device)
    state.cycle, state.phase = cycle, phase


def next_cycle(state: State) -> int:
    """The cycle that the next phase belongs to."""
    return state.cycle + 1 if state.phase == "trained" else state.cycle


def _required(views: Views | None) -> Views:
    if views is None:
        raise ValueError("views is missing: give Views(resize=..., crop=..., mean=..., std=...)")
    return views


def _cuda_devices(seen: ImageViews) -> list[torch.device]:
    return [seen.images.device] if seen.images.is_cuda else []


def _check(
    state: State,
    seen: ImageViews,
    *,
    k: int,
    pca: int | None,
    cycles: int,
    halt_cycle: int | None,
    last_cycle: str,
    batch_size: int,
    reassign: int,
    epochs_per_cycle: int,
) -> None:
    dimension = feature_dimension(state.trunk)
    wrong = [
        (not 1 <= k <= len(seen), f"k {k} must be between 1 and the {len(seen)} images"),
        (pca is not None and not 1 <= pca <= dimension, f"pca {pca} must be between 1 and the {dimension} features"),
        (cycles < 0, f"cycles {cycles} must be 0 or more"),
        (halt_cycle is not None and halt_cycle < 1, f"halt_cycle {halt_cycle} must be 1 or more, or None for never"),
        (last_cycle not in LAST_CYCLE, f"last_cycle {last_cycle!r} is not one of {', '.join(LAST_CYCLE)}"),
        (min(batch_size, reassign, epochs_per_cycle) < 1, "batch_size, reassign, epochs_per_cycle must be 1 or more"),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise ValueError(message)
