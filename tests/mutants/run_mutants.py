"""Runs mutation tests: applies each patch of tests/mutants to a copy of the committed files; a test must then fail.

    python tests/mutants/run_mutants.py [NAME...]

A patch begins with a comment about the bug that it introduces and the tests that catch it:

    # one line: what the bug does
    # caught by: tests/test_x.py::test_y
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PATCHES = sorted((REPOSITORY / "tests" / "mutants").glob("*.patch"))
FAILED = 1  # pytest's exit code when tests ran and some failed; other codes mean that none ran


def named_tests(patch: Path) -> list[str]:
    """The names of the tests that must fail with a patch."""
    return re.findall(r"^# caught by: (\S+)$", patch.read_text(), re.M)


def apply(patch: Path, tree: Path, *options: str) -> str:
    """Apply a patch to a tree; return git's error message, "" when the patch applies."""
    command = ["git", "apply", "--whitespace=nowarn", *options, str(patch)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


def run_tests(names: list[str], tree: Path) -> tuple[int, str]:
    """pytest's exit code for these tests in a tree, and its last line."""
    # No bytecode: Python would take it for current where a patch changes neither the size nor the mtime of a file.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *names]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, errors="replace")
    return done.returncode, (done.stdout.strip().splitlines() or [done.stderr])[-1]


def is_caught(patch: Path, tree: Path) -> bool:
    """Apply one mutant, run its tests, and revert it; whether a test failed."""
    started, problem = time.monotonic(), apply(patch, tree)
    if problem:
        print(f"DOES NOT APPLY  {patch.stem}: {problem}", flush=True)
        return False
    code, last = run_tests(named_tests(patch), tree)
    apply(patch, tree, "-R")
    word = "caught" if code == FAILED else "SURVIVES"
    print(f"{word:<8}  {patch.stem} ({time.monotonic() - started:.0f} s): {last}", flush=True)
    return code == FAILED


def parse(arguments: list[str]) -> list[Path]:
    """The patches of the mutants that are named, of all where none is; exit code 2 where a name is not a mutant's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a file of tests/mutants without .patch; default all")
    chosen = parser.parse_args(arguments).names
    unknown = sorted(set(chosen) - {patch.stem for patch in PATCHES})
    if unknown:
        parser.error(f"no mutant is called {unknown[0]}; the names are those of the patches in tests/mutants")
    return [patch for patch in PATCHES if not chosen or patch.stem in chosen]


def main(patches: list[Path]) -> int:
    """Run mutants; the exit code is 1 when one is not caught."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=REPOSITORY, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        started, names = time.monotonic(), sorted({name for patch in patches for name in named_tests(patch)})
        code, last = run_tests(names, Path(folder))
        print(f"{'passed' if code == 0 else 'FAILED'}  {len(names)} tests without a mutant: {last}", flush=True)
        caught = [is_caught(patch, Path(folder)) for patch in patches]
    print(f"{len(patches)} mutants, {sum(caught)} caught, in {time.monotonic() - started:.0f} s")
    return 0 if patches and all(caught) and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main(parse(sys.argv[1:])))
