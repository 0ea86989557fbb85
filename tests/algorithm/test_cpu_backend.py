"""The blocks against torch's own layers: forward, backward, running statistics, draws, and what they leave to torch."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import conv2d, cross_entropy, max_pool2d

from dc_hpc.algorithm import alexnet, alexnet_small, lenet5
from dc_hpc.algorithm.backends import cpu, kernels
from dc_hpc.algorithm.backends.blocks import Block, blocks_of
from dc_hpc.algorithm.backends.convolutions import (
    DirectConv5,
    Im2colConv,
    SobelConv,
    WinogradConv,
    fitting,
)
from dc_hpc.algorithm.backends.determinism import exact
from dc_hpc.algorithm.backends.kernels import compiled
from dc_hpc.algorithm.backends.toom_cook import toom_cook
from dc_hpc.algorithm.nets import OUTPUT, Sobel, initialise, new_head

pytestmark = pytest.mark.skipif(not kernels.available(), reason="numba is not installed: torch computes everything")

NETS = {
    "lenet5": (lenet5, {}, 1), "lenet5 without batch norm": (lenet5, {"batch_norm": False}, 1),
    "alexnet_small": (alexnet_small, {}, 3), "random sobel": (alexnet_small, {"sobel": "random"}, 3),
    "alexnet_small without sobel and batch norm": (alexnet_small, {"sobel": "off", "batch_norm": False}, 3),
}  # fmt: skip


def drawn(name, seed=1):
    make, options, channels = NETS[name]
    trunk = make(**options)
    initialise(trunk, seed=seed)
    return trunk, channels


def innermost(batch):
    return batch.permute(1, 2, 3, 0).contiguous()


def outermost(maps):
    return maps.permute(3, 0, 1, 2)


def close(ours, theirs, tolerance=2e-5):
    """Equal but for the rounding of float32, measured by the largest value."""
    scale = max(1.0, theirs.abs().max().item())
    assert torch.allclose(ours.double(), theirs.double(), atol=tolerance * scale, rtol=0)


@torch.no_grad()
def margin(before, pool):
    """How far ReLU and the maxima are from another decision; rounding must be smaller."""
    nearest = before.abs().min()
    if pool:
        first, second = before.unfold(2, 2, pool).unfold(3, 2, pool).flatten(-2).topk(2).values.unbind(-1)
        nearest = min(nearest, torch.where(first > 0, first - second, 1).min())
    return nearest


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    channels=st.integers(1, 5),
    outs=st.integers(1, 5),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    more=st.integers(2, 6),
    wider=st.integers(0, 3),
    n=st.integers(2, 12),
    norm=st.booleans(),
    pool=st.sampled_from([None, 1, 2]),
)
def test_a_block_is_its_layers(data, channels, outs, kernel, stride, more, wider, n, norm, pool):
    """Output, running statistics and all gradients, against the layers in float64; odd sizes and one channel too."""
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    conv = nn.Conv2d(channels, outs, kernel, stride=stride)
    layers = [conv, *([nn.BatchNorm2d(outs)] if norm else []), nn.ReLU(), *([nn.MaxPool2d(2, pool)] if pool else [])]
    signs = torch.rand_like(conv.weight) < 0.5
    nn.init.uniform_(conv.weight, 0.3, 1).data[signs] *= -1  # far from 0, where batch norm blows rounding up
    if norm:
        nn.init.normal_(layers[1].weight), nn.init.normal_(layers[1].bias)
    reference = copy.deepcopy(nn.Sequential(*layers)).double().train()
    height = kernel + stride * more
    batch = torch.randn(n, channels, height, height + wider)
    assume(margin(copy.deepcopy(reference)[: 1 + norm](batch.double()), pool) > 1e-5)
    (block,) = blocks_of([(str(i), layer) for i, layer in enumerate(layers)])
    expected_input = batch.double().requires_grad_()
    expected = reference(expected_input)
    out = block.forward(innermost(batch))
    close(outermost(out), expected)
    gradient = torch.randn(expected.shape)
    expected.backward(gradient.double())
    back, found = block.backward(innermost(gradient), to_input=True)
    close(outermost(back), expected_input.grad, 1e-3)
    for ours, theirs in zip(found, reference.parameters(), strict=True):
        close(ours, theirs.grad, 1e-3)
    for ours, theirs in zip(nn.Sequential(*layers).buffers(), reference.buffers()):
        close(ours, theirs)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [4, 5])
def test_the_first_of_equal_maxima_wins_as_in_torch(stride, side):
    """Few different whole numbers, so most windows have ties; infinities and not-a-numbers too; bit for bit."""
    rng = np.random.default_rng(0)
    values = np.array([-np.inf, -1, 0, 1, 2, 2, np.inf, np.nan], np.float32)
    for allowed in (values[1:6], values):
        x = torch.from_numpy(rng.choice(allowed, (3, side, side + 1, 50))).requires_grad_()
        expected = max_pool2d(outermost(x).relu(), 2, stride)
        gradient = torch.randn(expected.shape)
        expected.backward(gradient)
        shape, one = innermost(expected.detach()).shape, np.ones(3, np.float32)
        maxima, winner, spread = torch.empty(shape), torch.empty(shape, dtype=torch.uint8), torch.zeros(x.shape)
        compiled(kernels.rectified_maxima)(x.detach().numpy(), one, 0 * one, stride, maxima.numpy(), winner.numpy())
        compiled(kernels.to_winners)(innermost(gradient).numpy(), winner.numpy(), stride, spread.numpy())
        assert np.array_equal(maxima.numpy(), innermost(expected.detach()).numpy(), equal_nan=True)
        close(spread, x.grad, 1e-6)


@pytest.mark.parametrize(
    "layer, side, kind",
    [
        (nn.Conv2d(1, 6, 5), 32, DirectConv5),
        (nn.Conv2d(1, 3, 5), 7, DirectConv5),
        (nn.Conv2d(6, 16, 5), 14, DirectConv5),
        (nn.Conv2d(2, 48, 8, stride=3), 32, Im2colConv),
        (nn.Conv2d(48, 126, 2), 8, WinogradConv),
        (nn.Conv2d(48, 5, 2), 6, WinogradConv),
        (nn.Conv2d(40, 5, 3), 10, WinogradConv),
        (nn.Conv2d(40, 5, 2), 12, Im2colConv),
        (nn.Conv2d(126, 192, 3), 6, WinogradConv),
        (nn.Conv2d(192, 192, 2), 4, WinogradConv),
        (nn.Conv2d(192, 128, 2), 3, WinogradConv),
        (nn.Conv2d(40, 7, 3), 4, WinogradConv),
        (nn.Conv2d(40, 7, 3), 5, WinogradConv),
    ],
    ids=str,
)
def test_every_kind_of_convolution_is_the_convolution(layer, side, kind):
    """Against float64, a batch of another size after the first, and the filters of conv3 within a digit of torch's."""
    for n in (9, 13, 4):
        x = torch.randn(n, layer.in_channels, side, side)
        convolution = fitting(layer, side, side)
        assert type(convolution) is kind
        precise = [t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias)]
        expected = conv2d(*precise, stride=layer.stride)
        close(outermost(convolution.forward(innermost(x))), expected, 1e-5)
        gradient = torch.randn(expected.shape)
        expected.backward(gradient.double())
        alone, filters = convolution.backward(innermost(gradient), to_input=False)
        assert alone is None
        close(filters, precise[1].grad)
        convolution.forward(innermost(x))
        back, filters = convolution.backward(innermost(gradient), to_input=True)
        close(outermost(back), precise[0].grad)
        close(filters, precise[1].grad)


@pytest.mark.parametrize("kind", ["fixed", "random"])
@pytest.mark.parametrize("layer, side", [(nn.Conv2d(2, 48, 8, stride=3), 32), (nn.Conv2d(2, 3, 2), 5)], ids=str)
def test_sobel_and_the_convolution_behind_it_are_one(layer, side, kind):
    """Against float64: the image has a border of zeros for the Sobel kernels and none for the layer."""
    sobel = Sobel(frozen_kernels=kind == "fixed")
    initialise(nn.Sequential(sobel), seed=3)
    for n in (9, 13, 4):
        x = torch.randn(n, 3, side, side)
        convolution = SobelConv(sobel, layer)
        edges = copy.deepcopy(sobel).double()(x.double())
        precise = [t.detach().double().requires_grad_() for t in (layer.weight, layer.bias)]
        expected = conv2d(edges, *precise, stride=layer.stride)
        close(outermost(convolution.forward(innermost(x))), expected, 1e-6)
        gradient = torch.randn(expected.shape)
        expected.backward(gradient.double())
        back, filters = convolution.backward(innermost(gradient), to_input=False)
        assert back is None
        close(filters, precise[0].grad, 2e-6)
        close(outermost(convolution.edges_of(innermost(x))), edges, 1e-6)


def test_filters_that_have_learned_are_not_those_of_before():
    """In eval mode what is made of filters is made once a pass; training and the next pass make it anew."""
    trunk, channels = drawn("alexnet_small")
    batch = torch.randn(20, channels, 32, 32)
    evaluate = cpu.evaluation(trunk, ["relu5"])
    assert torch.equal(evaluate(batch)["relu5"].clone(), evaluate(batch)["relu5"])
    train = cpu.training(trunk)
    for _ in range(2):
        train(batch).square().sum().backward()
        with torch.no_grad():
            for parameter in trunk.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad.sign() * parameter.abs().mean()
                    parameter.grad = None
    torch.manual_seed(7)
    found = train(batch)
    torch.manual_seed(7)
    expected = copy.deepcopy(trunk).train()(batch)
    close(found, expected, 1e-4)
    close(cpu.evaluation(trunk, ["pool5"])(batch)["pool5"], copy.deepcopy(trunk).eval()[:-6](batch), 1e-4)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("r", [2, 3])
def test_the_method_of_toom_and_cook_is_exact(m, r):
    a, g, b = toom_cook(m, r)
    rng = np.random.default_rng(0)
    x, w = rng.integers(-9, 10, m + r - 1), rng.integers(-9, 10, r)
    assert np.allclose(a.T @ ((g @ w) * (b @ x)), np.correlate(x, w), atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_training_steps_are_those_of_torch(name):
    """Five steps with momentum, weight decay and dropout, the last with a smaller batch: parameters and statistics."""
    trunk, channels = drawn(name)
    pairs = []
    images = torch.randn(150, channels, 32, 32)
    labels = torch.randint(0, 7, (150,))
    for net, compute in ((copy.deepcopy(trunk), nn.Module.train), (trunk, cpu.training)):
        head, function = new_head(trunk.fc2.out_features, 7, seed=1, cycle=0), compute(net)
        learning = [p for p in [*net.parameters(), *head.parameters()] if p.requires_grad]
        optimizer = torch.optim.SGD(learning, lr=0.05, momentum=0.5, weight_decay=1e-3)
        torch.manual_seed(3)
        for start in range(0, 150, 32):
            loss = cross_entropy(head(function(images[start : start + 32])), labels[start : start + 32])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        pairs.append((net.state_dict(), loss.item(), torch.rand(1).item()))
    (theirs, their_loss, their_draw), (ours, our_loss, our_draw) = pairs
    assert ours.keys() == theirs.keys() and our_draw == their_draw
    assert our_loss == pytest.approx(their_loss, abs=1e-4)
    for key in theirs:
        close(ours[key], theirs[key], 1e-4)


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_every_layer_has_the_values_of_torch_in_eval_mode(name):
    trunk, channels = drawn(name)
    trunk.train()(torch.randn(50, channels, 32, 32) * 2 + 1)  # running statistics that are not 0 and 1
    trunk.eval()
    batch = torch.randn(40, 32, 32, channels).permute(0, 3, 1, 2)  # not contiguous
    value, names = batch, [layer for layer, _ in trunk.named_children()]
    together = {layer: found.clone() for layer, found in cpu.evaluation(trunk, names)(batch).items()}
    for layer, module in trunk.named_children():
        value = module(value)
        assert together[layer].shape == value.shape
        close(together[layer], value)
        alone = cpu.evaluation(trunk, [layer])(batch)
        assert list(alone) == [layer] and torch.equal(alone[layer], together[layer])


@pytest.mark.parametrize("name", ["lenet5", "alexnet_small"])
def test_the_same_batch_gives_the_same_bits(name):
    found = []
    for _ in range(2):
        trunk, channels = drawn(name)
        torch.manual_seed(0)
        batch = torch.randn(33, channels, 32, 32)
        function = cpu.training(trunk)
        function(batch[:5]).sum().backward()  # buffers that were used before change nothing
        trunk.zero_grad()
        function(batch).square().sum().backward()
        found.append([p.grad for p in trunk.parameters() if p.requires_grad])
    assert all(torch.equal(one, other) for one, other in zip(*found))


def test_dropout_draws_what_torch_draws():
    value = torch.randn(64, 1024)
    torch.manual_seed(5)
    theirs, after = nn.Dropout(0.5)(value), torch.rand(1)
    torch.manual_seed(5)
    ours = cpu._Dropout(0.5)(value)
    assert torch.equal(ours, theirs) and torch.equal(torch.rand(1), after)


def test_torch_computes_what_the_blocks_cannot(monkeypatch):
    assert cpu.kernels_of(lenet5()) == cpu.kernels_of(alexnet_small()) == "numba"
    assert cpu.kernels_of(alexnet()) == cpu.kernels_of(lenet5().double()) == "torch"  # padding; float64
    odd = lenet5()
    odd.pool1 = nn.MaxPool2d(3)
    assert cpu.kernels_of(odd) == "torch" and cpu.training(odd) is odd
    odd = lenet5()
    odd.bn1.momentum = None
    assert cpu.kernels_of(odd) == "torch"
    monkeypatch.setattr(kernels, "available", lambda: False)
    trunk = lenet5()
    assert cpu.kernels_of(trunk) == "torch" and cpu.training(trunk) is trunk and trunk.training
    batch = torch.randn(4, 1, 32, 32)
    found = cpu.evaluation(trunk, ["conv2", "fc2"])(batch)
    assert not trunk.training and torch.equal(found["fc2"], trunk(batch)) and found["conv2"].shape == (4, 16, 10, 10)


def test_the_backward_pass_comes_before_the_next_forward_pass():
    trunk = lenet5()
    function = cpu.training(trunk)
    first = function(torch.randn(4, 1, 32, 32))
    function(torch.randn(4, 1, 32, 32))
    with pytest.raises(RuntimeError, match="run the backward pass of a batch once, before the next forward pass"):
        first.sum().backward()


def test_a_second_backward_pass_of_a_batch_is_refused():
    """The first one overwrites what it would read, so that it would give wrong gradients."""
    found = cpu.training(lenet5())(torch.randn(4, 1, 32, 32)).sum()
    found.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="run the backward pass of a batch once"):
        found.backward()


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_output_of_the_net_beside_an_inner_layer(batch_norm):
    """The name of the output is empty, as is that of a batch norm which a block does not have."""
    torch.manual_seed(0)
    trunk, batch = lenet5(batch_norm=batch_norm).eval(), torch.randn(4, 1, 32, 32)
    found = cpu.evaluation(trunk, ["relu1", OUTPUT])(batch)
    with torch.no_grad():
        torch.testing.assert_close(found[OUTPUT], trunk(batch))
    assert found["relu1"].shape == (4, 6, 28, 28)


def test_blocks_know_their_parameters():
    blocks = blocks_of(list(alexnet_small().named_children()))
    assert [len(block.parameters()) for block in blocks] == [4, 4, 4, 4, 4]
    assert [type(block) for block in blocks] == [Block] * 5


def test_vectors_are_as_wide_as_the_cpu_has_them():
    """In a process of its own: numba looks at it once."""
    code = (
        "from dc_hpc.algorithm.backends import kernels; import llvmlite.binding as llvm; "
        "text = ''.join(kernels.compiled(kernels.direct_conv5).inspect_asm().values()); "
        "print('zmm' in text or not llvm.get_host_cpu_features().get('avx512f'))"
    )
    free = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU")}
    free["XDG_CACHE_HOME"] = os.devnull  # cached code has no text to look at
    assert subprocess.run([sys.executable, "-c", code], env=free, capture_output=True, text=True).stdout == "True\n"
    asked = free | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert (
        subprocess.run(
            [sys.executable, "-c", code.replace("'zmm' in text or not", "'zmm' not in text or")],
            env=asked,
            capture_output=True,
            text=True,
        ).stdout
        == "True\n"
    )


@pytest.fixture
def products_of_matrices():
    """A function that sets how exact torch's products of float32 matrices are; afterwards they are exact again."""
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("products", ["highest", "high", "medium"])
def test_exact_arithmetic_lasts_as_long_as_it_is_asked_for(monkeypatch, products_of_matrices, products):
    """The setting of cuBLAS stays: cuBLAS reads it when the GPU is first used, and nothing else does."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    products_of_matrices(products)

    def settings():
        return (
            torch.get_deterministic_debug_mode(),
            torch.backends.cudnn.allow_tf32,
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_float32_matmul_precision(),
        )

    before, tiny = settings(), torch.tensor(1e-40)
    with pytest.raises(ValueError), exact():
        assert settings() == (2, False, False, False, "highest") != before
        assert float(tiny * 1) == 0
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise ValueError
    assert settings() == before and float(tiny * 1) > 0


@pytest.mark.parametrize("make", [lenet5, alexnet_small])
@pytest.mark.parametrize("wrong", ["channels", "dtype", "too small"])
def test_a_batch_that_does_not_fit_gets_torchs_own_error(make, wrong):
    """The compiled loops know no bounds: three channels into LeNet-5 read whatever memory lay behind the filters."""
    trunk = make()
    right, other = (1, 3) if make is lenet5 else (3, 1)
    batch = {
        "channels": torch.randn(4, other, 32, 32),
        "dtype": torch.randn(4, right, 32, 32, dtype=torch.float64),
        "too small": torch.randn(4, right, 3, 3),
    }[wrong]
    with pytest.raises(RuntimeError) as expected:
        trunk(batch)
    for function in (cpu.training(trunk), lambda images: cpu.evaluation(trunk, ["fc2"])(images)["fc2"]):
        with pytest.raises(RuntimeError) as found:
            function(batch)
        assert str(found.value) == str(expected.value)
