"""One more try with more memory for runs that ran out of it, up to `max_memory_gb` of the site profile."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.tasks.causes import CRASHED_OUT_OF_MEMORY
from dc_hpc.scheduler.tasks.words import number_of_runs

if TYPE_CHECKING:
    from dc_hpc.scheduler.run_status import RunStatus, RunStatusTable
    from dc_hpc.scheduler.site import Site

_FACTOR = 2


def raised(site: Site, runs: Collection[str], table: RunStatusTable) -> Site:
    """The profile for a task of these runs: with as much memory as the one of them gets that needs most."""
    memory = [one for one in _next_memory(site, runs, table).values() if one is not None]
    return site.model_copy(update={"memory_gb": max(memory)}) if memory else site


def split(site: Site, runs: Sequence[str], table: RunStatusTable) -> list[list[str]]:
    """The runs by the memory that their tasks get, so that only those get more that need it; in the same order."""
    parts: dict[int | None, list[str]] = {}
    for name, memory in _next_memory(site, runs, table).items():
        parts.setdefault(memory, []).append(name)
    return list(parts.values())


def describe_share(site: Site, runs: Sequence[str], table: RunStatusTable) -> str:
    """The line of the cost estimate for runs that get more memory than the profile says; "" for others."""
    more = raised(site, runs, table).memory_gb
    if more == site.memory_gb:
        return ""
    usual = f" instead of {site.memory_gb}" if site.memory_gb else ""
    return f"memory: {more} GiB{usual} for {number_of_runs(len(runs))} that ran out of memory"


def describe(table: RunStatusTable) -> list[str]:
    """What `status` says: runs that ran out of memory and what becomes of them, and runs that have more now."""
    failed: Counter[str] = Counter()
    again: Counter[str] = Counter()
    if all(one.max_memory_gb is None for one in table.submissions):
        return []
    for name, history in _histories(table.submissions).items():
        run, last = table.runs.get(name), history[-1]
        if run is None or run.state == "done" or last.max_memory_gb is None:
            continue
        if run.is_active and _is_retry(history):
            again[f"with {_memory(last)} instead of {_memory(history[-2])}"] += 1
        elif not run.is_active and _ran_out(run):
            failed[_outcome(history)] += 1
    return [
        *(
            f"{number_of_runs(count)} {'is' if count == 1 else 'are'} tried once more {words}"
            for words, count in again.items()
        ),
        *(f"{number_of_runs(count)} ran out of memory with {words}" for words, count in failed.items()),
    ]


def _outcome(history: Sequence[Submission]) -> str:
    last = history[-1]
    more = _more(last.memory_gb, last.max_memory_gb)
    if _is_retry(history) or more == last.memory_gb:
        return f"{_memory(last)}, the last try; set a larger memory_gb in the site profile"
    return f"{_memory(last)}; the same submit command tries once more with {more} GiB"


def _next_memory(site: Site, runs: Collection[str], table: RunStatusTable) -> dict[str, int | None]:
    """The memory of each run's next task, in GiB; None for what the cluster gives."""
    usual, most = site.memory_gb, site.max_memory_gb
    if most is None:
        return dict.fromkeys(runs, usual)
    histories = _histories(table.submissions)
    return {name: _next(table.runs[name], histories.get(name, []), usual, most) for name in runs}


def _next(run: RunStatus, history: Sequence[Submission], usual: int | None, most: int) -> int | None:
    if not history:
        return usual
    last = history[-1].memory_gb
    if _is_retry(history):
        return max(usual or 0, last or 0)
    had = last or usual
    if not _ran_out(run) or (usual is not None and had is not None and usual > had):
        return usual
    return _more(had, most)


def _more(had: int | None, most: int | None) -> int | None:
    """The memory of a retry: twice as much, up to the most; all of it where nobody knows what the task had."""
    if had is None or most is None:
        return most
    return max(had, min(_FACTOR * had, most))


def _ran_out(run: RunStatus) -> bool:
    """Whether the last task of a run, or the run's own process, was killed for its memory."""
    of_task = run.end is not None and run.end.is_out_of_memory
    return of_task or (run.state == "failed" and run.reason.startswith(CRASHED_OUT_OF_MEMORY))


def _is_retry(history: Sequence[Submission]) -> bool:
    """Whether a run's last submission gave it more memory than the one before."""
    last, before = history[-1], history[-2] if len(history) > 1 else None
    if before is None or last.memory_gb is None:
        return False
    if before.memory_gb is None:  # what the cluster gives, or the record of a version that did not write it
        return last.memory_gb == last.max_memory_gb
    return last.memory_gb > before.memory_gb


def _histories(known: Sequence[Submission]) -> dict[str, list[Submission]]:
    """Run name -> the submissions of it that arrived, oldest first."""
    found: dict[str, list[Submission]] = defaultdict(list)
    for one in known:
        for run in one.run_names() if one.job != "" else ():
            found[run].append(one)
    return found


def _memory(one: Submission) -> str:
    return "what the cluster gives" if one.memory_gb is None else f"{one.memory_gb} GiB"
