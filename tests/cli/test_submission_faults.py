"""Faults of real clusters, from the command line, with stubs of SLURM's commands that have them."""

import os
import re
import stat

import pytest
from support.commands import GRID, run_command, submit_grid

from dc_hpc.scheduler import submissions

SLURM = ("--cluster", "slurm", "--site", "site.yaml", "--yes")
SBATCH = """#!/bin/bash
D=$(dirname "$0"); n=$(( $(cat $D/n 2>/dev/null || echo 100) + 1 )); echo $n > $D/n
name=$(sed -n "s,^#SBATCH --job-name=,,p" "${{@: -1}}"); env | grep -E '^(SLURM|SBATCH|SQUEUE)_' > $D/seen
last=$(sed -n "s,^#SBATCH --array=0-\\([0-9]*\\).*,\\1,p" "${{@: -1}}"); last=${{last:-0}}
{before}
for i in $(seq 0 $last); do echo "$n|$i|$n|PENDING|None|x|x||${{SBATCH_JOB_NAME:-$name}}" >> $D/queue; done
echo "{answer}"
"""
SQUEUE = '#!/bin/bash\necho "$*" >> $(dirname "$0")/asked\n{before}\ncat $(dirname "$0")/queue 2>/dev/null; exit 0\n'
SCANCEL = '#!/bin/bash\necho "$*" >> $(dirname "$0")/cancelled\n'


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder whose name has a space, with a grid of three runs; PATH has stubs that behave."""
    folder = tmp_path / "my runs"
    folder.mkdir()
    (tmp_path / "bin").mkdir()
    (folder / "grid.yaml").write_text(GRID)
    (folder / "site.yaml").write_text("partition: main\ncpus: 1\n")
    for name, text in {"sbatch": sbatch(), "squeue": squeue(), "srun": "#!/bin/sh\n", "scancel": SCANCEL}.items():
        stub(folder, name, text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return folder


def sbatch(answer="Submitted batch job $n", before=""):
    return SBATCH.format(answer=answer, before=before)


def squeue(before=""):
    return SQUEUE.format(before=before)


def stub(folder, name, text):
    path = folder.parent / "bin" / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def queued(place):
    """The rows that the stub of squeue prints."""
    path = place.parent / "bin" / "queue"
    return path.read_text().splitlines() if path.exists() else []


def test_a_site_with_two_clusters(place, digits_root):
    stub(place, "sbatch", sbatch("Submitted batch job $n on cluster inter"))
    stub(place, "squeue", squeue('case "$*" in *"-M inter"*) echo "CLUSTER: inter";; *) exit 0;; esac'))
    (place / "site.yaml").write_text("cpus: 1\nextra: {clusters: inter}\n")
    submit_grid(place, digits_root, *SLURM, check=0)
    assert "to submit: 0" in submit_grid(place, digits_root, *SLURM, check=0).stdout
    assert len(queued(place)) == 4  # three runs and the aggregator
    assert "3 queued" in run_command("status", cwd=place, check=0).stdout
    out = run_command("status", "cancel", "--grid", "grid.yaml", "--data", digits_root, cwd=place, check=0).stdout
    assert "3 tasks cancelled" in out and "the aggregator" in out
    assert (place.parent / "bin" / "cancelled").read_text().startswith("-M inter ")


def test_only_the_cluster_of_the_profile_is_asked(place, digits_root):
    """Also about a submission whose answer was lost."""
    row = 'echo "7|N/A|7|PENDING|None|x|x||grid-0123abcd"'
    stub(place, "squeue", squeue(f'case "$*" in *"-M inter"*) {row};; *) exit 1;; esac'))
    (place / "site.yaml").write_text("cpus: 1\nextra: {clusters: inter}\n")
    folder = str(place / "outputs" / "slurm" / "grid")
    lost = submissions.Submission("grid-0123abcd", folder, (("run",),), minutes=1, cluster="inter", submitted=1.0)
    submissions.write(place / "outputs", lost)
    assert "submitted job 101" in submit_grid(place, digits_root, *SLURM, "--no-aggregate", check=0).stdout


def test_an_environment_that_would_change_the_job(place, digits_root, monkeypatch):
    """Names from the environment, and an allocation around the submit."""
    for name in ("SBATCH_JOB_NAME", "SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_CPU_BIND", "SQUEUE_PARTITION"):
        monkeypatch.setenv(name, "7")
    out = submit_grid(place, digits_root, *SLURM, "--no-aggregate", check=0).stdout
    assert "! not used from your environment: SBATCH_JOB_NAME;" in out
    assert (place.parent / "bin" / "seen").read_text() == "SLURM_TIME_FORMAT=standard\n"
    assert "to submit: 0" in submit_grid(place, digits_root, *SLURM, "--no-aggregate", check=0).stdout
    (record,) = submissions.read_all(place / "outputs")
    assert all(row.endswith(f"|{record.name}") for row in queued(place))


def test_the_signal_of_the_warning_is_the_one_that_runs_know(place, digits_root, monkeypatch):
    """submitit takes another one from the environment; a task that does not handle it is killed by its warning."""
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    (place / "site.yaml").write_text("cpus: 1\nsignal_delay: 77\n")
    submit_grid(place, digits_root, *SLURM, check=0)
    scripts = [path.read_text() for path in (place / "outputs" / "slurm" / "grid").glob("*.sh")]
    assert [re.findall("^#SBATCH --signal=.*", text, re.M) for text in scripts] == [["#SBATCH --signal=USR2@77"]] * 2


def test_a_queue_with_a_name_that_is_not_utf8(place, digits_root):
    stub(place, "squeue", squeue("printf '55|N/A|55|RUNNING|None|x|x|n1|gr\\xf6\\xdfe\\n'"))
    submit_grid(place, digits_root, *SLURM, "--no-aggregate", check=0)
    assert "to submit: 0" in submit_grid(place, digits_root, *SLURM, "--no-aggregate", check=0).stdout
    assert "3 queued" in run_command("status", cwd=place, check=0).stdout


def test_what_is_missing_or_wrong_is_said_before_anything_is_written(place, digits_root, monkeypatch):
    monkeypatch.setenv("PATH", str(place.parent / "bin"))
    (place.parent / "bin" / "srun").rename(place / "srun")
    out = submit_grid(place, digits_root, *SLURM, check=2)
    assert "needs srun, which is not on this machine's PATH" in out.stderr
    (place / "srun").rename(place.parent / "bin" / "srun")
    out = submit_grid(place, digits_root, *SLURM, "--outputs", "a;b", check=2)
    assert "cannot be named to SLURM" in out.stderr
    stub(place, "squeue", "#!/bin/sh\necho \"squeue: unrecognized option '-u'\" >&2; exit 1\n")
    out = submit_grid(place, digits_root, *SLURM, check=2)
    assert "unrecognized option '-u'" in out.stderr and len(out.stderr.splitlines()) == 1
    assert {one.name for one in place.iterdir()} == {"grid.yaml", "site.yaml"}


def test_an_old_squeue_is_asked_in_words_that_it_knows(place, digits_root):
    stub(place, "squeue", squeue('case "$*" in *--me*) exit 1;; esac'))
    submit_grid(place, digits_root, *SLURM, check=0)
    assert f"-u {os.getuid()} " in (place.parent / "bin" / "asked").read_text()


def test_a_limit_after_the_first_array(place, digits_root):
    stub(place, "scontrol", '#!/bin/sh\ncase "$*" in *config*) echo "MaxArraySize = 2";; esac\n')
    refuse = '[ $n = 102 ] && { echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }'
    stub(place, "sbatch", sbatch(before=refuse))
    out = submit_grid(place, digits_root, *SLURM, check=2)
    assert re.search(r"submitted job 101 \(grid-.*\): 2 tasks", out.stdout) and "job 103: the aggregator" in out.stdout
    assert "2 of 3 runs are in the queue; run the same command later, or give --limit N" in out.stderr
    out = submit_grid(place, digits_root, *SLURM, check=0).stdout
    assert "to submit: 1" in out and "submitted job 104" in out and "job 105: the aggregator" in out
    assert len(queued(place)) == 5


def test_the_same_command_queues_an_aggregator_that_was_never_sent_or_refused(place, digits_root):
    """It needs no --yes for that where a terminal asks; here there is none."""
    submit_grid(place, digits_root, *SLURM, "--no-aggregate", check=0)
    refused = submit_grid(place, digits_root, *SLURM[:-1], check=2)
    assert "to submit: 0" in refused.stdout
    assert "no terminal to ask on; to queue the aggregator, which is missing, give --yes" in refused.stderr
    assert "submitted job 102: the aggregator" in submit_grid(place, digits_root, *SLURM, check=0).stdout
    again = submit_grid(place, digits_root, *SLURM[:-1], check=0)
    assert "to submit: 0" in again.stdout and len(queued(place)) == 4


def test_cancel_where_nothing_was_submitted(place, digits_root):
    stub(place, "squeue", "#!/bin/sh\nexit 1\n")
    submit_grid(place, digits_root, "--set", "cycles=0", "--set", "probe=off", check=0)
    out = run_command("status", "cancel", "--grid", "grid.yaml", "--data", digits_root, "--set", "cycles=0", cwd=place)
    assert "squeue" not in out.stdout + out.stderr
    out = run_command("status", "cancel", "--grid", "grid.yaml", "--data", digits_root, cwd=place, check=0).stdout
    assert "none of 3 runs was submitted to a cluster, local runs end with Ctrl-C, or with kill and the pids" in out


def test_a_path_with_a_space_is_quoted_in_the_hint(place, digits_root):
    out = submit_grid(place, digits_root, *SLURM, "--outputs", "my outputs", check=0).stdout
    assert "their status: python -m dc_hpc.status --outputs 'my outputs'" in out
