"""Pictures as several formats have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import RgbImage
from mfsynth.shards.marks import mark_jpeg, mark_png


def rgb_png(rgb: RgbImage, row: Mapping[str, Any]) -> bytes:
    """An image as PNG with the mark that its JPEG had."""
    return _marked(_png(rgb[..., ::-1]), row)


def code_png(codes: NDArray[np.uint16], row: Mapping[str, Any]) -> bytes:
    """Codes of depth as a 16-bit greyscale PNG, marked as the pair is."""
    return _marked(_png(codes), row)


def marked_jpeg(jpeg: bytes, row: Mapping[str, Any]) -> bytes:
    """A JPEG made of a pair, marked as the pair is."""
    kind = row.get("digital_source_type")
    return jpeg if kind is None else mark_jpeg(jpeg, kind)


def _png(pixels: NDArray[Any]) -> bytes:
    done, png = cv2.imencode(".png", np.ascontiguousarray(pixels))
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {pixels.shape}")
    data: bytes = png.tobytes()
    return data


def _marked(png: bytes, row: Mapping[str, Any]) -> bytes:
    """Runs of the first format had no marks; what is made of them has none."""
    kind = row.get("digital_source_type")
    return png if kind is None else mark_png(png, kind)
