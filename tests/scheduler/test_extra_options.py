"""Options under `extra` of a site profile: submit's own are refused with the key to use, other resources are kept."""

import pytest
from submitit.slurm.slurm import _make_sbatch_string

from dc_hpc.config.grid import Resources
from dc_hpc.errors import InputError
from dc_hpc.scheduler import launch
from dc_hpc.scheduler.limits.options import WRITTEN, check_extra
from dc_hpc.scheduler.site import Site, read_site


def profile(tmp_path, text):
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return read_site(path)


@pytest.mark.parametrize(
    "option, instead",
    [
        ("array: 0-1", "extra.array is an option that submit writes itself; an array has a task for each"),
        ("ntasks: 4", "extra.ntasks is an option that submit writes itself; each job is one task on one node"),
        ("ntasks_per_node: 4", "extra.ntasks_per_node is an option"),
        ("nodes: 2", "each job is one task on one node"),
        ("output: out.txt", "logs are in the outputs folder"),
        ("signal: USR1@60", "write signal_delay"),
        ("time: 60", "write minutes under resources of the grid"),
        ("cpus-per-task: 4", "write cpus"),
        ("mem: 4G", "write memory_gb"),
        ("gpus: 1", "write gpus, gpu_type and gpu_flag"),
        ("gpus-per-task: 1", "write gpus, gpu_type and gpu_flag"),
        ("gres: 'gpu:2'", "write gpus, gpu_type and gpu_flag; other resources may stay"),
        ("gres: 'lscratch:10,gpu:a100:1'", "write gpus, gpu_type and gpu_flag; other resources may stay"),
        ("tres-per-task: 'gres:gpu:1'", "write gpus, gpu_type and gpu_flag"),
        ("no-requeue: true", "write requeue: off"),
        ("requeue: false", "write requeue"),
        ("partition: high", "write partition"),
        ("job-name: mine", "the name tells the jobs of submit from others"),
        ("dependency: 'afterok:12'", "submit orders its jobs itself"),
        # sbatch takes abbreviations
        ("part: high", "extra.part is an option that submit writes itself; write partition"),
        ("ntask: 4", "extra.ntask is an option that submit writes itself"),
        ("out: o.txt", "logs are in the outputs folder"),
    ],
)
def test_an_option_that_submit_writes_is_refused_with_its_key(tmp_path, option, instead):
    with pytest.raises(InputError) as caught:
        profile(tmp_path, f"partition: gpu\nextra: {{mail-type: END, {option}}}\n")
    assert "site.yaml:2: extra." in str(caught.value) and instead in str(caught.value)


def test_every_option_of_the_script_is_refused(tmp_path):
    """Nothing that the script says of itself can be said again by `extra`."""
    site = Site(partition="p", account="a", qos="q", gpus=1, memory_gb=2, wckey="w")
    text = launch.sbatch_text(site, Resources(), name="grid", outputs=tmp_path, tasks=3)
    written = {line.split("--")[1].split("=")[0] for line in text.splitlines() if line.startswith("#SBATCH")}
    assert len(written) >= 14 and written <= set(WRITTEN)
    for option in written:
        with pytest.raises(InputError):
            check_extra({option: 1})


@pytest.mark.parametrize(
    "flag, lines",
    [
        ("gres", ["#SBATCH --gres=gpu:1,lscratch:10"]),
        ("gpus-per-node", ["#SBATCH --gpus-per-node=1", "#SBATCH --gres=lscratch:10"]),
    ],
)
def test_other_resources_are_joined_to_the_gpus(tmp_path, flag, lines):
    site = profile(tmp_path, f"partition: gpu\ngpus: 1\ngpu_flag: {flag}\nextra: {{gres: 'lscratch:10'}}\n")
    text = launch.sbatch_text(site, Resources(), name="grid", outputs=tmp_path, tasks=1)
    assert [line for line in text.splitlines() if "gres" in line or "gpus" in line] == lines


def test_other_resources_without_gpus_stay(tmp_path):
    site = profile(
        tmp_path, "partition: low\nextra: {gres: 'lscratch:10', constraint: 'a|b', exclude: 'node[01-03,7]'}\n"
    )
    text = launch.sbatch_text(site, Resources(), name="grid", outputs=tmp_path, tasks=1)
    assert "#SBATCH --gres=lscratch:10\n" in text
    assert "#SBATCH --constraint='a|b'\n" in text and "#SBATCH --exclude='node[01-03,7]'\n" in text


@pytest.mark.parametrize(
    "text, expected",
    [
        ("account: 12345\npartition: main\n", 'site.yaml:1: account 12345 is not allowed; write "12345" in quotes'),
        ("setup:\n  - export NOTE=a: b\n", "write 'export NOTE=a: b' in quotes, because of its colon"),
    ],
)
def test_words_of_sites_that_yaml_reads_otherwise_are_named(tmp_path, text, expected):
    with pytest.raises(InputError) as caught:
        profile(tmp_path, text)
    assert expected in str(caught.value)
    assert not profile(tmp_path, "requeue: off\n").requeue


def test_a_long_list_of_nodes_is_allowed(tmp_path):
    nodes = ",".join(f"node-{number:03}" for number in range(100))
    assert profile(tmp_path, f"extra: {{exclude: '{nodes}'}}\n").extra == {"exclude": nodes}


def test_submitit_still_writes_what_the_list_knows():
    """A new version of submitit that writes further options is noticed here."""
    text = _make_sbatch_string("true", "/tmp", map_count=2)
    written = {line.split("--")[1].split("=")[0] for line in text.splitlines() if line.startswith("#SBATCH")}
    assert written <= set(WRITTEN)
