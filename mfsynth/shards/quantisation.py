"""Depth as 16-bit codes: code 0 means invalid, codes 1 to 65535 are depths.

With `near` and `far` the least and the greatest valid depth of a map:

    linear   (far / near <= 64)   depth = code * unit_per_code
                                  unit_per_code = far / 65535
    log      (otherwise)          depth = near * exp((code - 1) * unit_per_code)
                                  unit_per_code = ln(far / near) / 65534

Bound on the relative error, besides the rounding of float32 itself: half a code, which is at
most 64 / 131070 = 4.9e-4 for linear and exp(ln(far / near) / 131068) - 1 for log (1.1e-4 at a
range of one to a million). The limit of 64 is where the coarsest linear code is still finer
than 1e-3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import DepthMap

Codes = NDArray[np.uint16]

MAX_CODE = 65535
LINEAR_RANGE = 64.0
# Up to a range of nine millions, float32 is a hundredth of a code away from float64.
_FLOAT32_EXPONENT = 16.0


class DepthScale(StrEnum):
    """How codes are spread over the range of depths."""

    LINEAR = "linear"
    LOG = "log"


FORMULAS = {
    DepthScale.LINEAR: "depth = code * unit_per_code; code 0 is invalid",
    DepthScale.LOG: "depth = near * exp((code - 1) * unit_per_code); code 0 is invalid",
}


@dataclass(frozen=True, slots=True)
class DepthEncoding:
    """What turns the codes of one depth map back into depths (formulas: see the module).

    Attributes:
        scale: `linear` or `log`.
        unit_per_code: Depth a code for `linear`, natural logarithm of depth a code for `log`.
        near: Least valid depth; 0.0 if no pixel is valid.
        far: Greatest valid depth; 0.0 if no pixel is valid.
    """

    scale: DepthScale
    unit_per_code: float
    near: float
    far: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.unit_per_code) and self.unit_per_code >= 0):
            raise ValueError(f"a code can't be worth {self.unit_per_code}")
        if not (math.isfinite(self.far) and 0 <= self.near <= self.far):
            raise ValueError(f"depth can't lie between {self.near} and {self.far}")
        if self.far and not math.isclose(self.unit_per_code, self._unit_of_range(), rel_tol=1e-6):
            raise ValueError(f"a code of {self.unit_per_code} doesn't lead to {self.far}")

    def _unit_of_range(self) -> float:
        if self.scale == DepthScale.LINEAR:
            return self.far / MAX_CODE
        if not self.near:
            return math.nan
        return (math.log(self.far) - math.log(self.near)) / (MAX_CODE - 1)


def quantise_depth(depth: DepthMap) -> tuple[Codes, DepthEncoding]:
    """Codes and encoding of a depth map.

    Args:
        depth: float32 (H, W); pixels that are not finite and above zero are invalid.

    Returns:
        uint16 (H, W) with 0 exactly at the invalid pixels, and what decodes them.
    """
    valid = np.isfinite(depth) & (depth > 0)
    if not valid.any():
        return np.zeros(depth.shape, np.uint16), DepthEncoding(DepthScale.LINEAR, 1.0, 0.0, 0.0)
    far = float(np.where(valid, depth, 0).max())
    # Whole arrays in place: picking the valid pixels out costs four times the arithmetic, most
    # of it in page faults of temporaries.
    filled = np.where(valid, depth, np.float32(far))
    near = float(filled.min())
    if far / near <= LINEAR_RANGE:
        encoding = DepthEncoding(DepthScale.LINEAR, far / MAX_CODE, near, far)
        exact = np.divide(filled, encoding.unit_per_code, dtype=np.float64)
    else:
        unit = (math.log(far) - math.log(near)) / (MAX_CODE - 1)
        encoding = DepthEncoding(DepthScale.LOG, unit, near, far)
        exact = np.ones(depth.shape)
        # NumPy's logarithm may differ in the last bit by where in an array a value stands, so
        # the bytes of a shard hang on handing it the valid pixels in a row.
        logarithms = np.log(depth[valid].astype(np.float64))
        exact[valid] = 1.0 + (logarithms - math.log(near)) / unit
    np.clip(np.rint(exact, out=exact), 1, MAX_CODE, out=exact)
    codes = exact.astype(np.uint16)
    codes *= valid
    return codes, encoding


def dequantise_depth(
    codes: Codes, encoding: DepthEncoding, out: DepthMap | None = None
) -> DepthMap:
    """Depths of codes.

    Args:
        codes: uint16, any shape.
        encoding: What `quantise_depth` returned with them.
        out: Where to put them, float32 of the same shape; None for a new array.

    Returns:
        float32 of the same shape, 0.0 exactly where the code is 0.
    """
    depth = np.empty(codes.shape, np.float32) if out is None else out
    if encoding.scale is DepthScale.LINEAR:
        # A tenth of the time of float64, and within 1.5 units of the last place of it.
        np.multiply(codes, np.float32(encoding.unit_per_code), out=depth)
        return depth
    if encoding.unit_per_code * MAX_CODE > _FLOAT32_EXPONENT:
        steps = codes.astype(np.float64) - 1.0
        depth[...] = encoding.near * np.exp(steps * encoding.unit_per_code)
    else:
        np.subtract(codes, np.float32(1), out=depth)
        depth *= np.float32(encoding.unit_per_code)
        np.exp(depth, out=depth)
        depth *= np.float32(encoding.near)
    depth *= codes != 0
    return depth
