"""The README says what is true: its commands run, its example runs, its map is the house."""

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


def test_the_grid_of_the_tutorial_is_the_demo():
    demo = yaml.safe_load((REPOSITORY / "jobs" / "fmnist_demo.yaml").read_text())
    shown = yaml.safe_load(blocks("yaml")[0])
    assert shown == {key: value for key, value in demo.items() if key != "resources"}


COMMANDS = [line.split(" #")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists_with_these_options(command, tmp_path):
    """make targets by a dry run; submit by --dry-run; the other doors by their help, after parsing."""
    words = shlex.split(command)
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, check=True, capture_output=True)
    elif words[:3] == ["python", "-m", "dc_hpc.submit"]:
        extra = ["--dry-run", "--outputs", str(tmp_path)]
        subprocess.run([sys.executable, *words[1:], *extra], cwd=REPOSITORY, check=True, capture_output=True)
    else:
        subprocess.run([sys.executable, *words[1:], "--help"], cwd=REPOSITORY, check=True, capture_output=True)


def test_the_map_names_modules_that_exist():
    shown = README.split("## The map\n\n```\n")[1].split("```")[0]
    named = set(re.findall(r"\b(\w+\.py)\b", shown))
    there = {path.name for path in (REPOSITORY / "dc_hpc").rglob("*.py")}
    assert named <= there
    for folder in ("experiment", "algorithm", "scheduler"):
        missing = {path.name for path in (REPOSITORY / "dc_hpc" / folder).glob("*.py")} - named
        assert missing <= {"__init__.py", "errors.py"}, missing
