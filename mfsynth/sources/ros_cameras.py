"""Cameras of images in recordings, of CameraInfo and CameraCalibration.

github.com/ros2/common_interfaces, sensor_msgs/msg/CameraInfo.msg: K is of the raw image,
P of the rectified one, both of all of the sensor's pixels; the image is the region of interest,
then binned. docs.foxglove.dev/docs/sdk/schemas has the same K, P and D.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.sources.camera_settings import CameraSettings

# What image_proc and drivers call what they have rectified, or carried over to such an image.
_RECTIFIED = re.compile(r"(^|/)(image_rect|aligned_depth)")
_FISHEYE = ("equidistant", "fisheye", "kannala")


def is_rectified(topic: str) -> bool:
    """Whether the images of a topic have no distortion any more, by its name."""
    return _RECTIFIED.search(topic) is not None


def camera_of(info: Any, topic: str, name: str) -> CameraSettings | None:
    """The camera of the images of a topic; None where the message has none.

    Args:
        info: The message.
        topic: Of the images.
        name: Of the recording, for messages.

    Raises:
        MfsynthError: The lens is no pinhole, or nobody says what the rectified images' camera is.
    """
    raw, projection = _numbers(info, "k"), _numbers(info, "p")
    rectified = is_rectified(topic)
    if raw.size != 9 or not raw.any():
        return None
    fx, _, cx, _, fy, cy, *_ = raw.tolist()
    if rectified and projection.size == 12 and projection.any():
        fx, _, cx, _, _, fy, cy, *_ = projection.tolist()
    elif rectified and _numbers(info, "d").any():
        raise MfsynthError(
            f"{name}: {topic} is rectified, and its camera has distortion and no P, so that "
            "nobody says what it is now; set encoding.camera"
        )
    elif not rectified and _model(info).startswith(_FISHEYE):
        raise MfsynthError(
            f"{name}: {topic} is of a fisheye lens ({_model(info)}), which is no pinhole; rectify "
            "it (image_proc) and name that topic"
        )
    camera = Intrinsics(fx, fy, cx, cy)
    width, height = int(info.width), int(info.height)
    region = getattr(info, "roi", None)
    if region is not None and region.width and region.height:
        if rectified and region.do_rectify:
            raise MfsynthError(
                f"{name}: {topic} is a region that was chosen after it was rectified, whose place "
                "nobody says; set encoding.camera"
            )
        camera = Intrinsics(fx, fy, cx - region.x_offset, cy - region.y_offset)
        width, height = int(region.width), int(region.height)
    across, down = (int(getattr(info, f"binning_{axis}", 0)) or 1 for axis in "xy")
    if (across, down) != (1, 1) and width and height:
        camera = camera.resized(1 / down, 1 / across)
        width, height = width // across, height // down
    return CameraSettings(
        fx=camera.fx,
        fy=camera.fy,
        cx=camera.cx,
        cy=camera.cy,
        size=(width, height) if width and height else None,
    )


def bend_of(info: Any, topic: str) -> float:
    """By how many pixels the lens bends the corners of the images of a topic, about.

    As the model plumb_bob of sensor_msgs, or rational_polynomial, has it; 0 of rectified images.
    """
    coefficients = np.pad(_numbers(info, "d"), (0, 8))[:8]
    raw = _numbers(info, "k")
    if is_rectified(topic) or raw.size != 9 or not raw[0] or not coefficients.any():
        return 0.0
    k1, k2, p1, p2, k3, k4, k5, k6 = coefficients.tolist()
    fx, _, cx, _, fy, cy, *_ = raw.tolist()
    x = (np.array([0, info.width - 1, 0, info.width - 1]) - cx) / fx
    y = (np.array([0, 0, info.height - 1, info.height - 1]) - cy) / fy
    r = x * x + y * y
    with np.errstate(all="ignore"):
        ratio = (1 + r * (k1 + r * (k2 + r * k3))) / (1 + r * (k4 + r * (k5 + r * k6)))
        off_x = x * ratio + 2 * p1 * x * y + p2 * (r + 2 * x * x) - x
        off_y = y * ratio + p1 * (r + 2 * y * y) + 2 * p2 * x * y - y
        found = float(np.hypot(fx * off_x, fy * off_y).max())
    return found if np.isfinite(found) else np.inf


def _numbers(info: Any, name: str) -> NDArray[np.float64]:
    """A field, which ROS 1 and Foxglove write in capitals."""
    found = getattr(info, name.upper(), None)
    return np.array(getattr(info, name, ()) if found is None else found, np.float64).ravel()


def _model(info: Any) -> str:
    return str(getattr(info, "distortion_model", ""))
