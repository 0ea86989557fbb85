"""Why a task ended, from what SLURM says of it and from its log: the cause in words, and the next step."""

from __future__ import annotations

import re
from dataclasses import dataclass

OUT_OF_MEMORY, TIME_LIMIT, CANCELLED, PREEMPTED = "out of memory", "time limit", "cancelled", "preempted"
NODE_FAILURE = "node failure"
# How the error of a run begins whose process was killed for its memory. That of a GPU is another thing.
CRASHED_OUT_OF_MEMORY = f"Crashed: {OUT_OF_MEMORY}"


@dataclass(frozen=True)
class Cause:
    """Why a task ended. name: a short term that programs can compare. words: with the names that the log has.

    line: the line of the log that says so, "" where SLURM says it. next_step: what a person can do.
    """

    name: str
    words: str
    next_step: str
    line: str = ""


@dataclass(frozen=True)
class _Sign:
    """A pattern over one line of a log, and what it means. {0} in words is what the pattern's first group matched."""

    pattern: str
    name: str
    words: str
    next_step: str


_AGAIN = "run the same submit command again"
_MEMORY = Cause(OUT_OF_MEMORY, "it needs more memory than it has", "set a larger memory_gb in the site profile")
_LIMIT = Cause(TIME_LIMIT, "its time limit came first", "give the grid more resources: {minutes: ...}")
_NODE = Cause(NODE_FAILURE, "its node failed", f"{_AGAIN}; extra: {{exclude: NODE}} in the site profile avoids a node")
_PREEMPTED = Cause(PREEMPTED, "another job took its place", _AGAIN)
_CANCELLED = Cause(CANCELLED, "someone cancelled it", _AGAIN)
_KILLED = Cause("killed", "SIGKILL ended it", "ask the site who killed it, most likely a limit of memory or of time")
_LAUNCH = Cause(
    "launch failure",
    "SIGKILL ended its script, or its node could not start it",
    f"{_AGAIN}; if it happens again, ask the site",
)

# What SLURM itself says of a task: its state, or the reason beside it.
_OF_STATES = {
    "OUT_OF_MEMORY": _MEMORY,
    "OutOfMemory": _MEMORY,
    "TIMEOUT": _LIMIT,
    "TimeLimit": _LIMIT,
    "DEADLINE": _LIMIT,
    "NODE_FAIL": _NODE,
    "NodeDown": _NODE,
    "BOOT_FAIL": _NODE,
    "PREEMPTED": _PREEMPTED,
}

# What slurmstepd and srun write when SLURM ends a task. OverMemoryKill leaves the state CANCELLED in old versions, so
# these lines decide before the state CANCELLED does.
_OF_SLURM = (
    (
        r"oom.kill|(?<!CUDA )(?<!CUDA error: )out.of.memory|exceeded (?:job |step )?memory limit|DUE TO MEMORY LIMIT",
        _MEMORY,
    ),
    (r"DUE TO TIME LIMIT", _LIMIT),
    (r"DUE TO NODE FAILURE|error: node failure|Node failure on", _NODE),
    (r"DUE TO PREEMPTION", _PREEMPTED),
    (r"CANCELLED AT \S+ \*\*\*", _CANCELLED),
)
_OF_A_START_BEFORE = re.compile(r"CANCELLED AT \S+ (?:DUE TO .*)?\*\*\*")

_SHARED = "the outputs folder and this environment must be on a file system that the compute nodes see"
# The special ones before the general ones.
_SIGNS = (
    _Sign(
        r"\bmodule: command not found",
        "no module command",
        "the node has no `module` command",
        "begin `setup` in the site profile with the line that defines it, e.g. source /etc/profile.d/modules.sh",
    ),
    _Sign(
        r"(?:Unable to locate a modulefile for|following module\(s\) are unknown:?|module\(s\) (?:exist|are) .* cannot"
        r"|Unable to load module)\s*[\"']?([\w./+-]*)",
        "module not found",
        "the node has no module {0}",
        "correct `setup` in the site profile; `module avail` lists the modules",
    ),
    _Sign(
        r"\b(apptainer|singularity|enroot|docker|podman|ch-run)\b[^/]*: (?:command not found|not found|No such file)",
        "container program not found",
        "{0} is not on the node",
        "load its module in `setup` of the site profile, or give its whole path in `container`",
    ),
    _Sign(
        r"FATAL:.*(?:could not open image|image .*not exist|open image file|\.sif)",
        "container image not found",
        "the image of the container cannot be opened on the node",
        "correct the path in `container` of the site profile; the image must be on a shared file system",
    ),
    _Sign(
        r"FATAL:.*\b(?:bind|mount)",
        "container bind",
        "the container cannot bind a path that the node does not have",
        "correct --bind in `container` of the site profile",
    ),
    _Sign(
        r"\"?(python[\d.]*)\"?: executable file not found",
        "python not found",
        "the container has no {0}",
        "install python3 and dc_hpc in the container's image",
    ),
    _Sign(
        r"(?:execve\(\): |line \d+: |exec: |env: .?)?(\S*\bpython[\d.]*)['’]?: "
        r"(?:command not found|not found|No such file|cannot execute|Permission denied)",
        "python not found",
        "the node cannot start {0}",
        f"load or activate Python in `setup` of the site profile; {_SHARED}",
    ),
    _Sign(
        r"(?:Module|Import)\w*Error: No module named ['\"]([\w.]+)",
        "package not found",
        "python on the node has no package {0}",
        f"activate the environment of dc_hpc in `setup` of the site profile; {_SHARED}",
    ),
    _Sign(
        r"could not find submitted jobs in path|this node does not see /",
        "folder not visible",
        "the node does not see the outputs folder",
        f"choose --outputs accordingly: {_SHARED}",
    ),
    _Sign(
        r"GLIBC\w*_[\d.]+. not found|(?:lib[\w.+-]+): cannot open shared object file|error while loading shared lib",
        "library not found",
        "the node lacks a library that the program needs",
        "load the modules with it in `setup` of the site profile, or build the environment on such a node",
    ),
    _Sign(
        r"Illegal instruction",
        "illegal instruction",
        "the node's processor lacks instructions that the program uses",
        "name nodes with a newer processor: extra: {constraint: ...} in the site profile",
    ),
    _Sign(
        r"(?i:srun: .*(?:cpu.bind|cpu binding|unable to bind))"
        r"|(?i:(?:error|fatal): .*(?:task/affinity|cpu binding|unable to bind))",
        "bind failed",
        "srun cannot bind the task to its cores",
        "add `export SLURM_CPU_BIND=none` to `setup` of the site profile",
    ),
    _Sign(
        r"srun: fatal: (.+)",
        "srun failed",
        "srun refuses to start the task",
        "correct the options in `extra` of the site profile, or what `setup` exports",
    ),
    _Sign(
        r"srun: error: (?:Unable to (?:create step|confirm alloc|allocate)|.*(?:launch|create) failed|Task launch)",
        "srun failed",
        "srun cannot start the task on its node",
        f"{_AGAIN}; if it happens again, ask the site",
    ),
    _Sign(
        r"srun: command not found",
        "srun failed",
        "the node has no srun",
        "add the folder of SLURM's programs to PATH in `setup` of the site profile",
    ),
    _Sign(
        r"CondaError|Run 'conda init'|EnvironmentNameNotFound|EnvironmentLocationNotFound|conda: command not found",
        "conda failed",
        "conda cannot activate the environment",
        "write `source .../etc/profile.d/conda.sh` before `conda activate` in `setup` of the site profile",
    ),
    _Sign(
        r"CUDA (?:error: )?out of memory",
        "GPU out of memory",
        "its GPU has too little free memory",
        "lower parallel_runs under resources of the grid, or ask for a larger GPU with gpu_type in the site profile",
    ),
    _Sign(
        r"No space left on device|[Dd]isk quota exceeded",
        "disk full",
        "a disk or a quota is full",
        f"free space, then {_AGAIN}",
    ),
    _Sign(
        r"line \d+: (?:[\w.]+: )?([^\s:]+): "
        r"(?:command not found|No such file or directory|Permission denied|unbound variable)",
        "setup failed",
        "the node cannot run {0}",
        "correct `setup` in the site profile",
    ),
    _Sign(r"line \d+: .*syntax error", "setup failed", "a line of the script is not shell", "correct `setup`"),
    _Sign(r"\bKilled\b|signal 9|SIGKILL", _KILLED.name, _KILLED.words, _KILLED.next_step),
)


def find(log: str, *, state: str, reason: str = "") -> Cause | None:
    """The cause of a task's end; None where neither SLURM nor its log says anything that is known.

    log: the end of its log. state, reason: as SLURM reports them, "" where it does not know the task any more.
    """
    lines = _of_last_start(log.splitlines(), state)
    said = _OF_STATES.get(state) or _OF_STATES.get(reason)
    if said is not None:
        return _with_line(said, lines)
    for pattern, cause in _OF_SLURM:
        for line in reversed(lines):
            if re.search(pattern, line, re.I):
                return Cause(cause.name, cause.words, cause.next_step, line)
    if state == "CANCELLED":
        return _CANCELLED
    for sign in _SIGNS:
        for line in reversed(lines):
            if found := re.search(sign.pattern, line):
                group = (found[1] or "").strip() if found.groups() else ""
                return Cause(sign.name, sign.words.format(group).strip(), sign.next_step, line)
    if reason.startswith(("RaisedSignal:9(", "RaisedSignal:9:")):
        return _KILLED
    return _LAUNCH if reason == "JobLaunchFailure" else None


def unknown(step: str = "read its log") -> Cause:
    """The cause of a task of whose end nothing is known."""
    return Cause("unknown", "", step)


def _of_last_start(lines: list[str], state: str) -> list[str]:
    """The lines since the task started last: a log also has those of earlier starts that SLURM ended and requeued."""
    ends = [number for number, line in enumerate(lines) if _OF_A_START_BEFORE.search(line)]
    later = lines[ends[-1] + 1 :] if ends else lines
    started_again = any(line and not line.startswith(("srun:", "slurmstepd:")) for line in later)
    return later if state == "FAILED" or started_again else lines


def _with_line(cause: Cause, lines: list[str]) -> Cause:
    """The cause with the line of SLURM in the log that says the same."""
    patterns = [pattern for pattern, one in _OF_SLURM if one is cause]
    line = next((line for line in reversed(lines) for one in patterns if re.search(one, line, re.I)), "")
    return Cause(cause.name, cause.words, cause.next_step, line)
