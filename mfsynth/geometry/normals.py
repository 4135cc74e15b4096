"""Surface normals of depth maps."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.cameras import Intrinsics
from mfsynth.geometry.rgbd import DepthMap, Mask

JUMP: Final = 0.03
"""Relative difference of depth between neighbours that makes two surfaces of them."""
MAX_ANGLE_DEG: Final = 87.0
"""Between a normal and the way to the camera: what is steeper is an edge smeared over pixels."""


def normals_from_depth(
    depth: DepthMap, intrinsics: Intrinsics, *, radius: int = 1, jump: float = JUMP
) -> NDArray[np.float32]:
    """The normal of the surface that each pixel sees; none across jumps of depth.

    A plane's inverse depth is linear in the pixel's place, so its slope, by least squares over the
    window, gives the normal: of a plane exactly, at any tilt, for any window. A normal is there
    only where the whole window is inside the image and sees one surface: no pixel of it is invalid,
    and no two neighbours in it are on either side of a jump.

    Args:
        depth: (H, W) z-depth in any unit; what isn't positive and finite is invalid.
        intrinsics: The camera.
        radius: Of the window, in pixels, at least 1: it has 2·radius + 1 rows and columns. Noise of
            depth makes noise of normals, which falls with the square of the radius.
        jump: Two neighbours are on either side of a jump where their inverse depths differ by more
            than this share, beyond what the pixels before and behind them let expect.

    Returns:
        float32 (H, W, 3) of length 1, OpenCV camera axes, towards the camera; 0 where none is.

    Raises:
        ValueError: The depth has another shape, or the radius is less than 1.
    """
    if depth.ndim != 2:
        raise ValueError(f"a depth map has shape (H, W), got {depth.shape}")
    if radius < 1:
        raise ValueError(f"the radius must be 1 at least, got {radius}")
    height, width = depth.shape
    normals = np.zeros((height, width, 3), np.float32)
    size = 2 * radius + 1
    if min(height, width) < size:
        return normals
    valid = np.isfinite(depth) & (depth > 0)
    # Of the nearest pixel's, so that no unit is too small or too large.
    nearest = depth.min(where=valid, initial=np.inf)
    inverse = np.divide(nearest, depth, out=np.zeros(depth.shape, np.float32), where=valid)
    steps = np.arange(-radius, radius + 1, dtype=np.float64)
    flat, slope = np.ones(size) / size, steps / (steps @ steps)
    mean = _filtered(inverse, flat, flat)  # of the plane that fits the window
    across = _filtered(inverse, slope, flat) * np.float32(intrinsics.fx)
    down = _filtered(inverse, flat, slope) * np.float32(intrinsics.fy)
    x = ((np.arange(width) - intrinsics.cx) / intrinsics.fx).astype(np.float32)[None, :]
    y = ((np.arange(height) - intrinsics.cy) / intrinsics.fy).astype(np.float32)[:, None]
    # 1/z = n·ray / distance, so the slopes along x and y are the first two components.
    forward = mean - across * x - down * y
    square = across**2 + down**2 + forward**2
    steepest = math.cos(math.radians(MAX_ANGLE_DEG)) ** 2
    kept = _whole_windows(inverse, valid, radius, jump)
    kept &= mean**2 > steepest * square * (1 + x**2 + y**2)
    scale = -np.divide(kept, np.sqrt(square), out=np.zeros_like(mean), where=kept)
    for index, component in enumerate((across, down, forward)):
        np.multiply(component, scale, out=normals[..., index])
    return normals


def _filtered(
    image: NDArray[np.float32], along_row: NDArray[np.float64], along_column: NDArray[np.float64]
) -> NDArray[np.float32]:
    filtered = cv2.sepFilter2D(
        image, cv2.CV_32F, along_row, along_column, borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(filtered, np.float32)


def _whole_windows(inverse: NDArray[np.float32], valid: Mask, radius: int, jump: float) -> Mask:
    """Where a window is inside the image, all valid, and no jump crosses it."""
    size = 2 * radius + 1
    invalid = cv2.dilate(
        (~valid).astype(np.uint8),
        np.ones((size, size), np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=1,
    )
    across = _windows_with(_jumps_behind(inverse, valid, jump), radius)
    down = _windows_with(_jumps_behind(inverse.T, valid.T, jump), radius).T
    return (invalid == 0) & ~across & ~down


def _windows_with(jumps: Mask, radius: int) -> Mask:
    """Where a window has a pixel and its right neighbour with a jump between them."""
    kernel = np.ones((2 * radius + 1, 2 * radius), np.uint8)
    found = cv2.dilate(jumps.astype(np.uint8), kernel, anchor=(radius, radius))
    return np.asarray(found > 0)


def _jumps_behind(inverse: NDArray[np.float32], valid: Mask, jump: float) -> Mask:
    """Where a jump is between a pixel and its right neighbour."""
    step = np.diff(inverse, axis=1)
    known = valid[:, 1:] & valid[:, :-1]
    limit = jump * np.minimum(inverse[:, 1:], inverse[:, :-1])
    # On a plane all steps of a row are equal; a jump is unlike the one before and the one behind.
    alike = np.abs(np.diff(step, axis=1))
    both = known[:, 1:] & known[:, :-1]
    expected = np.zeros(step.shape, np.bool_)
    expected[:, 1:] |= both & (alike <= limit[:, 1:])
    expected[:, :-1] |= both & (alike <= limit[:, :-1])
    jumps = np.zeros(valid.shape, np.bool_)
    jumps[:, :-1] = known & ~expected & (np.abs(step) > limit)
    return jumps
