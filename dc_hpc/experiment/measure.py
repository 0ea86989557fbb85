"""Computes the metrics of a run: its pseudo-labels against the true labels (section 3.2), outside the algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dc_hpc.algorithm.agreement import agreement, cluster_health, effective_clusters, label_entropy
from dc_hpc.algorithm.beyond.silhouette import sample_silhouette
from dc_hpc.algorithm.deepcluster import Cycle


def brightness_deciles(images: np.ndarray) -> np.ndarray:
    """Which tenth of the images each belongs to by its mean pixel: int64 (n,), the darkest have 0.

    images: uint8 (n, c, h, w). Equal means are ordered by their place.
    """
    brightness = images.reshape(len(images), -1).sum(1, dtype=np.int64)
    ranks = np.empty(len(images), np.int64)
    ranks[np.argsort(brightness, kind="stable")] = np.arange(len(images))
    return ranks * 10 // len(images)


def clustering_row(cycle: Cycle, labels: np.ndarray, deciles: np.ndarray, k: int) -> dict[str, Any]:
    """The metrics of a clustering: agreement with the cycle before and with the truth, health of clusters and features.

    labels: true labels (n,). deciles: of `brightness_deciles`.
    """
    now = cycle.pseudo_labels.cpu().numpy()
    true, health = agreement(now, labels), cluster_health(now, k)
    row = {
        "cycle": cycle.index,
        "reassign": True,
        "nmi_true": true.nmi,
        "ami_true": true.ami,
        "nmi_true_chance": true.chance,
        "label_entropy": label_entropy(now, labels),
        "clusters_empty": health.empty,
        "cluster_size_min": health.smallest,
        "cluster_size_median": health.median,
        "cluster_size_max": health.largest,
        "effective_clusters": effective_clusters(now),
        "inertia": cycle.inertia,
        "inertia_per_point": None if cycle.inertia is None else cycle.inertia / len(now),
        "effective_rank": cycle.effective_rank,
        "spectrum_alpha": cycle.spectrum_alpha,
        "components_alive": cycle.components_alive,
        "silhouette": _silhouette(cycle),
        "nmi_brightness": agreement(now, deciles).nmi,
    }
    if cycle.labels_cycle is not None:
        row |= {"labels_cycle": cycle.labels_cycle, "halted": cycle.halted}
    if cycle.previous_pseudo_labels is not None:
        previous = agreement(cycle.previous_pseudo_labels.cpu().numpy(), now)
        row |= {"nmi_prev": previous.nmi, "ami_prev": previous.ami}
    return row


def _silhouette(cycle: Cycle) -> float | None:
    """That of the clustering, computed here unless it came from another run, without its features."""
    if cycle.silhouette is not None or cycle.features is None:
        return cycle.silhouette
    return sample_silhouette(cycle.features, cycle.pseudo_labels)


def halted_row(cycle: Cycle, labels: np.ndarray, before: Mapping[str, Any]) -> dict[str, Any]:
    """A cycle that keeps its labels: nothing changed since the cycle before, so there is nothing to compare with.

    before: the row of the cycle before, empty at the first.
    """
    true = agreement(cycle.pseudo_labels.cpu().numpy(), labels)
    return {
        "cycle": cycle.index,
        "reassign": False,
        "nmi_true": true.nmi,
        "ami_true": true.ami,
        "nmi_true_chance": true.chance,
        **{name: before[name] for name in ("labels_cycle", "halted") if name in before},
    }


def summary(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The final numbers of a run: its Initial Alignment (section 4.1.1), and where its curves end."""
    clusterings = [row for row in history if row["reassign"]] or [{}]  # empty where the true labels replaced them
    first, names = clusterings[0], ("nmi_prev", "ami_prev", "nmi_true", "ami_true", "label_entropy", "clusters_empty")
    last = {f"{name}_last": clusterings[-1].get(name) for name in names}
    losses = [row["loss"] for row in history if row.get("loss") is not None]
    return {
        "ia": first.get("nmi_true"),
        "ia_ami": first.get("ami_true"),
        "ia_chance": first.get("nmi_true_chance"),
        "clusterings": sum(row["reassign"] for row in history),
        "epochs": len(losses),
        **last,
        "loss_last": losses[-1] if losses else None,
        **_of_the_rule(history),
    }


def _of_the_rule(history: list[dict[str, Any]]) -> dict[str, Any]:
    """What a halting rule did, where the run has one."""
    if "labels_cycle" not in history[-1]:
        return {}
    halts = [row["cycle"] for row in history if row["halted"]]
    return {"halting_cycle": halts[0] if halts else None, "labels_cycle_last": history[-1]["labels_cycle"]}
