"""The mutants of `make mutants` still apply to the code. Whether each is caught takes longer; `make mutants` tells."""

from __future__ import annotations

import ast

import pytest
from mutants.run_mutants import PATCHES, REPOSITORY, apply, named_tests, parse


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_mutant_applies_and_names_a_test_that_exists(patch):
    assert not apply(patch, REPOSITORY, "--check")
    assert named_tests(patch), "a patch says `# caught by: tests/test_x.py::test_y`"
    for name in named_tests(patch):
        file, _, test = name.partition("::")
        tree = ast.parse((REPOSITORY / file).read_text())
        assert test.split("[")[0] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_there_are_enough_mutants():
    assert len(PATCHES) >= 12


def test_a_name_that_is_no_mutant_is_refused(capsys):
    """Else `make mutants` of a misspelt name would run every named test first, and then no mutant."""
    assert parse([PATCHES[0].stem]) == [PATCHES[0]]
    with pytest.raises(SystemExit) as refused:
        parse(["one_look_is_enuf"])
    assert refused.value.code == 2 and "one_look_is_enuf" in capsys.readouterr().err
