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
import struct
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mfsynth.config.limits import Limit
from mfsynth.geometry.rgbd import DepthMap, RgbImage

Codes = NDArray[np.uint16]

JPEG_QUALITY = 95
MAX_CODE = 65535
LINEAR_RANGE = 64.0

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


def dequantise_depth(codes: Codes, encoding: DepthEncoding) -> DepthMap:
    """Depths of codes.

    Args:
        codes: uint16, any shape.
        encoding: What `quantise_depth` returned with them.

    Returns:
        float32 of the same shape, 0.0 exactly where the code is 0.
    """
    if encoding.scale is DepthScale.LINEAR:
        linear: DepthMap = (codes * np.float64(encoding.unit_per_code)).astype(np.float32)
        return linear
    steps = codes.astype(np.float64) - 1.0
    depth = (encoding.near * np.exp(steps * encoding.unit_per_code)).astype(np.float32)
    depth[codes == 0] = 0.0
    logarithmic: DepthMap = depth
    return logarithmic


def encode_depth(depth: DepthMap) -> tuple[bytes, DepthEncoding]:
    """A depth map float32 (H, W) as a 16-bit greyscale PNG, and what decodes it."""
    codes, encoding = quantise_depth(depth)
    done, png = cv2.imencode(".png", codes, _PNG_OPTIONS)
    if not done:
        raise ValueError(f"OpenCV could not encode a depth map of shape {depth.shape}")
    return png.tobytes(), encoding


def decode_depth(
    png: bytes, encoding: DepthEncoding, shape: tuple[int, int] | None = None
) -> DepthMap:
    """Depth float32 (H, W) of a 16-bit PNG, 0.0 = invalid.

    Raises:
        ValueError: See `decode_codes`.
    """
    return dequantise_depth(decode_codes(png, shape), encoding)


def decode_codes(png: bytes, shape: tuple[int, int] | None = None) -> Codes:
    """The uint16 (H, W) codes in a PNG.

    Args:
        png: The bytes.
        shape: What it should have, asked of its header before it is decoded.

    Raises:
        ValueError: The bytes are not a whole 16-bit greyscale PNG, one of another shape, or one of
            more than `Limit.PIXELS`.
    """
    # OpenCV gives a picture with grey in place of what is missing for some truncated files.
    if png[12:16] != b"IHDR" or len(png) < 24 or not png.endswith(b"IEND\xaeB`\x82"):
        raise ValueError("not a whole PNG")
    width, height = struct.unpack_from(">II", png, 16)
    _require_shape((height, width), shape)
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


def decode_jpeg(jpeg: bytes, shape: tuple[int, int] | None = None) -> RgbImage:
    """Image uint8 (H, W, 3) of a JPEG.

    Args:
        jpeg: The bytes.
        shape: H and W that it should have, asked of its header before it is decoded.

    Raises:
        ValueError: The bytes are not a whole JPEG, one of another shape, or one of more than
            `Limit.PIXELS`.
    """
    height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
    _require_shape((height, width), shape)
    rgb: RgbImage = simplejpeg.decode_jpeg(jpeg, colorspace="RGB")
    return rgb


def _require_shape(found: tuple[int, int], shape: tuple[int, int] | None) -> None:
    size = f"{found[1]}x{found[0]} pixels"
    if shape is not None and found != shape:
        raise ValueError(f"{size}, not {shape[1]}x{shape[0]}")
    if found[0] * found[1] > Limit.PIXELS.most:
        raise ValueError(f"{size}, more than {Limit.PIXELS.variable}={Limit.PIXELS.most}")
