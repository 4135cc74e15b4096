"""RGB as JPEG, depth as 16-bit PNG of the codes of `mfsynth.shards.quantisation`."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from mfsynth.config.limits import Limit
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.shards.inflating import Bytes, inflated
from mfsynth.shards.quantisation import (
    MAX_CODE,
    Codes,
    DepthEncoding,
    dequantise_depth,
    quantise_depth,
)

Shape = tuple[int, int]
"""Rows and columns."""

JPEG_QUALITY = 95
# As JPEGs store them; the others are grey, CMYK and its like.
_THREE_CHANNELS = ("YCbCr", "RGB")
# Codes a metre: KITTI; most; RealSense in fine steps, TUM, and finer ones.
_UNITS_OF_SENSORS = (256, 1000, 4000, 5000, 10000)

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


def encode_depth(depth: DepthMap) -> tuple[bytes, DepthEncoding]:
    """A depth map float32 (H, W) as a 16-bit greyscale PNG, and what decodes it.

    Raises:
        ValueError: OpenCV did not encode it.
    """
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

    Raises:
        ValueError: OpenCV did not encode it.
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
    codes = cv2.imdecode(np.frombuffer(inflated(png), np.uint8), cv2.IMREAD_UNCHANGED)
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


def has_three_channels(jpeg: Bytes) -> bool:
    """Whether a JPEG is stored in three channels: grey and CMYK aren't, whatever decodes them.

    Raises:
        ValueError: The bytes are no JPEG.
    """
    return simplejpeg.decode_jpeg_header(jpeg)[2] in _THREE_CHANNELS


def _require_shape(found: tuple[int, ...], expected: Shape | None) -> None:
    size = f"{found[1]}x{found[0]}"
    if expected is not None and found != expected:
        raise WrongSizeError(f"is {size}, not {expected[1]}x{expected[0]}")
    if found[0] * found[1] > Limit.PIXELS.most:
        raise WrongSizeError(f"is {size}, more pixels than {Limit.PIXELS.variable}")
