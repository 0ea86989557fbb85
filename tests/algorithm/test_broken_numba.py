"""A numba that is installed and fails, in whatever way: torch computes, and one line says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dc_hpc.algorithm.backends import kernels

# Two forward passes and which kernels computed them.
PROCESS = """
import torch
from dc_hpc.algorithm.backends.cpu import evaluation, kernels_of
from dc_hpc.algorithm.nets import OUTPUT, lenet5
trunk = lenet5()
for _ in range(2):
    found = evaluation(trunk, [OUTPUT])(torch.zeros(2, 1, 32, 32))
print(kernels_of(trunk), tuple(found[OUTPUT].shape))
"""


def process(folder: Path, **environment: str) -> tuple[str, list[str]]:
    """What a new process prints, and its lines on stderr."""
    paths = os.pathsep.join([str(folder), str(Path(kernels.__file__).parents[3])])
    done = subprocess.run(
        [sys.executable, "-c", PROCESS],
        env={**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(folder / "cache"), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr.splitlines()


BROKEN = {
    "not for this numpy": (
        "numba",
        'raise ImportError("Numba needs NumPy 2.0 or less.\\nGot NumPy 2.3.")',
        "ImportError",
    ),
    "a lost library": ("llvmlite", 'raise OSError("libllvmlite.so: cannot open shared object file")', "OSError"),
    "an old llvmlite": ("numba", 'raise SystemError("initialization of _internal failed")', "SystemError"),
    "another numpy": ("numba", "import numpy; numpy.no_such_name", "AttributeError"),
    "a lost part": ("numba", "import llvmlite_that_is_gone", "ModuleNotFoundError"),
    "half installed": ("numba", "", "AttributeError"),
    "no compiler": (
        "numba",
        "class config: DISABLE_JIT = 0; CACHE_DIR = ''; CPU_FEATURES = CPU_NAME = ''",
        "AttributeError",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_torch_computes_where_numba_fails(tmp_path: Path, case: str) -> None:
    name, code, kind = BROKEN[case]
    (tmp_path / f"{name}.py").write_text(f"{code}\n")
    if name == "numba":  # the broken numba comes with an llvmlite that loads
        (tmp_path / "llvmlite").mkdir()
        (tmp_path / "llvmlite/__init__.py").write_text("")
        (tmp_path / "llvmlite/binding.py").write_text("")
    printed, errors = process(tmp_path)
    assert printed == "torch (2, 84)"
    (line,) = errors
    assert line.startswith(f"dc_hpc: numba cannot be used ({kind}") and line.endswith("without it, more slowly")


@pytest.mark.skipif(not kernels.available(), reason="numba is not installed")
@pytest.mark.parametrize("home", ["/nonexistent", ""])
def test_without_any_folder_for_a_cache_the_kernels_are_compiled(tmp_path: Path, home: str) -> None:
    environment = {"HOME": home, "XDG_CACHE_HOME": home, "NUMBA_CACHE_DIR": "/dev/null/numba"}
    assert process(tmp_path, **environment) == ("numba (2, 84)", [])


@pytest.mark.skipif(not kernels.available(), reason="numba is not installed")
@pytest.mark.parametrize("fault", ["raise RuntimeError('LLVM ERROR: no target')", "return lambda *arguments: None"])
def test_kernels_that_cannot_be_compiled_or_compute_something_else_are_not_used(
    monkeypatch, capsys, fault: str
) -> None:
    namespace: dict[str, object] = {}
    exec(f"def compiled(kernel):\n    {fault}", namespace)
    monkeypatch.setattr(kernels, "compiled", namespace["compiled"])
    assert kernels.available.__wrapped__() is False
    assert capsys.readouterr().err.count("\n") == 1


def test_a_numba_that_is_not_installed_needs_no_word(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def __init__(self, finder): self.finder = finder\n"
        "    def __getattr__(self, name): return getattr(self.finder, name)\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        hidden = name.partition('.')[0] in ('numba', 'llvmlite')\n"
        "        return None if hidden else self.finder.find_spec(name, path, target)\n"
        "sys.meta_path[:] = map(Without, sys.meta_path)\n"
    )
    printed, errors = process(tmp_path)
    assert printed == "torch (2, 84)" and errors == []
