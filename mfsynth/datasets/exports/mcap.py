"""MCAP recordings with Foxglove's messages (https://docs.foxglove.dev/docs/sdk/schemas)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from mfsynth.config.base import Count
from mfsynth.datasets.exports.base import Block, Exporter, Facts, described
from mfsynth.datasets.exports.pairs import Frame, Pairs

_SECOND: Final = 10**9
_FRAME_ID = "camera"


class Mcap(Exporter):
    """N.mcap: topics /rgb, /depth, /calibration, /prompt; a second from pair to pair.

    Attributes:
        pairs_per_file: Of each file but the last.
    """

    holds: ClassVar[str] = "the JPEG as it is, depth as 32FC1 (NaN: invalid), CameraCalibration"
    needs_module: ClassVar[str | None] = "mcap_protobuf"
    extra: ClassVar[str | None] = "mcap"

    pairs_per_file: Count = 256

    @property
    def block_size(self) -> int:
        """See `Exporter`."""
        return self.pairs_per_file

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        from mcap_protobuf.writer import Writer

        stream, first = io.BytesIO(), None
        with Writer(stream) as writer:
            for frame in frames:
                first = frame.number if first is None else first
                # Not from 0, which ROS takes for no time.
                time = (frame.number + 1) * _SECOND
                for topic, message in _messages(frame, time).items():
                    writer.write_message(topic, message, time, time, frame.number)
        assert first is not None
        return Block({f"{first // self.pairs_per_file:06d}.mcap": stream.getvalue()})

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        per = self.pairs_per_file
        return {"metadata.jsonl": described(pairs, lambda number: f"{number // per:06d}.mcap")}


def _messages(frame: Frame, time: int) -> dict[str, Any]:
    """By topic."""
    from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
    from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
    from foxglove_schemas_protobuf.Log_pb2 import Log
    from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
    from google.protobuf.timestamp_pb2 import Timestamp

    stamp = Timestamp(seconds=time // _SECOND)
    camera = frame.camera
    # https://www.ros.org/reps/rep-0118.html: invalid depth is NaN.
    depth = np.where(frame.depth > 0, frame.depth, np.nan).astype("<f4")
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
