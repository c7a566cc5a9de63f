"""Image files: PGM, PPM, PNG and JPEG, read with Pillow.

Files are read as hostile: sizes are checked before an image is decoded, and whatever is wrong
becomes a FormatError that names the file.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from pynn.arguments import pair
from pynn.data.dataset import Images
from pynn.errors import DTypeError, FormatError, MissingExtraError, ShapeError

Size = int | tuple[int, int]

ENDINGS = (".jpeg", ".jpg", ".pgm", ".png", ".ppm")
DEFAULT_LIMIT = 64 * 1024**2

_FORMATS = ("JPEG", "PNG", "PPM")  # Pillow calls all of PBM, PGM and PPM so
# Of eight bits; Pillow would cut the values of others off rather than scale them.
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}


def read_image(
    path: str | os.PathLike[str],
    *,
    size: Size | None = None,
    channels: int = 1,
    limit: int = DEFAULT_LIMIT,
) -> Images:
    """Read an image. It is turned upright where the camera noted how; transparency is passed over.

    Args:
        path: a PGM, PPM, PNG or JPEG file (as its content tells) of eight bits for each value.
        size: pixels along a side, or (height, width): resized with Pillow's bilinear filter, which
            averages where it shrinks, without regard to the proportions. None: as it is.
        channels: 1 for grey (of colours 0.299 red + 0.587 green + 0.114 blue), 3 for RGB.
        limit: the most pixels to accept.

    Returns:
        Shape (channels, H, W).

    Raises:
        FormatError: the content is no such image, is damaged, or exceeds the limit.
        MissingExtraError: Pillow is not installed.
        OSError: the file cannot be read.
    """
    pillow, operations = _pillow()
    mode = _mode(channels)
    shape = None if size is None else pair("size", size, 1)
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # limit is stricter than Pillow's warnings
        try:
            with pillow.open(file, formats=_FORMATS) as image:
                if image.width * image.height > limit:
                    raise FormatError(
                        f"{os.fspath(path)}: {image.width} x {image.height} pixels exceed the "
                        f"limit of {limit}"
                    )
                if image.mode not in _MODES:
                    raise FormatError(
                        f"{os.fspath(path)}: values of more than eight bits (Pillow's mode "
                        f"{image.mode}) are not read"
                    )
                upright = operations.exif_transpose(image).convert(mode)
        except (FormatError, MemoryError):
            raise
        except Exception as error:  # Pillow lets many kinds through where content is damaged
            raise FormatError(
                f"{os.fspath(path)}: not a readable PGM, PPM, PNG or JPEG image ({error})"
            ) from error
    if shape is not None and shape != (upright.height, upright.width):
        upright = upright.resize(shape[::-1], pillow.Resampling.BILINEAR)
    return _as_planes(upright)


def resize(images: Images, size: Size, *, channels: int | None = None) -> Images:
    """Resize images as `read_image` does, and make RGB of grey or grey of RGB.

    Args:
        images: shape (N, C, H, W), uint8, C 1 or 3.
        size: pixels along a side, or (height, width).
        channels: 1 or 3; None keeps C.

    Returns:
        A new array (N, channels, height, width).

    Raises:
        DTypeError, ShapeError: other images.
        MissingExtraError: Pillow is needed, and is not installed.
    """
    if images.dtype != np.uint8:
        raise DTypeError(f"images must be uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(f"images must have shape (N, 1 or 3, H, W), got {images.shape}")
    channels = images.shape[1] if channels is None else channels
    mode, shape = _mode(channels), pair("size", size, 1)
    if shape == images.shape[2:] and channels >= images.shape[1]:
        return np.repeat(images, channels // images.shape[1], axis=1)
    pillow, _ = _pillow()
    result = np.empty((len(images), channels, *shape), np.uint8)
    for image, out in zip(images, result, strict=True):
        pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        picture = pillow.fromarray(pixels).convert(mode)
        out[...] = _as_planes(picture.resize(shape[::-1], pillow.Resampling.BILINEAR))
    return result


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtraError("images need Pillow: pip install 'pynn-core[run]'") from error
    return Image, ImageOps


def _mode(channels: int) -> str:
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")
    return "L" if channels == 1 else "RGB"


def _as_planes(image: Any) -> Images:
    """Shape (C, H, W) of a Pillow image in grey or RGB."""
    pixels = np.array(image, dtype=np.uint8)
    planes = pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(planes)
