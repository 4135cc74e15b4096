"""Decoding of images and depth maps; a file that isn't what it should be is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.resizing import resize_nearest
from mfsynth.geometry.rgbd import DepthMap, Mask, RgbImage
from mfsynth.sources.base import CodeFacts
from mfsynth.sources.containers import (
    container_of,
    highest_code,
    is_array,
    open_picture,
    read_array,
    read_codes,
)
from mfsynth.sources.depth_codes import decode_codes
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.guards import decoding
from mfsynth.sources.local_files import as_text

Shape = tuple[int, int]
"""Rows and columns."""

# Pillow's modes of more than 8 bits a channel, which it would clip, not scale.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# Between the proportions of an image and its depth: ScanNet's are 1296x968 and 640x480.
_ASPECT_TOLERANCE = 0.02


class EncodingError(MfsynthError):
    """A whole file that is not what the settings say: theirs is the fault, not the file's."""


def read_file(path: Path, remedy: str = "it was listed, so restore it or mend the list") -> bytes:
    """All of a file.

    Raises:
        MfsynthError: It can't be read, or is longer than `Limit.BYTES`; ends with the remedy.
    """
    try:
        with path.open("rb") as file:
            data = file.read(Limit.BYTES.most + 1)
        if len(data) > Limit.BYTES.most:
            raise Limit.BYTES.refusal(as_text(str(path)), "a longer file")
        return data
    except OSError as error:
        raise MfsynthError(f"{as_text(str(path))}: {error.strerror or error}; {remedy}") from error


def decode_rgb(
    data: bytes | RgbImage,
    name: str,
    *,
    upright: bool,
    convert: bool = True,
    key: str | None = None,
    remedy: str = "replace or remove it",
) -> RgbImage:
    """An image uint8 (H, W, 3) of a picture, or of an array in NPY, NPZ, HDF5 or MAT.

    An alpha channel goes, if all is opaque.

    Args:
        data: The file's content, or an image that was decoded before.
        name: The file's name, for the error message.
        upright: Whether to turn the image as its EXIF orientation says. A registered depth map
            lies on the stored pixels, so not where there is one.
        convert: Whether grey images, palettes and the like are fine, too.
        key: Of the array, in a file of several.
        remedy: What to do about a file that is broken or of another kind.

    Raises:
        MfsynthError: Corrupt, not an image of 8 bits a channel, not RGB though it must be, with
            transparent pixels, or of more than `Limit.PIXELS`.
    """
    if not isinstance(data, bytes) or is_array(data):
        image = read_array(data, name, key, remedy) if isinstance(data, bytes) else data
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
            raise MfsynthError(
                f"{name}: an array {image.dtype} {image.shape}, an image is uint8 (H, W, 3) or "
                f"(H, W, 4); {remedy}"
            )
        return _opaque(image, name)
    with decoding(name, "an image", remedy):
        with open_picture(data, name) as picture:
            # Only this looks at the checksums of a PNG; the file is of no use afterwards.
            picture.verify()
        with open_picture(data, name) as picture:
            if not convert and picture.mode != "RGB":
                raise MfsynthError(f"{name}: an image of mode {picture.mode}, not RGB; {remedy}")
            if picture.mode in _DEEP_MODES:
                raise MfsynthError(
                    f"{name}: an image of more than 8 bits a channel; convert it to 8 bits"
                )
            turned = ImageOps.exif_transpose(picture) if upright else picture
            mode = "RGBA" if turned.has_transparency_data else "RGB"
            return _opaque(np.asarray(turned.convert(mode)), name)


def _opaque(image: RgbImage, name: str) -> RgbImage:
    """The colours of an image with or without alpha: as `mfsynth.models.images` takes them."""
    if image.shape[2] == 4 and (image[..., 3] < 255).any():
        raise MfsynthError(f"{name}: an image with transparent pixels; put it on a background")
    return np.ascontiguousarray(image[..., :3])


def decode_depth(
    data: bytes | NDArray[Any],
    name: str,
    encoding: Encoding,
    camera: Callable[[Shape], Intrinsics | None] = lambda shape: None,
    keep: Mask | None = None,
    *,
    highest: int | None = None,
    remedy: str = "replace or remove it",
) -> tuple[DepthMap, CodeFacts]:
    """Depth float32 (H, W), 0 = invalid, of a file of any container; and facts of its codes.

    Args:
        data: The file's content, or codes that were read before.
        name: The file's name, for the error message.
        encoding: Of the depth, with numbers for all numbers.
        camera: Gives that of the map's own pixels, by their rows and columns.
        keep: Pixels that a mask of the same view leaves.
        highest: Of codes that were read before; see `decode_codes`.
        remedy: What to do about a file that is broken or of another kind.

    Raises:
        EncodingError: Its codes are not those of the encoding, or are saturated.
        MfsynthError: Corrupt, of another format, or of more than `Limit.PIXELS`.
    """
    may_be_swapped = False
    if isinstance(data, bytes):
        codes = read_codes(data, name, encoding, remedy)
        raw = encoding.container == "raw"
        may_be_swapped = raw or container_of(data) in ("png", "pgm")
        highest = highest_code(data)
    else:
        codes = data
    try:
        if codes.ndim < 2:
            # Is refused there.
            return decode_codes(codes, encoding, None)
        shape = (codes.shape[0], codes.shape[1])
        if keep is not None and keep.shape != shape:
            require_same_view(keep, f"the mask of {name}", shape, "depth", "use its own")
            keep = resize_nearest(keep, *shape)
        return decode_codes(
            codes,
            encoding,
            camera(shape),
            keep,
            may_be_swapped=may_be_swapped,
            highest=highest,
        )
    except ValueError as error:
        raise EncodingError(f"{name}: {error}") from error


def require_same_view(
    depth: DepthMap | Mask, name: str, shape: Shape, image: str, remedy: str
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
