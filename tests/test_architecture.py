"""The architecture: imports run downwards and never in a circle, heavy libraries have their places, one module writes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_runs import children_seconds, new_run

PACKAGE = Path(__file__).parents[1] / "dc_hpc"
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

# Which modules may import a heavy library, at the top or in a function. A name ends with a dot where it stands for a
# whole folder.
TORCH = {
    "dc_hpc.algorithm.",
    "dc_hpc.benchmark.",
    "dc_hpc.data.official",  # loads tensors; in functions, so that a login node can verify files without torch
    "dc_hpc.experiment.device",
    "dc_hpc.experiment.measure",
    "dc_hpc.experiment.process_cache",
    "dc_hpc.experiment.run",
    "dc_hpc.experiment.resume",
    "dc_hpc.experiment.probing",
}
FAISS = {"dc_hpc.algorithm.kmeans.", "dc_hpc.benchmark.stages.peers"}
NUMBA = {"dc_hpc.algorithm.backends."}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in modules()}


def imports(path):
    """The modules that a file imports, anywhere in it; of the package itself in full. Imports for types do not count."""
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
    ("library", "allowed"), [("torch", TORCH), ("torchvision", TORCH), ("faiss", FAISS), ("numba", NUMBA)]
)
def test_a_heavy_library_has_its_places(library, allowed):
    users = {mine for mine, path in MODULES.items() if library in {name.split(".")[0] for name in imports(path)}}
    assert {user for user in users if not any(_stands_for(place, user) for place in allowed)} == set()
    if library != "torchvision":
        assert users, f"nothing imports {library}: does this test still look in the right place?"


def _stands_for(place, module):
    return module == place or (place.endswith(".") and module.startswith(place))


def test_what_one_reads_beside_the_paper_is_free_of_how_it_is_fast():
    for name in ("deepcluster", "clustering", "nets", "views", "probe", "agreement", "randomness"):
        used = {module.split(".")[0] for module in imports(PACKAGE / "algorithm" / f"{name}.py")}
        assert not used & {"numba", "faiss"}
        assert "cuda" not in (PACKAGE / "algorithm" / f"{name}.py").read_text().lower() or name in ("views",)


def test_only_the_experiment_and_the_benchmark_run_the_algorithm():
    torch_free = {"dc_hpc.algorithm.agreement", "dc_hpc.algorithm.net_specs"}
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
    assert (PACKAGE / "__init__.py").read_text() == ""


LOGIN_NODE = ["dc_hpc.__main__", "dc_hpc.bench", "dc_hpc.select", "dc_hpc.submit", "dc_hpc.aggregate", "dc_hpc.fetch",
              "dc_hpc.scheduler.launch", "dc_hpc.scheduler.progress", "dc_hpc.scheduler.site",
              "dc_hpc.storage.run_directory", "dc_hpc.config.grid",
              "dc_hpc.data.official", "dc_hpc.report.frames.runs"]  # fmt: skip


@pytest.mark.parametrize("module", LOGIN_NODE)
def test_no_torch_on_a_login_node(module):
    code = f"import {module}, sys; assert not {{'torch', 'sklearn'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "--help"],
        ["aggregate", "--help"],
        ["fetch", "--help"],
        ["select", "--help"],
        ["bench", "--help"],
        ["submit", "--grid", "jobs/fmnist_k.yaml", "--dry-run"],
    ],
    ids=" ".join,
)
def test_answers_come_at_once_and_without_torch(arguments, tmp_path):
    """A second on a warm and idle machine; two seconds of computing here, whatever else has the cores meanwhile."""
    command, rest = arguments[0], arguments[1:]
    code = (
        "import runpy, sys; sys.argv[0] = 'x'\n"
        f"try: runpy.run_module('dc_hpc.{command}', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    seconds = []
    for _ in range(3):
        started = children_seconds()
        subprocess.run(
            [sys.executable, "-c", code, *rest, *(["--outputs", tmp_path] if rest[0] == "--grid" else [])],
            check=True,
            capture_output=True,
            cwd=PACKAGE.parent,
            timeout=60,
        )
        seconds.append(children_seconds() - started)
    assert min(seconds) < 2


# Methods and functions that write a file, by their last name; `memory` is what they may write into instead.
WRITERS = set(
    """write_text write_bytes touch mkdir symlink_to hardlink_to savefig imsave save_file save savez savetxt
    savez_compressed tofile open_memmap memmap dump to_csv to_json to_html to_pickle to_parquet to_hdf to_excel to_latex
    to_markdown to_feather NamedTemporaryFile TemporaryFile TemporaryDirectory mkstemp mkdtemp FileHandler
    urlretrieve""".split()
)
SYSTEM_CALLS = {
    "write",
    "pwrite",
    "writev",
    "fdopen",
    "rename",
    "renames",
    "replace",
    "link",
    "symlink",
    "mkdir",
    "makedirs",
    "mknod",
    "mkfifo",
    "truncate",
    "ftruncate",
    "sendfile",
    "copy_file_range",
}
COPIES = {"copy", "copy2", "copyfile", "copyfileobj", "copytree", "move", "make_archive", "unpack_archive"}
OPENERS = {"open", "File", "ZipFile", "TarFile", "GzipFile"}
READS_ONLY = {"os.O_RDONLY", "os.O_NONBLOCK", "os.O_CLOEXEC", "os.O_NOFOLLOW", "os.O_DIRECTORY", "flags"}


def writing_calls(source):
    """(line, name, call) of everything in a module that writes files; in-memory files are none."""
    tree = ast.parse(source)
    memory = set(re.findall(r"(\w+) = (?:.*, )?io\.(?:BytesIO|StringIO)\(", source))
    return [
        (node.lineno, ast.unparse(node.func).rpartition(".")[2], ast.unparse(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _writes(node, memory)
    ]


def _writes(call, memory):
    owner, _, name = ast.unparse(call.func).rpartition(".")
    if owner in ("atomic_files", "files"):
        return False
    if any(isinstance(argument, ast.Name) and argument.id in memory for argument in call.args[:2]):
        return False
    if name in OPENERS:
        return _opens_for_writing(call, owner)
    paths = name in ("replace", "rename") and owner != "os" and len(call.args) == 1 and not call.keywords
    return (
        name in WRITERS
        and (owner != "" or "Temp" in name)
        or (owner == "os" and name in SYSTEM_CALLS)
        or (owner == "shutil" and name in COPIES)
        or (paths and owner != "")
    )


def _opens_for_writing(call, owner):
    """An open() whose mode or flags are not plainly those of reading. WorkerProcess.open and Image.open are no files' own."""
    if owner == "os":
        return bool({part.strip() for part in ast.unparse(call.args[1]).split("|")} - READS_ONLY)
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    modes += call.args[0 if isinstance(call.func, ast.Attribute) and not owner.islower() else 1 :][:1]
    modes += call.args[:1] if isinstance(call.func, ast.Attribute) and len(call.args) == 1 else []
    for mode in modes:
        text = mode.value if isinstance(mode, ast.Constant) else ""
        if isinstance(text, str) and re.fullmatch(r"[rwaxbtUgz+:|*-]{1,5}", text) and set(text) & set("wax+"):
            return True
    return False


# fetch writes into a folder of its own in the data root, verifies, then moves it into place: torchvision, gzip and tar
# cannot write otherwise. The benchmark works in temporary folders and asks the kernel to forget a peak of memory.
# Compiled kernels are kept in the user's cache, far from outputs, and by a room that nothing of experiment is known to.
# The streams of a local job lead to /dev/null.
# What is not ours is apart too: submitit writes its own pickles and logs below outputs/slurm.
MAY_WRITE = {
    "dc_hpc.algorithm.backends.kernel_cache": {"mkdir", "mkdtemp", "write_text", "rename"},
    "dc_hpc.data.official": {"mkdir", "TemporaryDirectory", "replace", "open", "copyfileobj", "write_bytes"},
    "dc_hpc.scheduler.launch": {"open"},
    "dc_hpc.benchmark.suite": {"TemporaryDirectory"},
    "dc_hpc.benchmark.startup": {"TemporaryDirectory"},
    "dc_hpc.benchmark.authors": {"TemporaryDirectory"},
    "dc_hpc.benchmark.scaling_point": {"TemporaryDirectory", "open", "write"},
}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_one_room_writes(path):
    """Everything that ends up in outputs/ is written by experiment/files.py."""
    mine = name_of(path)
    found = writing_calls(path.read_text())
    if mine == "dc_hpc.storage.atomic_files":
        assert len(found) > 5
    else:
        allowed = MAY_WRITE.get(mine, set())
        assert [one for one in found if one[1] not in allowed] == []


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')",
        "open(path, mode='a+')",
        "path.open('wb')",
        "gzip.open(path, 'wb')",
        "io.open(path, 'x')",
        "h5py.File(path, 'w')",
        "h5py.File(path, mode='a')",
        "zipfile.ZipFile(path, 'w')",
        "os.open(path, os.O_WRONLY)",
        "os.open(path, os.O_RDWR | os.O_CREAT, 0o600)",
        "os.open(path, some_flags)",
        "path.write_text('x')",
        "(folder / 'a').write_bytes(b'')",
        "frame.to_csv(path)",
        "figure.savefig(path)",
        "figure.savefig(folder / 'a.png')",
        "np.save(path, array)",
        "numpy.savez_compressed(path, a=array)",
        "array.tofile(path)",
        "torch.save(state, path)",
        "pickle.dump(state, stream)",
        "json.dump(data, stream)",
        "shutil.copy(one, other)",
        "shutil.move(one, other)",
        "os.replace(one, other)",
        "os.rename(one, other)",
        "os.link(one, other)",
        "os.mkdir(path)",
        "os.makedirs(path)",
        "os.write(handle, b'')",
        "path.mkdir()",
        "path.touch()",
        "path.rename(other)",
        "path.replace(other)",
        "path.symlink_to(other)",
        "tempfile.NamedTemporaryFile()",
        "safetensors.numpy.save_file(tensors, path)",
        "logging.FileHandler(path)",
        "urllib.request.urlretrieve(url, path)",
    ],
)
def test_a_planted_writer_is_seen(line):
    assert len(writing_calls(f"def work(path, other):\n    {line}\n")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "open(path, 'rb')",
        "path.open('rb')",
        "text.replace('a', 'b')",
        "replace(config, k=5)",
        "memory = io.BytesIO(); torch.save(state, memory); figure.savefig(memory)",
        "atomic_files.write_text(path, 'x')",
        "os.open(path, os.O_RDONLY | os.O_CLOEXEC)",
        "Image.open(stream)",
        "h5py.File.in_memory()",
        "pickle.dumps(state)",
    ],
)
def test_a_reader_is_none(line):
    assert writing_calls(line) == []


WATCHED = """
import os, sys, traceback
from pathlib import Path
place, data = Path(sys.argv[1]), sys.argv[2]
WRITES = {"os.rename", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.copyfile", "shutil.move"}
def watch(event, arguments):
    opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    path = str(arguments[0]) if opened or event in WRITES else "/"
    if not path.startswith("/") or path.startswith(str(place.parents[1])):  # torch has caches of its own elsewhere
        rooms = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe(1))]
        if any("dc_hpc" in room for room in rooms):
            mine = next(room for room in rooms if "dc_hpc" in room)
            print("WRITES", Path(mine).name, event, *arguments[:2])
sys.addaudithook(watch)
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
assert run(place, Execution(data, save_seconds=0)) == "done"
"""


def test_a_true_run_writes_nowhere_else(digits_root, tmp_path):
    """Seen from below, by the interpreter's own audit: every file opened for writing was opened by that room."""
    directory = new_run(tmp_path / "outputs", digits_root, cycles=2)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, directory, digits_root],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=True,
    )
    rooms = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("WRITES")}
    assert rooms == {"atomic_files.py"}, done.stdout


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_public_functions_say_what_they_do(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name_of(path)}.{node.name} has no docstring"


def test_no_junk_drawers():
    names = {path.stem for path in modules()}
    assert not names & {"utils", "util", "misc", "common", "helpers", "helper"}
