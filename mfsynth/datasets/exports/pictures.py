"""Pictures as several formats have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import RgbImage
from mfsynth.shards.codecs import encode_jpeg
from mfsynth.shards.marks import mark_jpeg, mark_png
from mfsynth.shards.records import depth_source_type

PICTURE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""A picture in Parquet, as `datasets.Image` stores one."""


def rgb_png(rgb: RgbImage, row: Mapping[str, Any]) -> bytes:
    """An image as PNG with the mark that its JPEG had."""
    png, kind = _png(rgb[..., ::-1]), row.get("digital_source_type")
    return mark_png(png, kind) if kind else png


def depth_png(codes: NDArray[np.uint16], row: Mapping[str, Any]) -> bytes:
    """Codes of depth as a 16-bit greyscale PNG with the mark of the pair's depth."""
    png, kind = _png(codes), depth_mark(row)
    return png if kind is None else mark_png(png, kind)


def mask_png(seen: NDArray[np.bool_]) -> bytes:
    """What is seen of an object, 255 in it and 0 elsewhere. Its source drew it: it has no mark."""
    return _png(seen.astype(np.uint8) * 255)


def box_of(seen: NDArray[np.bool_]) -> list[int]:
    """Left, top, width and height of the least box around pixels, -1 without any.

    Args:
        seen: bool (H, W).
    """
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return [-1, -1, -1, -1]
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def depth_jpeg(shown: RgbImage, row: Mapping[str, Any]) -> bytes:
    """What shows the depth of a pair, as JPEG with its mark."""
    jpeg, kind = encode_jpeg(shown), depth_mark(row)
    return jpeg if kind is None else mark_jpeg(jpeg, kind)


def depth_mark(row: Mapping[str, Any]) -> str | None:
    """How the depth of a pair came to be; None in runs of the first formats, which don't say."""
    kind = row.get("digital_source_type")
    return None if kind is None else depth_source_type(row["mode"], kind)


def _png(pixels: NDArray[Any]) -> bytes:
    done, png = cv2.imencode(".png", np.ascontiguousarray(pixels))
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {pixels.shape}")
    data: bytes = png.tobytes()
    return data
