"""`status check` on damaged runs. How states are found is tested in tests/scheduler/test_run_status.py."""

import pytest
from support.commands import run_command
from support.small_runs import new_run


@pytest.mark.parametrize("flag", ["--quarantine", "--put-aside"])
def test_check_moves_damaged_files_to_quarantine(digits_root, tmp_path, flag):
    """--put-aside is the name that --quarantine had."""
    sound, damaged = (new_run(tmp_path / "outputs", digits_root, seed=seed) for seed in (1, 2))
    (damaged / "config.json").write_text("{")
    shown = run_command("status", "check", cwd=tmp_path, check=1).stdout
    assert f"{damaged.name}/config.json" in shown and "1 of 2 runs are damaged\n" in shown
    assert (damaged / "config.json").exists()
    moved = run_command("status", "check", flag, cwd=tmp_path, check=1).stdout
    assert "1 of 2 runs are damaged and now in quarantine/: submit them again" in moved
    assert not (damaged / "config.json").exists() and list(damaged.glob("quarantine/config.json*"))
    assert (sound / "config.json").exists()
