"""One module writes: what ends up in an outputs folder goes through storage/atomic_files.py."""

import ast
import re
import subprocess
import sys

import pytest
from support.package import MODULES, PACKAGE
from support.small_runs import new_run

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
    if owner in (
        "atomic_files",
        "files",
    ):  # the benchmark builds its stages in stages/files.py and writes nothing by it
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
    """An open() whose mode or flags are not plainly those of reading. Image.open and the like open no file to write."""
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
# Compiled kernels go to the user's cache, and their module knows nothing of outputs. The streams of a local job lead to
# /dev/null. NVIDIA's service gets a temporary folder. submitit, which is not part of the package, writes its own
# pickles and logs below outputs/slurm. A digest is that of a temporary file without a name. A stale lock is renamed, so
# that one of several processes gets it. Closed streams are opened on /dev/null.
MAY_WRITE = {
    "dc_hpc.algorithm.backends.kernel_cache": {"mkdir", "mkdtemp", "write_text", "write_bytes", "rename"},
    "dc_hpc.data.custom": {"savez", "TemporaryFile"},
    "dc_hpc.storage.lock_file": {"rename", "link"},
    "dc_hpc.storage.processes": {"open"},
    "dc_hpc.data.fetching": {"mkdir", "TemporaryDirectory", "replace", "open", "copyfileobj", "write_bytes"},
    "dc_hpc.scheduler.launch": {"open"},
    "dc_hpc.scheduler.tasks.mps": {"mkdir", "mkdtemp"},
    "dc_hpc.benchmark.suite": {"TemporaryDirectory"},
    "dc_hpc.benchmark.startup": {"TemporaryDirectory"},
    "dc_hpc.benchmark.authors": {"TemporaryDirectory"},
    "dc_hpc.benchmark.scaling_point": {"TemporaryDirectory", "open", "write"},
}


@pytest.mark.parametrize("mine", MODULES)
def test_only_atomic_files_writes(mine):
    """Everything that ends up in outputs/ is written by storage/atomic_files.py."""
    found = writing_calls(MODULES[mine].read_text())
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
def test_a_writing_call_is_found(line):
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
def test_a_reading_call_is_not(line):
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
        callers = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe(1))]
        if any("dc_hpc" in caller for caller in callers):
            mine = next(caller for caller in callers if "dc_hpc" in caller)
            print("WRITES", Path(mine).name, event, *arguments[:2])
sys.addaudithook(watch)
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
assert run(place, Execution(data, save_seconds=0)) == "done"
"""


def test_a_true_run_writes_nowhere_else(digits_root, tmp_path):
    """The audit events of Python show it: only that module opens files for writing."""
    directory = new_run(tmp_path / "outputs", digits_root, cycles=2)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, directory, digits_root],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=True,
    )
    writers = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("WRITES")}
    assert writers == {"atomic_files.py"}, done.stdout
