"""What a depth estimator says of an image, and how it is set beside another depth of that image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.alignment import disparity_l1, scale_l1
from mfsynth.geometry.cameras import Intrinsics
from mfsynth.geometry.rgbd import DepthMap, Mask

MIN_SHARED_PIXELS = 64
"""Of two depths of one image; with fewer in common nothing is said of how they agree."""

_FITTED_PIXELS = 40_000


class EstimateKind(StrEnum):
    """What an estimator's numbers are."""

    METRIC_Z = "metric_z"
    SCALE_INVARIANT_Z = "scale_invariant_z"
    AFFINE_INVARIANT_DISPARITY = "affine_invariant_disparity"


@dataclass(frozen=True, slots=True, eq=False)
class DepthEstimate:
    """What an estimator says of one image of H rows and W columns.

    Attributes:
        values: float32 (H, W): z-depth, positive where valid, or disparity, as `kind` says.
        valid: bool (H, W): where the estimator says something; values are finite there.
        kind: What `values` are.
        intrinsics: The camera that it sees, in pixels of the image; None if it says nothing of it.
        normals: float32 (H, W, 3): of the surfaces, of length 1, in the camera's axes (x right,
            y down, z forward), towards the camera; 0 where there is none. None if it gives none.
    """

    values: NDArray[np.float32]
    valid: Mask
    kind: EstimateKind
    intrinsics: Intrinsics | None = None
    normals: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Refuses what is no estimate.

        Raises:
            ValueError: Shapes or types are not as stated above, or a valid value or normal is none.
        """
        shape = self.valid.shape
        arrays = {
            "values": (self.values, np.float32, shape),
            "valid": (self.valid, np.bool_, shape),
            "normals": (self.normals, np.float32, (*shape, 3)),
        }
        for name, (array, dtype, wanted) in arrays.items():
            if array is not None and (array.dtype != dtype or array.shape != wanted):
                raise ValueError(
                    f"{name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {wanted}"
                )
        said = self.values[self.valid]
        positive = self.kind is EstimateKind.AFFINE_INVARIANT_DISPARITY or bool(np.all(said > 0))
        if not (np.isfinite(said).all() and positive):
            raise ValueError("a valid value is not finite, or is a depth that isn't positive")
        if self.normals is not None and not np.isfinite(self.normals[self.valid]).all():
            raise ValueError("a normal of a valid pixel is not finite; 0 says that there is none")

    def depth_like(self, depth: DepthMap) -> DepthMap | None:
        """The estimated depth in the unit of another depth of the same image.

        What the estimator leaves open, and a metric one's scale, too, is fitted to `depth`: a
        scale (weighted median) for z-depth; a positive scale and a shift of the disparity
        otherwise (least relative error, so that a few pixels that are far off don't spoil it). Of
        large maps, tens of thousands of pixels all over the image decide.

        Args:
            depth: float32 (H, W), z-depth; 0 = invalid.

        Returns:
            float32 (H, W), 0 where the estimator says nothing; inf where a disparity, as fitted,
            lies at infinity or beyond it, which is farther than anything, not unknown. None where
            the two share fewer than 64 valid pixels.
        """
        shared = np.flatnonzero(self.valid & np.isfinite(depth) & (depth > 0))
        if shared.size < MIN_SHARED_PIXELS:
            return None
        # An odd step doesn't go along with the patches that maps are made of.
        some = shared[:: shared.size // _FITTED_PIXELS | 1]
        said, given = self.values.reshape(-1)[some], depth.reshape(-1)[some]
        every = np.ones(some.size, np.bool_)
        if self.kind is not EstimateKind.AFFINE_INVARIANT_DISPARITY:
            scale = np.float32(scale_l1(said, given, every))
            return np.where(self.valid, scale * self.values, np.float32(0))
        scale_of_disparity, shift = disparity_l1(said, given, every)
        values = np.where(self.valid, self.values, np.float32(0)).astype(np.float64)
        disparity = scale_of_disparity * values + shift
        # As far as any depth that float32 has.
        finite = disparity > 1 / np.finfo(np.float32).max
        fitted = np.divide(1, disparity, out=np.full_like(disparity, np.inf), where=finite)
        return np.where(self.valid, fitted, 0).astype(np.float32)
