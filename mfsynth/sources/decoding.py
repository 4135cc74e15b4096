"""Decoding of images and depth maps; a file that isn't what it should be is named."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics, pixel_rays
from mfsynth.geometry.resizing import resize_nearest
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.sources.base import Item

# Pillow's modes of more than 8 bits a channel, which it would clip, not scale.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREYSCALE = 0
# What pictures of data sets are in. Of other formats some are programs: Pillow hands EPS to a
# PostScript interpreter.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
# Between the proportions of an image and its depth: ScanNet's are 1296x968 and 640x480.
_ASPECT_TOLERANCE = 0.02


def read_file(path: Path, remedy: str = "it was listed, so restore it or mend the list") -> bytes:
    """All of a file.

    Raises:
        MfsynthError: It can't be read, or is longer than `Limit.BYTES`; ends with the remedy.
    """
    try:
        with path.open("rb") as file:
            data = file.read(Limit.BYTES.most + 1)
        if len(data) > Limit.BYTES.most:
            raise Limit.BYTES.refusal(str(path), "a longer file")
        return data
    except OSError as error:
        raise MfsynthError(f"{path}: {error.strerror or error}; {remedy}") from error


def decode_rgb(
    data: bytes,
    name: str,
    *,
    upright: bool,
    convert: bool = True,
    remedy: str = "replace or remove it",
) -> RgbImage:
    """An image uint8 (H, W, 3) of JPEG, PNG, WebP, BMP, GIF, PPM or TIFF.

    Args:
        data: The file's content.
        name: The file's name, for the error message.
        upright: Whether to turn the image as its EXIF orientation says. A registered depth map
            lies on the stored pixels, so not where there is one.
        convert: Whether grey images, palettes and the like are fine, too.
        remedy: What to do about a file that is broken or of another kind.

    Raises:
        MfsynthError: Corrupt, not an image of 8 bits a channel, not RGB though it must be, or of
            more than `Limit.PIXELS`.
    """
    with decoding(name, "an image", remedy):
        with _opened(data, name) as image:
            # Only this looks at the checksums of a PNG; the file is of no use afterwards.
            image.verify()
        with _opened(data, name) as image:
            if not convert and image.mode != "RGB":
                raise MfsynthError(f"{name}: an image of mode {image.mode}, not RGB; {remedy}")
            if image.mode in _DEEP_MODES:
                raise MfsynthError(
                    f"{name}: an image of more than 8 bits a channel; convert it to 8 bits"
                )
            turned = ImageOps.exif_transpose(image) if upright else image
            return np.asarray(turned.convert("RGB"))


def decode_depth(
    data: bytes,
    name: str,
    codes_per_unit: float,
    ray_camera: Intrinsics | None = None,
    *,
    remedy: str = "replace or remove it",
) -> DepthMap:
    """Depth float32 (H, W) of a 16-bit greyscale PNG, 0 = invalid: code / codes_per_unit.

    Args:
        data: The file's content.
        name: The file's name, for the error message.
        codes_per_unit: For example 1000 for millimetres, if depths are to be metres.
        ray_camera: Where the map holds distances along the ray of this camera (of the map's own
            pixels), they become z-depth; None where it holds z-depth.
        remedy: What to do about a file that is broken or of another kind.

    Raises:
        MfsynthError: Corrupt, not PNG, not 16 bits, with colour, or of more than `Limit.PIXELS`.
    """
    if not data.startswith(_PNG_SIGNATURE) or len(data) < 26:
        raise MfsynthError(f"{name}: not a PNG; depth must be a 16-bit greyscale PNG; {remedy}")
    bits, colour = data[24], data[25]
    if bits != 16 or colour != _GREYSCALE:
        kind = f"{bits}-bit" + ("" if colour == _GREYSCALE else " with colour or palette")
        raise MfsynthError(
            f"{name}: a PNG that is {kind}; depth must be a 16-bit greyscale PNG, "
            f"a colour map of depth can't be used; {remedy}"
        )
    with decoding(name, "a PNG", remedy):
        with _opened(data, name) as image:
            image.verify()
        with _opened(data, name) as image:
            codes = np.asarray(image, np.uint16)
    depth = codes / codes_per_unit
    if ray_camera is not None:
        rays = pixel_rays(depth.shape[0], depth.shape[1], ray_camera)
        depth /= np.linalg.norm(rays, axis=-1)
    return depth.astype(np.float32)


def _opened(data: bytes, name: str) -> Image.Image:
    """A picture of which the header was read, and no pixel yet."""
    with warnings.catch_warnings():
        # Of Pillow's own limit, which is a process' own; ours says what to do.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    width, height = image.size
    if width * height > Limit.PIXELS.most:
        raise Limit.PIXELS.refusal(name, f"{width}x{height} pixels")
    return image


def make_item(
    rgb: RgbImage, depth: DepthMap | None, text: str, rgb_name: str, depth_name: str
) -> Item:
    """An item of an image and its depth map, which may have other numbers of rows and columns.

    A depth map of another size is brought to the image's by taking the nearest pixel, as depth
    sensors often have fewer pixels than the colour camera beside them.

    Raises:
        MfsynthError: The two have other proportions, so they don't show the same field of view.
    """
    if depth is not None and depth.shape != rgb.shape[:2]:
        height, width = rgb.shape[:2]
        remedy = "register depth to the image's pixels first"
        require_same_view(depth, depth_name, (height, width), f"the image {rgb_name}", remedy)
        depth = resize_nearest(depth, height, width)
    return Item(rgb, depth, text, name=rgb_name)


def require_same_view(
    depth: DepthMap, name: str, shape: tuple[int, int], image: str, remedy: str
) -> None:
    """Refuse a depth map of other proportions than its image's.

    Args:
        depth: (h, w).
        name: The depth map's, for the error message.
        shape: Rows and columns of the image.
        image: What to call it.
        remedy: What to do about it.

    Raises:
        MfsynthError: They differ by more than rounding does.
    """
    height, width = shape
    ratio = (depth.shape[1] / depth.shape[0]) / (width / height)
    if abs(ratio - 1) > _ASPECT_TOLERANCE:
        raise MfsynthError(
            f"{name}: depth of {depth.shape[1]}x{depth.shape[0]} pixels for {image} of "
            f"{width}x{height}; {remedy}"
        )


@contextmanager
def decoding(name: str, what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one line.

    Args:
        name: The file's name.
        what: What it should be, as in "a PNG".
        remedy: What to do about it.

    Raises:
        MfsynthError: Anything was raised inside the `with`.
    """
    try:
        yield
    except MfsynthError:
        raise
    # Decoders fail with whatever they trip over: OSError, SyntaxError, ValueError, struct.error, …
    except Exception as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            problem = "no known format"
        raise MfsynthError(f"{name}: corrupt or not {what} ({problem}); {remedy}") from error
