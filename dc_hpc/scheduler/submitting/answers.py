"""What an answer of sbatch means: accepted under which number, refused, or in doubt."""

from __future__ import annotations

import re

from dc_hpc.scheduler.submitting.command import Answer

_SENTENCE = re.compile(r"Submitted batch job ([0-9]{1,18})(?: on cluster ([A-Za-z0-9_][A-Za-z0-9._-]*))?", re.I)
_NUMBER = re.compile(r"^\s*([0-9]{1,18})(?:;([A-Za-z0-9_][A-Za-z0-9._-]*))?\s*$", re.M)
# The request may have reached the controller although sbatch reports an error.
_IN_DOUBT = re.compile(
    r"timed out|connection reset|broken pipe|zero bytes|unexpected message|send/recv|communication|interrupted", re.I
)
# The request did not reach the controller, or the controller wants it again later.
_LATER = re.compile(r"unable to contact|connection refused|connect failure|temporar|try again|not responding", re.I)
_LIMIT = re.compile(
    r"maxsubmit|maxjob|(?:qos|assoc)(?:max|grp)|accounting/qos policy|(?:submit|job)s? ?(?:count )?limit|"
    r"too many jobs|invalid job array|maxarraysize",
    re.I,
)


def job_number(answer: Answer) -> tuple[str, str] | None:
    """(job, cluster) of an accepted job, or None; the cluster is "" where sbatch names none.

    Site wrappers print lines before the answer of sbatch, so the last match counts.
    """
    if answer.code != 0:
        return None
    for pattern in (_SENTENCE, _NUMBER):
        for text in (answer.out, answer.err):
            if found := pattern.findall(text):
                return found[-1]
    return None


def is_in_doubt(answer: Answer) -> bool:
    """Whether SLURM may have the job without saying so: no error and no number, an end by a signal, a lost answer."""
    if answer.code is None or answer.code <= 0:
        return job_number(answer) is None
    return bool(_IN_DOUBT.search(answer.err + answer.out))


def is_worth_repeating(answer: Answer) -> bool:
    """Whether the same request may succeed later."""
    return answer.code != 0 and (is_in_doubt(answer) or bool(_LATER.search(answer.err + answer.out)))


def is_limit(words: str) -> bool:
    """Whether a refusal names a limit on how much may be submitted, so that less or later succeeds."""
    return bool(_LIMIT.search(words))
