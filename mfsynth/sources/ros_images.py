"""Images and depth maps in messages of ROS and Foxglove.

Encodings: github.com/ros2/common_interfaces, sensor_msgs/image_encodings.hpp; units of depth:
REP 118; `compressedDepth` and RVL: github.com/ros-perception/image_transport_plugins,
compressed_depth_image_transport.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import RgbImage
from mfsynth.sources.containers import container_of, read_codes
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.guards import require_few

# Metres a code; of others nobody says.
UNITS: Final[Mapping[str, float]] = {"16UC1": 0.001, "32FC1": 1.0}
_DEPTH: Final = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
# Bytes a pixel, and what makes RGB of them. OpenCV names a Bayer pattern by its second row.
_COLOUR: Final[Mapping[str, tuple[int, int | None]]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
}
# Of a number at most: 33 bits, more than the pixels of a map or the difference of two codes.
_RVL_NIBBLES: Final = 11
_CONFIG: Final = struct.Struct("<iff")
_ENCODING = re.compile(r"\s*([A-Za-z0-9_]+)")


def encoding_of(message: Any) -> str:
    """What the pixels of a message are, as `16UC1`; "" where it doesn't say."""
    found = getattr(message, "encoding", None)
    if found is None:
        match = _ENCODING.match(message.format)
        found = match[1] if match is not None else ""
        # Of what is compressed as a picture, only the picture says it.
        return found if found in _DEPTH else ""
    return str(found)


def is_depth(message: Any) -> bool:
    """Whether a message is of depth, not of colour."""
    return encoding_of(message) in _DEPTH


def image_of(message: Any) -> bytes | RgbImage:
    """The picture of a message: its file, or uint8 (H, W, 3).

    Raises:
        ValueError: It is of an encoding without a reader, or shorter than it says.
    """
    if not hasattr(message, "encoding"):
        return bytes(message.data)
    if message.encoding not in _COLOUR:
        known = ", ".join(_COLOUR)
        raise ValueError(f"an image of encoding {message.encoding}; known: {known}")
    channels, code = _COLOUR[message.encoding]
    rows = _rows(message, np.dtype("u1"), channels)
    pixels = rows.reshape(message.height, message.width, channels)
    if channels == 1:
        pixels = pixels[..., 0]
    pixels = np.ascontiguousarray(pixels)
    return pixels if code is None else np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def depth_of(message: Any, name: str) -> NDArray[Any]:
    """The codes (H, W) of a message: uint16, or float32 in metres.

    Raises:
        ValueError: It is of an encoding without a reader, or broken.
    """
    encoding = encoding_of(message)
    if encoding not in _DEPTH:
        raise ValueError(f"no depth, but {encoding or message.format}; set depth_key")
    if hasattr(message, "encoding"):
        dtype = np.dtype(_order(message) + _DEPTH[encoding])
        return _rows(message, dtype, 1).astype(dtype.newbyteorder("="))
    data = bytes(message.data)
    if "compressedDepth" not in message.format:
        return read_codes(data, name, Encoding(container="png"), "leave it out")
    _, scale, offset = _CONFIG.unpack_from(data)
    payload = data[_CONFIG.size :]
    if container_of(payload) == "png":
        codes = read_codes(payload, name, Encoding(container="png"), "leave it out")
    elif "rvl" in message.format.lower():
        codes = unpack_rvl(payload, name)
    else:
        raise ValueError(f"depth of the format {message.format!r}, which has no reader")
    if encoding == "32FC1":
        with np.errstate(all="ignore"):
            metres = np.float32(scale) / (codes.astype(np.float32) - np.float32(offset))
        return np.where(codes > 0, metres, np.float32(np.nan)).astype(np.float32)
    return codes


def unpack_rvl(data: bytes, name: str) -> NDArray[np.uint16]:
    """Codes of a map in RVL (Wilson 2017): width, height, and nibbles.

    A number is nibbles of three bits, the lowest first, with a fourth bit where more follow; eight
    nibbles are a little-endian word, the highest first. Runs are so many zeros, so many codes, and
    of each code its difference to the last one, 2 d or -2 d - 1.

    Raises:
        ValueError: It ends early, or has runs or codes that no map has.
    """
    width, height = struct.unpack_from("<II", data)
    require_few((height, width), name)
    words = np.frombuffer(data, "<u4", (len(data) - 8) // 4, 8)
    nibbles = (words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)).ravel() & 15
    lasts = np.flatnonzero(nibbles < 8)
    firsts = np.concatenate([[0], lasts[:-1] + 1]) if lasts.size else lasts
    places = np.arange(lasts[-1] + 1 if lasts.size else 0) - np.repeat(firsts, lasts - firsts + 1)
    parts = (nibbles[: places.size] & 7).astype(np.int64) << np.minimum(3 * places, 60)
    numbers = np.add.reduceat(parts, firsts) if lasts.size else parts
    numbers[lasts - firsts >= _RVL_NIBBLES] = -1
    codes = np.zeros(width * height, np.int64)
    at = pixel = 0
    runs: list[tuple[int, int, int]] = []
    while pixel < codes.size:
        if at + 2 > numbers.size:
            raise ValueError("its depth ends early")
        zeros, count = numbers[at : at + 2].tolist()
        if min(zeros, count) < 0 or not 0 < zeros + count <= codes.size - pixel:
            raise ValueError("its depth has a run of no pixels, or of more than are left")
        pixel += zeros
        runs.append((pixel, at + 2, count))
        pixel, at = pixel + count, at + 2 + count
    if at > numbers.size:
        raise ValueError("its depth ends early")
    for start, first, count in runs:
        steps = numbers[first : first + count]
        if (steps < 0).any():
            raise ValueError(f"its depth has a code of more than {_RVL_NIBBLES} nibbles")
        codes[start : start + count] = (steps >> 1) ^ -(steps & 1)
    given = np.zeros(codes.size, np.bool_)
    for start, _, count in runs:
        given[start : start + count] = True
    found = np.where(given, np.cumsum(codes), 0)
    return found.astype(np.uint16).reshape(height, width)


def _order(message: Any) -> str:
    return ">" if getattr(message, "is_bigendian", False) else "<"


def _rows(message: Any, dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    """Rows of a message (H, W * channels), without what fills them up."""
    height, width = message.height, message.width
    require_few((height, width), "the message")
    wanted = width * channels * dtype.itemsize
    step = message.step or wanted
    data = np.frombuffer(bytes(message.data), np.uint8)
    if step < wanted or data.size < step * height:
        raise ValueError(
            f"{data.size} bytes in rows of {step} for {width}x{height} pixels of {message.encoding}"
        )
    rows = np.ascontiguousarray(data[: step * height].reshape(height, step)[:, :wanted])
    return rows.view(dtype)
