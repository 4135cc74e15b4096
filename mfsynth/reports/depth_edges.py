"""Edges of depth drawn over the image: whether the two belong together is seen at once."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.colour import colour_depth
from mfsynth.geometry.filling import fill_nearest
from mfsynth.reports import images

# Between neighbouring pixels, far over near.
_JUMP = 1.05
_EDGE_RGB = (255, 0, 220)
_GAP = 6

Pair = tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]
"""RGB (H, W, 3) and z-depth (H, W), 0 = invalid; None where there is none."""


def depth_edges(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels (H, W) beside which depth jumps by 5 % or more; holes are filled with the nearest."""
    edges = np.zeros(depth.shape, np.bool_)
    valid = depth > 0
    if not valid.any():
        return edges
    depth = fill_nearest(depth, valid)
    for axis in (0, 1):
        ahead, behind = np.moveaxis(depth, axis, 0)[1:], np.moveaxis(depth, axis, 0)[:-1]
        near, far = np.minimum(ahead, behind), np.maximum(ahead, behind)
        np.moveaxis(edges, axis, 0)[1:] |= far > _JUMP * near
    return edges


def edge_sheet(pairs: Sequence[Pair], width: int = 480) -> bytes:
    """Lays out pairs, a row each: the image, its coloured depth, and depth's edges over the image.

    What a pair lacks is left white.

    Args:
        pairs: At least one; of each image or depth.
        width: Of each picture.

    Returns:
        A PNG file.
    """
    rows = [_row(rgb, depth, width) for rgb, depth in pairs]
    return images.png(np.concatenate(rows)[:-_GAP])


def _row(
    rgb: NDArray[np.uint8] | None, depth: NDArray[np.float32] | None, width: int
) -> NDArray[np.uint8]:
    shape = next(part.shape for part in (rgb, depth) if part is not None)
    height = max(1, round(width * shape[0] / shape[1]))
    row = np.full((height + _GAP, 3 * width + 2 * _GAP, 3), 255, np.uint8)
    second, third = width + _GAP, 2 * (width + _GAP)
    if depth is not None:
        coloured = cv2.resize(colour_depth(depth), (width, height), interpolation=cv2.INTER_NEAREST)
        row[:height, second : second + width] = coloured
    if rgb is None:
        return row
    image = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    row[:height, :width] = image
    if depth is not None:
        # An edge is there where a pixel of it lies under a pixel of the picture.
        share = cv2.resize(
            depth_edges(depth).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
        )
        drawn = image // 2 + 64
        drawn[share > 0] = _EDGE_RGB
        row[:height, third : third + width] = drawn
    return row
