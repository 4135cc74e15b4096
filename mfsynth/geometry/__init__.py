"""Cameras, depth kinds, alignment, back-projection, normals, planes and depth metrics."""

from __future__ import annotations

from mfsynth.geometry.alignment import (
    affine_least_squares,
    depth_from_disparity_fit,
    disparity_l1,
    disparity_least_squares,
    scale_l1,
    scale_median,
)
from mfsynth.geometry.cameras import CameraAxes, DepthKind, Intrinsics, IntrinsicsSource
from mfsynth.geometry.estimates import DepthEstimate, EstimateKind
from mfsynth.geometry.metrics import abs_rel, delta, seam_ratio, silog
from mfsynth.geometry.normals import normals_from_depth
from mfsynth.geometry.planes import Plane, find_planes, gravity_direction
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
    "Plane",
    "abs_rel",
    "affine_least_squares",
    "backproject",
    "delta",
    "depth_from_disparity_fit",
    "disparity_l1",
    "disparity_least_squares",
    "find_planes",
    "gravity_direction",
    "metric_scale",
    "normals_from_depth",
    "pixel_rays",
    "project",
    "scale_l1",
    "scale_median",
    "seam_ratio",
    "silog",
    "z_of_distances",
]
