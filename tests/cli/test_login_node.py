"""What runs on a login node answers at once and without torch."""

import subprocess
import sys

import pytest
from support.package import PACKAGE
from support.small_runs import children_seconds

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
    """A second on a warm and idle machine. The limit is two seconds of CPU time, which other load does not change."""
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
