"""Cameras, depth kinds, alignment, back-projection and depth metrics.

What needs OpenCV is imported from its module: `normals`, `planes`, `resizing`, `filling`.
"""

from __future__ import annotations

from mfsynth.geometry.alignment import (
    affine_least_squares,
    depth_from_disparity_fit,
    disparity_l1,
    disparity_least_squares,
    scale_l1,
    scale_median,
)
from mfsynth.geometry.cameras import (
    CameraAxes,
    DepthKind,
    Intrinsics,
    IntrinsicsSource,
    quaternion,
)
from mfsynth.geometry.estimates import DepthEstimate, EstimateKind
from mfsynth.geometry.metrics import abs_rel, delta, seam_ratio, silog
from mfsynth.geometry.projection import backproject, pixel_rays, project, z_of_distances
from mfsynth.geometry.scale import MetricScale, metric_scale

__all__ = [
    "CameraAxes",
    "DepthEstimate",
    "DepthKind",
    "EstimateKind",
    "Intrinsics",
    "IntrinsicsSource",
    "MetricScale",
    "abs_rel",
    "affine_least_squares",
    "backproject",
    "delta",
    "depth_from_disparity_fit",
    "disparity_l1",
    "disparity_least_squares",
    "metric_scale",
    "pixel_rays",
    "project",
    "quaternion",
    "scale_l1",
    "scale_median",
    "seam_ratio",
    "silog",
    "z_of_distances",
]
