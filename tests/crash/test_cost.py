"""The cost of reliability: the time of all writes and checks in a real run is a small share of the run's own time."""

import time

import pytest

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import make_config
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.storage import feature_dumps, metrics_csv, run_directory

STORAGE_CALLS = [
    *[(run_directory, name) for name in ("start_attempt", "update_attempt", "load_checkpoint", "save_checkpoint",
                                         "finish", "quarantine_damaged_result", "read_config", "state_of")],
    *[(feature_dumps, name) for name in ("dump_features", "quarantine_damaged_features", "write_trunk")],
    (metrics_csv, "report_progress"),
]  # fmt: skip


@pytest.fixture
def spent(monkeypatch):
    """Seconds by storage function that a run calls; a call from within another storage call counts only once."""
    seconds, inside = {}, []

    def timed(name, real):
        def timed_call(*arguments, **settings):
            inside.append(name)
            started = time.perf_counter()
            try:
                return real(*arguments, **settings)
            finally:
                inside.pop()
                if not inside:
                    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

        return timed_call

    for module, name in STORAGE_CALLS:
        monkeypatch.setattr(module, name, timed(name, getattr(module, name)))
    return seconds


@pytest.mark.crash
@pytest.mark.parametrize("save_seconds", [60, 0], ids=["as_submitted", "after_every_phase"])
def test_storage_takes_less_than_a_fiftieth_of_a_run(fmnist_root, tmp_path, spent, save_seconds):
    """Fashion-MNIST, k 5, protocol `code`, three of its 50 cycles, so that what a run does once weighs more."""
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"]
    directory = run_directory.create(tmp_path, make_config(settings | {"cycles": 3, "seed": 1, "protocol": "code"}))
    spent.clear()
    started = time.perf_counter()
    assert run(directory, Execution(str(fmnist_root), save_seconds=save_seconds)) == "done"
    whole = time.perf_counter() - started
    parts = ", ".join(f"{name} {one:.3f}" for name, one in sorted(spent.items(), key=lambda pair: -pair[1]))
    print(
        f"save_seconds {save_seconds}: {sum(spent.values()):.3f} s of {whole:.1f} s, "
        f"{100 * sum(spent.values()) / whole:.2f} %: {parts}"
    )
    assert sum(spent.values()) < 0.02 * whole
