"""Images and depth maps as everything in mfsynth hands them around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RgbImage = NDArray[np.uint8]
"""uint8 (H, W, 3), sRGB."""

DepthMap = NDArray[np.float32]
"""float32 (H, W), z-depth (distance along the optical axis, never along the ray), 0 = invalid."""

Mask = NDArray[np.bool_]
"""bool (H, W)."""


def require_rgb(rgb: RgbImage) -> None:
    """Refuse what is no image.

    Raises:
        ValueError: Not uint8 (H, W, 3).
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"rgb is {rgb.dtype} {rgb.shape}, not uint8 (H, W, 3)")


def require_depth_of(rgb: RgbImage, depth: DepthMap, name: str = "depth") -> None:
    """Refuse what is no map of an image's pixels; its values may be anything.

    Raises:
        ValueError: Not float32 (H, W) of the image's size; the message has the map's `name`.
    """
    if depth.dtype != np.float32 or depth.shape != rgb.shape[:2]:
        raise ValueError(f"{name} is {depth.dtype} {depth.shape}, not float32 {rgb.shape[:2]}")


def require_depth(depth: DepthMap) -> None:
    """Refuse what is no depth map.

    Raises:
        ValueError: Not float32 (H, W), or a depth is negative or not finite.
    """
    if depth.dtype != np.float32 or depth.ndim != 2:
        raise ValueError(f"depth is {depth.dtype} {depth.shape}, not float32 (H, W)")
    # A comparison with NaN is false, so this finds it, too.
    if not np.all((depth >= 0) & (depth < np.inf)):
        raise ValueError("depth has negative or non-finite values; invalid pixels are 0")


def require_rgbd(rgb: RgbImage, depth: DepthMap) -> None:
    """Refuse what is no image with its depth.

    Raises:
        ValueError: Shapes or types are wrong, or a depth is negative or not finite.
    """
    require_rgb(rgb)
    require_depth_of(rgb, depth)
    require_depth(depth)
