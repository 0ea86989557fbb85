"""Limits of a real SLURM are said before anything is sent, and what is said to be allowed runs there."""

import re
import subprocess
import time

import pytest
from support import slurm_cluster as sc
from support.commands import GRID, run_command, submit_grid
from support.one_cluster import running_cluster

from dc_hpc.config.grid import Resources
from dc_hpc.scheduler import launch
from dc_hpc.scheduler.site import Site, read_site
from dc_hpc.storage import run_directory

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="module")
def strict():
    """A cluster with a database that refuses what exceeds a limit. `small` is a QOS with limits of all kinds."""
    with running_cluster("database", "strict") as one_machine:
        for command in (
            "add qos small MaxSubmitJobsPerUser=10 MaxWall=30 MaxTRES=cpu=1,mem=2G Flags=DenyOnLimit",
            "add qos wide Flags=PartitionTimeLimit",
            "add qos gpu_only MinTRES=gres/gpu=1",
            "add qos closed",
            "modify user root set qos=normal,small,wide,gpu_only",
            "add account lab",
            "add user root account=lab MaxSubmitJobs=5 qos=normal,small,wide,gpu_only",
        ):
            subprocess.run(["sacctmgr", "-i", *command.split()], check=True, capture_output=True)
        time.sleep(1)  # the database tells the controller
        yield one_machine


@pytest.fixture
def place(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID.replace("[1, 2, 3]", "1..3").replace("cycles: 3", "cycles: 0"))
    return tmp_path


def send(place, root, profile, *more):
    (place / "site.yaml").write_text(f"cpus: 1\n{profile}\n")
    return submit_grid(place, root, "--cluster", "slurm", "--site", "site.yaml", "--yes", *more)


REFUSALS = [
    # profile, minutes, more options of submit; what submit says; the options of sbatch that SLURM refuses, too
    ("partition: short", 16, "partition short takes at most 15 minutes", "-p short -t 16"),
    ("partition: lwo", 10, 'partition lwo is not on this cluster; did you mean "low', "-p lwo"),
    ("partition: low\nmemory_gb: 4", 10, "has no node that gives a task 4 GiB, at most 3.9", "-p low --mem=4G"),
    ("partition: low\ngpus: 3", 10, "no node with 3 GPUs, at most 2 (its types: fake)", "-p low --gpus-per-node=3"),
    (
        "partition: low\ngpus: 1\ngpu_type: a100",
        10,
        "no node with 1 a100 GPUs, at most 0 (its types: fake)",
        "-p low --gpus-per-node=a100:1",
    ),
    ("qos: small", 31, "qos small allows at most 30 minutes (MaxWall)", "--qos=small -t 31 -c 1"),
    (
        "qos: small\nmemory_gb: 3",
        10,
        "allows at most 2048 MiB of memory (MaxTRES) and a task asks for 3072",
        "--qos=small --mem=3G -c 1 -t 10",
    ),
    ("qos: closed", 10, "qos closed is not allowed for account root; allowed: gpu_only, normal", "--qos=closed"),
    ("account: lap", 10, 'account lap is not one of yours on this cluster; did you mean "lab"', "-A lap"),
    ("account: lab\nqos: gpu_only", 10, "qos gpu_only wants at least 1 GPUs (MinTRES)", None),
]


@pytest.mark.parametrize("profile, minutes, message, sbatch", REFUSALS, ids=[one[2][:40] for one in REFUSALS])
def test_what_the_cluster_would_refuse_is_said_first(strict, place, digits_root, profile, minutes, message, sbatch):
    """In one line, and nothing is written or sent."""
    with (place / "grid.yaml").open("a") as grid:
        grid.write(f"resources: {{minutes: {minutes}}}\n")
    out = send(place, digits_root, profile)
    assert out.returncode == 2 and message in out.stderr and len(out.stderr.strip().splitlines()) == 1, out.stderr
    assert not (place / "outputs").exists() and sc.queue_is_empty("grid")
    if sbatch:
        command = ["sbatch", "--test-only", *sbatch.split(), "--wrap", "true"]
        refused = subprocess.run(command, capture_output=True, text=True, cwd=place)
        assert refused.returncode, f"SLURM itself takes {sbatch}: {refused.stderr}"


def test_more_tasks_than_may_be_submitted(strict, place, digits_root):
    with (place / "grid.yaml").open("a") as grid:
        grid.write("resources: {minutes: 10}\n")
    out = send(place, digits_root, "partition: low\nqos: small", "--set", "seed=1..10")
    assert out.returncode == 2 and not (place / "outputs").exists()
    assert "takes at most 10 tasks of yours at a time (MaxSubmitJobsPerUser), 0 are in the queue and 11" in out.stderr
    command = ["sbatch", "--qos=small", "-t", "10", "--array=0-10", "-o", "/dev/null", "--wrap", "true"]
    assert subprocess.run(command, capture_output=True).returncode, "SLURM itself takes 11 tasks"
    out = send(place, digits_root, "partition: low\naccount: lab", "--set", "seed=1..10")
    assert out.returncode == 2 and "account lab takes at most 5 tasks of yours at a time (MaxSubmitJobs)" in out.stderr


def test_what_is_within_the_limits_runs(strict, place, digits_root):
    """Up to each limit; and a QOS that replaces the time limit of the partition."""
    grid = (place / "grid.yaml").read_text()
    for profile, minutes in (
        ("partition: low\nqos: small\nmemory_gb: 2", 30),
        ("partition: short\nqos: wide", 20),
        ("partition: low\naccount: lab\ngpus: 2\ngpu_type: fake", 10),
    ):
        (place / "grid.yaml").write_text(f"{grid}resources: {{minutes: {minutes}}}\n")
        out = send(place, digits_root, profile, "--outputs", f"of_{minutes}", "--device", "cpu", "--no-aggregate")
        assert out.returncode == 0, out.stderr
        sc.wait_for_end(list(run_directory.run_directories(place / f"of_{minutes}")))


@pytest.fixture(scope="module")
def plugin():
    """A cluster whose site has a rule of its own, which no question tells."""
    with running_cluster("plugin") as one_machine:
        yield one_machine


def test_the_words_of_a_site_plugin_are_repeated(plugin, place, digits_root):
    """In one line, and nothing is in the queue; corrected, the same runs are sent."""
    grid = (place / "grid.yaml").read_text()
    (place / "grid.yaml").write_text(grid + "resources: {minutes: 30}\n")
    out = send(place, digits_root, "partition: low")
    assert out.returncode == 2 and len(out.stderr.strip().splitlines()) == 1, out.stderr
    assert "jobs of this site have a time limit of at most 20 minutes" in out.stderr
    assert sc.queue_is_empty("grid")
    (place / "grid.yaml").write_text(grid + "resources: {minutes: 20}\n")
    out = send(place, digits_root, "partition: low", "--no-aggregate")
    assert out.returncode == 0 and "3 tasks" in out.stdout, out.stderr
    sc.wait_for_end(list(run_directory.run_directories(place / "outputs")))


def test_a_constraint_with_or_and_a_range_of_nodes_run_on_the_node_that_they_leave(queue, digits_root, tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("partition: low\ncpus: 1\nextra: {constraint: 'only_n1|only_n2', exclude: 'n[2]'}\n")
    directories = sc.long_runs(tmp_path, digits_root, 2, cycles=0)
    (job,) = submit(directories, digits_root, read_site(path))
    sc.wait_for_end(directories)
    shown = subprocess.run(["scontrol", "show", "job", "-o", str(job.job)], capture_output=True, text=True).stdout
    assert set(re.findall(r" NodeList=(\S+)", shown)) == {"n1"} and "Features=only_n1|only_n2" in shown


@pytest.mark.parametrize("flag", ["gres", "gpus-per-node"])
def test_gpus_and_other_resources_are_both_requested(queue, digits_root, tmp_path, flag):
    directories = sc.long_runs(tmp_path, digits_root, 1, cycles=0)
    site = Site(partition="low", cpus=1, gpus=1, gpu_flag=flag, extra={"gres": "scratch:10"})
    (job,) = submit(directories, digits_root, site)
    shown = subprocess.run(["scontrol", "show", "job", "-o", str(job.job)], capture_output=True, text=True).stdout
    (asked,) = re.findall(r" TresPerNode=(\S+)", shown)
    assert set(asked.split(",")) == {"gres:gpu:1", "gres:scratch:10"}
    sc.wait_until(sc.queue_is_empty, "an end")


def submit(directories, root, site):
    from dc_hpc.experiment.execution import Execution

    return launch.submit_slurm(
        directories,
        Execution(str(root)),
        site=site,
        resources=Resources(minutes=10),
        name="grid",
        outputs=directories[0].parents[1],
        code={},
    )


def test_probe_site_names_a_partition_for_the_default_grid(queue, tmp_path):
    """Not the cluster's default, whose limit is 15 minutes."""
    for default in ("low", "short"):
        subprocess.run(["scontrol", "update", f"partitionname={default}", "default=yes"], check=True)
        try:
            out = run_command("submit", "--probe-site", "--site", f"{default}.yaml", cwd=tmp_path, check=0)
            assert "partition short: MaxTime 00:15:00" in out.stdout
            assert read_site(tmp_path / f"{default}.yaml").partition == "low"
        finally:
            subprocess.run(["scontrol", "update", "partitionname=low", "default=yes"], check=True)


def test_the_aggregator_keeps_the_time_limit_of_a_short_partition(queue, place, digits_root):
    with (place / "grid.yaml").open("a") as grid:
        grid.write("resources: {minutes: 5}\n")
    out = send(place, digits_root, "partition: short")
    assert out.returncode == 0, out.stderr
    sc.wait_until(lambda: (place / "outputs" / "report.html").exists(), "the report")
