"""What a cluster never runs is refused before anything is sent. The answers are those of a real SLURM 22.05."""

import math

import pytest
from support.commands import GRID, run_command, submit_grid

from dc_hpc.config.grid import Resources
from dc_hpc.errors import InputError
from dc_hpc.scheduler import slurm
from dc_hpc.scheduler.limits import accounting
from dc_hpc.scheduler.limits.accounting import resources_of
from dc_hpc.scheduler.limits.before_sending import check_limits, choose_partition
from dc_hpc.scheduler.limits.cluster import (
    Cluster,
    Partition,
    minutes_of,
    parse_gpus,
    parse_nodes,
    parse_partitions,
    parse_settings,
)
from dc_hpc.scheduler.limits.partitions import Wanted, check_partition
from dc_hpc.scheduler.site import Site

PARTITION = (
    "PartitionName={name} AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default={default} QoS=N/A "
    "DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime={time} "
    "MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=n[1-2] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO "
    "OverSubscribe=NO OverTimeLimit=NONE PreemptMode=REQUEUE State=UP TotalCPUs=4 TotalNodes=2 "
    "SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED\n"
)
CONFIG = """Configuration data as of 2026-11-29T09:00:00
AccountingStorageEnforce = {enforce}
AccountingStorageType   = {accounting}
ClusterName             = one_machine
EnforcePartLimits       = NO
MaxArraySize            = 1001
MaxJobCount             = 10000
SchedulerParameters     = {parameters}
"""
SINFO = "debug|2|4000|(null)\nlong|2|4000|(null)\nlong|64|256000|gpu:a100:4(S:0-1),lscratch:100\n"


def cluster(*lines, nodes=SINFO, settings=None):
    """A cluster with these lines of `scontrol show partition`."""
    kinds = parse_nodes(nodes)
    found = [Partition(one, kinds.get(one["PartitionName"], ())) for one in parse_partitions("".join(lines))]
    return Cluster(settings or {"EnforcePartLimits": "NO"}, found)


DEBUG = PARTITION.format(name="debug", default="YES", time="00:15:00")
LONG = PARTITION.format(name="long", default="NO", time="2-00:00:00")


def wanted(**changes):
    return Wanted("grid", **{"minutes": 10, "cpus": 2} | changes)


@pytest.mark.parametrize(
    "text, minutes",
    [
        ("00:15:00", 15),
        ("2-00:00:00", 2880),
        ("1-12", 2160),
        ("30", 30),
        ("01:30", 1.5),
        ("10:00:30", 600.5),
        ("UNLIMITED", math.inf),
        ("", math.inf),
        ("NONE", math.inf),
    ],
)
def test_times_of_slurm(text, minutes):
    assert minutes_of(text) == minutes


def test_gpus_and_nodes_as_sinfo_prints_them():
    assert parse_gpus("gpu:a100:4(S:0-1),lscratch:100") == {"a100": 4} and parse_gpus("(null)") == {}
    assert parse_gpus("gpu:2") == {"": 2} and parse_gpus("gpu:v100:1,gpu:a100:2") == {"v100": 1, "a100": 2}
    assert parse_gpus("gpu") == {"": 1} and parse_gpus("shard:8") == {}
    assert [len(kinds) for kinds in parse_nodes(SINFO + "garbled\n").values()] == [1, 2]
    assert resources_of("cpu=4,mem=2G,gres/gpu=1,gres/gpu:a100=1,node=1") == {
        "cpu": 4,
        "mem": 2048,
        "gres/gpu": 1,
        "gres/gpu:a100": 1,
        "node": 1,
    }


@pytest.mark.parametrize(
    "named, task, message",
    [
        (
            None,
            wanted(minutes=240),
            "partition debug takes at most 15 minutes and a task of grid has a limit of 240; write resources: "
            "{minutes: 15} into the grid (runs save, and their task is queued again); partitions that take these "
            "tasks: long",
        ),
        ("long", wanted(minutes=2881), "partition long takes at most 2880 minutes"),
        ("debug", wanted(cpus=3), "has no node that gives a task 3 CPU cores, at most 2; lower cpus in the site"),
        ("long", wanted(cpus=65), "at most 64"),
        ("debug", wanted(memory_gb=4), "has no node that gives a task 4 GiB, at most 3.9; lower memory_gb"),
        ("debug", wanted(gpus=1), "partition debug has no node with 1 GPUs, at most 0"),
        ("long", wanted(gpus=5), "at most 4 (its types: a100)"),
        ("long", wanted(gpus=1, gpu_type="v100"), "has no node with 1 v100 GPUs, at most 0 (its types: a100)"),
        ("lng", wanted(), 'partition lng is not on this cluster; did you mean "long"?; its partitions: debug, long'),
        ("debug,long", wanted(minutes=3000), "partition debug takes at most 15 minutes"),
    ],
)
def test_what_a_partition_never_runs(named, task, message):
    with pytest.raises(InputError) as caught:
        check_partition(cluster(DEBUG, LONG), named, task)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "change, task, message",
    [
        (("MaxCPUsPerNode=UNLIMITED", "MaxCPUsPerNode=16"), wanted(cpus=17), "17 CPU cores, at most 16"),
        (("MaxMemPerNode=UNLIMITED", "MaxMemPerNode=8192"), wanted(memory_gb=9), "gives a task 9 GiB, at most 8.0"),
        (("MaxNodes=UNLIMITED", "MaxNodes=0"), wanted(), "does not take jobs of one node (its limit is 0)"),
        (("MinNodes=0", "MinNodes=4"), wanted(), "does not take jobs of one node (its limit is 4)"),
        (("State=UP", "State=DRAIN"), wanted(), "partition long takes no jobs now (its state is DRAIN)"),
        (
            ("AllowAccounts=ALL", "AllowAccounts=lab,ops"),
            wanted(account="me"),
            "not take account me; allowed: lab, ops",
        ),
        (("AllowQos=ALL", "AllowQos=big"), wanted(qos="small"), "does not take qos small; allowed: big"),
        (("AllowQos=ALL", "DenyQos=small"), wanted(qos="small"), "does not take qos small; name another qos"),
    ],
)
def test_other_limits_of_a_partition(change, task, message):
    with pytest.raises(InputError) as caught:
        check_partition(cluster(LONG.replace(*change)), "long", task)
    assert message in str(caught.value)
    check_partition(cluster(LONG), "long", task)


def test_a_partition_for_other_groups(monkeypatch):
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("os.getgroups", lambda: [0])
    monkeypatch.setattr("os.getgid", lambda: 0)
    with pytest.raises(InputError, match="partition long is for the groups ops, staff only; name another one"):
        check_partition(cluster(LONG.replace("AllowGroups=ALL", "AllowGroups=ops,staff")), "long", wanted())
    check_partition(cluster(LONG.replace("AllowGroups=ALL", "AllowGroups=ops,root")), "long", wanted())
    monkeypatch.setattr("os.getgid", lambda: 987_654)  # no name here
    check_partition(cluster(LONG.replace("AllowGroups=ALL", "AllowGroups=ops,staff")), "long", wanted())


def test_one_node_must_have_all_that_a_task_asks_for():
    nodes = "long|64|64000|(null)\nlong|8|32000|gpu:4\n"
    with pytest.raises(InputError, match="no node with 32 CPU cores, 16 GiB and 1 GPUs together"):
        check_partition(cluster(LONG, nodes=nodes), "long", wanted(cpus=32, memory_gb=16, gpus=1))
    check_partition(cluster(LONG, nodes=nodes), "long", wanted(cpus=8, memory_gb=16, gpus=4))


def test_what_is_allowed_or_not_known_is_sent():
    both = cluster(DEBUG, LONG)
    check_partition(both, None, wanted(minutes=15))
    check_partition(both, "debug,long", wanted(minutes=240))  # it waits in the one that takes it
    check_partition(both, "debug", wanted(minutes=240), any_time=True)
    check_partition(both, "long", wanted(cpus=64, memory_gb=250, gpus=4, gpu_type="a100"))
    check_partition(Cluster(), "anything", wanted(minutes=100_000, cpus=1000, gpus=60))
    check_partition(cluster(DEBUG, nodes=""), "debug", wanted(cpus=1000, gpus=60))


def test_a_strict_site_wants_every_partition_to_fit():
    strict = cluster(DEBUG, LONG, settings={"EnforcePartLimits": "ALL"})
    with pytest.raises(InputError, match="partition debug takes at most 15 minutes"):
        check_partition(strict, "debug,long", wanted(minutes=240))


@pytest.mark.parametrize(
    "lines, name, can",
    [
        ((DEBUG, LONG), "long", True),
        ((LONG, DEBUG), "long", True),
        ((DEBUG, LONG.replace("AllowGroups=ALL", "AllowGroups=ops"), LONG.replace("long", "wide")), "wide", True),
        ((DEBUG,), "debug", False),
        ((DEBUG, LONG.replace("State=UP", "State=DRAIN")), "debug", False),
    ],
)
def test_the_draft_of_a_profile_takes_a_partition_that_runs_the_default_grid(lines, name, can):
    chosen, able = choose_partition(cluster(*lines, nodes=""))
    assert (chosen.name, able) == (name, can)


def test_the_number_of_tasks_of_an_array(monkeypatch):
    for parameters, most in (("", 1001), ("bf_interval=2,max_array_tasks=25", 25), ("max_array_tasks=5000", 1001)):
        text = CONFIG.format(enforce="none", accounting="accounting_storage/none", parameters=parameters)
        monkeypatch.setattr(slurm, "ask", lambda command, text=text: text)
        assert slurm.max_array_size() == most
    monkeypatch.setattr(slurm, "ask", lambda command: None)
    assert slurm.max_array_size() == 1001


# Stand-ins for SLURM's commands: what each prints, and an sbatch that notes that it was called.
ASSOCIATION = "lab||normal,small|normal||{most}|\n"
QOS = {"normal": "normal|||||||\n", "small": "small|{flags}|00:30:00|{submit}||cpu=2,mem=2G|cpu=4|{least}\n"}


def _case(answers):
    """A shell command that prints the answer to the question that its arguments contain."""
    lines = [f"*'{question}'*) cat <<'E'\n{answer}E\n;;" for question, answer in answers.items()]
    return 'case "$*" in\n' + "\n".join(lines) + "\nesac"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with a grid, and stand-ins for SLURM's commands that answer as `answers` says."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tmp_path / "grid.yaml").write_text(GRID.replace("[1, 2, 3]", "1..12") + "resources: {minutes: 20}\n")
    (tmp_path / "site.yaml").write_text("partition: long\nqos: small\n")

    def answers(**changes):
        said = {"enforce": "associations,limits,qos", "time": "UNLIMITED", "queued": 0} | changes
        config = CONFIG.format(enforce=said["enforce"], accounting="accounting_storage/slurmdbd", parameters="")
        partitions = DEBUG + PARTITION.format(name="long", default="NO", time=said["time"])
        association = ASSOCIATION.format(most=said.get("most", ""))
        small = QOS["small"].format(**{name: said.get(name, "") for name in ("submit", "flags", "least")})
        scripts = {
            "scontrol": _case({"config": config, "partition": partitions}),
            "sinfo": _case({"": SINFO}),
            "sacctmgr": _case(
                {"assoc": association, "qos small": small, "qos normal": QOS["normal"], "show user": "lab\n"}
            ),
            "squeue": f"case $* in *' -q '*|*' -A '*) seq {said['queued']};; esac",
            "srun": "",
            "sbatch": f"touch {tmp_path}/sent; echo Submitted batch job 77",
        }
        for name, text in scripts.items():
            (tools / name).write_text(f"#!/bin/bash\n{text}\n")
            (tools / name).chmod(0o700)

    answers()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    answers.folder = tmp_path
    return answers


def send(site, root, *more):
    return submit_grid(site.folder, root, "--cluster", "slurm", "--site", "site.yaml", "--yes", *more)


def refused(site, root, *words, more=()):
    out = send(site, root, *more)
    assert out.returncode == 2 and len(out.stderr.strip().splitlines()) == 1, out.stdout + out.stderr
    assert all(word in out.stderr for word in words), out.stderr
    assert not (site.folder / "outputs").exists() and not (site.folder / "sent").exists()


def sent(site, root, *more):
    out = send(site, root, *more)
    assert out.returncode == 0, out.stdout + out.stderr
    assert (site.folder / "sent").exists()
    return out.stdout


def test_the_time_limit_of_a_partition_is_said_and_nothing_is_left_behind(site, digits_root):
    site(time="00:15:00")
    refused(site, digits_root, "partition long takes at most 15 minutes and a task of grid has a limit of 20")
    refused(site, digits_root, "partition long takes at most 15 minutes", more=["--dry-run"])
    (site.folder / "grid.yaml").write_text(GRID + "resources: {minutes: 15}\n")
    sent(site, digits_root)


def test_a_qos_whose_flag_replaces_the_limit_of_the_partition(site, digits_root):
    site(time="00:15:00", flags="DenyOnLimit,PartitionTimeLimit")
    sent(site, digits_root)


def test_the_limits_of_a_qos(site, digits_root):
    (site.folder / "grid.yaml").write_text(GRID + "resources: {minutes: 31}\n")
    refused(site, digits_root, "qos small allows at most 30 minutes (MaxWall)", "resources: {minutes: 30}")
    (site.folder / "grid.yaml").write_text(GRID + "resources: {minutes: 30}\n")
    (site.folder / "site.yaml").write_text("partition: long\nqos: small\ncpus: 3\n")
    refused(site, digits_root, "qos small allows at most 2 CPU cores (MaxTRES) and a task asks for 3")
    (site.folder / "site.yaml").write_text("partition: long\nqos: small\nmemory_gb: 3\n")
    refused(site, digits_root, "qos small allows at most 2048 MiB of memory (MaxTRES) and a task asks for 3072")
    (site.folder / "site.yaml").write_text("partition: long\nqos: small\nmemory_gb: 2\n")
    site(least="gres/gpu=1")
    refused(site, digits_root, "qos small wants at least 1 GPUs (MinTRES) and a task asks for 0")
    site()
    sent(site, digits_root)


def test_a_qos_for_gpus_only_refuses_the_aggregator_and_not_the_profile(site, digits_root):
    (site.folder / "site.yaml").write_text("partition: long\nqos: small\ngpus: 1\n")
    site(least="gres/gpu=1")
    refused(
        site,
        digits_root,
        "dc_hpc: qos small wants at least 1 GPUs (MinTRES) and would refuse the aggregator, which asks for no GPU; "
        "give --no-aggregate\n",
    )
    sent(site, digits_root, "--no-aggregate")


def test_limits_that_the_cluster_does_not_enforce_do_not_count(site, digits_root):
    site(enforce="associations")
    (site.folder / "grid.yaml").write_text(GRID + "resources: {minutes: 31}\n")
    sent(site, digits_root)


def test_more_tasks_than_a_qos_or_an_account_takes(site, digits_root):
    """12 tasks and the aggregator."""
    site(submit=12)
    refused(
        site, digits_root, "qos small takes at most 12 tasks of yours at a time (MaxSubmitJobsPerUser), 0 are in the"
    )
    site(submit=13, queued=1)
    refused(site, digits_root, "1 are in the queue and 13 would come; give --limit N, or more runs_per_task")
    site(most=5)
    refused(site, digits_root, "account lab takes at most 5 tasks of yours at a time (MaxSubmitJobs)")
    sent(site, digits_root, "--limit", 4)
    (site.folder / "sent").unlink()
    site(submit=12)
    sent(site, digits_root, "--no-aggregate", "--outputs", "other")


def test_an_account_or_a_qos_that_is_not_ones_own(site, digits_root):
    (site.folder / "site.yaml").write_text("partition: long\naccount: lap\n")
    refused(site, digits_root, 'account lap is not one of yours on this cluster; did you mean "lab"?; yours: lab')
    (site.folder / "site.yaml").write_text("partition: long\nqos: smal\n")
    refused(site, digits_root, 'qos smal is not allowed for account lab; did you mean "small"?; allowed: normal, small')


def test_where_the_scheduler_does_not_answer_submission_goes_on(site, digits_root):
    for name in ("scontrol", "sinfo", "sacctmgr"):
        (site.folder / "tools" / name).write_text("#!/bin/sh\nexit 1\n")
    (site.folder / "site.yaml").write_text("partition: nowhere\ncpus: 1000\n")
    sent(site, digits_root)


def test_a_gpu_that_the_profile_does_not_request(site, digits_root):
    refused(
        site, digits_root, "--device cuda needs a GPU and the site profile requests none", more=["--device", "cuda"]
    )


def test_the_aggregator_keeps_the_time_limit_of_a_short_partition(site, digits_root):
    """It would wait for ever with its own half an hour."""
    site(time="00:20:00")
    (site.folder / "tools" / "sbatch").write_text(
        f'#!/bin/bash\ntouch {site.folder}/sent\ngrep -h "^#SBATCH --time" "${{@: -1}}" >> {site.folder}/times\n'
        "echo Submitted batch job 77\n"
    )
    sent(site, digits_root)
    assert (site.folder / "times").read_text().split("\n") == ["#SBATCH --time=20", "#SBATCH --time=20", ""]


def test_probe_site_names_a_partition_for_the_default_grid(site):
    out = run_command("submit", "--probe-site", "--site", "drafted.yaml", cwd=site.folder, check=0)
    assert "\npartition: long\n" in out.stdout and "MaxTime 00:15:00" in out.stdout
    site(time="00:10:00")
    out = run_command("submit", "--probe-site", "--site", "second.yaml", cwd=site.folder, check=0)
    assert "# No partition takes a task of 240 minutes with 2 CPU cores, the default of a grid. This one" in out.stdout
    assert "15 minutes: write a shorter time under `resources` of the grid." in out.stdout
    assert "\npartition: debug\n" in out.stdout


def test_settings_and_partitions_of_other_text():
    assert parse_settings("") == {} and parse_settings("slurm_load_ctl_conf error: x\n") == {}
    assert parse_partitions("No partitions in the system\n") == []
    assert parse_settings(CONFIG.format(enforce="limits", accounting="a", parameters=""))["MaxJobCount"] == "10000"
    assert accounting.Accounting().may_replace_time_limit is False


def test_more_threads_than_a_task_has_cores_are_refused(monkeypatch):
    """Threads that share a core are many times slower than one."""
    monkeypatch.setattr(slurm, "ask", lambda asked: None)
    grids = [("grid", Resources(parallel_runs=2), 3)]
    check_limits(Site(cpus=4), grids, threads=2)
    with pytest.raises(InputError, match="--threads 3 .* 2 runs .* needs 6 CPU cores .* has 4; .* cpus: 6"):
        check_limits(Site(cpus=4), grids, threads=3)
    check_limits(Site(cpus=4), [("grid", Resources(parallel_runs=2), 0)], threads=3)
