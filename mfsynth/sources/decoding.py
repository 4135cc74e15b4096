"""Decoding of images and depth maps; a file that isn't what it should be is named."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics, pixel_rays
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.sources.base import TrainingSample

DepthPolicy = Literal["required", "optional", "paired"]

# Pillow's modes of more than 8 bits a channel, which it would clip, not scale.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREYSCALE = 0
_ASPECT_TOLERANCE = 0.02


def decode_rgb(data: bytes, name: str, *, upright: bool) -> RgbImage:
    """An image uint8 (H, W, 3) of JPEG, PNG, WebP or another common format.

    Args:
        data: The file's content.
        name: The file's name, for the error message.
        upright: Whether to turn the image as its EXIF orientation says. A registered depth map
            lies on the stored pixels, so not where there is one.

    Raises:
        MfsynthError: Corrupt, or not an image of 8 bits a channel.
    """
    with _decoding(name, "an image"):
        with Image.open(io.BytesIO(data)) as image:
            # Only this looks at the checksums of a PNG; the file is of no use afterwards.
            image.verify()
        with Image.open(io.BytesIO(data)) as image:
            if image.mode in _DEEP_MODES:
                raise MfsynthError(
                    f"{name}: an image of more than 8 bits a channel; convert it to 8 bits"
                )
            turned = ImageOps.exif_transpose(image) if upright else image
            return np.asarray(turned.convert("RGB"))


def decode_depth(
    data: bytes, name: str, codes_per_unit: float, ray_camera: Intrinsics | None = None
) -> DepthMap:
    """Depth float32 (H, W) of a 16-bit greyscale PNG, 0 = invalid: code / codes_per_unit.

    Args:
        data: The file's content.
        name: The file's name, for the error message.
        codes_per_unit: For example 1000 for millimetres, if depths are to be metres.
        ray_camera: Where the map holds distances along the ray of this camera (of the map's own
            pixels), they become z-depth; None where it holds z-depth.

    Raises:
        MfsynthError: Corrupt, not PNG, not 16 bits, or with colour.
    """
    if not data.startswith(_PNG_SIGNATURE) or len(data) < 26:
        raise MfsynthError(f"{name}: not a PNG; depth must be a 16-bit greyscale PNG")
    bits, colour = data[24], data[25]
    if bits != 16 or colour != _GREYSCALE:
        kind = f"{bits}-bit" + ("" if colour == _GREYSCALE else " with colour or palette")
        raise MfsynthError(
            f"{name}: a PNG that is {kind}; depth must be a 16-bit greyscale PNG, "
            "a colour map of depth can't be used"
        )
    with _decoding(name, "a PNG"):
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
        with Image.open(io.BytesIO(data)) as image:
            codes = np.asarray(image, np.uint16)
    depth = codes / codes_per_unit
    if ray_camera is not None:
        rays = pixel_rays(depth.shape[0], depth.shape[1], ray_camera)
        depth /= np.linalg.norm(rays, axis=-1)
    return depth.astype(np.float32)


def make_sample(
    rgb: RgbImage, depth: DepthMap | None, caption: str, rgb_name: str, depth_name: str
) -> TrainingSample:
    """A sample of an image and its depth map, which may have other numbers of rows and columns.

    A depth map of another size is brought to the image's by taking the nearest pixel, as depth
    sensors often have fewer pixels than the colour camera beside them.

    Raises:
        MfsynthError: The two have other proportions, so they don't show the same field of view.
    """
    if depth is not None and depth.shape != rgb.shape[:2]:
        height, width = rgb.shape[:2]
        ratio = (depth.shape[1] / depth.shape[0]) / (width / height)
        if abs(ratio - 1) > _ASPECT_TOLERANCE:
            raise MfsynthError(
                f"{depth_name}: depth of {depth.shape[1]}x{depth.shape[0]} pixels for the image "
                f"{rgb_name} of {width}x{height}; register depth to the image's pixels first"
            )
        depth = resize_nearest(depth, height, width)
    return TrainingSample(rgb, depth, caption)


def resize_nearest(depth: DepthMap, height: int, width: int) -> DepthMap:
    """Give each new pixel the value of the pixel that holds its centre.

    Not OpenCV's INTER_NEAREST, which takes the one that holds the corner and so shifts depth
    against an area-averaged image by up to half a new pixel.
    """
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(np.intp)
    return depth[rows[:, None], columns]


def resize_antialiased(rgb: RgbImage, height: int, width: int) -> RgbImage:
    """Mean over the area of each new pixel; linear interpolation where there are more."""
    smaller = height < rgb.shape[0] or width < rgb.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=how), np.uint8)


@contextmanager
def _decoding(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except MfsynthError:
        raise
    # Pillow's decoders fail with whatever they trip over: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            problem = "no known format"
        raise MfsynthError(
            f"{name}: corrupt or not {what} ({problem}); replace or remove it"
        ) from error
