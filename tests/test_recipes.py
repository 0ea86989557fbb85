"""The recipes of docs/ARCHITECTURE.md, executed literally on a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from support import official_formats
from support.commands import REPOSITORY

from dc_hpc.storage import run_directory

PAGE = (REPOSITORY / "docs" / "ARCHITECTURE.md").read_text()
RECIPES = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", PAGE.partition("## Recipes")[2], re.M | re.S))
PYTHON_FILES_ALLOWED = 2


class Block(NamedTuple):
    """A block of a recipe: its language, what its first comment says of its place, and its lines."""

    language: str
    place: str
    text: str


def blocks_of(recipe: str) -> list[Block]:
    found = []
    for language, text in re.findall(r"```(\w+)\n(.*?)```", RECIPES[recipe], re.S):
        first, _, rest = text.partition("\n")
        placed = re.fullmatch(r"# ((?:dc_hpc|jobs)/.+)", first)
        found.append(Block(language, placed[1] if placed else "", rest if placed else text))
    return found


def put(block: Block, tree: Path) -> str:
    """Do with a block what its first line says; the file that it went into."""
    file, _, where = block.place.partition(", ")
    path = tree / file
    if where in ("", "a new file"):
        assert not path.exists(), f"{file} is there already"
        path.write_text(block.text)
        return file
    source = path.read_text()
    if where == "among the imports":
        changed = re.sub(r"(from __future__ import annotations\n)", rf"\1\n{block.text}", source, count=1)
    elif within := re.fullmatch(r"in (\w+)", where):
        start = re.search(rf"^{within[1]}\b[^\n]*[({{\[]\n", source, re.M)
        assert start, f"{file} has no {within[1]}"
        changed = source[: start.end()] + block.text + source[start.end() :]
    else:
        snippet = re.search(r"(before|after) `(.+)`", where)
        assert snippet, where
        (line,) = [one for one in source.splitlines() if snippet[2] in one]
        indented = "".join(line[: len(line) - len(line.lstrip())] + one for one in block.text.splitlines(True))
        both = (indented + line + "\n") if snippet[1] == "before" else (line + "\n" + indented)
        changed = source.replace(line + "\n", both, 1)
    assert changed != source, block.place
    path.write_text(changed)
    return file


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of what the recipes touch, with the digits that the page puts into its data root."""
    copy = tmp_path / "copy"
    shutil.copytree(REPOSITORY / "dc_hpc", copy / "dc_hpc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "jobs", copy / "jobs")
    (copy / "docs" / "results").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "docs" / "results" / "tables", copy / "docs" / "results" / "tables")
    (copy / "data").mkdir()
    (digits,) = re.findall(r"```python\n(.*?)```", PAGE.partition("## Recipes")[2].partition("\n### ")[0], re.S)
    subprocess.run([sys.executable, "-c", digits], cwd=copy, check=True)
    return copy


def follow(recipe: str, tree: Path) -> tuple[set[str], str]:
    """Execute every block of a recipe in its order; the files of the package it touched, and all that was printed."""
    touched, printed = set(), ""
    environment = {name: value for name, value in os.environ.items() if name != "DC_HPC_DATA"}
    environment["PYTHONPATH"] = str(tree)
    for block in blocks_of(recipe):
        if block.place:
            touched.add(put(block, tree))
            continue
        command = [sys.executable, "-c", block.text] if block.language == "python" else ["bash", "-ec", block.text]
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{recipe}: {block.text}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        printed += done.stdout
    return {file for file in touched if file.startswith("dc_hpc/")}, printed


def results(tree: Path) -> dict[str, dict]:
    return {one.name: run_directory.read_result(one) for one in run_directory.run_directories(tree / "outputs")}


def test_another_clustering(tree):
    touched, printed = follow("Another clustering", tree)
    assert touched == set()
    lines = [line.split() for line in printed.splitlines()]
    phases = [[str(cycle), phase] for cycle in range(3) for phase in ("clustered", "trained")]
    assert [line[:2] for line in lines] == phases
    assert float(lines[-1][-1]) < 0.8 * float(lines[1][-1]), "the loss falls clearly"


def test_another_loss(tree):
    touched, printed = follow("Another loss", tree)
    assert touched == {"dc_hpc/config/run_config.py", "dc_hpc/experiment/run.py"}
    plain, smoothed = sorted(one["loss_last"] for one in results(tree).values())
    assert smoothed > plain and "2 of 2 runs done" in printed


def test_an_official_data_set(tree):
    train, test = (official_formats.random_split(n, (1, 28, 28), seed=n) for n in (60, 30))
    official_formats.write_idx(tree / "reference", train, test)
    official_formats.write_idx(tree / "data" / "KMNIST" / "raw", train, test, compressed=True)
    _put_true_sums(tree / "reference")
    touched, printed = follow("An official data set", tree)
    assert touched == {"dc_hpc/data/catalog.py"}
    assert "kmnist: fetched from" in printed and "2 of 2 runs done" in printed
    assert all(one["ia"] is not None for one in results(tree).values())


def _put_true_sums(reference: Path) -> None:
    """The sums of the small files, in the place of those of the official ones."""
    text = RECIPES["An official data set"]
    for file in sorted(reference.iterdir()):
        text = re.sub(rf'("KMNIST/raw/{file.name}": )"[^"]*"', rf'\1"{official_formats.md5_of(file)}"', text)
    RECIPES["An official data set"] = text


def test_a_net(tree):
    touched, _ = follow("A net", tree)
    assert touched == {"dc_hpc/algorithm/net_specs.py"}
    (result,) = results(tree).values()
    assert {"accuracy_conv2", "accuracy_fc1"} <= set(result) and result["epochs"] == 1


def test_a_figure_of_a_new_kind(tree):
    touched, printed = follow("A figure of a new kind", tree)
    assert touched == {"dc_hpc/report/panels/spread.py", "dc_hpc/report/panels/paper.py"}
    table = (tree / "outputs" / "tables" / "spread_fmnist.csv").read_text().splitlines()
    assert table[0] == "k,spread,n" and len(table) > 2 and "Spread of the accuracy over seeds" in printed
    assert (tree / "outputs" / "figures" / "spread_fmnist.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_how_many_files_of_the_package_it_touches(recipe):
    said = re.search(r"Files of the package: (none|one|two)", RECIPES[recipe])
    files = {block.place.partition(",")[0] for block in blocks_of(recipe) if block.place.startswith("dc_hpc/")}
    assert said and ["none", "one", "two"].index(said[1]) == len(files) <= PYTHON_FILES_ALLOWED
