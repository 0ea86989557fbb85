"""With many runs, some damaged and some being written, no good run is lost and every damaged one is named."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import run_command
from support.many_writers import accuracy_of
from support.recorded_runs import config_of, record

from dc_hpc.report.frames.csv_files import read_runs_csv
from dc_hpc.report.frames.runs import records

TESTS = Path(__file__).parents[1]
CHECKED_BY_STATUS = ("config.json", "result.json", "attempts/0001.json")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 2
    path.write_bytes(content)


def change_a_digit(path):
    """Change the accuracy, which is the worst change to overlook."""
    text = path.read_text()
    path.write_text(text.replace('"accuracy": 7', '"accuracy": 8'))


DAMAGES = [
    ("result.json", flip),
    ("result.json", change_a_digit),
    ("result.json", lambda path: path.write_text("")),
    ("result.json", lambda path: path.write_text(json.dumps({"format": 2}))),
    ("config.json", flip),
    ("config.json", lambda path: path.unlink()),
    ("metrics.csv", lambda path: path.write_text(path.read_text().replace("0.1", "0.2"))),
    ("metrics.csv", lambda path: path.write_bytes(path.read_bytes()[:-20])),
    ("attempts/0001.json", flip),
    ("attempts/0001.json", lambda path: path.write_bytes(path.read_bytes()[:40])),
]


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A function that records finished runs without syncing them; if asked, it then damages every tenth."""

    def make(count, damaged):
        monkeypatch.setattr(os, "fsync", lambda handle: None)
        made = [
            record(tmp_path / "outputs", config_of("fmnist", seed=seed, cycles=2), accuracy=accuracy_of(seed))
            for seed in range(count)
        ]
        bad = {}
        for number, directory in enumerate(made[::10] if damaged else []):
            name, spoil = DAMAGES[number % len(DAMAGES)]
            spoil(directory / name)
            bad[directory.name] = name
        return [directory.name for directory in made], bad

    return make


def rows_of(outputs):
    return {row["run_id"]: row for row in records(read_runs_csv(outputs / "tables" / "runs.csv"))}


@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.crash)])
def test_many_runs_of_which_a_tenth_is_damaged(many, tmp_path, count):
    names, bad = many(count, damaged=True)
    outputs = tmp_path / "outputs"
    done = run_command("aggregate", "--outputs", outputs, "--jobs", tmp_path, cwd=tmp_path, check=0)
    assert "Traceback" not in done.stderr
    rows = rows_of(outputs)
    assert set(rows) == set(names)
    for seed, name in enumerate(names):
        row = rows[name]
        if name not in bad:
            assert (row["state"], row["accuracy"], row["state_reason"]) == ("done", accuracy_of(seed), None)
        elif bad[name].startswith("attempts"):  # time and host of the run are lost, its results are not
            assert row["state"] == "done" and row["accuracy"] == accuracy_of(seed) and bad[name] in row["state_reason"]
        else:
            assert row["state"] == "damaged" and row["state_reason"].startswith(bad[name])
    shown = json.loads(run_command("status", "--json", "--outputs", outputs, cwd=tmp_path, check=0).stdout)
    assert shown["counts"]["done"] == count - sum(name == "result.json" for name in bad.values())
    reasons = " ".join([*shown["complaints"], *(run["run"] for run in shown["runs"] if "damaged" in run["reason"])])
    plain = run_command("status", "--outputs", outputs, cwd=tmp_path, check=0).stdout
    # A damaged result.json is not a warning: it is the reason of its run.
    reported = sum(file in ("config.json", "attempts/0001.json") for file in bad.values())
    assert plain.count("! ") == min(20, reported) and "status check" in plain, plain
    assert all(name in reasons for name, file in bad.items() if file in CHECKED_BY_STATUS and file != "config.json")
    checked = run_command("status", "check", "--outputs", outputs, cwd=tmp_path, check=1).stdout
    assert all(name in checked for name in bad)


@pytest.mark.parametrize("runs, pause", [(2, 0), pytest.param(20, 3, marks=pytest.mark.crash)])
def test_sixty_four_processes_finish_runs_while_others_read(tmp_path, runs, pause):
    outputs = tmp_path / "outputs"
    paths = os.pathsep.join((str(TESTS), str(TESTS.parent)))
    writers = subprocess.Popen(
        [sys.executable, TESTS / "support" / "many_writers.py", outputs, "64", str(runs), str(pause)],
        env=os.environ | {"PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not outputs.is_dir() and writers.poll() is None:
        time.sleep(0.05)
    readings, working = 0, True
    while working:
        working = writers.poll() is None  # so the last reading comes after the last run
        for name in ("status", "aggregate"):
            done = run_command(
                name, "--outputs", outputs, *(["--jobs", tmp_path] if name == "aggregate" else []), cwd=tmp_path
            )
            early = done.returncode == 2 and "no run in" in done.stderr
            assert (done.returncode == 0 or early) and "Traceback" not in done.stderr, done.stderr
            assert "damaged" not in done.stdout, done.stdout
        for row in rows_of(outputs).values() if not early else ():
            assert row["state"] != "damaged", row
            assert row["state"] != "done" or row["accuracy"] == accuracy_of(row["seed"])
        readings += 1
    assert writers.wait() == 0, writers.stderr.read()
    writers.stderr.close()
    assert len(rows_of(outputs)) == 64 * runs and all(row["state"] == "done" for row in rows_of(outputs).values())
    print(f"{readings} readings of {64 * runs} runs of 64 processes")


# A process counts the memory of the one that has forked it into its own peak, so it reads that of its own program.
WITH_ITS_PEAK = """
import runpy, sys
from pathlib import Path
try:
    runpy.run_module("dc_hpc.aggregate", run_name="__main__", alter_sys=True)
finally:
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) // 1024, file=sys.stderr)
"""


@pytest.mark.crash
def test_ten_thousand_runs_are_aggregated(many, tmp_path):
    names, bad = many(10_000, damaged=True)
    outputs, begun = tmp_path / "outputs", time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_ITS_PEAK, "--outputs", outputs, "--jobs", tmp_path],
        cwd=TESTS.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process.stderr as said:
        peak = said.read().split()[-1]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    print(
        f"aggregate of 10,000 run directories, {len(bad)} damaged: {time.monotonic() - begun:.0f} s, "
        f"{usage.ru_utime + usage.ru_stime:.0f} s of CPU, peak {peak} MiB"
    )
    assert process.returncode == 0
    rows = rows_of(outputs)
    assert all(rows[name]["state_reason"] for name in bad)
    assert sum(row["state"] == "done" and row["state_reason"] is None for row in rows.values()) == len(names) - len(bad)
