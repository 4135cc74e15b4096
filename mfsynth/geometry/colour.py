"""Depth maps as pictures: near is warm, far is cold, invalid is grey; and the light of images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

INVALID_RGB = (58, 60, 66)
"""Colour of pixels without depth; the colour map itself holds no grey."""

_PERCENTILES = (2.0, 98.0)
_FAR_LEVEL, _NEAR_LEVEL = 20, 240
"""The ends of the map are nearly black and would hide relief, so they are not used."""

COLOUR_LEVELS = _NEAR_LEVEL - _FAR_LEVEL + 1
"""How many colours `colour_depth` has for depth."""


_LEVELS = np.arange(256, dtype=np.float32) / 255
# IEC 61966-2-1.
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)


def linear_light(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The light that an image in sRGB stands for, float32 of the same shape, from 0 to 1."""
    return np.asarray(_LINEAR.astype(np.float32)[rgb], np.float32)


def colour_depth(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colours a depth map over its own range with the Turbo map (Mikhailov, 2019).

    Inverse depth between its 2nd and 98th percentile is spread over the map, so that relief near
    the camera, where depth is precise, gets most of the colours. Colours cannot be compared
    between images.

    Args:
        depth: z-depth (H, W), any positive unit; 0 or not finite means invalid.

    Returns:
        RGB (H, W, 3), 0 to 255: near red, far blue, invalid `INVALID_RGB`. A map of one
        depth only is shown in the middle colour.
    """
    valid = np.isfinite(depth) & (depth > 0)
    level = np.full(depth.shape, 128, np.uint8)
    if (ends := colour_range(depth)) is not None:
        near, far = ends
        if far > near * (1 + 1e-6):
            disparity = 1.0 / depth[valid].astype(np.float64)
            part = np.clip((disparity - 1 / far) / (1 / near - 1 / far), 0, 1)
            level[valid] = np.round(_FAR_LEVEL + part * (_NEAR_LEVEL - _FAR_LEVEL))
    rgb = _turbo(level)
    rgb[~valid] = INVALID_RGB
    return rgb


def colour_range(depth: NDArray[np.float32]) -> tuple[float, float] | None:
    """Depths that `colour_depth` gives the two ends of its map, near and far; None without depth.

    Args:
        depth: As of `colour_depth`.
    """
    valid = np.isfinite(depth) & (depth > 0)
    if not valid.any():
        return None
    low, high = np.percentile(1.0 / depth[valid].astype(np.float64), _PERCENTILES)
    return float(1 / high), float(1 / low)


def colour_bar(width: int, height: int) -> NDArray[np.uint8]:
    """Legend of `colour_depth`: RGB (height, width, 3) from near (left) to far (right)."""
    levels = np.linspace(_NEAR_LEVEL, _FAR_LEVEL, width).round().astype(np.uint8)
    return _turbo(np.tile(levels, (height, 1)))


def _turbo(level: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bgr = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8)
