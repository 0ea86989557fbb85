"""Decodes one PNG or JPEG of a person's own images, turned as every viewer shows it.

`where` in every function is how messages name the file.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from dc_hpc.errors import InputError

try:
    from lzma import LZMAError
except ImportError:  # a Python without liblzma; zipfile refuses such members itself then
    LZMAError = ValueError  # type: ignore[assignment, misc]

GREY_MODES = ("L", "1")
COLOUR_MODES = ("RGB", "P")
# What zipfile, numpy and PIL raise on damaged bytes; PIL reports a broken PNG as a SyntaxError.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    KeyError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the orientation of EXIF
_EXIF_MARKS = (b"Exif\0\0", b"eXIf")  # of a JPEG and of a PNG
_PNG_DEPTH = 24  # the byte of a PNG that holds its bits a channel


def size_and_channels(where: str, content: bytes) -> tuple[tuple[int, int], int]:
    """(width, height) as shown and the channels, 1 or 3, from the header; InputError for any other kind of image."""
    with _opened(where, content) as image:
        depth = content[_PNG_DEPTH] if image.format == "PNG" else 8
        if depth > 8 or image.mode not in GREY_MODES + COLOUR_MODES or "transparency" in image.info:
            bits = f"{image.mode} of {depth} bits" if depth > 8 else f"{image.mode} or transparency"
            raise InputError(
                f"{where} has mode {bits}; allowed are 8-bit grey and RGB; "
                "convert it (for example: mogrify -alpha off -depth 8 -colorspace sRGB FILE)"
            )
        turn = _turn_of(image)
        sideways = turn is not None and turn.name in ("TRANSPOSE", "TRANSVERSE", "ROTATE_90", "ROTATE_270")
        size = (image.height, image.width) if sideways else image.size
        return size, 3 if image.mode in COLOUR_MODES else 1


def pixels(where: str, content: bytes, channels: int) -> np.ndarray:
    """Decode one file to uint8 (channels, h, w)."""
    with _opened(where, content) as image:
        turn = _turn_of(image)
        try:
            converted = image.convert("L" if channels == 1 else "RGB")
            array = np.asarray(converted if turn is None else converted.transpose(turn))
        except DAMAGE as error:
            raise undecodable(where, error) from error
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def is_turned(where: str, content: bytes) -> bool:
    """Whether a file says in its EXIF that it is to be shown turned or mirrored."""
    if not any(mark in content for mark in _EXIF_MARKS):
        return False
    with _opened(where, content) as image:
        return _turn_of(image) is not None


def undecodable(where: str, error: Exception) -> InputError:
    """The error about a file that cannot be decoded."""
    reason = "not a PNG or JPEG" if isinstance(error, UnidentifiedImageError) else error
    return InputError(f"{where} cannot be decoded ({reason}); allowed are PNG and JPEG images; replace it")


@contextmanager
def _opened(where: str, content: bytes) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a broken EXIF
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # 89 million pixels are no data point
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
            if image.format == "PNG" and b"eXIf" in content:
                image.load()  # a PNG may hold its EXIF behind its pixels
    except DAMAGE as error:
        raise undecodable(where, error) from error
    with image:
        yield image


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """How the image is to be turned. An EXIF that cannot be read turns nothing, as in every viewer."""
    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif.load(image.info.get("exif", b""))
            return _TURNS.get(exif.get(ExifTags.Base.Orientation, 1))
    except (*DAMAGE, TypeError):
        return None
