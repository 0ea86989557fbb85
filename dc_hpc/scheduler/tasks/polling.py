"""Questions to SLURM that a program asks again and again: seldom, and more seldom where the answer is slow.

The controller and the accounting database serve all users of a cluster, so a person who watches asks them at most as
often as this module allows, whatever the interval of the screen.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.slurm import Task
from dc_hpc.scheduler.submissions import Submission

QUEUE_SECONDS = 30.0
ACCOUNTING_SECONDS = 60.0
# A question that took a second is asked again after half a minute at the earliest, one that took 30 after 15 minutes.
_TIMES_THE_ANSWER = 30.0
_LONGEST_SECONDS = 900.0


class _Pace:
    """When the next question may be asked. seconds: between two of them where the answers come at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.wait, self.started, self.next = seconds, seconds, 0.0, float("-inf")

    def may_ask(self) -> bool:
        return time.monotonic() >= self.next

    def ask(self) -> None:
        self.started = time.monotonic()

    def answered(self, *, failed: bool = False) -> None:
        """Set the next time: the wait grows with the time of the answer, and doubles while there is none."""
        took = time.monotonic() - self.started
        calm = min(max(self.seconds, took * _TIMES_THE_ANSWER), _LONGEST_SECONDS)
        self.wait = min(max(calm, 2 * self.wait), _LONGEST_SECONDS) if failed else calm
        self.next = time.monotonic() + self.wait


class QueueWatch:
    """SLURM's queue, asked for at most once in half a minute.

    A submission that was not known at the last question is a reason to ask at once, because its tasks are in no answer
    yet. (The times of its record are those of another machine's clock.) An answer stays for a quarter of an hour where
    the controller gives no other.
    """

    def __init__(self) -> None:
        self._pace = _Pace(QUEUE_SECONDS)
        self._answer: list[Task] | None = None
        self._asked, self._answered, self._answered_at = set[str](), set[str](), float("-inf")

    def __call__(self, known: Sequence[Submission]) -> list[Task] | None:
        """The tasks of the last answer or of a new one; None where SLURM does not answer."""
        names = {one.name for one in known}
        if self._pace.may_ask() or names - self._asked:
            self._ask(names, submissions.clusters_of(known))
        is_old = time.monotonic() - self._answered_at > _LONGEST_SECONDS
        return None if is_old or names - self._answered else self._answer

    def _ask(self, names: set[str], clusters: Collection[str]) -> None:
        self._asked = names
        self._pace.ask()
        answer = slurm.tasks(clusters)
        self._pace.answered(failed=answer is None)
        if answer is not None:
            self._answer, self._answered, self._answered_at = answer, self._asked, time.monotonic()


class AccountingWatch:
    """The accounting database, asked at most once a minute and never again for a job whose tasks have all ended."""

    def __init__(self) -> None:
        self._pace, self._known = _Pace(ACCOUNTING_SECONDS), dict[str, list[Task]]()

    def __call__(self, names: list[str], clusters: Collection[str] = ()) -> list[Task]:
        """The tasks of these jobs, as far as they were answered."""
        unknown = [name for name in names if not self._is_final(name)]
        if unknown and self._pace.may_ask():
            self._pace.ask()
            answer = slurm.accounted(unknown, clusters)
            self._pace.answered()
            for name in {task.name for task in answer}:
                self._known[name] = [task for task in answer if task.name == name]
        return [task for name in names for task in self._known.get(name, [])]

    def _is_final(self, name: str) -> bool:
        tasks = self._known.get(name, [])
        return bool(tasks) and not any(task.is_active for task in tasks)
