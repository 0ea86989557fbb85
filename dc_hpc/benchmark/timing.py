"""Ours and its peers, timed in turn in one process: what is busy on the machine then slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

UNITS = {"FLOP": "GFLOP/s", "bytes": "GB/s"}
FEWEST, MOST = 3, 15


@dataclass(frozen=True)
class Peer:
    """Another way to the same result. run: does it once and returns the result; None where it is not installed."""

    name: str
    run: Callable[[], Any] | None


@dataclass(frozen=True)
class Stage:
    """One thing that a run does, its work, and who else can do it.

    name, network: one of `stages.STAGES` and of the networks. size: in words. work: FLOP or bytes (`unit`), from a
    function of `work.py`. ours: does it once and returns the result; None where its library is not installed.
    difference: how far a peer's result is from ours, 0 when equal; above `tolerance` the two are not the same
    computation and are not compared. before: made anew, untimed, before each call. place: where it computes, "cpu"
    or "cuda": whose limit it is held against. floor: seconds of doing no more than the unavoidable, where that is not
    a GEMM or a copy.
    """

    name: str
    network: str
    size: str
    work: float
    unit: str
    ours: Callable[[], Any] | None
    peers: tuple[Peer, ...] = ()
    difference: Callable[[Any, Any], float] = lambda ours, peer: 0.0
    tolerance: float = 0.0
    before: Callable[[], None] = lambda: None
    place: str = "cpu"
    floor: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Row:
    """A stage against one peer; None is "not measured".

    seconds, peer_seconds: medians. achieved, limit: GFLOP/s for stages counted in FLOP, GB/s for those counted in
    bytes. share = achieved / limit. ratio = peer_seconds / seconds: above 1, ours is the faster.
    """

    name: str
    network: str
    size: str
    seconds: float | None
    achieved: float | None
    limit: float | None
    share: float | None
    peer: str | None
    peer_seconds: float | None
    ratio: float | None


KEYS = tuple(Row.__dataclass_fields__)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain objects with exactly the keys of `Row`."""
    return [asdict(row) for row in rows]


class Invalid(RuntimeError):
    """A time that would mean nothing: a peer computes something else, or less is done than is counted."""


def alternate(
    calls: Sequence[Callable[[], Any]],
    *,
    budget: float,
    fewest: int = FEWEST,
    before: Callable[[], None] = lambda: None,
    settled: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """Seconds of each call, round by round: all of them once, then all of them again.

    budget: seconds after which no further round begins, once there are `fewest`; at most MOST rounds. settled: waits
    until the device is idle, so that what a call started is inside its time and what was before is not.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    begun = time.perf_counter()
    while len(seconds[0]) < fewest or (len(seconds[0]) < MOST and time.perf_counter() - begun < budget):
        for call, times in zip(calls, seconds):
            before()
            settled()
            started = time.perf_counter()
            call()
            settled()
            times.append(time.perf_counter() - started)
    return seconds


def measure(
    stage: Stage,
    *,
    budget: float,
    fewest: int = FEWEST,
    settled: Callable[[], None] = lambda: None,
    as_in_a_run: Callable[[], AbstractContextManager] = nullcontext,
) -> list[Row]:
    """One Row for each peer of a stage, or a single one where it has none; without a limit (see `against`) unless
    the stage has a floor, which is its limit.

    Each call runs once to warm up, and those results are compared. as_in_a_run: the settings of torch that a run
    computes under; ours only. Raises Invalid when a peer computes something else.
    """
    if stage.ours is None:
        return [Row(stage.name, stage.network, stage.size, *[None] * 4, peer.name, None, None) for peer in stage.peers]
    ours = _within(as_in_a_run, stage.ours)
    peers = [peer for peer in stage.peers if peer.run is not None]
    _warm_up(stage, ours, peers)
    floors = [stage.floor] if stage.floor else []
    seconds = alternate(
        [ours, *(peer.run for peer in peers), *floors],
        budget=budget,
        fewest=fewest,
        before=stage.before,
        settled=settled,
    )
    middle = [statistics.median(times) for times in seconds]
    found = {peer.name: time for peer, time in zip(peers, middle[1:])}
    rows = [_row(stage, middle[0], name, found.get(name)) for name in [peer.name for peer in stage.peers] or [None]]
    if stage.floor is None:
        return rows
    fastest = min(seconds[0] + seconds[-1])  # what ours did in that time, the floor could have
    return [against(row, stage.work / fastest / 1e9) for row in rows]


def against(row: Row, limit: float) -> Row:
    """The row with its share of a limit in GFLOP/s or GB/s; one that was not measured stays as it is."""
    return row if row.achieved is None else replace(row, limit=limit, share=row.achieved / limit)


def _within(context: Callable[[], AbstractContextManager], call: Callable[[], Any]) -> Callable[[], Any]:
    def inside() -> Any:
        with context():
            return call()

    return inside


def _warm_up(stage: Stage, ours: Callable[[], Any], peers: Sequence[Peer]) -> None:
    stage.before()
    result = ours()
    for peer in peers:
        stage.before()
        apart = stage.difference(result, peer.run())
        if not apart <= stage.tolerance:
            raise Invalid(
                f"{stage.name} of {stage.network}: {peer.name} gives another result than ours "
                f"(difference {apart:.3g}, allowed {stage.tolerance:.3g}), so its time would mean nothing"
            )
    if stage.floor:
        stage.floor()


def _row(stage: Stage, seconds: float, peer: str | None, other: float | None) -> Row:
    achieved, ratio = stage.work / seconds / 1e9, None if other is None else other / seconds
    return Row(stage.name, stage.network, stage.size, seconds, achieved, None, None, peer, other, ratio)
