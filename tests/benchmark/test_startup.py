"""bench --startup: a process is timed from its start to its first training step."""

import json

import pytest

from dc_hpc.benchmark import startup
from dc_hpc.benchmark.timing import KEYS


def test_a_start_is_timed_from_a_process_of_its_own(fmnist_root, tmp_path):
    """The run is Fashion-MNIST's own, up to its first step; the user's first start compiles what the next one loads."""
    for number in range(3):  # other work may reverse one measurement
        file = tmp_path / f"{number}.json"
        done = bench("--start", "--quick", "--data", str(fmnist_root), "--json", str(file))
        rows = json.loads(file.read_text())
        assert [row["name"] for row in rows] == ["first_start", "start"], done.stderr
        first, later, torch_alone = *(row["seconds"] for row in rows), rows[0]["peer_seconds"]
        if first > later > torch_alone:
            break
    # a start imports torch, sees 60,000 images and compiles or not: orders, not speeds
    assert first > later > torch_alone > 0 and set(rows[0]) == set(KEYS)
    assert "start" in done.stdout and "import torch" in done.stdout


def test_a_run_that_does_not_come_to_its_first_step_has_no_time(tmp_path):
    with pytest.raises(RuntimeError, match="did not come to its first step: .* is missing"):
        startup._start(tmp_path / "outputs", tmp_path / "no_data", {})
