"""The cache of compiled kernels: later processes load the same machine code, and never damaged or foreign code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from dc_hpc.algorithm.backends import kernel_cache, kernels

pytestmark = pytest.mark.skipif(not kernels.available(), reason="numba is not installed")

# One kernel on numbers that any other order of adding would give other bits; then how numba came to each kernel.
PROCESS = """
import json, sys
import numpy as np
from dc_hpc.algorithm.backends import kernels
x, found = np.random.default_rng(0).normal(size=(3, 5, 640)).astype(np.float32), np.empty((3, 2))
kernel = kernels.compiled(kernels.moments)
kernel(x, found)
kernels.compiled(kernels.direct_conv5)
loaded, compiled = sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())
print(json.dumps({"bits": found.tobytes().hex(), "folder": str(kernels._folder()), "loaded": loaded,
                  "compiled": compiled}))
"""

# The second kernel of a build is never ready.
STUCK = """
import time
from dc_hpc.algorithm.backends import kernels
true_compile, calls = kernels._compile, []
def compile_and_wait(*arguments, **named):
    calls.append(1)
    return true_compile(*arguments, **named) if len(calls) == 1 else time.sleep(600)
kernels._compile = compile_and_wait
"""


# Another process removes the folder after this one has looked it up.
REMOVED = """
import shutil, torch
from dc_hpc.algorithm.backends.machine_code import panel_products
shutil.rmtree(panel_products._folder())
print(panel_products.transposed(torch.arange(6.0).view(2, 3), torch.empty(3, 2)).tolist())
"""


def process(cache):
    """The output of a new process whose user's cache is `cache`."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run([sys.executable, "-c", PROCESS], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plain_bits():
    """The bits without any cache."""
    return process(os.devnull)["bits"]


def folder_in(cache):
    (folder,) = (cache / "dc_hpc").iterdir()
    return folder


def test_the_second_process_loads_what_the_first_compiled(tmp_path, plain_bits):
    first = process(tmp_path)
    folder = folder_in(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    second = process(tmp_path)
    assert (first["bits"], second["bits"]) == (plain_bits, plain_bits)
    assert (second["loaded"], second["compiled"], second["folder"]) == (1, 0, str(folder))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_a_cache_a_process_only_takes_longer(tmp_path, plain_bits):
    found = process(os.devnull)  # no folder can be made below it
    assert (found["bits"], found["folder"], found["loaded"]) == (plain_bits, "None", 0)


def test_a_flipped_bit_is_not_run(tmp_path, plain_bits):
    process(tmp_path)
    folder = folder_in(tmp_path)
    code = next(path for path in folder.rglob("*.nbc") if "moments" in path.name)
    content = code.read_bytes()
    code.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    repaired = process(tmp_path)
    assert (repaired["bits"], repaired["folder"], repaired["loaded"]) == (plain_bits, str(folder), 1)
    assert kernel_cache.is_whole(folder_in(tmp_path))


def build(folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "code").write_bytes(b"machine code")


@pytest.mark.parametrize(
    "damage",
    [
        "a bit",
        "a byte less",
        "a file more",
        "a file less",
        "no checksums",
        "writable",
        "a link",
        "a dead link",
        "a file",
    ],
)
def test_damage_is_noticed_and_repaired(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = kernel_cache.cached_folder(["kind"], build)
    code = folder / "deep" / "code"
    if damage == "a bit":
        code.write_bytes(b"machine codd")
    elif damage == "a byte less":
        code.write_bytes(b"machine cod")
    elif damage == "a file more":
        (folder / "deep" / "more").touch()
    elif damage == "a file less":
        code.unlink()
    elif damage == "no checksums":
        (folder / "checksums.json").unlink()
    elif damage == "writable":
        folder.chmod(0o770)
    else:
        folder.rename(tmp_path / "elsewhere")
        if damage == "a file":
            folder.touch()
        else:
            folder.symlink_to(tmp_path / "elsewhere" if damage == "a link" else tmp_path / "nowhere")
    assert not kernel_cache.is_whole(folder)
    assert kernel_cache.cached_folder(["kind"], build) == folder
    assert kernel_cache.is_whole(folder) and code.read_bytes() == b"machine code"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_root_that_others_may_write_is_not_used(tmp_path, plain_bits):
    root = tmp_path / "dc_hpc"
    root.mkdir()
    root.chmod(0o777)
    found = process(tmp_path)
    assert (found["bits"], found["folder"], list(root.iterdir())) == (plain_bits, "None", [])


def test_many_that_build_at_once_leave_one_whole_folder(tmp_path, plain_bits):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    begun = [
        subprocess.Popen([sys.executable, "-c", PROCESS], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert {json.loads(one.communicate()[0])["bits"] for one in begun} == {plain_bits}
    assert kernel_cache.is_whole(folder_in(tmp_path))


def test_a_process_killed_while_it_builds_does_no_harm(tmp_path, plain_bits):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    one = subprocess.Popen([sys.executable, "-c", STUCK + PROCESS], env=environment, stdout=subprocess.PIPE)
    while not list(tmp_path.rglob("*.nbc")):
        assert one.poll() is None, "it had finished before there was a file"
        time.sleep(0.002)
    one.kill()
    one.communicate()
    left = list((tmp_path / "dc_hpc").iterdir())
    assert [path.name.startswith("building-") for path in left] == [True]
    assert process(tmp_path)["bits"] == plain_bits
    os.utime(left[0], (0, 0))
    kernel_cache._sweep(tmp_path / "dc_hpc")
    assert kernel_cache.is_whole(folder_in(tmp_path))


def test_other_kinds_of_machine_have_other_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = []

    def counted(folder):
        built.append(folder)
        (folder / "code").write_text(str(len(built)))

    places = [kernel_cache.cached_folder([kind], counted) for kind in ("avx2", "avx512", "avx2")]
    assert places[0] == places[2] != places[1] and len(built) == 2
    assert [(place / "code").read_text() for place in places] == ["1", "2", "1"]


def test_a_folder_that_is_in_use_is_not_swept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    used, unused = (kernel_cache.cached_folder([kind], build) for kind in ("used", "unused"))
    for folder in (used, unused):
        os.utime(folder, (0, 0))
    assert kernel_cache.cached_folder(["used"], build) == used
    kernel_cache.cached_folder(["new"], build)  # a process that builds sweeps before
    assert kernel_cache.is_whole(used) and not unused.exists()


def test_code_that_is_gone_is_compiled(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", REMOVED], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]\n"), done.stderr
