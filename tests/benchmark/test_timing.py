"""The timing of a stage and its peers."""

from dataclasses import replace

import pytest

from dc_hpc.benchmark.stages import peers
from dc_hpc.benchmark.suite import run_stages
from dc_hpc.benchmark.timing import InvalidTiming, Peer, Row, Stage, alternate, measure, stages_above_limit


def test_a_stage_above_its_limit_is_named():
    rows = [{"name": "pca", "network": "lenet5", "share": share} for share in (None, 0.4, 1.05, 1.29, 1.29)]
    assert stages_above_limit(rows) == ["pca of lenet5"] and stages_above_limit(rows[:3]) == []


def test_a_peer_that_computes_another_result_is_not_timed():
    stage = Stage(
        "pca",
        "lenet5",
        "1",
        1.0,
        "FLOP",
        ours=lambda: 1.0,
        peers=(Peer("wrong peer", lambda: 1.1),),
        difference=lambda a, b: abs(a - b),
        tolerance=0.01,
    )
    with pytest.raises(InvalidTiming, match="wrong peer gives another result than ours"):
        measure(stage, budget=0)
    not_a_number = replace(stage, difference=lambda a, b: float("nan"))
    with pytest.raises(InvalidTiming):
        measure(not_a_number, budget=0)


def test_ours_and_the_peers_are_called_alternately():
    calls = []
    seconds = alternate(
        [lambda: calls.append("ours"), lambda: calls.append("peer")],
        budget=0,
        min_rounds=3,
        before=lambda: calls.append("before"),
    )
    assert calls == ["before", "ours", "before", "peer"] * 3
    assert [len(times) for times in seconds] == [3, 3]


def test_what_is_not_installed_is_not_measured(monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda package: False)
    rows, _ = run_stages(["lenet5"], ["pca", "kmeans_faiss"], size="quick", device="cpu", report=lambda text: None)
    by_peer = {(row.name, row.peer): row for row in rows}
    missing = by_peer["pca", "faiss PCAMatrix"]
    assert missing.peer_seconds is None and missing.ratio is None and missing.seconds > 0
    assert by_peer["pca", "scikit-learn PCA"].ratio > 0
    absent = by_peer["kmeans_faiss", "faiss Kmeans"]
    assert absent == Row("kmeans_faiss", "lenet5", absent.size, *[None] * 4, "faiss Kmeans", None, None)
