"""The state that passes from one phase of a run to the next, as tensors that can be saved and loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dc_hpc.algorithm.backends.sgd import SGD
from dc_hpc.algorithm.nets import initialise


@dataclass
class State:
    """All that passes from one phase to the next: to save it is to save the run.

    trunk: the net f_theta. optimizer: its SGD with momentum. cycle, phase: the last finished phase ("fresh",
    "clustered" or "trained"). pseudo_labels: int64 (n,), on the trunk's device; None before the first clustering.
    scores: of each clustering so far, by its cycle, where a rule halts the clustering (`beyond.halting`).
    The head and its optimizer are not part of it: they exist within one cycle only.
    """

    trunk: nn.Module
    optimizer: SGD
    cycle: int = 0
    phase: str = "fresh"
    pseudo_labels: Tensor | None = None
    scores: dict[int, float] = field(default_factory=dict)


def init_state(
    trunk: nn.Module, *, seed: int, lr: float, momentum: float, weight_decay: float, draws: str = "ours"
) -> State:
    """A run before its first cycle: the trunk gets the random filters of `seed`, SGD gets its constants.

    trunk: one of `nets`, or any nn.Module from images (n, c, h, w) to features (n, D) or maps of them.
    `nets.initialise` says which of its parameters are drawn. draws: "authors" for the filters that the authors' code
    draws for the seed, of a net of `nets`. To go on from weights that a net already has, make
    `State(trunk, SGD(trunk.parameters(), ...))` instead.

    The learning rate is constant and weight decay reaches every parameter, as in the authors' code.
    """
    initialise(trunk, seed=seed, draws=draws)
    return State(trunk, SGD(trunk.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay))


def next_cycle(state: State) -> int:
    """The cycle that the next phase belongs to."""
    return state.cycle + 1 if state.phase == "trained" else state.cycle


def state_tensors(state: State) -> dict[str, Tensor]:
    """The State as named tensors, on the CPU: `trunk.*`, `momentum.*` where there is any, `pseudo_labels` int32.

    `scores`, where there are any: float64 (m, 2), of each clustering its cycle and its score.
    """
    tensors = {f"trunk.{name}": value for name, value in state.trunk.state_dict().items()}
    for name, parameter in state.trunk.named_parameters():
        if parameter in state.optimizer.velocity:
            tensors[f"momentum.{name}"] = state.optimizer.velocity[parameter]
    if state.pseudo_labels is not None:
        tensors["pseudo_labels"] = state.pseudo_labels.int()
    if state.scores:
        tensors["scores"] = torch.tensor(list(state.scores.items()), dtype=torch.float64)
    return {name: value.detach().cpu() for name, value in tensors.items()}


def load_state(state: State, tensors: dict[str, Tensor], *, cycle: int, phase: str) -> None:
    """Put `state_tensors` back into a state made by `init_state` with the same net and constants, in place."""
    trunk = {name.removeprefix("trunk."): value for name, value in tensors.items() if name.startswith("trunk.")}
    state.trunk.load_state_dict(trunk)
    for name, parameter in state.trunk.named_parameters():
        if f"momentum.{name}" in tensors:
            state.optimizer.velocity[parameter] = tensors[f"momentum.{name}"].to(parameter.device, copy=True)
    if "pseudo_labels" in tensors:
        device = next(iter(state.trunk.state_dict().values()), tensors["pseudo_labels"]).device
        state.pseudo_labels = tensors["pseudo_labels"].long().to(device)
    state.scores = {int(place): score for place, score in tensors["scores"].tolist()} if "scores" in tensors else {}
    state.cycle, state.phase = cycle, phase
