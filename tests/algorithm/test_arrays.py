"""NumPy arrays are taken by every public function, or refused with the call that converts them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dc_hpc.algorithm import (
    ImageViews,
    Schedule,
    Views,
    activations,
    cluster_by_kmeans,
    deep_cluster,
    init_state,
    lenet5,
    linear_probe,
    reduce_features,
)

BYTES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(4, 9), st.integers(4, 9)))


def views(channels):
    return Views(4, 4, np.full(channels, 0.5), [0.25] * channels)


@given(BYTES, st.sampled_from([None, 1, 3]), st.sampled_from(["plain", "reversed", "read-only", "fortran"]))
def test_numpy_images_are_those_of_torch(pixels, channels, memory):
    images = pixels if channels is None else np.repeat(pixels[..., None], channels, 3)
    as_torch = torch.from_numpy(np.ascontiguousarray(images if channels is None else images.transpose(0, 3, 1, 2)))
    as_torch = as_torch.unsqueeze(1) if channels is None else as_torch
    if memory == "reversed":
        images, as_torch = images[::-1], as_torch.flip(0)
    elif memory == "read-only":
        images.setflags(write=False)
    elif memory == "fortran":
        images = np.asfortranarray(images)
    found = ImageViews(images, views(channels or 1)).images
    assert found.dtype == torch.uint8 and torch.equal(found, as_torch)


@given(BYTES, st.sampled_from([np.float64, ">f4", np.int64, np.bool_]))
def test_the_call_in_the_message_converts(pixels, dtype):
    scaled = (pixels / 255 if np.dtype(dtype).kind == "f" else pixels // 255 if dtype == np.bool_ else pixels).astype(
        dtype
    )
    with pytest.raises(ValueError, match="images must be uint8, not .*; pass ") as refused:
        ImageViews(scaled, views(1))
    call = str(refused.value).split("; pass ")[1].split(" if they hold")[0]
    converted = ImageViews(eval(call, {"images": scaled, "np": np}), views(1)).images
    assert torch.equal(converted[:, 0], torch.from_numpy(pixels if dtype != np.bool_ else pixels // 255 * 255))


@pytest.mark.parametrize(
    "images, channels, message",
    [
        (np.zeros((2, 3, 8, 8), np.uint8), 3, r"read as \(n, h, w, c\): pass images.transpose\(0, 2, 3, 1\)"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), 3, r"read as \(n, c, h, w\): pass images.permute\(0, 3, 1, 2\)"),
        (np.zeros((2, 8, 8), np.uint8), 3, "images have 1 channels and the views' mean 3"),
        (np.zeros((8, 8), np.uint8), 1, r"shape \(n, h, w\) or \(n, h, w, c\) and no empty axis, not \(8, 8\)"),
        (np.zeros((0, 8, 8), np.uint8), 1, r"no empty axis, not \(0, 8, 8\)"),
        ([np.zeros((8, 8), np.uint8)], 1, r"not a list; pass np.stack\(images\)"),
        (torch.zeros(2, 1, 8, 8), 1, r"not torch.float32; pass \(images \* 255\).round\(\).byte\(\)"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_what_helps(images, channels, message):
    with pytest.raises(ValueError, match=message):
        ImageViews(images, views(channels))


def test_deep_cluster_takes_numpy_images():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 32, 32), np.uint8)
    settings = dict(views=Views(32, 32, 0.5, 0.25), k=3, seed=1, schedule=Schedule(1), batch_size=10)
    found = []
    for images in (pixels, torch.from_numpy(pixels).unsqueeze(1)):
        state = init_state(lenet5(), seed=1, lr=0.1, momentum=0.9, weight_decay=0.0)
        found.append([one.loss for one in deep_cluster(state, images, **settings)])
    assert found[0] == found[1]
    with pytest.raises(ValueError, match=r"images must be an ImageViews; pass ImageViews\(images, views\)"):
        activations(lenet5(), pixels, ["conv1"])


@given(
    arrays.arrays(np.float64, (12, 3), elements=st.floats(-9, 9, width=16)),
    st.sampled_from([np.float32, np.float64, ">f8", np.float16]),
)
def test_numpy_features_are_those_of_torch(features, dtype):
    given_, as_torch = features.astype(dtype), torch.from_numpy(features.astype(np.float32))
    one, other = (cluster_by_kmeans(values, k=2, seed=1) for values in (given_, as_torch))
    assert torch.equal(one.labels, other.labels) and torch.equal(one.features, other.features)
    assert torch.equal(reduce_features(given_, pca=None), reduce_features(as_torch, pca=None))


@given(st.sampled_from([np.uint8, np.int32, np.int64, ">i8", np.uint16]), st.integers(0, 5))
def test_a_probe_of_numpy_arrays_is_that_of_tensors(dtype, seed):
    rng = np.random.default_rng(seed)
    values, labels = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    settings = dict(classes=3, seed=1, epochs=2)
    one = linear_probe(values, labels.astype(dtype), values, labels.astype(dtype), **settings)
    tensors = torch.from_numpy(values).float(), torch.from_numpy(labels)
    assert one == linear_probe(*tensors, *tensors, **settings)


VALUES, LABELS = np.zeros((4, 2), np.float32), np.array([0, 1, 2, 1])


@pytest.mark.parametrize(
    "train, labels, test, message",
    [
        (VALUES, LABELS[:3], VALUES, r"train_labels must have the shape \(4,\), a label for each image, not \(3,\)"),
        (VALUES, LABELS * 1.0, VALUES, r"must be whole numbers, not float64; pass train_labels.astype\(np.int64\)"),
        (VALUES, list(LABELS), VALUES, r"not a list; pass np.array\(train_labels\)"),
        (VALUES, LABELS - 1, VALUES, "train_labels must be 0 or more, and one is -1"),
        (VALUES, LABELS + 1, VALUES, "train_labels hold 3, and with classes 3 the last is 2"),
        (VALUES[0], LABELS, VALUES, r"train must be a matrix \(n, d\)"),
        (VALUES, LABELS, VALUES[:, :1], "train has 2 values an image and test 1; take the same layer"),
        (
            VALUES.astype(str),
            LABELS,
            VALUES,
            r"train must hold real numbers, not <U32; pass train.astype\(np.float32\)",
        ),
        ([[0.0]], LABELS, VALUES, r"train must be a NumPy array or a torch tensor, not a list; pass np.array\(train\)"),
    ],
)
def test_a_probe_of_what_does_not_fit_is_refused(train, labels, test, message):
    with pytest.raises(ValueError, match=message):
        linear_probe(train, labels, test, LABELS, classes=3, seed=1)


@pytest.mark.parametrize("mean, std", [(0.5, 0.25), ([0.5], np.array([0.25])), (np.float32(0.5), (0.25,))])
def test_the_constants_of_views_may_be_numbers_lists_and_arrays(mean, std):
    assert Views(4, 4, mean, std) == Views(4, 4, (0.5,), (0.25,))
    with pytest.raises(ValueError, match="std needs a number above 0 for each channel"):
        Views(4, 4, 0.5, 0)
