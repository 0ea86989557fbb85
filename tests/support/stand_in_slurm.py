"""A scheduler that stands in for SLURM: sbatch, squeue, scancel, sacct and scontrol with bad habits.

It shows new jobs late, leaves jobs out of answers, forgets jobs that have ended, refuses, is away, loses answers of
sbatch, prints banners, and starts and ends tasks in its own time. A seeded generator decides all of that. A task
computes its runs only if it finds the file with its work, as a task of submitit does.

In one process: `StandIn(...).answer(command)`. From shells: `install` writes the commands; they share a state file.
"""

from __future__ import annotations

import fcntl
import pickle
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ACTIVE = ("PENDING", "RUNNING")
LOST_ANSWER = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
LIMIT = "sbatch: error: QOSMaxSubmitJobPerUserLimit"
INVALID = "sbatch: error: Batch job submission failed: Requested node configuration is not available"


@dataclass
class Habits:
    """How bad the scheduler is. The numbers without a unit are probabilities, the others are seconds or tasks.

    late: until the queue shows a new job, at most. hide: that one answer leaves out a job. most_hidden: answers in a
    row that may leave it out or fail. forget: after its end, until the queue forgets a job. lose: that the answer of an
    accepted sbatch is lost. busy: that sbatch fails in the same words without accepting. refuse: that it refuses.
    lists_refused: that a refused job stays in the queue. away: that squeue fails. fail: that a task fails. start,
    work: until a task starts and ends, at most. patience: for the file of its work. most_tasks: in the queue.
    """

    late: float = 0.0
    hide: float = 0.0
    most_hidden: int = 3
    forget: float = 300.0
    lose: float = 0.0
    busy: float = 0.0
    refuse: float = 0.0
    lists_refused: float = 0.5
    away: float = 0.0
    fail: float = 0.0
    start: float = 20.0
    work: float = 60.0
    patience: float = 60.0
    most_tasks: int = 10_000
    accounting: bool = False


@dataclass
class Job:
    """One job: the states of its tasks, and when each starts and ends."""

    number: int
    name: str
    folder: str
    shown_from: float
    starts: list[float]
    ends: list[float]
    waits_for: tuple[int, ...] = ()
    is_array: bool = True
    states: list[str] = field(default_factory=list)
    computes: list[bool] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    hidden: int = 0

    def task(self, index: int) -> str:
        """The id of a task, as SLURM writes it."""
        return f"{self.number}_{index}" if self.is_array else str(self.number)

    def has_file(self, index: int) -> bool:
        """Whether the file with the work of a task is there."""
        return (Path(self.folder) / f"{self.task(index)}_submitted.pkl").exists()


class StandIn:
    """The scheduler. clock: the seconds now. work_of: job name -> the runs of each of its tasks. is_done, finish: of a
    run by its name. computed: how often each run was computed to its end.
    """

    def __init__(
        self,
        habits: Habits,
        seed: int,
        clock: Callable[[], float],
        work_of: Callable[[str], list[list[str]]],
        is_done: Callable[[str], bool],
        finish: Callable[[str], None],
    ) -> None:
        self.habits, self.random, self.clock = habits, random.Random(seed), clock
        self.work_of, self.is_done, self.finish = work_of, is_done, finish
        self.jobs: list[Job] = []
        self.computed: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.next_number = 100

    def answer(self, command: list[str]) -> tuple[int, str, str]:
        """(exit code, output, errors) of a command."""
        name = Path(command[0]).name
        self.calls[name] += 1
        self.tick()
        return {
            "sbatch": self._sbatch,
            "squeue": self._squeue,
            "scancel": self._scancel,
            "sacct": self._sacct,
        }.get(name, lambda _: (0, "", ""))(list(command[1:]))

    def tick(self) -> None:
        """Start and end the tasks whose time has come, and forget what ended long ago."""
        now = self.clock()
        for job in self.jobs:
            if any(other.number in job.waits_for and _lives(other) for other in self.jobs):
                continue
            for index in range(len(job.states)):
                self._advance(job, index, now)
        self.jobs = [one for one in self.jobs if _lives(one) or now - max(one.ended) < self.habits.forget]

    def living(self) -> Counter[str]:
        """Run -> the tasks that will compute it, or compute it now."""
        found: Counter[str] = Counter()
        for job in self.jobs:
            for runs, state, index in zip(self.work_of(job.name), job.states, range(len(job.states))):
                if state in ACTIVE and job.has_file(index):
                    found.update(runs)
        return found

    def _advance(self, job: Job, index: int, now: float) -> None:
        if job.states[index] == "PENDING" and job.starts[index] <= now:
            job.states[index] = "RUNNING"
        if job.states[index] != "RUNNING":
            return
        if not job.computes[index]:
            job.computes[index] = job.has_file(index)
            if not job.computes[index] and now - job.starts[index] > self.habits.patience:
                self._end(job, index, "FAILED")
        elif job.ends[index] <= now:
            for run in self.work_of(job.name)[index]:
                if not self.is_done(run) and self.random.random() >= self.habits.fail:
                    self.finish(run)
                    self.computed[run] += 1
            self._end(job, index, "COMPLETED")

    def _end(self, job: Job, index: int, state: str) -> None:
        job.states[index], job.ended[index] = state, self.clock()

    def _sbatch(self, arguments: list[str]) -> tuple[int, str, str]:
        text = Path(arguments[-1]).read_text()
        name = next((one.partition("=")[2] for one in arguments if one.startswith("--job-name=")), "")
        array = re.search(r"^#SBATCH --array=0-(\d+)", text, re.M)
        count, chance = (int(array[1]) + 1 if array else 1), self.random.random()
        if sum(state in ACTIVE for job in self.jobs for state in job.states) + count > self.habits.most_tasks:
            return 1, "", LIMIT
        if chance < self.habits.refuse:
            if self.random.random() < self.habits.lists_refused:
                self._add(name, text, count, bool(array), "FAILED")
            return 1, "", INVALID
        if chance < self.habits.refuse + self.habits.busy:
            return 1, "", LOST_ANSWER
        job = self._add(name, text, count, bool(array), "PENDING")
        if self.random.random() < self.habits.lose:
            return self.random.choice([(1, "", LOST_ANSWER), (-9, "", ""), (0, "", "")])
        sentence = f"Submitted batch job {job.number}\n"
        return 0, self.random.choice([sentence, f"{job.number}\n", f"Quota: job 7 of 500\n{sentence}"]), ""

    def _add(self, name: str, text: str, count: int, is_array: bool, state: str) -> Job:
        now, draw = self.clock(), self.random.uniform
        output = re.search(r"^#SBATCH --output=(.+)$", text, re.M)
        after = re.search(r"^#SBATCH --dependency=afterany:([0-9:]+)$", text, re.M)
        starts = [now + draw(0, self.habits.start) for _ in range(count)]
        job = Job(
            number=self.next_number,
            name=name,
            folder=str(Path(output[1].strip("'")).parent) if output else "",
            shown_from=now + draw(0, self.habits.late),
            starts=starts,
            ends=[start + draw(0, self.habits.work) for start in starts],
            waits_for=tuple(int(one) for one in after[1].split(":")) if after else (),
            is_array=is_array,
            states=[state] * count,
            computes=[False] * count,
            ended=[now] * count,
        )
        self.next_number += 1
        self.jobs.append(job)
        return job

    def _squeue(self, arguments: list[str]) -> tuple[int, str, str]:
        may_fail = all(job.hidden < self.habits.most_hidden for job in self.jobs)
        if may_fail and self.random.random() < self.habits.away:
            for job in self.jobs:
                job.hidden += 1
            return 1, "", AWAY
        lines = []
        for job in self.jobs:
            if job.shown_from > self.clock() or self._is_hidden(job):
                continue
            for index, state in enumerate(job.states):
                node = "" if state == "PENDING" or not job.computes[index] and state == "FAILED" else "n1"
                reason = "BadConstraints" if state == "FAILED" and not node else "None"
                shown = index if job.is_array else "N/A"
                lines.append(f"{job.number}|{shown}|{job.number}|{state}|{reason}|N/A|N/A|{node}|{job.name}")
        return 0, "\n".join(lines), ""

    def _is_hidden(self, job: Job) -> bool:
        """Whether this answer leaves a job out, which happens only so many times in a row."""
        hide = job.hidden < self.habits.most_hidden and self.random.random() < self.habits.hide
        job.hidden = job.hidden + 1 if hide else 0
        return hide

    def _scancel(self, arguments: list[str]) -> tuple[int, str, str]:
        for job in self.jobs:
            for index, state in enumerate(job.states):
                if state in ACTIVE and job.task(index) in arguments:
                    self._end(job, index, "CANCELLED")
        return 0, "", ""

    def _sacct(self, arguments: list[str]) -> tuple[int, str, str]:
        if not self.habits.accounting:
            return 1, "", "Slurm accounting storage is disabled"
        names = arguments[arguments.index("--name") + 1].split(",")
        rows = [(job, index) for job in self.jobs if job.name in names for index in range(len(job.states))]
        return 0, "\n".join(f"{job.task(i)}|{job.name}|{job.states[i]}|n1" for job, i in rows), ""


def _lives(job: Job) -> bool:
    return any(state in ACTIVE for state in job.states)


@contextmanager
def shared(folder: Path) -> Iterator[StandIn]:
    """The scheduler whose state is in a folder, for one process at a time."""
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one = pickle.loads((folder / "state").read_bytes())
        yield one
        (folder / "new").write_bytes(pickle.dumps(one))
        (folder / "new").rename(folder / "state")


class FolderWork:
    """The runs of an outputs folder, for a StandIn that several processes share. It needs nothing of the package
    but the names of its files.
    """

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs

    def work_of(self, job: str) -> list[list[str]]:
        """The runs of each task of a job, as its submission record says."""
        import json

        try:
            return json.loads((self.outputs / "slurm" / "submissions" / f"{job}.json").read_text())["runs"]
        except FileNotFoundError:
            return []

    def is_done(self, run: str) -> bool:
        """Whether a run has a result."""
        return (self.outputs / "runs" / run / "result.json").exists()

    def finish(self, run: str) -> None:
        """Write the result of a run."""
        from dc_hpc.storage import run_directory

        run_directory.finish(self.outputs / "runs" / run, {"ia": 0.5})


def install(folder: Path, habits: Habits, seed: int, outputs: Path) -> None:
    """Write the state of a new scheduler, and its commands into `folder`/bin. They share the scheduler."""
    work = FolderWork(outputs)
    one = StandIn(habits, seed, time.time, work.work_of, work.is_done, work.finish)
    (folder / "bin").mkdir(parents=True)
    (folder / "state").write_bytes(pickle.dumps(one))
    tests = Path(__file__).parents[1]
    program = (
        f"#!{sys.executable} -S\nimport sys\nsys.path[:0] = [{str(tests)!r}, {str(tests.parent)!r}]\n"
        f"from support.stand_in_slurm import main\nmain({str(folder)!r})\n"
    )
    for name in ("sbatch", "squeue", "scancel", "scontrol", "srun"):
        (folder / "bin" / name).write_text(program)
        (folder / "bin" / name).chmod(0o755)


def main(folder: str) -> None:
    """A command of the scheduler in `folder`: print its answer and end as it does."""
    with shared(Path(folder)) as one:
        # the test's own process starts and ends the tasks; a command only asks and changes
        one.tick = lambda: None  # type: ignore[method-assign]
        code, out, err = one.answer(sys.argv)
        del one.tick
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.exit(code if code >= 0 else 137)
