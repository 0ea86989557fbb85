"""The rules of the house: imports run downwards, login nodes see no torch, one room writes."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dc_hpc"
FLOORS = {"algorithm": 0, "experiment": 1, "scheduler": 2, "report": 2, "benchmark": 2}
DOORS = 3


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(path, top_level_only=False):
    """Modules that a file imports; of the package itself in full."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module and node.module.startswith("dc_hpc"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(module):
    parts = module.split(".")
    return FLOORS.get(parts[1], DOORS) if len(parts) > 1 else -1


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_run_downwards(path):
    mine = name_of(path)
    for module in imports(path):
        if module and module.startswith("dc_hpc.") and floor(mine) < DOORS:
            assert floor(module) <= floor(mine), f"{mine} imports {module}"
            if floor(module) == floor(mine) == 2:
                assert module.split(".")[1] == mine.split(".")[1], f"{mine} and {module} are neighbours"


def test_only_run_measure_memory_and_benchmark_reach_into_the_algorithm():
    users = {name_of(path) for path in modules() if path.parent.name not in ("algorithm", "benchmark")
             and any(module.startswith("dc_hpc.algorithm") for module in imports(path) if module)}  # fmt: skip
    assert users <= {"dc_hpc.experiment.run", "dc_hpc.experiment.measure", "dc_hpc.experiment.memory"}


def test_only_its_door_reaches_into_the_benchmark():
    users = {name_of(path) for path in modules() if path.parent.name != "benchmark"
             and any(module.startswith("dc_hpc.benchmark") for module in imports(path) if module)}  # fmt: skip
    assert users == {"dc_hpc.bench"}


def test_faiss_is_imported_in_one_place_and_by_its_rival():
    users = {name_of(path) for path in modules() if any(name and name.startswith("faiss") for name in imports(path))}
    assert users <= {"dc_hpc.algorithm.clustering", "dc_hpc.benchmark.peers"}


def test_the_package_itself_imports_nothing():
    assert (PACKAGE / "__init__.py").read_text() == ""


LOGIN_NODE = ["dc_hpc.cli", "dc_hpc.bench", "dc_hpc.select", "dc_hpc.submit", "dc_hpc.aggregate", "dc_hpc.fetch",
              "dc_hpc.scheduler.launch", "dc_hpc.scheduler.progress", "dc_hpc.scheduler.site",
              "dc_hpc.experiment.store", "dc_hpc.experiment.grid",
              "dc_hpc.experiment.datasets", "dc_hpc.report.tables"]  # fmt: skip


@pytest.mark.parametrize("module", LOGIN_NODE)
def test_no_torch_on_a_login_node(module):
    code = f"import {module}, sys; assert not {{'torch', 'sklearn'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arguments", [
    ["submit", "--help"], ["aggregate", "--help"], ["fetch", "--help"], ["select", "--help"],
    ["bench", "--help"],
    ["submit", "--grid", "jobs/fmnist_k.yaml", "--dry-run"],
], ids=" ".join)  # fmt: skip
def test_answers_come_at_once_and_without_torch(arguments, tmp_path):
    """A second on a warm and idle machine; the best of three, and twice that here, where tests share two cores."""
    door, rest = arguments[0], arguments[1:]
    code = ("import runpy, sys; sys.argv[0] = 'x'\n"
            f"try: runpy.run_module('dc_hpc.{door}', run_name='__main__')\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "assert 'torch' not in sys.modules")  # fmt: skip
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *rest, *(["--outputs", tmp_path] if rest[0] == "--grid" else [])],
                       check=True, capture_output=True, cwd=PACKAGE.parent)  # fmt: skip
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 2


def test_one_room_writes():
    """Everything that ends up in outputs/ is written by experiment/files.py.

    fetch is apart: what it puts into the data root is written by torchvision, gzip and tar into a folder of its own,
    verified, and then moved into place.
    """
    writers = {"write_text", "write_bytes", "to_csv", "to_json", "to_html", "savefig", "save_file", "savez", "fdopen"}
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name_of(path) != "dc_hpc.experiment.files" and _writes(node, writers):
                found.append((name_of(path), node.lineno, ast.unparse(node)))
    assert [one for one in found if one[0] != "dc_hpc.experiment.datasets"] == []


def _writes(call, writers):
    """A call of a writing method on anything but `files`, or an open() with a mode that is not for reading."""
    if isinstance(call.func, ast.Attribute):
        owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
        into_memory = any(isinstance(argument, ast.Name) for argument in call.args)  # savefig(buffer), to_csv(buffer)
        if call.func.attr in ("savefig", "to_csv") and (into_memory or not call.args):
            return False
        return call.func.attr in writers and owner != "files"
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        modes = [argument.value for argument in call.args[1:] if isinstance(argument, ast.Constant)]
        return any(set(str(mode)) & set("wax+") for mode in modes)
    return False


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_public_functions_say_what_they_do(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name_of(path)}.{node.name} has no docstring"


def test_no_junk_drawers():
    names = {path.stem for path in modules()}
    assert not names & {"utils", "util", "misc", "common", "helpers", "helper"}
