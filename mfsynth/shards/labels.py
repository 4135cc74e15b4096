"""What a source knows of a view beside image and depth, and how that is stored.

Files of labels pass through a run byte for byte: `KEY.mask.png`, `KEY.poses.json`, and any other
under its own suffix. What is decoded of them here is what checks and readers need.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.documents import strict_json
from mfsynth.config.limits import Limit

InstanceMask = NDArray[np.uint16]
"""uint16 (H, W), numbers of instances; 0 = none."""
Matrix = tuple[float, ...]
"""4×4, row by row."""

MASK, POSES = "mask.png", "poses.json"
"""Suffixes of the two that are decoded."""
CAMERA_TO_WORLD, EPISODE = "camera_to_world", "episode"
SENSOR, SENSOR_PRESET = "sensor_depth", "sensor_preset"
"""Of sources that are runs: their `KEY.sensor.png`, and whose sensor would have returned it."""
OTHER = re.compile(r"[a-z0-9]{1,40}|[a-z0-9_]{1,40}\.[a-z0-9]{1,8}")
"""Suffixes of other files, which become parts of the names of columns."""

_MOST_ID = 65535
BIT_DEPTH = 24
"""Where a PNG says it."""
_COLOUR_TYPE = 25
_GREYSCALE = 0
_RIGID = 1e-3


@dataclass(frozen=True, slots=True)
class ObjectPose:
    """An object of a view.

    Attributes:
        id: Its number in the mask, from 1.
        name: What it is called.
        object_to_camera: In metres, in the camera's axes (x right, y down, z forward); None where
            nobody knows it.
    """

    id: int
    name: str
    object_to_camera: Matrix | None = None

    @property
    def matrix(self) -> NDArray[np.float64] | None:
        """`object_to_camera` as float64 (4, 4)."""
        return None if self.object_to_camera is None else as_matrix(self.object_to_camera)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a view stands in an episode: frames that show one scene, one after the other.

    Attributes:
        episode: What it is called in its source.
        frame: Number in it.
        timestamp: Seconds; None where nobody knows.
    """

    episode: str
    frame: int
    timestamp: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.frame < 2**63:
            raise ValueError(f"frame {self.frame} is no number from 0")
        if self.timestamp is not None and not math.isfinite(self.timestamp):
            raise ValueError(f"timestamp {self.timestamp} is no time in seconds")


@dataclass(frozen=True, slots=True)
class SensorFile:
    """Depth of a sensor as it is stored.

    Attributes:
        png: The file.
        unit_per_code: Metres a code.
        preset: Whose sensor would have returned it; None of a real measurement.
    """

    png: bytes
    unit_per_code: float
    preset: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels of one view.

    Attributes:
        files: By suffix, as they are stored.
        mask: What `mask.png` says; None without.
        objects: What `poses.json` says.
        camera_to_world: Pose of the camera in OpenCV's axes, metres; None where nobody knows it.
        moment: Of the episode that it is of; None of a view by itself.
        sensor: What a sensor returned of it beside its depth; None without.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    mask: InstanceMask | None = None
    objects: tuple[ObjectPose, ...] = ()
    camera_to_world: Matrix | None = None
    moment: Moment | None = None
    sensor: SensorFile | None = None

    @classmethod
    def of(
        cls,
        files: Mapping[str, bytes],
        shape: tuple[int, int],
        camera_to_world: Matrix | None = None,
        moment: Moment | None = None,
    ) -> Labels:
        """Labels of files, decoded.

        Args:
            files: By suffix.
            shape: Rows and columns of the view.
            camera_to_world: As above.
            moment: As above.

        Raises:
            ValueError: A file is not what its suffix says, or of another size; names the suffix.
        """
        mask = decode_mask(files[MASK], shape) if MASK in files else None
        objects = decode_poses(files[POSES]) if POSES in files else ()
        return cls(files, mask, objects, camera_to_world, moment)

    @property
    def names(self) -> dict[int, str]:
        """Of objects, by their numbers in the mask."""
        return {one.id: one.name for one in self.objects}


NO_LABELS = Labels()


def decode_mask(png: bytes, shape: tuple[int, int]) -> InstanceMask:
    """The instances in a greyscale PNG of 8 or 16 bits.

    Raises:
        ValueError: It is none, or one of another size.
    """
    if not is_mask(png):
        raise ValueError(f"{MASK}: not a whole greyscale PNG of 8 or 16 bits")
    width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
    if (height, width) != shape:
        raise ValueError(f"{MASK}: is {width}x{height}, not {shape[1]}x{shape[0]}")
    if width * height > Limit.PIXELS.most:
        raise ValueError(f"{MASK}: is {width}x{height}, more than {Limit.PIXELS.variable}")
    import cv2

    found = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.ndim != 2:
        raise ValueError(f"{MASK}: does not decode")
    return found.astype(np.uint16, copy=False)


def is_mask(data: bytes) -> bool:
    """Whether a file is a greyscale PNG of 8 or 16 bits, by its two ends."""
    whole = data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
    return whole and data[_COLOUR_TYPE] == _GREYSCALE and data[BIT_DEPTH] in (8, 16)


def encode_mask(mask: InstanceMask) -> bytes:
    """Instances (H, W) as a greyscale PNG of 16 bits.

    Raises:
        ValueError: OpenCV did not encode it.
    """
    import cv2

    done, png = cv2.imencode(".png", mask.astype(np.uint16, copy=False))
    if not done:
        raise ValueError(f"OpenCV could not encode a mask of shape {mask.shape}")
    return png.tobytes()


def decode_poses(data: bytes) -> tuple[ObjectPose, ...]:
    """The objects in a list of `id`, `name` and `object_to_camera`; other keys are not looked at.

    Raises:
        ValueError: It is none; says what is wrong.
    """
    try:
        listed = strict_json(data)
    except ValueError as error:
        raise ValueError(f"{POSES}: not valid JSON ({error})") from error
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        raise ValueError(f"{POSES}: not a list of objects with id and name")
    found = tuple(_pose(number, one) for number, one in enumerate(listed))
    if len({one.id for one in found}) < len(found):
        raise ValueError(f"{POSES}: two objects have one id")
    return found


def encode_poses(objects: Iterable[ObjectPose]) -> bytes:
    """Objects as `decode_poses` reads them."""
    listed = [
        {
            "id": one.id,
            "name": one.name,
            "object_to_camera": (
                None if one.object_to_camera is None else [*map(float, one.object_to_camera)]
            ),
        }
        for one in objects
    ]
    return json.dumps(listed, ensure_ascii=False, allow_nan=False).encode()


def rigid(values: object) -> Matrix:
    """A rigid motion of 16 numbers, row by row, or of four rows, or three.

    Raises:
        ValueError: It is none.
    """
    try:
        matrix = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError("no matrix of numbers") from None
    if matrix.size == 12:
        matrix = np.vstack([matrix.reshape(3, 4), [[0, 0, 0, 1]]])
    if matrix.size != 16:
        raise ValueError(f"a pose is a matrix of 4x4, this has {matrix.size} numbers")
    matrix = matrix.reshape(4, 4)
    turn = matrix[:3, :3]
    if not np.isfinite(matrix).all() or not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise ValueError("a pose is finite and ends with the row 0 0 0 1 (not by columns?)")
    off = np.abs(turn @ turn.T - np.eye(3)).max()
    if off > _RIGID or np.linalg.det(turn) < 0:
        raise ValueError("a pose turns and moves, this scales, shears or mirrors")
    return tuple(matrix.ravel().tolist())


def as_matrix(values: Sequence[float]) -> NDArray[np.float64]:
    """16 numbers, row by row, as float64 (4, 4)."""
    return np.array(values, np.float64).reshape(4, 4)


def suffix_of(member: str) -> str:
    """Suffix of another file by the name of its member: that of `normals_png` is `normals.png`."""
    stem, line, extension = member.rpartition("_")
    return f"{stem}.{extension}" if line else extension


def member_of(suffix: str) -> str:
    """Name of the member that another file is; part of its columns' names."""
    return suffix.replace(".", "_")


def _pose(number: int, values: Mapping[str, Any]) -> ObjectPose:
    where = f"{POSES}: object {number}"
    one, name = values.get("id"), values.get("name", "")
    if isinstance(one, bool) or not isinstance(one, int) or not 1 <= one <= _MOST_ID:
        raise ValueError(f"{where}: id is no number from 1 to {_MOST_ID}, as the mask has it")
    if not isinstance(name, str):
        raise ValueError(f"{where}: name is no text")
    pose = values.get("object_to_camera")
    try:
        return ObjectPose(one, name, None if pose is None else rigid(pose))
    except ValueError as error:
        raise ValueError(f"{where}: object_to_camera: {error}") from error
