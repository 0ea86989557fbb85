import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from dc_hpc.algorithm.views import ImageViews, Views, mirror, random_box, random_boxes

GREY = dict(mean=(0.286,), std=(0.3205,))
COLOUR = dict(mean=(0.437, 0.443, 0.472), std=(0.198, 0.201, 0.197))


def images(n, c, side, seed=0):
    smooth = np.random.default_rng(seed).integers(0, 256, (n, c, side, side), np.uint8)
    return torch.from_numpy(smooth)


@pytest.mark.parametrize(
    "channels, side, resize, crop, constants",
    [
        (1, 28, 44, 32, GREY),
        (3, 32, 45, 32, COLOUR),
        (1, 8, 44, 32, GREY),
        (3, 32, 256, 224, COLOUR),
        (3, 96, 45, 32, COLOUR),
    ],
)
def test_the_clustering_view_is_that_of_pil_and_torchvision(channels, side, resize, crop, constants):
    data = images(20, channels, side)
    ours = ImageViews(data, Views(resize, crop, **constants)).clustering(slice(None))
    theirs = transforms.Compose(
        [
            transforms.Resize(resize),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(constants["mean"], constants["std"]),
        ]
    )
    pictures = [Image.fromarray(one.permute(1, 2, 0).numpy().squeeze()) for one in data]
    reference = torch.stack([theirs(picture) for picture in pictures])
    assert torch.equal(ours, reference)


def test_the_clustering_view_is_the_same_built_once_or_on_the_fly(monkeypatch):
    data, views = images(9, 3, 32), Views(45, 32, **COLOUR)
    cached = ImageViews(data, views)
    monkeypatch.setattr("dc_hpc.algorithm.views._CACHED_BYTES", 0)
    lazy = ImageViews(data, views)
    assert lazy._cropped is None and cached._cropped is not None
    assert torch.equal(cached.clustering(torch.tensor([3, 1])), lazy.clustering(torch.tensor([3, 1])))


def test_flip_mirrors_about_half_of_the_images_and_changes_nothing_else():
    shown = ImageViews(images(400, 1, 28), Views(44, 32, **GREY, training="flip"))
    plain, batch = shown.clustering(slice(None)), shown.training(torch.arange(400), np.random.default_rng(0))
    same = torch.tensor([torch.equal(a, b) for a, b in zip(plain, batch)])
    mirrored = torch.tensor([torch.equal(a.flip(-1), b) for a, b in zip(plain, batch)])
    assert torch.all(same ^ mirrored) and 150 < mirrored.sum() < 250


def test_one_box_serves_a_whole_batch():
    data = images(1, 1, 28).repeat(6, 1, 1, 1)
    shown = ImageViews(data, Views(44, 32, **GREY, training="box_per_batch"))
    rng = np.random.default_rng(1)
    first, second = shown.training(torch.arange(6), rng), shown.training(torch.arange(6), rng)
    assert torch.equal(first, first[:1].expand_as(first))
    assert not torch.equal(first, second)


def test_each_image_gets_its_own_box_and_mirror_in_appendix_a():
    data = images(1, 3, 32).repeat(8, 1, 1, 1)
    shown = ImageViews(data, Views(256, 224, **COLOUR, training="box_per_image_flip"))
    batch = shown.training(torch.arange(8), np.random.default_rng(1))
    assert batch.shape == (8, 3, 224, 224)
    assert len({batch[i].sum().item() for i in range(8)}) == 8


@pytest.mark.parametrize("channels, height, width", [(1, 28, 28), (3, 32, 32), (3, 20, 60)])
def test_a_box_of_each_image_is_cut_and_resized_as_pil_does_it(channels, height, width):
    """The authors' jobs of 2021: RandomResizedCrop on the PIL image, then ToTensor and Normalize."""
    constants = GREY if channels == 1 else COLOUR
    data = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (40, channels, height, width), np.uint8))
    shown = ImageViews(data, Views(45, 32, **constants, training="box_per_image"))
    ours = shown.training(torch.arange(40), np.random.default_rng(5))
    normalised = transforms.Compose([transforms.ToTensor(), transforms.Normalize(constants["mean"], constants["std"])])
    boxes = random_boxes(40, height, width, np.random.default_rng(5))
    for one, box, found in zip(data, boxes.tolist(), ours):
        picture = Image.fromarray(one.permute(1, 2, 0).numpy().squeeze())
        cut = transforms.functional.resized_crop(picture, *box, [32, 32])
        assert torch.equal(found, normalised(cut))
    assert len({tuple(box) for box in boxes.tolist()}) > 30, "each image has its own box"


@pytest.mark.parametrize("height, width", [(32, 32), (32, 48), (48, 32)])
def test_an_image_is_cut_at_its_own_corner_of_the_resized_square(height, width):
    """The probe of appendix A: Resize, CenterCrop(resize), RandomCrop(crop) on the PIL image."""
    data = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (6, 3, height, width), np.uint8))
    shown = ImageViews(data, Views(45, 32, **COLOUR))
    corners = np.array([(0, 0), (13, 13), (0, 13), (5, 9), (6, 6), (13, 2)])
    before = transforms.Compose([transforms.Resize(45), transforms.CenterCrop(45)])
    after = transforms.Compose([transforms.ToTensor(), transforms.Normalize(**COLOUR)])
    for rows in (slice(0, 6), slice(2, 5), torch.tensor([4, 1])):
        ours = shown.cut_at(rows, corners[rows])
        for one, (top, left), found in zip(data[rows], corners[rows].tolist(), ours):
            square = before(Image.fromarray(one.permute(1, 2, 0).numpy()))
            assert torch.equal(found, after(transforms.functional.crop(square, top, left, 32, 32)))


def _one_by_one(n, height, width, rng):
    return np.array([random_box(height, width, rng) for _ in range(n)])


@pytest.mark.parametrize("draw", [_one_by_one, random_boxes])
@pytest.mark.parametrize("height, width", [(28, 28), (32, 32), (20, 60), (60, 20)])
def test_boxes_have_the_areas_and_ratios_of_torchvision(height, width, draw):
    ours = draw(4000, height, width, np.random.default_rng(0))
    torch.manual_seed(0)
    image, parameters = torch.zeros(1, height, width), ((0.08, 1.0), (3 / 4, 4 / 3))
    theirs = np.array([transforms.RandomResizedCrop.get_params(image, *parameters) for _ in range(4000)])
    assert np.all(ours >= 0) and np.all(ours[:, 0] + ours[:, 2] <= height) and np.all(ours[:, 1] + ours[:, 3] <= width)
    for column in range(4):
        spread = theirs[:, column].std() + 1e-9
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 5 * spread / np.sqrt(2000) + 1e-9


def test_a_box_is_cut_and_resized_as_torchvision_does():
    data = images(4, 3, 32)
    shown = ImageViews(data, Views(45, 32, **COLOUR, training="box_per_batch"))
    top, left, height, width = random_box(32, 32, np.random.default_rng(5))
    whole = data.float() / 255
    reference = transforms.functional.resized_crop(whole, top, left, height, width, [32, 32], antialias=True)
    reference = transforms.functional.normalize(reference, COLOUR["mean"], COLOUR["std"])
    assert torch.allclose(shown.training(torch.arange(4), np.random.default_rng(5)), reference, atol=1e-5)


def test_mirror_depends_on_the_generator_alone():
    batch = torch.rand(10, 1, 4, 4)
    assert torch.equal(mirror(batch, np.random.default_rng(2)), mirror(batch, np.random.default_rng(2)))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(training="rotate"), "training view 'rotate' is not one of none, flip, box_per_batch"),
        (dict(crop=64), "crop 64 is larger than resize 44"),
        (dict(std=(1.0, 1.0)), "mean has 1 channels and std has 2"),
    ],
)
def test_views_that_make_no_sense_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Views(**(dict(resize=44, crop=32, **GREY) | change))


def test_images_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"images must be uint8, not torch.float32; pass"):
        ImageViews(torch.zeros(2, 1, 28, 28), Views(44, 32, **GREY))
    with pytest.raises(ValueError, match="images have 3 channels and the views' mean 1"):
        ImageViews(images(2, 3, 32), Views(44, 32, **GREY))
