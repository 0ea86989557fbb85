"""Two shells submit the same and overlapping grids at the same time: no run is computed twice and none is lost."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from support.commands import REPOSITORY
from support.stand_in_slurm import Habits, install, shared
from support.submitting_shell import BACK_OFF

from dc_hpc.scheduler import submissions

GRID = """base: fmnist
protocol: code
fixed: {dataset: digits, k: 6, cycles: 1, probe: off}
sweep: {seed: 1..9}
"""
# The times fit the shells, which look again after a twentieth of the usual seconds.
BAD = Habits(
    late=sum(BACK_OFF[:-2]) - 0.05,
    hide=0.15,
    most_hidden=2,
    lose=0.2,
    busy=0.1,
    refuse=0.05,
    away=0.05,
    fail=0.1,
    forget=5,
    start=0.3,
    work=0.5,
    patience=30,
    most_tasks=12,
)
GOOD = Habits(forget=5, start=0.05, work=0.05, patience=1)


class Shell:
    """One process of `support.submitting_shell`."""

    def __init__(self, direct: bool) -> None:
        self.direct = direct
        self.open()

    def open(self):
        command = [sys.executable, "-m", "support.submitting_shell", *(["--direct"] if self.direct else [])]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY / "tests", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def order(self, at, folder, arguments):
        line = json.dumps({"at": at, "folder": str(folder), "arguments": arguments})
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Ticking:
    """Starts and ends the tasks of a shared scheduler while it is open."""

    def __init__(self, folder):
        self.folder, self.over = folder, threading.Event()
        self.thread = threading.Thread(target=self._tick)
        self.most: Counter = Counter()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def _tick(self):
        while not self.over.wait(0.03):
            with shared(self.folder) as one:
                one.tick()
                self.most |= one.living()


def submit_until_done(shell, folder, arguments, wanted):
    """The same command, as often as a person would give it; the scheduler behaves again."""
    with shared(folder) as one:
        one.habits = GOOD
    for _ in range(20):
        shell.order(0, folder, arguments)
        answer = shell.answer()
        if "status forget" in answer["out"]:
            for one in submissions.read_all(folder / "outputs"):
                if one.job is None:
                    submissions.forget(folder / "outputs", one.name)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with shared(folder) as one:
                computed, living = Counter(one.computed), any(one.living())
            if len(computed) >= wanted or not living:
                break
            time.sleep(0.05)
        if len(computed) >= wanted:
            break
    return computed


def one_round(shells, folder, data, seed, kill):
    """(runs wanted, how often each was computed, most tasks that had one run at a time, the answers)."""
    draw, outputs = random.Random(seed), folder / "outputs"
    install(folder, BAD, seed, outputs)
    (folder / "grid.yaml").write_text(GRID)
    (folder / "site.yaml").write_text("cpus: 1\n")
    fixed = ["--grid", folder / "grid.yaml", "--outputs", outputs, "--data", data]
    fixed = [*map(str, fixed), "--cluster", "slurm", "--site", str(folder / "site.yaml"), "--yes"]
    sets = [[1, 2, 3, 4, 5]] * 2 if draw.random() < 0.5 else [[1, 2, 3, 4, 5], [3, 4, 5, 6, 7]]
    wanted, answers = len(set(sum(sets, []))), []
    with Ticking(folder) as ticking:
        begun = time.time()
        for shell, seeds in zip(shells, sets):
            shell.order(begun + draw.uniform(0, 0.4), folder, [*fixed, "--set", f"seed={seeds}"])
        if kill:
            time.sleep(draw.uniform(0.0, 1.0))
            shells[0].close()
            shells[0].open()
            answers.append(shells[1].answer())
        else:
            answers += [shell.answer() for shell in shells]
        everything = sorted(set(sum(sets, [])))
        computed = submit_until_done(shells[1], folder, [*fixed, "--set", f"seed={everything}"], wanted)
    return wanted, computed, ticking.most, answers


@pytest.mark.parametrize(
    "rounds, direct",
    [
        pytest.param(3, False, id="commands"),
        pytest.param(8, True, id="everyday"),
        pytest.param(200, True, id="200-times", marks=pytest.mark.slow),
    ],
)
def test_two_shells_that_submit_at_once(tmp_path, digits_root, capsys, rounds, direct):
    shells = [Shell(direct), Shell(direct)]
    wanted, twice, lost, at_once, killed, codes = 0, 0, 0, 0, 0, Counter()
    try:
        for number in range(rounds):
            folder, kill = tmp_path / str(number), number % 10 == 7
            count, computed, most, answers = one_round(shells, folder, digits_root, number, kill)
            wanted, killed = wanted + count, killed + kill
            twice += sum(times > 1 for times in computed.values())
            lost += count - len(computed)
            at_once += sum(times > 1 for times in most.values())
            codes.update(str(one["code"]) for one in answers)
            assert not any("Traceback" in one["out"] for one in answers), answers
            shutil.rmtree(folder)
    finally:
        for shell in shells:
            shell.close()
    with capsys.disabled():
        print(
            f"\n{rounds} times two shells, {killed} of them killed: {wanted} runs, {twice} computed twice, {lost} "
            f"lost, {at_once} with two tasks at a time; exit codes {dict(codes)}"
        )
    assert (twice, lost, at_once) == (0, 0, 0)
