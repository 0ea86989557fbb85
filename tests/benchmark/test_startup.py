"""bench --startup: a process is timed from its start to its first training step."""

import json

import pytest
from support.commands import REPOSITORY, run_command

from dc_hpc.benchmark import startup
from dc_hpc.benchmark.timing import KEYS


def test_a_start_is_timed_in_its_own_process(fmnist_root, tmp_path):
    """The run is a real one of Fashion-MNIST; the first start compiles what the next one loads from the cache."""
    for number in range(3):  # other load on the machine may reverse one measurement
        file = tmp_path / f"{number}.json"
        done = run_command("bench", "--startup", "--quick", "--data", fmnist_root, "--json", file, cwd=REPOSITORY)
        rows = json.loads(file.read_text())
        assert [row["name"] for row in rows] == ["first_start", "start"], done.stderr
        first, later, torch_alone = *(row["seconds"] for row in rows), rows[0]["peer_seconds"]
        if first > later > torch_alone:
            break
    # a start imports torch, loads 60,000 images and compiles or not, so only the order is certain
    assert first > later > torch_alone > 0 and set(rows[0]) == set(KEYS)
    assert "start" in done.stdout and "import torch" in done.stdout


def test_a_run_that_does_not_reach_its_first_step_has_no_time(tmp_path):
    with pytest.raises(RuntimeError, match="did not reach its first step: .* is missing"):
        startup._start(tmp_path / "outputs", tmp_path / "no_data", {})
