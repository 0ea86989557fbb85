"""Wrong usage is one line on stderr and exit code 2, and the line names the next step."""

import pytest
from support.commands import run_command

COMMANDS = ("fetch", "submit", "select", "aggregate", "bench", "status", "status logs", "status check", "status cancel")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option(command, tmp_path):
    name, *rest = command.split()
    assert refusal(tmp_path, name, *rest, "--zzz") == (
        f"dc_hpc: no such option: --zzz; its options: python -m dc_hpc.{command} --help"
    )


@pytest.mark.parametrize(
    "words, phrase",
    [
        ("submit jobs/x.yaml", "write: python -m dc_hpc.submit --grid jobs/x.yaml"),
        ("submit a.yaml b.yml", "write: python -m dc_hpc.submit --grid a.yaml --grid b.yml"),
        ("select jobs/x.yaml -g y.yaml", "write: python -m dc_hpc.select --grid jobs/x.yaml"),
        ("status jobs/x.yaml", "write: python -m dc_hpc.status --grid jobs/x.yaml"),
        ("status check jobs/x.yaml", "write: python -m dc_hpc.status check --grid jobs/x.yaml"),
        ("submit x", "x belongs to no option, and python -m dc_hpc.submit takes no such argument"),
        ("status lgs", 'did you mean "logs"?; its commands: show, logs, check, cancel'),
        ("__main__ sbumit", "has no command 'sbumit'; did you mean \"submit\"?; its commands: fetch, submit, status"),
        ("submit --outptus x", 'did you mean "--outputs"?'),
        ("submit --output x", "did you mean --outputs?"),
        ("submit --workers 4", "did you mean --slots?"),
        ("submit -n", "did you mean --dry-run?"),
        ("submit --lr 0.1", "lr is a setting, which is given with --set lr=VALUE"),
        ("submit --epochs 3", "cycles is a setting, which is given with --set cycles=VALUE"),
        ("submit --gpus 1", "gpus is a key of the site profile, see --site"),
        ("submit --time 60", "minutes is a key of the grid, under resources"),
        ("submit --slots two", "'--slots': allowed: a whole number"),
        ("submit --slots 0", "'--slots': allowed: greater than or equal to 1"),
        ("submit --grid", "requires an argument (see --help)"),
        ("submit", "--grid is missing; give a YAML grid, for example --grid jobs/fmnist_demo.yaml"),
        ("submit -g x.yaml --cluster slrum", 'did you mean "slurm"?; allowed: local, slurm, debug'),
        ("select", "Missing option '--grid' / '-g' (A YAML grid)"),
        ("status logs", "Missing argument 'RUN' (The name of a run, or a unique beginning of it)"),
        ("fetch", "Missing argument 'NAME' (fmnist, mnist, svhn, cifar10, or all)"),
        ("fetch fminst", 'did you mean "fmnist"?; allowed: fmnist, mnist, svhn, cifar10, all'),
        ("fetch Fashion-MNIST", 'did you mean "fmnist"?'),
        ("fetch CIFAR-10", 'did you mean "cifar10"?'),
        ("bench --stages trian", 'did you mean "train"?'),
        ("aggregate outputs", "outputs belongs to no option"),
    ],
)
def test_wrong_usage_names_the_next_step(words, phrase, tmp_path):
    assert phrase in refusal(tmp_path, *words.split())


def refusal(folder, *words):
    """The line that a command refuses its words with; it has written nothing."""
    done = run_command(*words, cwd=folder, check=2)
    assert done.stdout == "" and done.stderr.count("\n") == 1 and list(folder.iterdir()) == []
    return done.stderr.strip()
