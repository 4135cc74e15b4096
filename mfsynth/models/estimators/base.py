"""What a depth estimator is: images in, an estimate of each out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics
from mfsynth.geometry.rgbd import RgbImage

Cameras = Sequence[Intrinsics | None]
"""Of the images of a batch, None where one isn't known."""


class Estimator(Protocol):
    """A loaded depth estimator. What it says of an image doesn't depend on the others."""

    def __call__(self, rgb: RgbImage, cameras: Cameras | None = None) -> list[DepthEstimate]:
        """Estimate the depth of a batch.

        Args:
            rgb: uint8 (B, H, W, 3).
            cameras: What is known of the B cameras; None for nothing.

        Returns:
            One estimate for each image, on its own grid.
        """


def brought_back(maps: Tensor, height: int, width: int) -> Tensor:
    """(B, h, w) or (B, C, h, w) on the grid of the images; the edges of both stay together."""
    if maps.shape[-2:] == (height, width):
        return maps
    channels = maps if maps.ndim == 4 else maps[:, None]
    resized = functional.interpolate(channels, (height, width), mode="bilinear", antialias=True)
    return resized if maps.ndim == 4 else resized[:, 0]


def as_estimate(
    values: Tensor,
    kind: EstimateKind,
    *,
    valid: Tensor | None = None,
    intrinsics: Intrinsics | None = None,
    normals: NDArray[np.float32] | None = None,
) -> DepthEstimate:
    """An estimate of one image, (H, W); what is not finite, or a depth not above 0, is invalid."""
    sound = values.isfinite()
    if kind is not EstimateKind.AFFINE_INVARIANT_DISPARITY:
        sound &= values > 0
    if valid is not None:
        sound &= valid
    return DepthEstimate(
        values=torch.where(sound, values, 0.0).float().cpu().numpy(),
        valid=sound.cpu().numpy(),
        kind=kind,
        intrinsics=intrinsics,
        normals=normals,
    )


def cameras_or_none(cameras: Cameras | None, images: int) -> Cameras:
    """One entry for each image."""
    return [None] * images if cameras is None else cameras
