"""What the commands of SLURM get and say: one clean environment, and every form in which sbatch answers."""

import json
import os
import sys

import pytest

from dc_hpc.scheduler import slurm
from dc_hpc.scheduler.submitting import answers, command
from dc_hpc.scheduler.submitting.command import Answer


@pytest.mark.parametrize(
    "out, number",
    [
        ("Submitted batch job 101\n", ("101", "")),
        ("Submitted batch job 101 on cluster inter\n", ("101", "inter")),
        ("101\n", ("101", "")),
        ("101;inter\n", ("101", "inter")),
        ("Limits checked: this is job 7 of at most 500.\nSubmitted batch job 101\n", ("101", "")),
        ("Submitted batch job 7\n-- real one below --\nSubmitted batch job 101\n", ("101", "")),
        ("Quota: 12 of 500\n101\n", ("101", "")),
        ("this is job 7 of at most 500\n", None),
        ("accepted, thank you\n", None),
    ],
)
def test_the_number_of_an_accepted_job(out, number):
    assert answers.job_number(Answer(0, out)) == number
    assert answers.job_number(Answer(1, out)) is None
    assert answers.is_in_doubt(Answer(0, out)) == (number is None)


@pytest.mark.parametrize(
    "answer, in_doubt, repeated",
    [
        (Answer(1, "", "Batch job submission failed: Socket timed out on send/recv operation"), True, True),
        (Answer(1, "", "Unable to contact slurm controller (connect failure)"), False, True),
        (Answer(1, "", "Batch job submission failed: Invalid account or account/partition combination"), False, False),
        (Answer(-9), True, True),
        (Answer(None, "", "sbatch gave no answer in 120 s"), True, True),
    ],
)
def test_what_an_error_leaves_open(answer, in_doubt, repeated):
    assert (answers.is_in_doubt(answer), answers.is_worth_repeating(answer)) == (in_doubt, repeated)


@pytest.mark.parametrize(
    "words, limit",
    [
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", True),
        ("sbatch: error: AssocMaxSubmitJobLimit", True),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", True),
        ("Invalid job array specification", True),
        ("invalid partition specified: nowhere", False),
    ],
)
def test_which_refusals_name_a_limit(words, limit):
    assert answers.is_limit(words) == limit


def test_every_command_gets_one_clean_environment(monkeypatch):
    mine = {"SLURM_CONF": "/etc/x.conf", "PATH": os.environ["PATH"], "SLURM_JWT": "token"}
    of_a_job = ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_CPU_BIND", "SLURM_MEM_PER_CPU", "SLURM_ARRAY_TASK_ID")
    changing = ("SQUEUE_PARTITION", "SQUEUE_NAMES", "SACCT_FORMAT", "SCONTROL_ALL", "SBATCH_JOB_NAME", "SLURM_CLUSTERS")
    for name in (*of_a_job, *changing, "CUDA_VISIBLE_DEVICES", "SRUN_CPUS_PER_TASK"):
        monkeypatch.setenv(name, "2")
    for name, value in {**mine, "SLURM_TIME_FORMAT": "relative", "LANG": "de_DE"}.items():
        monkeypatch.setenv(name, value)
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = json.loads(command.run([sys.executable, "-c", show]).out)
    assert {name: value for name, value in seen.items() if name.startswith("SLURM")} == {
        "SLURM_CONF": "/etc/x.conf",
        "SLURM_JWT": "token",
        "SLURM_TIME_FORMAT": "standard",
    }
    assert not {name for name in seen if name.startswith(("SQUEUE", "SACCT", "SCONTROL", "SBATCH", "SRUN", "CUDA"))}
    assert seen["LANG"] == "de_DE" and seen["PATH"] == os.environ["PATH"]
    assert command.unused_variables() == ["SBATCH_JOB_NAME", "SLURM_CLUSTERS"]


def test_an_answer_is_read_whatever_its_bytes_are():
    program = "import sys; sys.stdout.buffer.write(b'gr\\xf6\\xdfe'); sys.stderr.buffer.write(b'\\xff no'); sys.exit(3)"
    answer = command.run([sys.executable, "-c", program])
    assert answer.code == 3 and answer.out.startswith("gr") and answer.words().endswith("no")
    assert Answer(7).words() == "it said nothing and ended with exit code 7"
    assert command.run(["/nowhere/squeue"]).words() == "/nowhere/squeue cannot be started (No such file or directory)"
    assert command.run([sys.executable, "-c", "import time; time.sleep(9)"], seconds=0.1).code is None


def test_each_cluster_is_asked_by_its_name(monkeypatch):
    asked = []

    def run(arguments, *, seconds=30.0):
        asked.append(arguments)
        return Answer(0, "CLUSTER: inter\n7|0|7|RUNNING|None|x|x|n1|grid-1\n" if "-M" in arguments else "")

    monkeypatch.setattr(command, "run", run)
    found = slurm.queue({"", "inter"})
    assert [(task.id, task.cluster) for task in found.tasks] == [("7_0", "inter")]
    assert asked[1][:5] == ["squeue", "-M", "inter", "-u", str(os.getuid())] and "-M" not in asked[0]
    slurm.cancel([*found.tasks, slurm.Task("8", "other", 0, "PENDING")])
    assert asked[2:] == [["scancel", "-M", "inter", "7_0"], ["scancel", "8"]]
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    slurm.accounted(["grid-1"], {"inter"})
    assert asked[-1][:3] == ["sacct", "-M", "inter"]
