import math

import numpy as np
import pytest
import torch

from dc_hpc.algorithm import ImageViews, Views, activations, init_state, lenet5, linear_probe
from dc_hpc.algorithm.probe import _new_classifier
from dc_hpc.algorithm.randomness import numpy_generator


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = torch.from_numpy((data.images * 255 / 16).round().astype(np.uint8)).unsqueeze(1)
    return ImageViews(pixels, Views(44, 32, (0.3,), (0.37,))), torch.from_numpy(data.target)


@pytest.fixture(scope="module")
def trunk():
    return init_state(lenet5(), seed=0, lr=0.1, momentum=0.1, weight_decay=0.0).trunk


def uncached_probe(trunk, images, labels, *, flips, epochs, seed):
    """The authors' loop: the trunk runs on every batch of every epoch."""
    classifier, rng = _new_classifier(1600, 10, seed), numpy_generator(seed, 0, "probe")
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    step = 0
    for _ in range(epochs):
        for indices in torch.from_numpy(rng.permutation(len(images))).split(256):
            optimizer.param_groups[0]["lr"] = 0.01 / math.sqrt(1 + 0.01 * 1e-4 * step)
            views = images.clustering(indices)
            if flips:
                flipped = torch.from_numpy(rng.random(len(indices)) < 0.5)
                views = torch.where(flipped.view(-1, 1, 1, 1), views.flip(-1), views)
            with torch.no_grad():
                values = trunk.pool1(trunk.relu1(trunk.bn1(trunk.conv1(views))))
                values = trunk.conv2(values).flatten(1)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(classifier(values), labels[indices]).backward()
            optimizer.step()
            step += 1
    return classifier


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_probe_on_cached_features_is_the_uncached_one(digits, trunk, flips, compiled, monkeypatch):
    """Bit for bit where torch computes both; the loop of the test is torch's, so else but for rounding."""
    images, labels = digits
    trunk.eval()
    made = {}
    if not compiled:
        monkeypatch.setattr("dc_hpc.algorithm.backends.kernels.available", lambda: False)

    def remember(values, classes, seed):
        return made.setdefault("classifier", _new_classifier(values, classes, seed))

    monkeypatch.setattr("dc_hpc.algorithm.probe._new_classifier", remember)
    plain = activations(trunk, images, ["conv2"])["conv2"]
    mirrored = activations(trunk, images, ["conv2"], mirrored=True)["conv2"] if flips else None
    linear_probe(plain, labels, plain, labels, classes=10, seed=4, epochs=3, train_mirrored=mirrored)
    reference = uncached_probe(trunk, images, labels, flips=flips, epochs=3, seed=4)
    tolerance = 1e-4 if compiled else 0
    assert torch.allclose(made["classifier"].weight, reference.weight, atol=tolerance, rtol=0)
    assert torch.allclose(made["classifier"].bias, reference.bias, atol=tolerance, rtol=0)


def test_activations_are_those_of_the_layers(digits, trunk):
    images, _ = digits
    found = activations(trunk, images, ["conv2", "fc2"])
    assert found["conv2"].shape == (1797, 1600) and found["fc2"].shape == (1797, 84)
    with torch.no_grad():
        assert torch.allclose(found["fc2"][:5], trunk.eval()(images.clustering(slice(0, 5))), atol=1e-6)
    pooled = activations(trunk, images, ["conv2"], average_pool=2)["conv2"]
    assert pooled.shape == (1797, 400)
    by_hand = found["conv2"][0].view(16, 5, 2, 5, 2).mean((2, 4)).flatten()
    assert torch.allclose(pooled[0], by_hand, atol=1e-6)


def test_mirrored_activations_are_those_of_mirrored_images(digits, trunk):
    images, _ = digits
    flipped = ImageViews(images.images.flip(-1), images.views)
    assert torch.allclose(
        activations(trunk, images, ["conv2"], mirrored=True)["conv2"],
        activations(trunk, flipped, ["conv2"])["conv2"],
        atol=1e-5,
    )


def test_the_probe_learns_what_is_linear_and_only_that(digits, trunk):
    images, labels = digits
    values = activations(trunk, images, ["conv2"])["conv2"]
    train, test = slice(0, 1500), slice(1500, None)
    probe = linear_probe(values[train], labels[train], values[test], labels[test], classes=10, seed=0)
    assert probe.accuracy > 85 and probe.accuracy_best >= probe.accuracy
    rng = np.random.default_rng(0)
    shuffled = torch.from_numpy(rng.permutation(labels.numpy()))
    chance = linear_probe(values[train], shuffled[train], values[test], shuffled[test], classes=10, seed=0)
    assert chance.accuracy < 25


def test_the_three_accuracies_are_what_they_say(digits, trunk, monkeypatch):
    """297 test images: batches of 128, 128 and 41, of which the last weighs too much in the authors' mean."""
    images, labels = digits
    values = activations(trunk, images, ["conv2"])["conv2"]
    right = [np.r_[np.ones(256), np.zeros(41)], np.r_[np.zeros(256), np.ones(41)]]
    answers = iter([torch.where(torch.from_numpy(one) == 1, labels[:297], (labels[:297] + 1) % 10) for one in right])
    monkeypatch.setattr("dc_hpc.algorithm.probe._predicted", lambda *_: next(answers))
    probe = linear_probe(values, labels, values[:297], labels[:297], classes=10, seed=0, epochs=2)
    for found, expected in ((probe.predicted, right[1]), (probe.predicted_best, right[0])):
        assert np.array_equal(found == labels[:297].numpy(), expected == 1)
    assert probe.accuracy == pytest.approx(100 * 41 / 297)
    assert probe.accuracy_best == pytest.approx(100 * 256 / 297)
    assert probe.accuracy_batch_mean == pytest.approx(100 / 3)


def test_the_probe_of_a_layer_does_not_depend_on_the_others(digits, trunk):
    images, labels = digits
    alone, beside = (activations(trunk, images, layers)["pool2"] for layers in (["pool2"], ["conv2", "pool2"]))
    assert torch.equal(alone, beside)
    probes = [linear_probe(alone, labels, alone, labels, classes=10, seed=2, epochs=2) for _ in range(2)]
    assert probes[0] == probes[1]


def test_training_values_may_be_drawn_anew_in_each_epoch(digits, trunk):
    """A function that always gives the same is the same probe; one that changes trains on each epoch's own values."""
    images, labels = digits
    values = activations(trunk, images, ["pool2"])["pool2"]
    settings = dict(classes=10, seed=2, epochs=3)
    asked = []

    def drawn(epoch):
        asked.append(epoch)
        return values + 0.5 * (epoch == 2)

    fixed = linear_probe(values, labels, values, labels, **settings)
    assert linear_probe(lambda epoch: values, labels, values, labels, **settings) == fixed
    changing = linear_probe(drawn, labels, values, labels, **settings)
    assert asked == [0, 1, 2] and changing.loss != fixed.loss
    with pytest.raises(ValueError, match="train_mirrored needs a fixed train"):
        linear_probe(drawn, labels, values, labels, train_mirrored=values, **settings)


def test_values_of_a_view_of_ones_own(digits, trunk):
    images, _ = digits
    plain = activations(trunk, images, ["pool2"], mirrored=True)["pool2"]
    found = activations(trunk, images, ["pool2"], view=lambda rows: images.clustering(rows).flip(-1))["pool2"]
    assert torch.equal(found, plain)


def test_an_unknown_layer_is_named(digits, trunk):
    with pytest.raises(ValueError, match="layer 'conv3' is not in the net; its layers are conv1, bn1"):
        activations(trunk, digits[0], ["conv3"])
