"""Between depth maps and points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.cameras import Intrinsics


def pixel_rays(height: int, width: int, intrinsics: Intrinsics) -> NDArray[np.float64]:
    """The direction through each pixel centre, scaled to z = 1.

    Returns:
        float64 (H, W, 3), OpenCV camera axes. A ray distance is z-depth times the vector's norm.
    """
    x = (np.arange(width, dtype=np.float64) - intrinsics.cx) / intrinsics.fx
    y = (np.arange(height, dtype=np.float64) - intrinsics.cy) / intrinsics.fy
    rays = np.ones((height, width, 3), dtype=np.float64)
    rays[..., 0] = x[None, :]
    rays[..., 1] = y[:, None]
    return rays


def z_of_distances(distances: NDArray[np.floating], intrinsics: Intrinsics) -> NDArray[np.float64]:
    """z-depth (H, W) of distances along the rays of a camera's pixels, in their unit."""
    rays = pixel_rays(distances.shape[0], distances.shape[1], intrinsics)
    z: NDArray[np.float64] = distances / np.linalg.norm(rays, axis=-1)
    return z


def backproject(depth: NDArray[np.floating], intrinsics: Intrinsics) -> NDArray[np.float32]:
    """The 3-D point that each pixel sees.

    Args:
        depth: (H, W) z-depth in any unit; what isn't positive and finite is invalid.
        intrinsics: The camera.

    Returns:
        float32 (H, W, 3) in the unit of the depth, OpenCV camera axes; NaN where invalid.

    Raises:
        ValueError: The depth has another shape.
    """
    if depth.ndim != 2:
        raise ValueError(f"a depth map has shape (H, W), got {depth.shape}")
    z = np.asarray(depth, dtype=np.float64)
    z = np.where(np.isfinite(z) & (z > 0), z, np.nan)
    height, width = depth.shape
    return (pixel_rays(height, width, intrinsics) * z[..., None]).astype(np.float32)


def project(points: NDArray[np.floating], intrinsics: Intrinsics) -> NDArray[np.float64]:
    """The pixels that see points.

    Args:
        points: (..., 3), OpenCV camera axes.
        intrinsics: The camera.

    Returns:
        float64 (..., 2): column and row, fractional; NaN for points that aren't before the camera.
    """
    p = np.asarray(points, dtype=np.float64)
    z = np.where(p[..., 2] > 0, p[..., 2], np.nan)
    u = intrinsics.fx * p[..., 0] / z + intrinsics.cx
    v = intrinsics.fy * p[..., 1] / z + intrinsics.cy
    return np.stack([u, v], axis=-1)
