"""Takes the arrays of a caller: torch tensors as they are, NumPy arrays converted, anything else with a clear refusal.

NumPy arrays of images are read as image libraries store them, n x h x w or n x h x w x c; torch tensors as torch
stores them, n x c x h x w.
"""

from __future__ import annotations

from typing import Any, Union

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = Union[Tensor, npt.NDArray[Any]]  # noqa: UP007  # an alias is evaluated, and Tensor has no | in the oldest torch


def as_images(images: Array, channels: int) -> Tensor:
    """Images as uint8 (n, c, h, w).

    images: uint8; a tensor (n, c, h, w) or (n, h, w), or a NumPy array (n, h, w) or (n, h, w, c). Raises ValueError
    that says how to convert them: another dtype, another shape, another number of channels, or no image.
    """
    is_numpy = isinstance(images, np.ndarray)
    if not isinstance(images, np.ndarray | Tensor):
        raise ValueError(f"images must be a NumPy array or a torch tensor, not {_kind(images)}; pass np.stack(images)")
    if images.dtype not in (np.uint8, torch.uint8):
        raise ValueError(f"images must be uint8, not {images.dtype}; pass {_to_bytes(images)}")
    layout = "(n, h, w) or (n, h, w, c)" if is_numpy else "(n, c, h, w) or (n, h, w)"
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(f"images must have the shape {layout} and no empty axis, not {tuple(images.shape)}")
    found = _tensor(images)
    if found.dim() == 3:
        found = found.unsqueeze(1)
    elif is_numpy:
        found = found.permute(0, 3, 1, 2).contiguous()
    if found.shape[1] == channels:
        return found
    if is_numpy and images.ndim == 4 and images.shape[1] == channels:
        advice = "; a NumPy array is read as (n, h, w, c): pass images.transpose(0, 2, 3, 1)"
    elif not is_numpy and images.ndim == 4 and images.shape[3] == channels:
        advice = "; a tensor is read as (n, c, h, w): pass images.permute(0, 3, 1, 2)"
    else:
        advice = f" in shape {tuple(images.shape)}; give Views one mean and one std for each channel"
    raise ValueError(f"images have {found.shape[1]} channels and the views' mean {channels}{advice}")


def as_labels(labels: Array, n: int, name: str) -> Tensor:
    """Labels as int64 (n,).

    labels: whole numbers from 0, a tensor or a NumPy array of any integer dtype. Raises ValueError: another dtype,
    another length, a negative label.
    """
    if not isinstance(labels, np.ndarray | Tensor):
        raise ValueError(f"{name} must be a NumPy array or a torch tensor, not {_kind(labels)}; pass np.array({name})")
    if tuple(labels.shape) != (n,):
        raise ValueError(f"{name} must have the shape ({n},), a label for each image, not {tuple(labels.shape)}")
    if not _holds_integers(labels):
        call = "astype(np.int64)" if isinstance(labels, np.ndarray) else "long()"
        raise ValueError(f"{name} must be whole numbers, not {labels.dtype}; pass {name}.{call}")
    found = _tensor(labels, np.int64).long()
    if n and bool((found < 0).any()):
        raise ValueError(f"{name} must be 0 or more, and one is {int(found.min())}; pass np.unique({name}, "
                         "return_inverse=True)[1]")  # fmt: skip
    return found


def as_floats(values: Array, name: str) -> Tensor:
    """Numbers as a float32 tensor of the same shape.

    values: a tensor or a NumPy array of numbers. Raises ValueError: something else.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return _tensor(values, np.float32)
    if isinstance(values, Tensor) and not values.is_complex():
        return values.float()
    if isinstance(values, np.ndarray | Tensor):
        raise ValueError(f"{name} must hold real numbers, not {values.dtype}; pass {name}.astype(np.float32)")
    raise ValueError(f"{name} must be a NumPy array or a torch tensor, not {_kind(values)}; pass np.array({name})")


def _tensor(values: Array, dtype: Any = None) -> Tensor:
    """A tensor of the values. What torch cannot share (read-only, reversed, of another byte order) is copied."""
    if isinstance(values, Tensor):
        return values
    reversed_ = any(stride < 0 for stride in values.strides)
    return torch.from_numpy(np.require(values.copy() if reversed_ else values, dtype, ["C", "W"]))


def _holds_integers(values: Array) -> bool:
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "iu"
    return not values.dtype.is_floating_point and not values.dtype.is_complex and values.dtype != torch.bool


def _to_bytes(images: Array) -> str:
    """The call that converts images of another dtype to uint8."""
    cast = "astype(np.uint8)" if isinstance(images, np.ndarray) else "byte()"
    if images.dtype in (np.bool_, torch.bool):
        return f"images.{cast} * 255"
    if _holds_integers(images):
        return f"images.{cast} if they hold 0 to 255"
    return f"(images * 255).round().{cast} if they hold 0 to 1, images.round().{cast} if 0 to 255"


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
