"""The names of dc_hpc.algorithm are there, and loading the package or a module without tensors loads no torch."""

import subprocess
import sys

import pytest

import dc_hpc.algorithm as algorithm


def test_every_public_name_can_be_imported():
    for name in algorithm.__all__:
        assert callable(getattr(algorithm, name)) and name in dir(algorithm)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nmi'"):
        algorithm.nmi  # noqa: B018
    with pytest.raises(ImportError):
        from dc_hpc.algorithm import nmi  # noqa: F401


@pytest.mark.parametrize("module", ["dc_hpc.algorithm", "dc_hpc.algorithm.net_specs", "dc_hpc.algorithm.agreement"])
def test_no_torch_where_no_tensor_is_needed(module):
    code = f"import {module}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
