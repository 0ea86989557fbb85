"""Times a stage and its peers alternately in one process, so that other load on the machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

MIN_ROUNDS, MAX_ROUNDS = 3, 15
MAX_SHARE = 1.1  # a noisy measurement of a stage or of its limit explains a share up to this


@dataclass(frozen=True)
class Peer:
    """Another implementation of the same result.

    run: computes the result once and returns it. available: False where its library is not installed.
    """

    name: str
    run: Callable[[], Any]
    available: bool = True


@dataclass(frozen=True)
class Stage:
    """One step of a run, its operation count, and its peers.

    name, network: one of constants.STAGES and one of constants.NETWORKS. size: a description for people.
    count: FLOP or bytes (`unit`), from a function of flop_counts. ours: computes the result once and returns it.
    difference: how far a peer's result is from ours, 0 when they are equal; above `tolerance` the two are different
    computations and are not compared. before: prepares each call and is not timed. device: where the stage computes,
    "cpu" or "cuda"; its share is relative to the limit of that device. floor: does only what no implementation can
    avoid, for a stage whose limit is neither a GEMM nor a copy. available: False where our library is not installed.
    """

    name: str
    network: str
    size: str
    count: float
    unit: str
    ours: Callable[[], Any]
    peers: tuple[Peer, ...] = ()
    difference: Callable[[Any, Any], float] = lambda ours, peer: 0.0
    tolerance: float = 0.0
    before: Callable[[], None] = lambda: None
    device: str = "cpu"
    floor: Callable[[], Any] | None = None
    available: bool = True


@dataclass(frozen=True)
class Row:
    """A stage against one peer; None means "not measured".

    seconds, peer_seconds: medians. achieved, limit: GFLOP/s for stages counted in FLOP, GB/s for those counted in
    bytes. share = achieved / limit. ratio = peer_seconds / seconds; above 1, ours is the faster one.
    """

    name: str
    network: str
    size: str
    seconds: float | None = None
    achieved: float | None = None
    limit: float | None = None
    share: float | None = None
    peer: str | None = None
    peer_seconds: float | None = None
    ratio: float | None = None


KEYS = tuple(Row.__dataclass_fields__)


class InvalidTiming(RuntimeError):
    """A time that would mean nothing: a peer computes another result, or a stage does less than is counted."""


class FailedProcess(RuntimeError):
    """A process whose time was to be measured failed; the message is one line and ends with its last words."""


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain objects with exactly the keys of `Row`."""
    return [asdict(row) for row in rows]


def stages_above_limit(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """ "STAGE of NETWORK" for each stage that reaches more than MAX_SHARE of its limit: its count or limit is wrong."""
    above = [row for row in rows if row["share"] is not None and row["share"] > MAX_SHARE]
    return list(dict.fromkeys(f"{row['name']} of {row['network']}" for row in above))


def alternate(
    calls: Sequence[Callable[[], Any]],
    *,
    budget: float,
    min_rounds: int = MIN_ROUNDS,
    before: Callable[[], None] = lambda: None,
    synchronize: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """Seconds of each call, round by round: every call once, then every call again.

    budget: seconds after which no further round begins, once there are `min_rounds`; at most MAX_ROUNDS. synchronize:
    waits until the device is idle, so that a time holds all that its call started and nothing from before.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    begun = time.perf_counter()
    while len(seconds[0]) < min_rounds or (len(seconds[0]) < MAX_ROUNDS and time.perf_counter() - begun < budget):
        for call, times in zip(calls, seconds):
            before()
            synchronize()
            started = time.perf_counter()
            call()
            synchronize()
            times.append(time.perf_counter() - started)
    return seconds


def measure(
    stage: Stage,
    *,
    budget: float,
    min_rounds: int = MIN_ROUNDS,
    synchronize: Callable[[], None] = lambda: None,
    run_settings: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> list[Row]:
    """One Row for each peer of a stage, or a single one where it has none.

    The rows have no limit (see `with_limit`) unless the stage has a floor, which is its limit. Each call runs once to
    warm up, and those results are compared. run_settings: the settings of torch that a run computes under; they apply
    to ours only. Raises InvalidTiming when a peer computes another result.
    """
    if not stage.available:
        return [Row(stage.name, stage.network, stage.size, peer=peer.name) for peer in stage.peers]
    ours = _within(run_settings, stage.ours)
    available = [peer for peer in stage.peers if peer.available]
    _warm_up(stage, ours, available)
    floors = [stage.floor] if stage.floor else []
    seconds = alternate(
        [ours, *[peer.run for peer in available], *floors],
        budget=budget,
        min_rounds=min_rounds,
        before=stage.before,
        synchronize=synchronize,
    )
    medians = [statistics.median(times) for times in seconds]
    of_peer = {peer.name: time for peer, time in zip(available, medians[1:])}
    names: list[str | None] = [peer.name for peer in stage.peers]
    rows = [_row(stage, medians[0], name, of_peer.get(name or "")) for name in names or [None]]
    if stage.floor is None:
        return rows
    fastest = min(seconds[0] + seconds[-1])  # the floor could have done in it what ours did
    return [with_limit(row, stage.count / fastest / 1e9) for row in rows]


def with_limit(row: Row, limit: float) -> Row:
    """The row with its share of a limit in GFLOP/s or GB/s; a row that was not measured is returned unchanged."""
    return row if row.achieved is None else replace(row, limit=limit, share=row.achieved / limit)


def _within(context: Callable[[], AbstractContextManager[Any]], call: Callable[[], Any]) -> Callable[[], Any]:
    def inside() -> Any:
        with context():
            return call()

    return inside


def _warm_up(stage: Stage, ours: Callable[[], Any], peers: Sequence[Peer]) -> None:
    stage.before()
    result = ours()
    for peer in peers:
        stage.before()
        difference = stage.difference(result, peer.run())
        if not difference <= stage.tolerance:  # NaN is refused too
            raise InvalidTiming(
                f"{stage.name} of {stage.network}: {peer.name} gives another result than ours "
                f"(difference {difference:.3g}, allowed {stage.tolerance:.3g}), so its time would mean nothing"
            )
    if stage.floor:
        stage.floor()


def _row(stage: Stage, seconds: float, peer: str | None, peer_seconds: float | None) -> Row:
    ratio = None if peer_seconds is None else peer_seconds / seconds
    achieved = stage.count / seconds / 1e9
    return Row(stage.name, stage.network, stage.size, seconds, achieved, None, None, peer, peer_seconds, ratio)
