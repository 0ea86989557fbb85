"""The functions that llvmlite makes machine code of, against torch in float64: whole vectors, rests, what lies behind.

Each for this CPU and for one with vectors of 256 bits.
"""

import numpy as np
import pytest
import torch

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.backends.machine_code import panel_code, panel_products, tile_transforms
from dc_hpc.algorithm.backends.machine_code.tile_transforms import FilterTransform, TileTransform, without_first

pytestmark = pytest.mark.skipif(not kernels.available(), reason="numba is not installed: torch computes everything")


def close(ours, theirs, tolerance=1e-6):
    """Equal but for the rounding of float32, measured by the largest value."""
    scale = max(1.0, theirs.abs().max().item())
    assert torch.allclose(ours.double(), theirs.double(), atol=tolerance * scale, rtol=0)


@pytest.fixture(params=["this CPU", "AVX2"])
def vectors(request, monkeypatch):
    """Code for this CPU, and for one with vectors of 256 bits, where this CPU has them."""
    if request.param == "this CPU":
        yield
        return
    import llvmlite.binding

    if not llvmlite.binding.get_host_cpu_features().get("avx2"):
        pytest.skip("this CPU has no AVX2")
    caches = (tile_transforms._function, tile_transforms._folder, tile_transforms.compiler)
    caches += (panel_products._function, panel_products._folder)
    for module in (tile_transforms, panel_products, panel_code):
        monkeypatch.setattr(module, "cpu", lambda: ("haswell", "+avx,+avx2,+fma"))
    for module in (tile_transforms, panel_products):
        monkeypatch.setattr(module.kernel_cache, "cached_folder", lambda kind, build: None)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("n", [64, 37, 5])  # whole vectors, a rest, less than one
@pytest.mark.parametrize("shape", [(6, 6), (6, 3), (2, 4)], ids=str)
def test_a_transform_of_tiles_is_its_matrix_along_both_axes(shape, n):
    after, before = shape
    matrix = np.random.default_rng(n).integers(-2, 3, shape) / 2
    precise = torch.from_numpy(matrix)
    maps, points = torch.randn(3, before, before, n), torch.full((after**2 + 1, 3, n), 7.0)
    TileTransform(matrix, to_points=True)(maps, points[:-1])
    expected = torch.einsum("ki,lj,cijn->klcn", precise, precise, maps.double())
    close(points[:-1].view(after, after, 3, n), expected, 1e-6)
    assert (points[-1] == 7).all()  # nothing behind the end is written
    source, bias, found = torch.randn(before**2, 3, n), torch.randn(3), torch.full((4, after, after, n), 7.0)
    TileTransform(matrix, to_points=False)(source, found[:-1], bias)
    expected = torch.einsum("ki,lj,ijcn->ckln", precise, precise, source.double().view(before, before, 3, n))
    close(found[:-1], expected + bias.double().view(-1, 1, 1, 1), 1e-6)
    assert (found[-1] == 7).all()
    TileTransform(matrix, to_points=False, add=True)(source, found[:-1])
    close(found[:-1], 2 * expected + bias.double().view(-1, 1, 1, 1), 1e-6)


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("n", [48, 21])
def test_a_transform_may_have_another_matrix_across_and_take_numbers_for_0(n):
    down, across = np.random.default_rng(n).integers(1, 4, (2, 6, 3)) / 2
    maps, points = torch.randn(3, 3, 3, n), torch.empty(36, 3, n)
    TileTransform(without_first(down, 1), without_first(across, 2), to_points=True)(maps, points)
    own = maps.double().clone()
    own[:, :1], own[:, :, :2] = 0, 0
    expected = torch.einsum("ki,lj,cijn->klcn", torch.from_numpy(down), torch.from_numpy(across), own)
    close(points.view(6, 6, 3, n), expected)


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("filters", [64, 37, 5, 8])  # whole vectors, a rest, less than one
@pytest.mark.parametrize("shape", [(6, 3), (5, 2), (3, 2), (2, 1)], ids=str)
def test_a_transform_of_filters_is_its_matrix_along_both_axes(shape, filters):
    after, before = shape
    matrix = np.random.default_rng(filters).integers(-2, 3, shape) / 2
    precise = torch.from_numpy(matrix)
    weight, points = torch.randn(filters, 1, before, before), torch.full((after**2 + 1, filters), 7.0)
    FilterTransform(matrix, to_points=True)(weight, points[:-1])
    expected = torch.einsum("ki,lj,eij->kle", precise, precise, weight.double()[:, 0])
    close(points[:-1].view(after, after, filters), expected)
    assert (points[-1] == 7).all()  # nothing behind the end is written
    source, found = torch.randn(after**2, filters), torch.full((filters + 1, before, before), 7.0)
    FilterTransform(matrix.T, to_points=False)(source, found[:-1])
    expected = torch.einsum("ik,jl,ije->ekl", precise, precise, source.double().view(after, after, filters))
    close(found[:-1], expected)
    assert (found[-1] == 7).all()


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("n", [64, 37, 128, 5, 91])  # whole blocks, and every kind of rest
@pytest.mark.parametrize("rows", [6, 7, 13, 1])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_panels_are_products(n, rows, transposed):
    left = torch.randn(3, 9, rows).transpose(1, 2) if transposed else torch.randn(3, rows, 9)
    right, out = torch.randn(3, 9, n), torch.full((4, rows, n), 7.0)
    panel_products.products(left, right, out[:3])
    close(out[:3], left.double() @ right.double(), 1e-6)
    assert (out[3] == 7).all()  # nothing behind the end is written


@pytest.mark.usefixtures("vectors")
def test_products_add_a_bias_and_read_and_write_parts():
    """As the windows of a convolution: right factors overlap, the left one is one for all, rows of out lie apart."""
    left, bias, rows, out = torch.randn(7, 9), torch.randn(7), torch.randn(30, 37), torch.full((7, 4, 37), 7.0)
    right = rows.as_strided((3, 9, 37), (5 * 37, 37, 1))
    panel_products.products(left.expand(3, -1, -1), right, out[:, :3].transpose(0, 1), bias)
    expected = left.double() @ right.double() + bias.double().view(-1, 1)
    close(out[:, :3].transpose(0, 1), expected)
    assert (out[:, 3] == 7).all()


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("inner", [64, 37, 16, 5, 1])  # images
@pytest.mark.parametrize("n", [126, 64, 16, 5])
@pytest.mark.parametrize("rows", [13, 6, 1])
def test_products_of_rows_are_products_with_the_transposed(rows, n, inner):
    left, right = torch.randn(rows, 3, inner).transpose(0, 1), torch.randn(3, n, inner)
    out, turned = torch.full((4, rows, n), 7.0), torch.full((inner + 1, n), 7.0)
    panel_products.products_of_rows(left, right, out[:3], turned[:-1])
    close(out[:3], left.double() @ right.double().transpose(1, 2))
    assert (out[3] == 7).all() and (turned[-1] == 7).all()  # nothing behind the end is written
    assert torch.equal(turned[:-1], right[2].T)


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("rows, columns", [(64, 48), (16, 37), (37, 16), (17, 17), (3, 100), (1, 5)])
def test_transposed_is_transposed(rows, columns):
    source, target = torch.randn(rows, columns), torch.full((columns + 1, rows), 7.0)
    assert torch.equal(panel_products.transposed(source, target[:-1]), source.T)
    assert (target[-1] == 7).all()


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("images", [64, 17, 1])
@pytest.mark.parametrize("outs, ins", [(12, 128), (13, 101), (6, 16), (1, 7)])
def test_a_descent_is_a_step_of_sgd(outs, ins, images):
    """Three steps: the first has no velocity yet. Whole blocks and rests of rows, of columns, and few images."""
    weight, moving = torch.randn(outs + 1, ins), torch.zeros(outs + 1, ins)
    behind = weight[-1].clone()
    precise = weight[:-1].double()
    velocity = torch.zeros_like(precise)
    for _ in range(3):
        gradient, inputs = torch.randn(images, outs), torch.randn(images, ins)
        constants = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-2}
        panel_products.descend(weight[:-1], moving[:-1], gradient, inputs, torch.empty_like(inputs), **constants)
        velocity = 0.9 * velocity + gradient.double().T @ inputs.double() + 1e-2 * precise
        precise = precise - 0.05 * velocity
        close(moving[:-1], velocity)
        close(weight[:-1], precise)
    assert torch.equal(weight[-1], behind) and not moving[-1].any()  # nothing behind the end is written
