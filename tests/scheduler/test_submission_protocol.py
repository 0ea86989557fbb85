"""Whatever the scheduler shows, each run is sent once and none is lost: random steps against a stand-in."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.small_runs import small_config
from support.stand_in_slurm import FolderWork, Habits, StandIn

from dc_hpc.config.grid import Resources
from dc_hpc.errors import InputError
from dc_hpc.experiment import provenance
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.site import Site
from dc_hpc.scheduler.submitting import command, sbatch, search
from dc_hpc.scheduler.submitting.cancelling import idle_aggregators, living_tasks
from dc_hpc.scheduler.submitting.command import Answer
from dc_hpc.scheduler.submitting.grids import GridRequest, send_to_slurm
from dc_hpc.storage import lock_file, run_directory
from dc_hpc.storage.run_directory import run_id

RUNS, STEPS, EXAMPLES = 6, 50, 260
# A new job is shown after at most 14 seconds, and in every third answer: nobody can know of a job that is shown later
# than the last look.
BAD = Habits(
    late=sum(search.BACK_OFF[:-2]) - 1,
    hide=0.2,
    most_hidden=2,
    forget=30,
    lose=0.25,
    busy=0.15,
    refuse=0.1,
    away=0.1,
    fail=0.2,
    most_tasks=9,
)
chosen_runs = st.sets(st.integers(0, RUNS - 1), min_size=1)


class Died(BaseException):
    """The submitting process was killed."""


class Submissions(RuleBasedStateMachine):
    """Submit overlapping sets of runs, be killed in the middle, cancel, wait."""

    configs: dict = {}
    steps: Counter = Counter()

    @initialize(seed=st.integers(0, 2**32), accounting=st.booleans())
    def begin(self, seed, accounting):
        shm = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
        self.outputs, self.now, self.calls_left = self.folder / "outputs", 1e9, None
        work = FolderWork(self.outputs)
        habits = Habits(**{**vars(BAD), "accounting": accounting})
        self.slurm = StandIn(habits, seed, lambda: self.now, work.work_of, work.is_done, work.finish)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(command, "run", self.answer)
        self.patch.setattr(slurm.shutil, "which", lambda name: f"/bin/{name}")
        for module in (search, sbatch):
            self.patch.setattr(module.time, "sleep", self.wait_for)
        self.patch.setattr(provenance, "code_record", dict)

    def answer(self, asked, *, seconds=30.0):
        """One command. A process that is to die does so before the command or after it."""
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left == 0:
                raise Died
        answer = self.slurm.answer(list(asked))
        if self.calls_left is not None and self.calls_left <= 0.5:
            raise Died
        return Answer(*answer)

    def wait_for(self, seconds):
        self.now += seconds
        self.slurm.tick()

    def submit(self, runs, runs_per_task=1):
        names = sorted(self.configs)
        some = {names[one]: self.configs[names[one]] for one in sorted(runs)}
        request = GridRequest("grid", Resources(minutes=5, runs_per_task=runs_per_task), some)
        try:
            send_to_slurm(
                [request],
                Execution("data"),
                site=Site(cpus=1),
                outputs=self.outputs,
                names=list(some),
                aggregate=["--outputs", str(self.outputs)],
            )
        except InputError as error:
            return str(error)
        return ""

    @rule(runs=chosen_runs, pack=st.integers(1, 3))
    def submit_some(self, runs, pack):
        self.steps["submit"] += 1
        self.submit(runs, pack)

    @rule(runs=chosen_runs, calls=st.integers(1, 12), after=st.booleans())
    def submit_and_be_killed(self, runs, calls, after):
        self.steps["killed"] += 1
        self.calls_left = calls + (0.5 if after else 0)
        try:
            self.submit(runs)
        except Died:
            self.leave_a_stale_lock()
        self.calls_left = None

    def leave_a_stale_lock(self):
        """What a killed process leaves: its lock, which names a process that is no more."""
        me = lock_file._myself()
        dead = {**vars(me), "pid": 2**22 + 1, "started": "1"}
        lock_file.atomic_files.write_checksummed(self.outputs / "slurm" / "submit.lock", dead)

    @rule(seconds=st.sampled_from([1, 5, 30, 200]))
    def wait(self, seconds):
        self.steps["wait"] += 1
        self.wait_for(seconds)

    @rule(runs=chosen_runs)
    def cancel(self, runs):
        self.steps["cancel"] += 1
        names = [sorted(self.configs)[one] for one in runs]
        known, tasks = submissions.read_all(self.outputs), slurm.tasks()
        mine = living_tasks(names, known, tasks or [])
        slurm.cancel([*idle_aggregators(names, known, tasks or [], mine), *mine])

    @invariant()
    def each_run_is_sent_and_computed_once(self):
        if hasattr(self, "slurm"):
            self.slurm.tick()
            assert max(self.slurm.living().values(), default=0) <= 1, self.slurm.living()
            assert max(self.slurm.computed.values(), default=0) <= 1, self.slurm.computed

    def teardown(self):
        """A scheduler that behaves again: the same command, some times, computes what is left."""
        if not hasattr(self, "slurm"):
            return
        try:
            self.slurm.habits = Habits()
            for _ in range(30):
                self.submit(range(RUNS))
                # where sbatch accepted a job, gave no number, and the queue has forgotten it, the person is asked
                for one in submissions.read_all(self.outputs):
                    if one.job is None:
                        submissions.forget(self.outputs, one.name)
                self.wait_for(400)
                self.each_run_is_sent_and_computed_once()
                if len(self.slurm.computed) == RUNS:
                    break
            assert dict(self.slurm.computed) == dict.fromkeys(self.configs, 1)
            states = [run_directory.state_of(self.outputs / "runs" / name).name for name in self.configs]
            assert states == ["done"] * RUNS
            assert not (self.outputs / "slurm" / "submit.lock").exists()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)


def test_ten_thousand_random_steps_send_and_compute_each_run_once(digits_root, capsys):
    made = [small_config(digits_root, seed=seed) for seed in range(RUNS)]
    Submissions.configs, Submissions.steps = {run_id(one): one for one in made}, Counter()
    checks = settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Submissions, settings=checks)
    steps = sum(Submissions.steps.values())
    with capsys.disabled():
        print(f"\n{steps} steps: {dict(Submissions.steps)}")
    assert steps >= 10_000
