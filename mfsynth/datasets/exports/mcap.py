"""MCAP recordings: messages of Foxglove (docs.foxglove.dev/docs/sdk/schemas) or of ROS 2."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, ClassVar, Final, Literal

import numpy as np

from mfsynth.config.base import Count
from mfsynth.datasets.exports.base import Block, Exporter, Facts, described
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.ros2_messages import DEFINITIONS, depth_with_nan, ros2_messages

_SECOND: Final = 10**9
_FRAME_ID = "camera"


class Mcap(Exporter):
    """N.mcap: image, depth, calibration and prompt of pairs of one recording.

    Times are the frames' own, from a second on; without these it is a second from pair to pair.

    Attributes:
        messages: Whose: `foxglove` (/rgb, /depth, /calibration, /prompt) or `ros2` (see
            `ros2_messages`).
        pairs_per_file: Of each file but the last.
    """

    holds: ClassVar[str] = "the JPEG as it is, depth as 32FC1 (NaN: invalid), CameraCalibration"
    needs_module: ClassVar[str | None] = "mcap_protobuf"
    extra: ClassVar[str | None] = "mcap"

    messages: Literal["foxglove", "ros2"] = "foxglove"
    pairs_per_file: Count = 256

    @property
    def module(self) -> str | None:
        """See `Exporter`."""
        return "mcap_ros2" if self.messages == "ros2" else self.needs_module

    def arranged(self, pairs: Pairs) -> Pairs:
        """See `Exporter`."""
        return pairs.by_frames

    def blocks(self, pairs: Pairs) -> Sequence[range]:
        """See `Exporter`: a file has pairs of one recording."""
        return pairs.scenes.stretches(self.pairs_per_file)

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        stream, path = io.BytesIO(), ""
        with _WRITERS[self.messages](stream) as write:
            for frame in frames:
                path = self._file(frame.number, pairs)
                write(frame, _time(frame.number, pairs))
        return Block({path: stream.getvalue()})

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        return {"metadata.jsonl": described(pairs, lambda number: self._file(number, pairs))}

    def _file(self, number: int, pairs: Pairs) -> str:
        return f"{pairs.scenes.stretch_of(number, self.pairs_per_file)[0]:06d}.mcap"


def _time(number: int, pairs: Pairs) -> int:
    """Of a pair, nanoseconds. Its recording's begin not with 0, which ROS takes for no time."""
    return _SECOND + round(float(pairs.scenes.since[number]) * 1e6) * 1000


Write = Callable[[Frame, int], None]
"""Takes a pair and its time in nanoseconds."""


@contextmanager
def _foxglove(stream: BinaryIO) -> Iterator[Write]:
    from mcap_protobuf.writer import Writer

    with Writer(stream) as writer:

        def write(frame: Frame, time: int) -> None:
            for topic, message in _messages(frame, time).items():
                writer.write_message(topic, message, time, time, frame.number)

        yield write


@contextmanager
def _ros2(stream: BinaryIO) -> Iterator[Write]:
    from mcap_ros2.writer import Writer

    with Writer(stream) as writer:
        schemas = {name: writer.register_msgdef(name, text) for name, text in DEFINITIONS.items()}

        def write(frame: Frame, time: int) -> None:
            for topic, (name, message) in ros2_messages(frame, time).items():
                writer.write_message(topic, schemas[name], message, time, time, frame.number)

        yield write


_WRITERS: Final[Mapping[str, Callable[[BinaryIO], AbstractContextManager[Write]]]] = {
    "foxglove": _foxglove,
    "ros2": _ros2,
}


def _messages(frame: Frame, time: int) -> dict[str, Any]:
    """By topic."""
    from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
    from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
    from foxglove_schemas_protobuf.Log_pb2 import Log
    from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
    from google.protobuf.timestamp_pb2 import Timestamp

    stamp = Timestamp(seconds=time // _SECOND, nanos=time % _SECOND)
    camera = frame.camera
    depth = depth_with_nan(frame)
    messages = {
        "/rgb": CompressedImage(
            timestamp=stamp, frame_id=_FRAME_ID, data=frame.files["rgb"], format="jpeg"
        ),
        "/depth": RawImage(
            timestamp=stamp,
            frame_id=_FRAME_ID,
            width=camera.width,
            height=camera.height,
            encoding="32FC1",
            step=camera.width * depth.itemsize,
            data=depth.tobytes(),
        ),
        "/prompt": Log(
            timestamp=stamp,
            level=Log.Level.INFO,
            name=frame.sample.sample_id,
            message=frame.sample.prompt,
        ),
    }
    if camera.intrinsics is not None:
        k = camera.intrinsics.matrix()
        messages["/calibration"] = CameraCalibration(
            timestamp=stamp,
            frame_id=_FRAME_ID,
            width=camera.width,
            height=camera.height,
            K=k.ravel().tolist(),
            R=np.eye(3).ravel().tolist(),
            P=np.hstack([k, np.zeros((3, 1))]).ravel().tolist(),
        )
    return messages
