"""What the documents say is true: their commands and examples run, and the map shows the folders that exist."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from support.documents import REPOSITORY, blocks, script_of, working_copy

PAGES = ("README.md", "docs/QUICKSTART.md", "docs/CLUSTER.md", "docs/GRIDS.md")


def commands():
    """Every command of dc_hpc in a block of a page, without its comment; `$ ` stands before those of a console."""
    for page in PAGES:
        for language in ("bash", "console"):
            for line in "".join(blocks(page, language)).splitlines():
                if (command := line.removeprefix("$ ").split(" #")[0].strip()).startswith("python -m dc_hpc"):
                    yield command


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_every_command_has_these_options(command, tmp_path):
    words = shlex.split(command)
    done = subprocess.run([sys.executable, *words[1:], "--help"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_notebook_example_runs(tmp_path):
    (example,) = blocks("README.md", "python")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10 and lines[0].startswith("0 clustered None 0.")
    trained = [line.split() for line in lines if " trained " in line]
    assert float(trained[-1][2]) < 0.6 * float(trained[0][2]), "the loss falls clearly"
    assert all(float(agreement) > 0.4 for *_, agreement in trained), "the clusters agree with the digits"


def test_the_first_grid_is_the_demo():
    demo = yaml.safe_load((REPOSITORY / "jobs" / "fmnist_demo.yaml").read_text())
    shown = yaml.safe_load(blocks("docs/GRIDS.md", "yaml")[0])
    assert shown == {key: value for key, value in demo.items() if key != "resources"}


def test_make_help_names_every_target_that_the_pages_tell_a_reader_to_make():
    said = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")]
    told = {
        target
        for page in pages
        for target in re.findall(r"(?:`|^\$? ?)make ([a-z-]+)(?=`| *#| *$| &&)", page.read_text(), re.M)
    }
    assert {"env", "demo", "slurm-up"} <= told and told <= set(re.findall(r"make ([a-z-]+)", said))


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150
    for page in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_map_names_modules_that_exist():
    """The map names every folder and every command of the package, and nothing that does not exist."""
    shown = (REPOSITORY / "docs" / "ARCHITECTURE.md").read_text().split("## The map\n\n```\n")[1].split("```")[0]
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


def test_the_pages_for_those_who_change_the_code_name_files_that_exist():
    for page in ("CONTRIBUTING.md", "docs/RELIABILITY.md", "docs/SECURITY.md"):
        text = (REPOSITORY / page).read_text()
        folders = r"(?:dc_hpc|docs|jobs|slurm|tests|\.ci)/[\w./]*"
        named = re.findall(rf"`(?:pytest )?({folders}|[\w.]+\.(?:cff|toml|md))[ `]", text)
        assert len(named) > 5, page
        for name in named:
            assert (REPOSITORY / name).exists(), f"{page}: {name}"


def test_what_a_test_is_chosen_by_is_in_its_name():
    """`pytest tests/crash/test_load.py -k tenth` runs a test: a word of -k that no name has would run none."""
    for page in ("docs/RELIABILITY.md", "docs/SECURITY.md"):
        commands = re.findall(r"`(?:pytest )?(tests/[\w./]+) -k (\"[^\"]+\"|\w+)", (REPOSITORY / page).read_text())
        assert len(commands) > 3, page
        for place, words in commands:
            path = REPOSITORY / place
            files = [path] if path.suffix == ".py" else path.rglob("test_*.py")
            names = re.findall(r"^def (test_\w+)", "".join(file.read_text() for file in files), re.M)
            for word in words.strip('"').split(" or "):
                assert any(word in name for name in names), f"{page}: {place} -k {word}"


def test_make_clean_removes_what_git_ignores_of_tools():
    ignored = re.findall(r"^([\w.*-]+)/$", (REPOSITORY / ".gitignore").read_text(), re.M)
    said = subprocess.run(["make", "-n", "clean"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert {".mypy_cache", ".ruff_cache"} <= set(ignored)
    assert set(ignored) - {".venv", "__pycache__"} <= set(said.split())


@pytest.mark.slow
def test_the_demo_and_the_quick_start_run_as_they_are_written(tmp_path):
    """Every block of README that needs no cluster, then every block of QUICKSTART, in one shell."""
    tree = working_copy(tmp_path)
    demo = [text for text in blocks("README.md", "bash") if text.startswith("make demo")]
    assert demo
    environment = {name: value for name, value in os.environ.items() if name != "DC_HPC_DATA"}
    done = subprocess.run(
        ["bash", "-c", "set -e\n" + demo[0] + script_of("docs/QUICKSTART.md")],
        cwd=tree,
        env=environment | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "4 of 4 runs done" in done.stdout and "swept: lr" in done.stdout
    assert (tree / "outputs" / "report.html").exists() and (tree / "outputs" / "mine" / "report.html").exists()
    shutil.rmtree(tree)


def test_the_records_for_citing_name_the_version_of_the_package():
    package = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    codemeta = json.loads((REPOSITORY / "codemeta.json").read_text())
    zenodo = json.loads((REPOSITORY / ".zenodo.json").read_text())
    assert citation["version"] == codemeta["version"] == zenodo["version"] == package["version"]
    assert f"## {package['version']}" in (REPOSITORY / "CHANGELOG.md").read_text()
    assert citation["references"][0]["title"] == codemeta["referencePublication"]["name"]


def test_the_table_of_the_stages_is_that_of_the_measured_file(tmp_path):
    """The picture is drawn from the same file by the same command."""
    command = ["-m", "dc_hpc.bench", "--from", "docs/speed.json", "--table", "--figure", str(tmp_path / "speed.png")]
    done = subprocess.run([sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    page = (REPOSITORY / "docs" / "PERFORMANCE.md").read_text()
    shown = page.partition("<!-- stages -->\n")[2].partition("\n<!-- end -->")[0]
    assert shown and shown in done.stdout and (tmp_path / "speed.png").stat().st_size > 10_000
