"""Images and depth maps of other sizes.

Depth that was measured takes nearest pixels, so that none is mixed of two surfaces; depth that was
predicted is interpolated as images are.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from mfsynth.geometry.filling import fill_nearest
from mfsynth.geometry.rgbd import DepthMap, RgbImage

_Value = TypeVar("_Value", bound=np.generic)


def resize_image(rgb: RgbImage, height: int, width: int) -> RgbImage:
    """(H, W, 3) to (height, width, 3): mean over a new pixel's area, linear where there are more.

    Without a crop or a border: other proportions are squeezed.
    """
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(_resized(rgb, height, width), np.uint8)


def resize_nearest(depth: NDArray[_Value], height: int, width: int) -> NDArray[_Value]:
    """Give each new pixel the value of the pixel that holds its centre.

    Not OpenCV's INTER_NEAREST, which takes the one that holds the corner and so shifts depth
    against an area-averaged image by up to half a new pixel.
    """
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(np.intp)
    return depth[rows[:, None], columns]


def resize_depth(depth: DepthMap, height: int, width: int) -> DepthMap:
    """(h, w) to (height, width), as `resize_image`; where the nearest pixel is 0, so is the result.

    Invalid pixels are no depth of 0: their neighbours don't blend with them.
    """
    if depth.shape == (height, width):
        return depth
    given = depth > 0
    if not given.any():
        return np.zeros((height, width), np.float32)
    filled = _resized(fill_nearest(depth, given), height, width)
    kept = cv2.resize(
        given.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return np.where(kept > 0, filled, np.float32(0))


def _resized(image: RgbImage | DepthMap, height: int, width: int) -> MatLike:
    # OpenCV's INTER_AREA takes no means as soon as one of the sides grows.
    rows, columns = min(height, image.shape[0]), min(width, image.shape[1])
    resized: MatLike = image
    if (rows, columns) != image.shape[:2]:
        resized = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    if (rows, columns) != (height, width):
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized
