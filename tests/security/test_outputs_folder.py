"""The outputs folder: no pickle is read from it, no secret is written to it, and nobody else can enter it."""

from __future__ import annotations

import ast
import pickle
import stat
from pathlib import Path

import pytest
from support.canary import Canary
from support.commands import REPOSITORY
from support.stub_slurm import GRID, run_with_environment, stub_slurm

from dc_hpc.storage import run_directory

SECRETS = {
    name: f"canary-{number}-do-not-write"
    for number, name in enumerate(
        ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN", "WANDB_API_KEY", "SSH_AUTH_SOCK", "PASSWORD")
    )
}


@pytest.fixture(scope="module")
def used_folder(tmp_path_factory, digits_root):
    """(folder, path of the canary's file, finished commands) after every command has run once under umask 000.

    The environment holds secrets, and hostile pickles appear in the outputs folder after the first submit.
    """
    place = tmp_path_factory.mktemp("used")
    canary, data = place / "unpickled", ["--data", digits_root]
    tools = stub_slurm(place / "tools")
    to_slurm = ["--cluster", "slurm", "--site", "site.yaml", "--yes", "--snapshot"]
    (place / "grid.yaml").write_text(GRID)
    (place / "more.yaml").write_text(GRID.replace("[1]", "[2]"))
    (place / "site.yaml").write_text("partition: low\n")
    finished = [run_with_environment("submit", "--grid", "grid.yaml", *data, cwd=place, umask=0, **SECRETS)]
    assert finished[0].returncode == 0, finished[0].stdout + finished[0].stderr
    write_hostile_pickles(place / "outputs", canary)
    finished += [
        run_with_environment("submit", "--grid", "more.yaml", *data, *to_slurm, cwd=place, umask=0, **SECRETS, **tools),
        run_with_environment("status", cwd=place, umask=0, **SECRETS, **tools),
        run_with_environment("status", "--json", cwd=place, umask=0, **SECRETS, **tools),
        run_with_environment("submit", "--grid", "grid.yaml", *data, cwd=place, umask=0, **SECRETS, **tools),
        run_with_environment("aggregate", *data, "--jobs", place, cwd=place, umask=0, **SECRETS),
    ]
    (run,) = [one.name for one in run_directory.run_directories(place / "outputs") if "seed1" in one.name]
    finished.append(run_with_environment("status", "logs", run, cwd=place, umask=0, **SECRETS))
    assert [one.returncode for one in finished] == [0] * len(finished), [one.stderr for one in finished]
    return place, canary, finished


def write_hostile_pickles(outputs: Path, canary: Path) -> None:
    """Write pickles under every name that submitit, torch and numpy use."""
    content = pickle.dumps(Canary(canary))
    names = ("1_result.pkl", "77_0_result.pkl", "77_result.pkl", "result.pkl", "model.pt", "checkpoint.pth", "c0.pkl")
    folders = [path for path in (outputs, *outputs.rglob("*")) if path.is_dir()]
    for path in [folder / name for folder in folders for name in names]:
        path.write_bytes(content)
        path.chmod(0o600)
    for old in outputs.glob("slurm/*/*_result.pkl"):
        old.write_bytes(content)  # of the job that has just ended


def test_no_command_reads_a_pickle(used_folder):
    place, canary, _ = used_folder
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(place / "control")))
    assert (place / "control").exists(), "unpickling a canary makes its file"


def test_no_secret_of_the_environment_is_written_or_printed(used_folder):
    place, _, finished = used_folder
    assert len([path for path in (place / "outputs").rglob("*") if path.is_file()]) > 20
    written = [path for path in place.rglob("*") if path.is_file()]
    for value in SECRETS.values():
        assert not [path for path in written if value.encode() in path.read_bytes()]
        assert not [one for one in finished if value in one.stdout + one.stderr]


def test_nobody_else_reads_or_writes_below_outputs_whatever_the_umask(used_folder):
    place, _, _ = used_folder
    wrong = {}
    for path in [place / "outputs", *(place / "outputs").rglob("*")]:
        if path.is_symlink():  # submitit's name for a script before it has a number; a link has no mode
            assert path.resolve().parent == path.parent
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077 or (path.is_dir() and mode != 0o700):
            wrong[str(path.relative_to(place))] = oct(mode)
    assert not wrong


def test_the_pickle_of_a_task_is_for_its_owner_only(used_folder):
    """submitit's own pickle is the only one that is loaded: by the task, on its node."""
    place, _, _ = used_folder
    pickles = [*(place / "outputs" / "slurm" / "more").glob("*_submitted.pkl")]
    assert pickles and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in pickles)
    assert stat.S_IMODE(pickles[0].parent.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_gets_no_pickle(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(GRID)
    folder = tmp_path / "outputs" / "slurm" / "grid"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    out = run_with_environment("submit", "--grid", "grid.yaml", "--data", digits_root, cwd=tmp_path)
    assert out.returncode == 2 and "chmod go-w" in out.stderr and not list(folder.iterdir())


def test_no_line_of_the_package_unpickles():
    """No module uses pickle, torch.load, joblib, allow_pickle, eval, exec or shell=True, but for three reasons."""
    # sbatch.py writes submitit's own pickles; the benchmark loads a file that it has itself just written; build.py
    # executes the file of a person's own net, once that is allowed (tests/cli/test_own_nets.py).
    allowed = {("sbatch.py", "cloudpickle"), ("files.py", "load"), ("build.py", "exec")}
    found = set()
    for path in (REPOSITORY / "dc_hpc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    found |= {
                        (path.name, one.name)
                        for one in names
                        if one.name in ("pickle", "cloudpickle", "joblib", "dill")
                    }
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="torch" | "pickle" | "cloudpickle"), attr="load" | "loads")
                ):
                    found.add((path.name, "load"))
                case ast.Call(func=ast.Name(id="eval" | "exec" | "__import__" as name)):
                    found.add((path.name, name))
                case ast.keyword(arg="shell" | "allow_pickle" as name, value=ast.Constant(value=True)):
                    found.add((path.name, name))
    assert found == allowed
