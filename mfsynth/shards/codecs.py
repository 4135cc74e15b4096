"""RGB as JPEG, depth as 16-bit PNG.

A depth map becomes 16-bit codes; code 0 means invalid, codes 1 to 65535 are depths. With
`near` and `far` the least and the greatest valid depth of the map:

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

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mfsynth.config.limits import Limit
from mfsynth.geometry.rgbd import DepthMap, RgbImage

Bytes = bytes | memoryview
Codes = NDArray[np.uint16]
Shape = tuple[int, int]
"""Rows and columns."""

JPEG_QUALITY = 95
MAX_CODE = 65535
LINEAR_RANGE = 64.0
# Codes a metre: KITTI; most; RealSense in fine steps, TUM, and finer ones.
_UNITS_OF_SENSORS = (256, 1000, 4000, 5000, 10000)
# Up to a range of nine millions, float32 is a hundredth of a code away from float64.
_FLOAT32_EXPONENT = 16.0

# Fast and small for depth: RLE with Paeth is 7 ms at 512x512, Pillow's default 60 ms. OpenCV
# before 4.12 can't choose the filter; its files are larger and decode to the same codes.
_PNG_OPTIONS = [
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    _PNG_OPTIONS += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH]


class WrongSizeError(ValueError):
    """A picture is whole, as far as its header says, but of another size."""


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


def encode_depth(depth: DepthMap) -> tuple[bytes, DepthEncoding]:
    """A depth map float32 (H, W) as a 16-bit greyscale PNG, and what decodes it."""
    codes, encoding = quantise_depth(depth)
    done, png = cv2.imencode(".png", codes, _PNG_OPTIONS)
    if not done:
        raise ValueError(f"OpenCV could not encode a depth map of shape {depth.shape}")
    return png.tobytes(), encoding


def encode_metres(depth: DepthMap) -> tuple[bytes, float]:
    """A map in metres as a 16-bit PNG of linear codes, and metres a code.

    These are the first of 1/256, 1/1000, 1/4000, 1/5000 and 1/10000 m in which no pixel changes by
    more than a float32 does, so that codes of most sensors are what they were; or else what spreads
    the codes up to the farthest pixel.

    Args:
        depth: float32 (H, W); 0 = invalid.
    """
    far = float(depth.max())
    for unit in (1 / one for one in _UNITS_OF_SENSORS):
        codes = np.rint(depth / unit)
        if far / unit <= MAX_CODE and np.allclose(codes * unit, depth, rtol=1e-6, atol=0):
            break
    else:
        unit = far / MAX_CODE
        codes = np.clip(np.rint(depth / unit), 1, MAX_CODE) * (depth > 0)
    done, png = cv2.imencode(".png", codes.astype(np.uint16), _PNG_OPTIONS)
    if not done:
        raise ValueError(f"OpenCV could not encode a depth map of shape {depth.shape}")
    return png.tobytes(), unit


def decode_depth(
    png: Bytes,
    encoding: DepthEncoding,
    shape: Shape | None = None,
    out: DepthMap | None = None,
) -> DepthMap:
    """Depth float32 (H, W) of a 16-bit PNG, 0.0 = invalid.

    Args:
        png: The file.
        encoding: Of its codes.
        shape: (H, W) that it must have, which is looked at before anything is decoded.
        out: As of `dequantise_depth`.

    Raises:
        ValueError: The bytes are not a whole 16-bit greyscale PNG, or one of another size, or its
            codes are not of this encoding.
    """
    codes = decode_codes(png, shape)
    if not encoding.far and codes.any():
        raise ValueError("it has depths, its encoding has none")
    return dequantise_depth(codes, encoding, out)


def decode_codes(png: Bytes, shape: Shape | None = None) -> Codes:
    """The uint16 (H, W) codes in a PNG.

    Args:
        png: The file.
        shape: As for `decode_depth`.

    Raises:
        ValueError: The bytes are not a whole 16-bit greyscale PNG, or one of another size or of
            more than `Limit.PIXELS`.
    """
    # The header comes first in every PNG: signature, length and name of the chunk, then these.
    width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
    _require_shape((height, width), shape)
    # OpenCV gives a picture with grey in place of what is missing for some truncated files.
    if png[-8:] != b"IEND\xaeB`\x82":
        raise ValueError("not a whole PNG")
    codes = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if codes is None or codes.dtype != np.uint16 or codes.ndim != 2:
        raise ValueError("not a 16-bit greyscale PNG")
    return codes.view(np.uint16)


def encode_jpeg(rgb: RgbImage) -> bytes:
    """An image uint8 (H, W, 3) as JPEG, quality 95, no chroma subsampling."""
    jpeg: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(rgb), quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="444"
    )
    return jpeg


def decode_jpeg(jpeg: Bytes, shape: Shape | None = None, out: RgbImage | None = None) -> RgbImage:
    """Image uint8 (H, W, 3) of a JPEG.

    Args:
        jpeg: The file.
        shape: As for `decode_depth`.
        out: Where to put it, of its shape; None for a new array.

    Raises:
        ValueError: The bytes are not a whole JPEG, or one of another size or of more than
            `Limit.PIXELS`.
    """
    _require_shape(simplejpeg.decode_jpeg_header(jpeg)[:2], shape)
    rgb: RgbImage = simplejpeg.decode_jpeg(jpeg, colorspace="RGB", buffer=out)
    return rgb


def _require_shape(found: tuple[int, ...], expected: Shape | None) -> None:
    size = f"{found[1]}x{found[0]}"
    if expected is not None and found != expected:
        raise WrongSizeError(f"is {size}, not {expected[1]}x{expected[0]}")
    if found[0] * found[1] > Limit.PIXELS.most:
        raise WrongSizeError(f"is {size}, more pixels than {Limit.PIXELS.variable}")
