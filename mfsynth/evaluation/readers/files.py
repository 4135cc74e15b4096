"""Decoding of the files that published data sets consist of; one that is broken is named.

Every depth reader takes the shape of the image, and gives z-depth in metres, float32, 0 = invalid.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mfsynth.errors import MfsynthError
from mfsynth.geometry.rgbd import DepthMap, RgbImage

Shape = tuple[int, int]

# Between the proportions of an image and its depth: ScanNet's are 1296x968 and 640x480.
_ASPECT_TOLERANCE = 0.02


def read_rgb(path: Path) -> RgbImage:
    """An image uint8 (H, W, 3), its pixels as stored: depth lies on those, whatever EXIF says.

    Raises:
        MfsynthError: Missing, corrupt, or not RGB of 8 bits.
    """
    return _read_image(path, "RGB", "an RGB image of 8 bits")


def read_png(path: Path, shape: Shape, *, codes_per_metre: float) -> DepthMap:
    """Depth (h, w) of a 16-bit greyscale PNG: code / codes_per_metre.

    Raises:
        MfsynthError: Missing, corrupt, not of 16 bits, or of other proportions than the image.
    """
    codes = _read_image(path, "I;16", "a greyscale PNG of 16 bits")
    return _registered((codes / codes_per_metre).astype(np.float32), path, shape)


def read_raw(path: Path, shape: Shape) -> DepthMap:
    """Depth (H, W) of little-endian float32 without a header, as ETH3D's; infinite is invalid.

    Raises:
        MfsynthError: Missing, or of another size than the image.
    """
    data = _read(path)
    if len(data) != 4 * shape[0] * shape[1]:
        raise MfsynthError(
            f"{path}: {len(data)} bytes, but float32 depth of the image's "
            f"{shape[1]}x{shape[0]} pixels has {4 * shape[0] * shape[1]}; fetch it again"
        )
    return _without_holes(np.frombuffer(data, "<f4").reshape(shape))


def read_npy(path: Path, shape: Shape) -> DepthMap:
    """Depth (h, w) of NAME.npy, where its mask, NAME_mask.npy, is not 0; as DIODE's.

    Raises:
        MfsynthError: Missing, corrupt, or of other proportions than the image.
    """
    mask_path = path.with_name(f"{path.stem}_mask.npy")
    depth, mask = _read_array(path), _read_array(mask_path)
    if mask.shape != depth.shape:
        raise MfsynthError(
            f"{mask_path}: a mask of shape {mask.shape} for depth of {depth.shape}; fetch it again"
        )
    return _registered(_without_holes(np.where(mask != 0, depth, 0)), path, shape)


def _read_image(path: Path, mode: str, what: str) -> NDArray[Any]:
    data = _read(path)
    with _decoding(path, what):
        with Image.open(io.BytesIO(data)) as image:
            # Only this looks at the checksums of a PNG; the image is of no use afterwards.
            image.verify()
        with Image.open(io.BytesIO(data)) as image:
            if image.mode != mode:
                raise MfsynthError(
                    f"{path}: an image of mode {image.mode}, must be {what}; fetch the original"
                )
            return np.asarray(image)


def _read_array(path: Path) -> NDArray[np.float32]:
    data = _read(path)
    with _decoding(path, "an array"):
        array = np.asarray(np.load(io.BytesIO(data), allow_pickle=False), np.float32)
        # Depth of DIODE is (h, w, 1), its mask (h, w).
        return array.reshape(array.shape[:2])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MfsynthError(
            f"{path}: {error.strerror or error}; restore it, or take it out of the split"
        ) from error


def _registered(depth: DepthMap, path: Path, shape: Shape) -> DepthMap:
    ratio = (depth.shape[1] / depth.shape[0]) / (shape[1] / shape[0])
    if abs(ratio - 1) > _ASPECT_TOLERANCE:
        raise MfsynthError(
            f"{path}: depth of {depth.shape[1]}x{depth.shape[0]} pixels for an image of "
            f"{shape[1]}x{shape[0]}; they don't show the same, fetch both again"
        )
    return depth


def _without_holes(depth: DepthMap) -> DepthMap:
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


@contextmanager
def _decoding(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except MfsynthError:
        raise
    # Decoders fail with whatever they trip over: OSError, SyntaxError, ValueError, struct.error, …
    except Exception as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            problem = "no known format"
        raise MfsynthError(f"{path}: corrupt or not {what} ({problem}); fetch it again") from error
