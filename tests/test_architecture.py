"""The architecture: imports run downwards and in no circle, and heavy libraries have their places."""

import ast

import pytest
from support.package import MODULES, PACKAGE

# A folder imports from folders of a lower floor, and from itself; folders of one floor know nothing of each other.
FLOORS = {
    "errors": 0,
    "algorithm": 0,
    "data": 1,
    "config": 2,
    "storage": 3,
    "experiment": 4,
    "scheduler": 5,
    "report": 5,
    "benchmark": 5,
    "cli": 5,
}
COMMANDS = {"aggregate", "bench", "fetch", "select", "status", "submit"}
COMMAND_FLOOR, TOP_FLOOR = 6, 7  # __main__ joins the commands

# Which modules may import a heavy library, at the top or in a function. A name that ends with a dot means a whole
# folder.
TORCH = {
    "dc_hpc.algorithm.",
    "dc_hpc.benchmark.",
    "dc_hpc.data.official",  # in functions, so that a login node can verify files without torch
    "dc_hpc.experiment.build",
    "dc_hpc.experiment.device",  # in functions, too
    "dc_hpc.experiment.donors",
    "dc_hpc.experiment.measure",
    "dc_hpc.experiment.probing",
    "dc_hpc.experiment.process_cache",
    "dc_hpc.experiment.resume",
    "dc_hpc.experiment.run",
}
TORCHVISION = {"dc_hpc.benchmark.", "dc_hpc.data."}
FAISS = {"dc_hpc.algorithm.authors.kmeans", "dc_hpc.algorithm.kmeans.", "dc_hpc.benchmark."}
NUMBA = {"dc_hpc.algorithm.backends."}


def imports(path):
    """The modules that a file imports, of the package in full. Imports for type checkers do not count."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inside in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inside if name in MODULES]
            yield from found
            if len(found) < len(inside):
                yield node.module


def floor(module):
    parts = module.split(".")
    if len(parts) == 1:
        return -1
    return FLOORS.get(parts[1], COMMAND_FLOOR if parts[1] in COMMANDS else TOP_FLOOR)


@pytest.mark.parametrize("mine", MODULES)
def test_imports_run_downwards(mine):
    for module in imports(MODULES[mine]):
        if module.startswith("dc_hpc."):
            same_folder = module.split(".")[1] == mine.split(".")[1]
            assert floor(module) < floor(mine) or same_folder, f"{mine} imports {module}"


def test_no_imports_in_a_circle():
    graph = {mine: {module for module in imports(path) if module in MODULES} for mine, path in MODULES.items()}
    circles = []

    def visit(module, trail):
        if module in trail:
            circles.append(" -> ".join([*trail[trail.index(module) :], module]))
        elif module not in finished:
            for other in sorted(graph[module]):
                visit(other, [*trail, module])
            finished.add(module)

    finished: set[str] = set()
    for module in graph:
        visit(module, [])
    assert circles == []


@pytest.mark.parametrize(
    ("library", "allowed"), [("torch", TORCH), ("torchvision", TORCHVISION), ("faiss", FAISS), ("numba", NUMBA)]
)
def test_a_heavy_library_has_its_places(library, allowed):
    users = {mine for mine, path in MODULES.items() if library in {name.split(".")[0] for name in imports(path)}}
    assert {user for user in users if not any(_covers(place, user) for place in allowed)} == set()
    assert users, f"nothing imports {library}: does this test still look in the right place?"


def _covers(place, module):
    return module == place or (place.endswith(".") and module.startswith(place))


def test_what_one_reads_beside_the_paper_is_free_of_how_it_is_fast():
    for name in ("deepcluster", "clustering", "nets", "views", "probe", "agreement", "randomness"):
        used = {module.split(".")[0] for module in imports(PACKAGE / "algorithm" / f"{name}.py")}
        assert not used & {"numba", "faiss"}
        assert "cuda" not in (PACKAGE / "algorithm" / f"{name}.py").read_text().lower() or name in ("views",)


def test_only_the_experiment_and_the_benchmark_run_the_algorithm():
    torch_free = {
        "dc_hpc.algorithm",
        "dc_hpc.algorithm.agreement",
        "dc_hpc.algorithm.net_specs",
        "dc_hpc.algorithm.schedule",
    }
    users = {
        mine
        for mine, path in MODULES.items()
        for module in imports(path)
        if module.startswith("dc_hpc.algorithm") and module not in torch_free
    }
    outside = {mine for mine in users if mine.split(".")[1] not in ("algorithm", "benchmark", "experiment")}
    assert outside == set()


def test_only_its_command_reaches_into_the_benchmark():
    users = {
        mine
        for mine, path in MODULES.items()
        if not mine.startswith("dc_hpc.benchmark")
        and any(module.startswith("dc_hpc.benchmark") for module in imports(path))
    }
    assert users == {"dc_hpc.bench"}


def test_a_folder_holds_at_most_about_twelve_modules():
    for folder in {path.parent for path in MODULES.values()}:
        held = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(held) <= 13, f"{folder.name} holds {len(held)} modules"


def test_the_package_itself_imports_nothing():
    """Every command imports it first, so its names are loaded at their first use."""
    assert set(imports(PACKAGE / "__init__.py")) <= {"importlib", "importlib.metadata", "typing"}


@pytest.mark.parametrize("mine", MODULES)
def test_public_functions_say_what_they_do(mine):
    for node in ast.parse(MODULES[mine].read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{mine}.{node.name} has no docstring"


def test_no_junk_drawers():
    names = {path.stem for path in MODULES.values()}
    assert not names & {"utils", "util", "misc", "common", "helpers", "helper"}
