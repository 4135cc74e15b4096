"""Small recordings: ROS 1 bags, and ROS 2 in MCAP and SQLite."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

ROS1, ROS2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_HUMBLE)
SECOND = 10**9


def write_bag(
    path: Path, messages: list[tuple[str, int, Any]], kind: str, empty: tuple[str, ...] = ()
) -> Path:
    """A recording `bag`, `mcap` or `db3` of (topic, nanoseconds, message of `store_of(kind)`).

    `empty` are topics of images without any.
    """
    store = store_of(kind)
    if kind == "bag":
        writer: Any = rosbag1.Writer(path)
    else:
        storage = rosbag2.StoragePlugin.MCAP if kind == "mcap" else rosbag2.StoragePlugin.SQLITE3
        writer = rosbag2.Writer(path, version=9, storage_plugin=storage)
    encode = store.serialize_ros1 if kind == "bag" else store.serialize_cdr
    with writer:
        connections: dict[str, Any] = {}
        for topic in empty:
            writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
        for topic, time, message in messages:
            name = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, name, typestore=store)
            writer.write(connections[topic], time, encode(message, name))
    return path


def store_of(kind: str) -> Any:
    return ROS1 if kind == "bag" else ROS2


def header_of(store: Any, time: int) -> Any:
    stamp = store.types["builtin_interfaces/msg/Time"](time // SECOND, time % SECOND)
    names = {"stamp": stamp, "frame_id": "camera"}
    return store.types["std_msgs/msg/Header"](**names, **({"seq": 0} if store is ROS1 else {}))


def image_message(
    store: Any, pixels: NDArray[Any], encoding: str, time: int, padding: int = 0, big: bool = False
) -> Any:
    """As a camera's driver writes it, with bytes that fill up its rows."""
    height, width = pixels.shape[:2]
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = stored.reshape(height, -1).view(np.uint8)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    return store.types["sensor_msgs/msg/Image"](
        header=header_of(store, time),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big),
        step=data.shape[1],
        data=data.ravel(),
    )


def compressed_message(store: Any, data: bytes, kind: str, time: int) -> Any:
    return store.types["sensor_msgs/msg/CompressedImage"](
        header=header_of(store, time), format=kind, data=np.frombuffer(data, np.uint8)
    )


def camera_message(
    store: Any,
    values: tuple[float, ...],
    size: tuple[int, int],
    *,
    rectified: tuple[float, ...] | None = None,
    distortion: tuple[float, ...] = (0.0,) * 5,
    model: str = "plumb_bob",
    binning: tuple[int, int] = (0, 0),
    region: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Any:
    """A CameraInfo of fx, fy, cx and cy, and of those of P; a region is x, y, height and width."""
    fx, fy, cx, cy = values
    k = np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0])
    p = np.zeros(12)
    if rectified is not None:
        fx, fy, cx, cy = rectified
        p = np.array([fx, 0, cx, -3.0, 0, fy, cy, 0, 0, 0, 1, 0])
    interest = store.types["sensor_msgs/msg/RegionOfInterest"](*region, False)
    lenses = {"D": np.array(distortion), "K": k, "R": np.eye(3).ravel(), "P": p}
    if store is not ROS1:
        lenses = {name.lower(): value for name, value in lenses.items()}
    return store.types["sensor_msgs/msg/CameraInfo"](
        header=header_of(store, 0),
        height=size[1],
        width=size[0],
        distortion_model=model,
        binning_x=binning[0],
        binning_y=binning[1],
        roi=interest,
        **lenses,
    )


def rvl_of(codes: NDArray[Any]) -> bytes:
    """Width, height and codes in RVL, written number by number as the paper has it."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while True:
            low, number = number & 7, number >> 3
            nibbles.append(low | (8 if number else 0))
            if not number:
                return

    flat, at, previous = codes.ravel().astype(int).tolist(), 0, 0
    while at < len(flat):
        for given in (False, True):
            run = at
            while run < len(flat) and (flat[run] != 0) == given:
                run += 1
            put(run - at)
            for code in flat[at:run] if given else []:
                step = code - previous
                put(2 * step if step >= 0 else -2 * step - 1)
                previous = code
            at = run
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        sum(nibble << (28 - 4 * place) for place, nibble in enumerate(nibbles[start : start + 8]))
        for start in range(0, len(nibbles), 8)
    ]
    return struct.pack("<II", *codes.shape[::-1]) + struct.pack(f"<{len(words)}I", *words)
