"""What the README says is true: its commands and its example run, and its map shows the folders that exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_the_notebook_example_runs(tmp_path):
    (example,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10 and lines[0].startswith("0 clustered None 0.")
    trained = [line.split() for line in lines if " trained " in line]
    assert float(trained[-1][2]) < 0.6 * float(trained[0][2]), "the loss falls clearly"
    assert all(float(agreement) > 0.4 for *_, agreement in trained), "the clusters agree with the digits"


def test_the_grid_of_the_tutorial_is_the_demo():
    demo = yaml.safe_load((REPOSITORY / "jobs" / "fmnist_demo.yaml").read_text())
    shown = yaml.safe_load(blocks("yaml")[0])
    assert shown == {key: value for key, value in demo.items() if key != "resources"}


COMMANDS = [line.split(" #")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists_with_these_options(command, tmp_path):
    """make targets run with -n, submit with --dry-run, the other commands with --help after all options are parsed."""
    words = shlex.split(command)
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, check=True, capture_output=True)
    elif words[:3] == ["python", "-m", "dc_hpc.submit"]:
        extra = ["--dry-run", "--outputs", str(tmp_path)]
        subprocess.run([sys.executable, *words[1:], *extra], cwd=REPOSITORY, check=True, capture_output=True)
    else:
        subprocess.run([sys.executable, *words[1:], "--help"], cwd=REPOSITORY, check=True, capture_output=True)


def test_the_map_names_modules_that_exist():
    """The map names every folder and every command of the package, and nothing that does not exist."""
    shown = README.split("## The map\n\n```\n")[1].split("```")[0]
    package = REPOSITORY / "dc_hpc"
    commands = set(shown.splitlines()[1].partition("   the commands")[0].split())
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    files = {f"{command}.py" for command in commands - folders} | set(re.findall(r"\w+\.py", shown))
    assert {path.name for path in package.glob("*.py")} - {"__init__.py", "errors.py"} <= files
    assert files <= {path.name for path in package.rglob("*.py")}
    assert sorted(re.findall(r"^  (\w+)/", shown, re.M)) == sorted(folders - commands)
    places = [REPOSITORY, package, *package.iterdir()]
    for folder in re.findall(r"(\w+)/", shown):
        assert any((place / folder).is_dir() for place in places), folder
