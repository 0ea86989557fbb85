"""`status` and its subcommands on recorded and on small real runs.

How states are found is tested in tests/scheduler/test_run_status.py, lost answers in test_lost_answers.py.
"""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from support.commands import GRID, run_command, submit_grid
from support.small_runs import new_run

from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.storage import run_directory
from dc_hpc.storage.feature_dumps import dumps


def recorded_run(outputs, root, ended="done", *, seconds=10.0, **settings):
    """A run without arrays: an attempt of some seconds that ended as given, and its result if it is done."""
    directory = new_run(outputs, root, **settings)
    stages = [
        {"stage": "clustered", "cycle": 0, "seconds": seconds / 2},
        {"stage": "trained", "cycle": 0, "seconds": 4},
    ]
    record = {"started": 100.0, "finished": 100.0 + seconds, "ended": ended, "seconds": stages, "cycles_done": 1}
    run_directory.start_attempt(directory, record | {"error": "ValueError: no", "cpu_seconds": 7.5})
    if ended == "done":
        run_directory.finish(directory, {"ia": 0.25 + settings.get("seed", 1) / 1000, "accuracy": 61.5})
    return directory


@pytest.fixture
def place(tmp_path, digits_root):
    """Three runs: done, failed and new."""
    recorded_run(tmp_path / "outputs", digits_root, seed=1)
    recorded_run(tmp_path / "outputs", digits_root, "failed", seed=2)
    new_run(tmp_path / "outputs", digits_root, seed=3)
    return tmp_path


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


def test_check_reads_a_run_of_two_grids_once(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "more.yaml").write_text(GRID)
    grids = ("--grid", "grid.yaml", "--grid", "more.yaml", "--data", digits_root)
    (tmp_path / "outputs").mkdir()
    assert run_command("status", "check", *grids, cwd=tmp_path, check=0).stdout == "0 of 3 runs are damaged\n"


def test_done_runs_are_listed_with_their_results(place):
    shown = run_command("status", cwd=place, check=0).stdout
    (line,) = [line for line in shown.splitlines() if "seed1-" in line]
    assert line.split()[1:] == ["3/3", "0.2510", "61.50", "10", "s"]
    (failed,) = [line for line in shown.splitlines() if "seed2-" in line]
    assert "failed" in failed and "1/3" in failed and "ValueError: no" in failed and "seed3-" not in shown
    assert max(map(len, shown.splitlines())) < 80


def test_the_cycles_of_a_done_run_without_its_settings_are_unknown(place):
    (directory,) = (place / "outputs" / "runs").glob("*seed1-*")
    (directory / "config.json").unlink()
    shown = run_command("status", cwd=place, check=0).stdout
    assert f"{directory.name}/config.json: its settings cannot be read" in shown
    assert next(line for line in shown.splitlines() if line.startswith(f"  {directory.name}")).split()[1] == "?/?"


def test_hundreds_of_done_runs_are_folded(tmp_path, digits_root):
    for seed in range(1, 14):
        recorded_run(tmp_path / "outputs", digits_root, seed=seed, seconds=10.0 + seed)
    shown = run_command("status", cwd=tmp_path, check=0).stdout
    assert shown.count("61.50") == 10 and "and 3 more done (--state done)" in shown
    assert "-seed13-" in shown and "-seed1-" not in shown, "those that finished last"
    for flags in (["--all"], ["--state", "done"]):
        assert run_command("status", *flags, cwd=tmp_path, check=0).stdout.count("61.50") == 13


def test_states_are_filtered(place):
    shown = run_command("status", "--state", "failed", "--state", "new", cwd=place, check=0).stdout
    assert "seed1-" not in shown and "seed2-" in shown and "seed3-" in shown and "1 done, " in shown
    found = json.loads(run_command("status", "--json", "--state", "failed", cwd=place, check=0).stdout)
    assert [one["state"] for one in found["runs"]] == ["failed"] and found["counts"]["done"] == 1
    wrong = run_command("status", "--state", "failled", cwd=place, check=2)
    assert "--state 'failled' is not allowed; allowed: done, running, queued, resumable, failed, new" in wrong.stderr


def test_json_has_cycles_results_and_totals_of_each_run(place):
    runs = json.loads(run_command("status", "--json", cwd=place, check=0).stdout)["runs"]
    done, failed, new = sorted(runs, key=lambda one: one["run"].partition("-seed")[2])
    assert (done["cycles_done"], done["cycles"], done["ia"], done["accuracy"]) == (3, 3, 0.251, 61.5)
    assert (done["attempts"], done["seconds"], done["cpu_seconds"], done["seconds_left"]) == (1, 10.0, 7.5, 0.0)
    assert done["seconds_by_stage"] == {"clustered": 5.0, "trained": 4.0}
    assert (failed["cycles_done"], failed["attempts_failed"], failed["ia"]) == (1, 1, None)
    assert failed["seconds_left"] == 2 * 5 + 1 * 4, "two clusterings and one training; the probe was not measured"
    assert (new["attempts"], new["seconds"], new["seconds_left"]) == (0, 0.0, 3 * 5 + 2 * 4)


def test_what_was_not_measured_is_unknown_and_not_zero(tmp_path, digits_root):
    new_run(tmp_path / "outputs", digits_root)
    assert "left: unknown; without 1 run whose net" in run_command("status", cwd=tmp_path, check=0).stdout
    found = json.loads(run_command("status", "--json", cwd=tmp_path, check=0).stdout)
    assert found["hours_left"] is None and found["runs"][0]["seconds_left"] is None
    dry = ("--dry-run", "--outputs", "outputs")
    (tmp_path / "grid.yaml").write_text(GRID)
    assert "estimate: time unknown; no run like these" in submit_grid(tmp_path, digits_root, *dry, check=0).stdout


def test_runs_of_a_grid_that_nobody_has_submitted_yet_are_still_to_compute(tmp_path, digits_root):
    """`submit --limit 1` makes the directory of one run. The others need as much."""
    (tmp_path / "grid.yaml").write_text(GRID)
    submit_grid(tmp_path, digits_root, "--limit", 1, check=0)
    flags = ("--grid", "grid.yaml", "--data", digits_root)
    shown = run_command("status", *flags, cwd=tmp_path, check=0).stdout
    cycles = int(re.search(r"of (\d+) cycles", shown)[1])
    assert "1 done, " in shown and " 2 new of 3 runs" in shown and f"{cycles // 3} of {cycles} cycles" in shown
    found = json.loads(run_command("status", *flags, "--json", cwd=tmp_path, check=0).stdout)
    assert found["hours_left"] > 0 and all(one["cycles"] == cycles // 3 for one in found["runs"])


def test_runs_without_a_cycle_are_shown_as_what_they_are(tmp_path, digits_root):
    recorded_run(tmp_path / "outputs", digits_root, cycles=0, probe=(), features="none")
    new_run(tmp_path / "outputs", digits_root, cycles=0, probe=(), features="none", seed=2)
    shown = run_command("status", "--all", "--state", "new", "--state", "done", cwd=tmp_path, check=0).stdout
    assert shown.count("IA only") == 2 and "0/0" not in shown and "1 of 2 cycles" in shown
    done, new = json.loads(run_command("status", "--json", cwd=tmp_path, check=0).stdout)["runs"]
    assert (done["cycles"], done["cycles_done"], new["cycles_done"], new["accuracy"]) == (0, 0, 0, None)


@pytest.mark.parametrize(
    "command, message",
    [
        (
            ["--outputs", "other", "prune", "--features", "--yes"],
            "--outputs belongs after prune: {} prune --outputs ...",
        ),
        (["-g", "grid.yaml", "du"], "--grid belongs after du: {} du --grid ..."),
        (["--state", "failed", "du"], "--state is no option of du; leave it out. The options of du: {} du --help"),
    ],
)
def test_an_option_before_a_subcommand_is_refused(tmp_path, command, message):
    """It would have been dropped: `status --outputs other prune` would have removed files in ./outputs."""
    out = run_command("status", *command, cwd=tmp_path, check=2)
    assert out.stderr == f"dc_hpc: {message.format('python -m dc_hpc.status')}\n" and out.stdout == ""


def test_the_data_folder_of_the_environment_is_no_option_before_a_subcommand(place, monkeypatch):
    monkeypatch.setenv("DC_HPC_DATA", str(place))
    run_command("status", "du", cwd=place, check=0)


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["status", "--json"],
        ["status", "check"],
        ["status", "du"],
        ["status", "prune", "--features"],
        ["status", "logs", "x"],
        ["status", "show", "x"],
        ["status", "forget", "x"],
        ["aggregate"],
        ["select", "--grid", "grid.yaml", "--span", 2],
    ],
    ids=lambda command: " ".join(map(str, command)),
)
def test_an_outputs_folder_that_is_not_there_is_one_line(tmp_path, command):
    (tmp_path / "grid.yaml").write_text("base: svhn\nprotocol: code\nsweep: {seed: 1..3}\n")
    out = run_command(command[0], *command[1:], "--outputs", "typo", cwd=tmp_path, check=2)
    assert (
        re.match("dc_hpc: --outputs:? typo is not (there|a folder)", out.stderr) and len(out.stderr.splitlines()) == 1
    )
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("interval", ["inf", "1e300"])
def test_an_interval_that_nobody_can_wait_for_is_one_line(place, interval):
    out = run_command("status", "--watch", "--interval", interval, cwd=place, check=2)
    (line,) = out.stderr.splitlines()
    assert "'--interval': allowed: less than or equal to 86400" in line


def test_a_file_is_no_outputs_folder_and_is_there(tmp_path):
    (tmp_path / "file").write_text("x")
    out = run_command("status", "--outputs", "file", cwd=tmp_path, check=2)
    assert out.stderr.startswith("dc_hpc: --outputs file is not a folder; give the one that")


def test_watch_prints_a_block_with_its_time_until_nothing_is_active(tmp_path, digits_root):
    """The run is this process's; it is done before the second look."""
    directory = new_run(tmp_path / "outputs", digits_root)
    number = run_directory.start_attempt(directory, {})
    command = [sys.executable, "-m", "dc_hpc.status", "--watch", "--interval", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    first = [process.stdout.readline() for _ in range(2)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n", first[0]) and "1 running" in first[1]
    run_directory.update_attempt(directory, number, {"ended": "failed", "error": "no"})
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and len(re.findall(r"^\d{4}-.*:\d\d$", rest, re.M)) >= 1 and "1 failed" in rest


def test_watch_redraws_in_place_on_a_terminal(tmp_path, digits_root):
    directory = new_run(tmp_path / "outputs", digits_root)
    number = run_directory.start_attempt(directory, {})
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-m", "dc_hpc.status", "--watch", "--interval", "1"]
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=tmp_path, stdout=theirs, stderr=theirs, stdin=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a pseudo-terminal
        while part := os.read(ours, 1 << 16):
            shown += part
            if b"1 running" in shown:
                run_directory.update_attempt(directory, number, {"ended": "failed", "error": "no"})
    os.close(ours)
    assert process.wait(timeout=60) == 0
    before, _, after = shown.decode().partition("1 running")
    assert "1 failed" in after and "\x1b[1A" in after and "\x1b[1A" not in before, "the cursor goes up to redraw"


def test_watch_asks_the_accounting_once_a_minute(monkeypatch):
    from dc_hpc.scheduler import slurm
    from dc_hpc.scheduler.tasks.polling import AccountingWatch

    asked, clock = [], [1000.0]
    monkeypatch.setattr(slurm, "accounted", lambda names, clusters: asked.append(names) or [])
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    accounting = AccountingWatch()
    for clock[0] in (1000.0, 1030.0, 1059.0, 1060.0, 1090.0):
        accounting(["grid-ab"])
    assert len(asked) == 2


def test_show_tells_all_of_one_run(place, digits_root):
    directory = new_run(place / "outputs", digits_root, seed=40, lr=0.02, pca=None)
    assert run(directory, Execution(str(digits_root))) == "done"
    shown = run_command("status", "show", directory.name[:-9], cwd=place, check=0).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert shown.startswith(f"{directory.name}\nstate: done\n") and "baseline fmnist, protocol code:" in shown
    assert ["lr", "0.02", "(baseline", "0.1)"] in lines and ["seed", "40"] in lines and "momentum" not in shown
    result = run_directory.read_result(directory)
    assert f"IA {result['ia']:.4f}" in shown and f"accuracy {result['accuracy']:.2f} %" in shown
    assert "last of 3 cycles:" in shown and "seconds by stage: load" in shown and "CPU seconds" in shown
    assert "features/c0000.h5" in shown and "attempts: 1" in shown
    failed = run_command("status", "show", "digits-k6-seed2", cwd=place, check=0).stdout
    assert "state: failed (ValueError: no)" in failed and "results: none yet" in failed and "cycles: none" in failed
    assert "2 runs begin with it" not in failed
    several = run_command("status", "show", "digits", cwd=place, check=2)
    assert "4 runs begin with it" in several.stderr


def test_show_leaves_out_a_file_that_the_run_removes_meanwhile(place, monkeypatch):
    from dc_hpc.status.one_run import _files

    directory = next(run_directory.run_directories(place / "outputs"))
    (directory / "attempts" / "0001.progress").write_text("{}")
    looked, is_file = [], Path.is_file

    def remove_after_the_look(path):
        found = is_file(path)
        if path.suffix == ".progress":
            path.unlink()
            looked.append(path)
        return found

    monkeypatch.setattr(Path, "is_file", remove_after_the_look)
    lines = _files(directory, place / "outputs")
    assert looked and any("config.json" in line for line in lines) and not any(".progress" in line for line in lines)


def test_the_logs_of_local_runs_are_printed(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(GRID)
    submit_grid(tmp_path, digits_root, "--limit", 1, "--set", "cycles=1", check=0)
    (directory,) = run_directory.run_directories(tmp_path / "outputs")
    shown = run_command("status", "logs", directory.name[:-5], cwd=tmp_path, check=0).stdout
    assert "== outputs/slurm/grid/" in shown and f"{directory.name}: done" in shown
    new = new_run(tmp_path / "outputs", digits_root, seed=9)
    assert f"{new.name} has no log" in run_command("status", "logs", new.name, cwd=tmp_path, check=0).stdout


def test_a_hostile_job_in_an_attempt_leads_nowhere(tmp_path, digits_root):
    (tmp_path / "outputs" / "slurm").mkdir(parents=True)
    (tmp_path / "secret_0_log.out").write_text("secret")
    directory = new_run(tmp_path / "outputs", digits_root)
    run_directory.start_attempt(directory, {"job": "../../secret"})
    assert "has no log" in run_command("status", "logs", directory.name, cwd=tmp_path, check=0).stdout
    run_directory.start_attempt(directory, {"job": "../secret"})
    (tmp_path / "outputs" / "secret_0_log.out").write_text("secret")
    assert "has no log" in run_command("status", "logs", directory.name, cwd=tmp_path, check=0).stdout


@pytest.fixture
def computed(tmp_path, digits_root):
    """A done run, an IA run with features, and one that was stopped after a cycle."""
    outputs = tmp_path / "outputs"
    done = new_run(outputs, digits_root, features="every")
    alone = new_run(outputs, digits_root, cycles=0, features="first", probe=())
    stopped = new_run(outputs, digits_root, seed=2, features="every")
    execution = Execution(str(digits_root), save_seconds=0)
    looks = iter([False, False, False, True])
    assert [run(one, execution) for one in (done, alone)] == ["done"] * 2
    assert run(stopped, execution, stop=lambda: next(looks)) == "stopped"
    return tmp_path, done, alone, stopped


def test_du_adds_up(computed):
    place, done, _, _ = computed
    shown = run_command("status", "du", cwd=place, check=0).stdout
    assert all(kind in shown for kind in ("features", "trunk", "checkpoints", "attempts", "records", "total of"))
    from dc_hpc.storage.disk_usage import size_of_run

    files = [path for path in done.rglob("*") if path.is_file()]
    assert size_of_run(done).total() == sum(path.stat().st_size for path in files)
    assert size_of_run(done)["features"] == sum(path.stat().st_size for path in dumps(done))
    by_run = run_command("status", "du", "--by-run", cwd=place, check=0).stdout
    assert by_run.index(done.name) and "features" in by_run and "3 runs in outputs/runs" in by_run
    done.rename(place / "quarantine")  # a folder above of that name is no kind of file
    assert size_of_run(place / "quarantine")["quarantine"] == 0


def test_prune_removes_what_nothing_needs_and_the_runs_stay_valid(computed, digits_root):
    place, done, alone, stopped = computed
    before = {one: dumps(one) for one in (done, alone, stopped)}
    assert len(before[done]) == 3 and len(before[alone]) == 1 and len(before[stopped]) == 2
    refused = run_command("status", "prune", "--features", cwd=place, check=2)
    assert "remove 3 feature dumps of 1 finished runs, " in refused.stderr and "--yes" in refused.stderr
    assert "allowed: --features" in run_command("status", "prune", cwd=place, check=2).stderr
    assert dumps(done) == before[done]
    out = run_command("status", "prune", "--features", "--yes", cwd=place, check=0).stdout
    assert out.startswith("removed 3 feature dumps of 1 finished runs, ")
    assert not (done / "features").exists() and dumps(alone) == before[alone] and dumps(stopped) == before[stopped]
    again = run_command("status", "prune", "--features", "--yes", cwd=place, check=0).stdout
    assert again == "no feature dump in outputs can be removed\n"
    run_command("status", "check", cwd=place, check=0)
    execution = Execution(str(digits_root))
    assert run(stopped, execution) == "done" and run_directory.attempts(stopped)[-1]["resumed_from"]
    run_command("aggregate", "--jobs", place, "--data", digits_root, cwd=place, check=0)
    (done / "result.json").write_text("{")  # damage: the run is computed again, with its dumps
    assert run(done, execution) == "done" and dumps(done) == before[done]


def test_prune_never_follows_a_link(computed):
    place, done, _, _ = computed
    elsewhere = place / "elsewhere"
    (done / "features").rename(elsewhere)
    (done / "features").symlink_to(elsewhere)
    run_command("status", "prune", "--features", "--yes", cwd=place, check=0)
    assert len(list(elsewhere.iterdir())) == 3 and os.path.islink(done / "features")
