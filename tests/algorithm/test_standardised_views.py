"""Views whose images are standardised one by one: their brightness and contrast are gone, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dc_hpc.algorithm.views import TRAINING_VIEWS, ImageViews, Views, standardise
from dc_hpc.config.grid import read_grid
from dc_hpc.config.run_config import RunConfig, canonical_json
from dc_hpc.experiment.build import views_of
from dc_hpc.experiment.reuse import first_pass

CONSTANTS = {1: dict(mean=(0.286,), std=(0.3205,)), 3: dict(mean=(0.437, 0.443, 0.472), std=(0.198, 0.201, 0.197))}


def images(n, channels, side=32, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), np.uint8))


def shown(data, training="flip", *, on, **change):
    settings = dict(resize=45, crop=32, training=training) | CONSTANTS[data.shape[1]] | change
    return ImageViews(data, Views(**settings, per_image_standardization=on))


def reference(pixels):
    """What `standardise` says, in NumPy: pixels (b, c, h, w) of 0 to 1."""
    rows = np.asarray(pixels, np.float64).reshape(len(pixels), -1)
    centred = rows - rows.mean(1, keepdims=True)
    floor = 1 / np.sqrt(rows.shape[1]) / 255
    return (centred / np.maximum(rows.std(1, keepdims=True), floor)).reshape(pixels.shape)


def pixels_of(data, training, seed):
    """The view of 0 to 1 that the standardised one is made of: that without a normalisation."""
    plain = dict(mean=(0.0,) * data.shape[1], std=(1.0,) * data.shape[1])
    return shown(data, training, on=False, **plain).training(torch.arange(len(data)), np.random.default_rng(seed))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("training", TRAINING_VIEWS)
def test_every_training_view_is_standardised_after_its_box(training, channels):
    data = images(12, channels)
    ours = shown(data, training, on=True).training(torch.arange(12), np.random.default_rng(7))
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours, reference(pixels_of(data, training, 7)), atol=1e-6)
    np.testing.assert_allclose(ours.double().mean((1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(ours.double().std((1, 2, 3), correction=0), 1, atol=1e-6)


def test_the_clustering_view_and_the_places_of_the_probe_are_standardised():
    data = images(6, 3)
    views, plain = shown(data, on=True), shown(data, on=False, mean=(0.0,) * 3, std=(1.0,) * 3)
    corners = np.random.default_rng(1).integers(0, 14, (6, 2))
    for ours, pixels in [
        (views.clustering(slice(None)), plain.clustering(slice(None))),
        (views.cut_at(slice(0, 6), corners), plain.cut_at(slice(0, 6), corners)),
    ]:
        np.testing.assert_allclose(ours, reference(pixels), atol=1e-6)


@pytest.mark.parametrize("training", TRAINING_VIEWS)
def test_brightness_and_contrast_change_nothing(training):
    """Half the contrast and 60 levels more brightness, exactly: even levels of a view that resizes nothing."""
    even = (images(5, 3) // 4) * 2
    darker = even // 2 + 60
    rows = torch.arange(5)
    one, other = (
        shown(data, training, on=True, resize=32).training(rows, np.random.default_rng(3)) for data in (even, darker)
    )
    # The boxes of each image are rounded to whole levels after their resize, which half the contrast feels.
    atol = 4e-2 if training == "box_per_image" else 1e-5
    assert (one - other).abs().mean() < atol
    if training in ("none", "flip"):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_constant_image_becomes_zeros():
    data = torch.tensor([0, 77, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 32, 32).contiguous()
    for training in TRAINING_VIEWS:
        found = shown(data, training, on=True).training(torch.arange(3), np.random.default_rng(0))
        assert torch.isfinite(found).all() and found.abs().max() < 1e-2
    assert torch.equal(shown(data, on=True).clustering(slice(None)), torch.zeros(3, 3, 32, 32))


def test_an_image_is_the_same_in_any_batch_cached_or_not_and_mirrored(monkeypatch):
    data = images(300, 3)
    whole = shown(data, on=True).clustering(slice(None))
    for rows in (slice(0, 1), slice(7, 300), torch.tensor([299, 3])):
        assert torch.equal(shown(data, on=True).clustering(rows), whole[rows])
    mirrored = shown(data, on=True).training(torch.arange(300), np.random.default_rng(0))
    same = [torch.equal(a, b) or torch.equal(a.flip(-1), b) for a, b in zip(whole, mirrored)]
    assert all(same)
    monkeypatch.setattr("dc_hpc.algorithm.views._CACHED_BYTES", 0)
    lazy = shown(data, on=True)
    assert lazy._cropped is None and torch.equal(lazy.clustering(slice(None)), whole)
    assert torch.equal(lazy.clustering(slice(None)), whole), "the standardised view does not change what is kept"


@pytest.mark.gpu
def test_a_gpu_standardises_as_the_cpu_does():
    batch = torch.from_numpy(np.random.default_rng(0).random((64, 3, 32, 32), np.float32))
    np.testing.assert_allclose(standardise(batch.cuda()).cpu(), standardise(batch), atol=1e-6)


def test_mean_and_std_have_no_say():
    data = images(4, 3)
    other = shown(data, on=True, mean=(0.1,) * 3, std=(0.9,) * 3)
    assert torch.equal(shown(data, on=True).clustering(slice(None)), other.clustering(slice(None)))


def test_a_run_has_the_views_of_its_setting_and_a_name_of_its_own(tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "base: svhn\nprotocol: code\nsweep: {seed: [1], per_image_standardization: [off, on]}\n", encoding="utf-8"
    )
    off, on = read_grid(grid, data_root=tmp_path).points
    assert not views_of(off).per_image_standardization and views_of(on).per_image_standardization
    assert "per_image" not in canonical_json(off) and '"per_image_standardization":true' in canonical_json(on)
    assert first_pass(off) != first_pass(on), "no run takes the features of the other"
    assert on.protocol == "code" and RunConfig.declared["per_image_standardization"].keeps_apart
