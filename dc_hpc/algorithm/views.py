"""The two views of an image that the network gets: for clustering and for training (section 3.3).

A data set is one uint8 tensor; a view is a function from indices to a normalised float batch. No loader, no workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dc_hpc.algorithm.arrays import Array, as_images

# none             the clustering view itself
# flip             the clustering view, each image mirrored with probability 1/2 (the paper's text)
# box_per_batch    a random box of the original image, resized; one box for a whole batch (the authors' code: their
#                  transform runs on the batch, so every image of it gets the same box)
# box_per_image    a random box of each image, resized and rounded as PIL does it (the authors' jobs of 2020 and early
#                  2021: RandomResizedCrop on the PIL image, before the images become a batch)
# box_per_image_flip   a random box for each image, then the mirror (appendix A, the authors' code)
TRAINING_VIEWS = ("none", "flip", "box_per_batch", "box_per_image", "box_per_image_flip")

# Clustering views are the same in every cycle, so they are built once, unless they are larger than this.
_CACHED_BYTES = 2 * 2**30
_RESIZED_AT_ONCE = 1024
_PIL_ONE = 2.0**22
# RandomResizedCrop's: so many tries to find a box, of these ratios of width to height.
_TRIES = 10
_RATIOS = (3 / 4, 4 / 3)
_LEVELS = 255.0  # of a pixel


@dataclass(frozen=True)
class Views:
    """How images become inputs of the net.

    resize: length in pixels that the shorter side is resized to (bilinear, antialiased, rounded to uint8 as PIL does).
    crop: side in pixels of the square cut from the centre; the size of the net's input.
    mean, std: one number a channel, on the scale 0..1: a tuple, a list or an array; one number for one channel.
    training: one of TRAINING_VIEWS.
    per_image_standardization: whether every view of an image is standardised by itself, in place of `mean` and `std`;
    `standardise` says how. It removes brightness and contrast.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: str = "flip"
    per_image_standardization: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            numbers = np.atleast_1d(np.asarray(getattr(self, name), np.float64))
            object.__setattr__(self, name, tuple(numbers.ravel().tolist()))
        if min(self.std, default=0.0) <= 0:
            raise ValueError(f"std needs a number above 0 for each channel, not {self.std}")
        if self.training not in TRAINING_VIEWS:
            raise ValueError(f"training view {self.training!r} is not one of {', '.join(TRAINING_VIEWS)}")
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std has {len(self.std)}")


class ImageViews:
    """A data set and its two views.

    images: uint8, a tensor (n, c, h, w) or (n, h, w) on the device that the net is on, or a NumPy array (n, h, w) or
    (n, h, w, c). `clustering(indices)` and `training(indices, rng)` return float32 (b, c, crop, crop), normalised by
    the channels of the data set or each image by itself; indices is a slice or an int64 tensor. Raises ValueError that
    says how to convert images of another kind.
    """

    def __init__(self, images: Array, views: Views):
        images = as_images(images, len(views.mean))
        self.images, self.views = images, views
        shape = (1, len(views.mean), 1, 1)
        self._mean = torch.tensor(views.mean, device=images.device).view(shape)
        self._std = torch.tensor(views.std, device=images.device).view(shape)
        # a tensor, because CUDA divides by a number by multiplying with its rounded inverse
        self._white = torch.tensor(_LEVELS, device=images.device)
        cropped_bytes = len(images) * images.shape[1] * views.crop**2
        self._cropped = _in_blocks(self._resize_and_crop, images) if cropped_bytes <= _CACHED_BYTES else None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def device(self) -> torch.device:
        """Where the images are, and so their views."""
        return self.images.device

    def clustering(self, indices: slice | Tensor) -> Tensor:
        """Resized, cut from the centre, normalised."""
        return self._normalise(self._centre(indices).float().div_(self._white))

    def training(self, indices: Tensor, rng: np.random.Generator) -> Tensor:
        """One random draw of the training view; rng decides every mirror and every box."""
        if self.views.training == "none":
            return self.clustering(indices)
        if self.views.training == "flip":
            return mirror(self.clustering(indices), rng)
        if self.views.training == "box_per_image":
            return self._normalise(self._boxes(self.images[indices], rng).div_(self._white))
        batch = self.images[indices].float().div_(self._white)
        if self.views.training == "box_per_batch":
            return self._normalise(self._cut(batch, rng))
        cut = torch.cat([self._cut(image, rng) for image in torch.split(batch, 1)])
        return mirror(self._normalise(cut), rng)

    def cut_at(self, indices: slice | Tensor, corners: npt.NDArray[np.int64]) -> Tensor:
        """As `clustering`, but image i is cut at its own place: int64 (b, 2), row and column of the upper left corner.

        Corners are 0 to resize - crop, inside the centred square of side `resize` of the resized image.
        """
        images, offsets = self.images[indices], np.arange(self.views.crop)
        down, across = (
            self._stacked(list(self._resizing(length)[corner[:, None] + offsets]))
            for length, corner in zip(images.shape[2:], corners.T)
        )
        rows = _rounded(images.double() @ across.transpose(2, 3))
        return self._normalise(_rounded(down @ rows).float().div_(self._white))

    def _centre(self, indices: slice | Tensor) -> Tensor:
        return self._resize_and_crop(self.images[indices]) if self._cropped is None else self._cropped[indices]

    def _resize_and_crop(self, images: Tensor) -> Tensor:
        """PIL's two passes, along rows and then along columns, each rounded to uint8; only what the crop keeps."""
        rows = _rounded(images.double() @ self._weights(images.shape[3]).T)
        return _rounded(self._weights(images.shape[2]) @ rows).to(torch.uint8)

    def _weights(self, length: int) -> Tensor:
        """float64 (crop, length) of whole numbers: how the pixels along one axis make those of the view."""
        return torch.from_numpy(self._resizing(length, self.views.crop)).to(self.images.device)

    def _resizing(self, length: int, kept: int | None = None) -> npt.NDArray[np.float64]:
        """`pil_bilinear` of an axis, of which the middle `kept` pixels stay: float64 (kept, length).

        kept: by default the side of the centred square, `resize`.
        """
        kept = kept or self.views.resize
        resized = int(self.views.resize * length / min(self.images.shape[2:]))
        first = round((resized - kept) / 2)
        return pil_bilinear(length, resized)[first : first + kept]

    def _cut(self, batch: Tensor, rng: np.random.Generator) -> Tensor:
        top, left, height, width = random_box(batch.shape[2], batch.shape[3], rng)
        down, across = (torch_bilinear(length, self.views.crop, batch.device) for length in (height, width))
        return down @ (batch[..., top : top + height, left : left + width] @ across.T)

    def _boxes(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """A random box of each uint8 image, resized as PIL does it: float32 (b, c, crop, crop), whole numbers."""
        height, width = images.shape[2:]
        boxes = random_boxes(len(images), height, width, rng).tolist()
        across = self._stacked([_box_weights(width, left, size, self.views.crop) for _, left, _, size in boxes])
        down = self._stacked([_box_weights(height, top, size, self.views.crop) for top, _, size, _ in boxes])
        rows = _rounded(images.double() @ across.transpose(2, 3))
        return _rounded(down @ rows).float()

    def _stacked(self, weights: list[npt.NDArray[np.float64]]) -> Tensor:
        return torch.from_numpy(np.stack(weights)[:, None]).to(self.device)

    def _normalise(self, batch: Tensor) -> Tensor:
        if self.views.per_image_standardization:
            return standardise(batch)
        return batch.sub_(self._mean).div_(self._std)


def standardise(batch: Tensor) -> Tensor:
    """Each image of float32 (b, c, h, w), pixels being 0 to 1, less its mean and divided by its standard deviation.

    Both are over all pixels and channels of the view, as it was resized and cut; the deviation divides by their number
    N. It counts as 1 / sqrt(N) levels of a pixel at least, as in TensorFlow's function of this name, so that a constant
    image becomes zeros. The sums are in float64, so that the other images of a batch, the processor and the
    mirror of an image change no bit that float32 keeps.
    """
    pixels = batch.double()
    number = pixels[0].numel() if len(pixels) else 1
    centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return (centred / deviation.clamp_min(1 / math.sqrt(number) / _LEVELS)).float()


def mirror(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror each image of (b, c, h, w) left to right with probability 1/2."""
    mirrored = torch.from_numpy(rng.random(len(batch)) < 0.5).to(batch.device)
    return torch.where(mirrored.view(-1, 1, 1, 1), batch.flip(-1), batch)


def random_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of torchvision's RandomResizedCrop: 8 to 100 % of the area, ratio 3/4 to 4/3.

    Ten tries, then the largest centred box whose ratio is allowed.
    """
    narrow, wide = _RATIOS
    for _ in range(_TRIES):
        area = height * width * rng.uniform(0.08, 1.0)
        ratio = math.exp(rng.uniform(math.log(narrow), math.log(wide)))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(rng.integers(0, height - box_height + 1))
            return top, int(rng.integers(0, width - box_width + 1)), box_height, box_width
    return _centred_box(height, width)


def random_boxes(n: int, height: int, width: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """n boxes as of `random_box`, int64 (n, 4), drawn at once: a thirtieth of the time, other draws."""
    narrow, wide = _RATIOS
    areas = height * width * rng.uniform(0.08, 1.0, (n, _TRIES))
    ratios = np.exp(rng.uniform(math.log(narrow), math.log(wide), (n, _TRIES)))
    heights, widths = np.rint(np.sqrt(areas / ratios)), np.rint(np.sqrt(areas * ratios))
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    sizes = np.stack([heights, widths], 2)[np.arange(n), fits.argmax(1)].astype(np.int64)
    corners = rng.integers(0, np.maximum([height, width] - sizes, 0) + 1)
    boxes = np.hstack([corners, sizes])
    boxes[~fits.any(1)] = _centred_box(height, width)
    return boxes


def _centred_box(height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest centred box whose ratio is allowed."""
    narrow, wide = _RATIOS
    box_width, box_height = width, height
    if width / height < narrow:
        box_height = round(width / narrow)
    elif width / height > wide:
        box_width = round(height * wide)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@lru_cache(maxsize=2048)
def _box_weights(length: int, first: int, size: int, resized: int) -> npt.NDArray[np.float64]:
    """`pil_bilinear` of the pixels first to first + size - 1 along an axis: float64 (resized, length)."""
    weights = np.zeros((resized, length))
    weights[:, first : first + size] = pil_bilinear(size, resized)
    return weights


def pil_bilinear(length: int, resized: int) -> npt.NDArray[np.float64]:
    """The weights of PIL's bilinear resize along one axis: float64 (resized, length), whole numbers in units of 2^-22.

    PIL computes in fixed point, so whole numbers in float64 give exactly its bits, on every device. torch's resize of
    uint8 does not: 2 % of the pixels of a resize from 32 to 45 differ by a level.
    """
    scale = length / resized
    reach = max(scale, 1.0)
    centres = (np.arange(resized) + 0.5) * scale
    pixels = np.arange(length)[None, :]
    first = np.maximum((centres - reach + 0.5).astype(int), 0)[:, None]
    last = np.minimum((centres + reach + 0.5).astype(int), length)[:, None]
    weights = np.maximum(1 - np.abs((pixels - centres[:, None] + 0.5) / reach), 0)
    weights = np.where((pixels >= first) & (pixels < last), weights, 0)
    whole: npt.NDArray[np.float64] = np.floor(weights / weights.sum(1, keepdims=True) * _PIL_ONE + 0.5)
    return whole


@cache
def torch_bilinear(length: int, resized: int, device: torch.device) -> Tensor:
    """The weights of torch's antialiased bilinear resize along one axis: float32 (resized, length).

    As two products with them a resize of a batch costs a third of torch's own (on one core).
    """
    rows = torch.eye(length).view(1, 1, length, length)
    return interpolate(rows, size=[resized, length], mode="bilinear", antialias=True)[0, 0].to(device)


def _rounded(sums: Tensor) -> Tensor:
    return sums.add_(_PIL_ONE / 2).div_(_PIL_ONE).floor_().clamp_(0, 255)


def _in_blocks(transform: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The resized images before the crop are twice as large as the result, so they are never all in memory."""
    return torch.cat([transform(block) for block in torch.split(images, _RESIZED_AT_ONCE)])
