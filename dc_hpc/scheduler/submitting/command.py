"""Run a command of SLURM: each in one clean environment, with its answer decoded whatever its bytes are."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

# A person's variables that change what the commands do or print (SQUEUE_USERS, SBATCH_JOB_NAME, SLURM_TIME_FORMAT), and
# those that describe the job around this process: sbatch would hand them on to the new job.
_REMOVED = re.compile("(SLURMD?|SBATCH|SRUN|SALLOC|SQUEUE|SACCT|SACCTMGR|SCANCEL|SCONTROL|SINFO|SUBMITIT)_")
_KEPT = ("SLURM_CONF", "SLURM_JWT")  # where SLURM is, and who the person is
_GPUS_OF_A_JOB = "CUDA_VISIBLE_DEVICES"
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """What a command said. code: its exit code; None where it cannot be started or does not answer in time."""

    code: int | None
    out: str = ""
    err: str = ""

    def words(self) -> str:
        """What it said in one line, on whichever stream, or else its exit code."""
        said = " ".join((self.err.strip() or self.out.strip()).split())
        return said or f"it said nothing and ended with exit code {self.code}"


def run(command: Sequence[str], *, seconds: float = _ANSWER_SECONDS) -> Answer:
    """The answer of one command of SLURM, which runs in `clean_environment`."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, env=clean_environment()
        )
    except subprocess.TimeoutExpired:
        return Answer(None, err=f"{command[0]} gave no answer in {seconds:.0f} s")
    except OSError as error:
        return Answer(None, err=f"{command[0]} cannot be started ({error.strerror})")
    return Answer(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def clean_environment() -> dict[str, str]:
    """The environment of all commands of SLURM: that of this process without what would change their answers."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or not _REMOVED.match(name)}
    if "SLURM_JOB_ID" in os.environ:
        kept.pop(_GPUS_OF_A_JOB, None)
    return {**kept, "SLURM_TIME_FORMAT": "standard"}


def unused_variables() -> list[str]:
    """The person's variables that sbatch would have followed, and does not: the site profile takes their place."""
    return sorted(name for name in os.environ if name.startswith("SBATCH_") or name == "SLURM_CLUSTERS")
