"""A pair as messages of ROS 2 (https://github.com/ros2/common_interfaces), for recordings of MCAP.

Topics are those that image_transport and depth_image_proc expect: `/rgb/image/compressed`,
`/depth/image` (32FC1, metres, NaN: invalid), `/rgb/camera_info`, `/depth/camera_info`. `/prompt` is
mfsynth's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mfsynth.datasets.exports.pairs import Frame

# https://www.ros.org/reps/rep-0103.html: of frames with x right, y down, z forward.
_FRAME_ID: Final = "camera_optical_frame"
_BESIDE = "=" * 80
_STAMP = "int32 sec\nuint32 nanosec"
_HEADER = "builtin_interfaces/Time stamp\nstring frame_id"
_REGION = "uint32 x_offset\nuint32 y_offset\nuint32 height\nuint32 width\nbool do_rectify"


def _definition(text: str, **others: str) -> str:
    """With those of the messages that it is made of, as recordings have them."""
    known = {"std_msgs/Header": _HEADER, "builtin_interfaces/Time": _STAMP} | others
    return "\n".join([text, *(f"{_BESIDE}\nMSG: {name}\n{of}" for name, of in known.items())])


_COMPRESSED: Final = "sensor_msgs/msg/CompressedImage"
_IMAGE: Final = "sensor_msgs/msg/Image"
_CAMERA: Final = "sensor_msgs/msg/CameraInfo"
_STRING: Final = "std_msgs/msg/String"

DEFINITIONS: Final[Mapping[str, str]] = {
    _COMPRESSED: _definition("std_msgs/Header header\nstring format\nuint8[] data"),
    _IMAGE: _definition(
        "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\n"
        "uint8 is_bigendian\nuint32 step\nuint8[] data"
    ),
    _CAMERA: _definition(
        "std_msgs/Header header\nuint32 height\nuint32 width\nstring distortion_model\n"
        "float64[] d\nfloat64[9] k\nfloat64[9] r\nfloat64[12] p\nuint32 binning_x\n"
        "uint32 binning_y\nsensor_msgs/RegionOfInterest roi",
        **{"sensor_msgs/RegionOfInterest": _REGION},
    ),
    _STRING: "string data",
}
"""Of messages, by name."""


def ros2_messages(frame: Frame, time: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name and content of each message of a pair, by topic.

    Args:
        frame: The pair.
        time: Its own, nanoseconds.
    """
    camera, depth = frame.camera, depth_with_nan(frame)
    second, nanosecond = divmod(time, 10**9)
    header = {"stamp": {"sec": second, "nanosec": nanosecond}, "frame_id": _FRAME_ID}
    size = {"height": camera.height, "width": camera.width}
    image: dict[str, Any] = {
        "header": header,
        **size,
        "encoding": "32FC1",
        "is_bigendian": 0,
        "step": camera.width * depth.itemsize,
        "data": depth.tobytes(),
    }
    rgb: dict[str, Any] = {"header": header, "format": "jpeg", "data": frame.files["rgb"]}
    messages: dict[str, tuple[str, dict[str, Any]]] = {
        "/rgb/image/compressed": (_COMPRESSED, rgb),
        "/depth/image": (_IMAGE, image),
        "/prompt": (_STRING, {"data": frame.sample.prompt}),
    }
    if camera.intrinsics is not None:
        k = camera.intrinsics.matrix()
        about = {
            "header": header,
            **size,
            "distortion_model": "plumb_bob",
            "d": [0.0] * 5,
            "k": k.ravel().tolist(),
            "r": np.eye(3).ravel().tolist(),
            "p": np.hstack([k, np.zeros((3, 1))]).ravel().tolist(),
            "binning_x": 0,
            "binning_y": 0,
            "roi": {
                **dict.fromkeys(("x_offset", "y_offset", "height", "width"), 0),
                "do_rectify": False,
            },
        }
        messages |= dict.fromkeys(("/rgb/camera_info", "/depth/camera_info"), (_CAMERA, about))
    return messages


def depth_with_nan(frame: Frame) -> NDArray[np.float32]:
    """Depth, NaN where it is invalid (https://www.ros.org/reps/rep-0118.html), little-endian."""
    return np.where(frame.depth > 0, frame.depth, np.nan).astype("<f4")
