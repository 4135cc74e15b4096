"""Reading of the files that published data sets consist of; one that is broken is named.

Every depth reader takes the shape of the image, and gives z-depth in metres, float32, 0 = invalid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.sources.containers import read_array
from mfsynth.sources.decoding import decode_depth, decode_rgb, read_file, require_same_view
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.guards import decoding

Shape = tuple[int, int]

_FETCH = "fetch it again"


def read_rgb(path: Path) -> RgbImage:
    """An image uint8 (H, W, 3), its pixels as stored: depth lies on those, whatever EXIF says.

    Raises:
        MfsynthError: Missing, corrupt, or not RGB of 8 bits.
    """
    return decode_rgb(_read(path), str(path), upright=False, convert=False, remedy=_FETCH)


def read_png(path: Path, shape: Shape, *, codes_per_metre: float) -> DepthMap:
    """Depth (h, w) of a 16-bit greyscale PNG: code / codes_per_metre.

    Raises:
        MfsynthError: Missing, corrupt, not of 16 bits, or of other proportions than the image.
    """
    encoding = Encoding(container="png", codes_per_unit=codes_per_metre)
    depth, _ = decode_depth(_read(path), str(path), encoding, remedy=_FETCH)
    return _of_the_image(depth, path, shape)


def read_raw(path: Path, shape: Shape) -> DepthMap:
    """Depth (H, W) of little-endian float32 without a header, as ETH3D's; infinite is invalid.

    Raises:
        MfsynthError: Missing, or of another size than the image.
    """
    data = _read(path)
    if len(data) != 4 * shape[0] * shape[1]:
        raise MfsynthError(
            f"{path}: {len(data)} bytes, but float32 depth of the image's "
            f"{shape[1]}x{shape[0]} pixels has {4 * shape[0] * shape[1]}; {_FETCH}"
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
            f"{mask_path}: a mask of shape {mask.shape} for depth of {depth.shape}; {_FETCH}"
        )
    return _of_the_image(_without_holes(np.where(mask != 0, depth, 0)), path, shape)


def _read_array(path: Path) -> NDArray[np.float32]:
    with decoding(str(path), "an array", _FETCH):
        array = np.asarray(read_array(_read(path), str(path), None, _FETCH), np.float32)
        # Depth of DIODE is (h, w, 1), its mask (h, w).
        return array.reshape(array.shape[:2])


def _read(path: Path) -> bytes:
    return read_file(path, "restore it, or take it out of the split")


def _of_the_image(depth: DepthMap, path: Path, shape: Shape) -> DepthMap:
    remedy = "they don't show the same, fetch both again"
    require_same_view(depth, str(path), shape, "an image", remedy)
    return depth


def _without_holes(depth: DepthMap) -> DepthMap:
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
