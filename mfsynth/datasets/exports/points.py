"""Coloured point clouds, a file a pair: PLY, and GLB (glTF 2.0, which means metres)."""

from __future__ import annotations

import json
import struct
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.base import Count
from mfsynth.datasets.exports.base import Block, Exporter, Facts, described
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.formatting import one_line
from mfsynth.geometry import CameraAxes, backproject
from mfsynth.geometry.colour import linear_light

_VERTEX: Final = np.dtype([("position", "<f4", 3), ("colour", "u1", 3)])
# https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html: binary glTF, accessors, primitives.
_MAGIC, _VERSION, _JSON, _BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _POINTS, _ARRAY_BUFFER = 5126, 0, 34962


class _Points(Exporter):
    """A file a pair, named by its key.

    Attributes:
        stride: Of pixels, in rows and columns: 2 keeps one of four.
    """

    cuts: ClassVar[str] = "pixels without depth; the image where it is not seen as points"
    needs_camera: ClassVar[bool] = True
    suffix: ClassVar[str]

    stride: Count = 1

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        return Block({self._path(frame.sample.sample_id): self._file(frame) for frame in frames})

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        keys = [row["sample_id"] for row in pairs.rows(["sample_id"])]
        return {"metadata.jsonl": described(pairs, lambda number: self._path(keys[number]))}

    def _path(self, key: str) -> str:
        return f"{key}.{self.suffix}"

    def _file(self, frame: Frame) -> bytes:
        assert frame.camera.intrinsics is not None
        steps = np.s_[:: self.stride, :: self.stride]
        points = backproject(frame.depth, frame.camera.intrinsics)[steps]
        seen = np.isfinite(points[..., 2])
        return self._packed(points[seen], frame.sample.rgb[steps][seen], frame)

    @abstractmethod
    def _packed(
        self, points: NDArray[np.float32], colours: NDArray[np.uint8], frame: Frame
    ) -> bytes:
        """A file of points (N, 3) in OpenCV's axes, and their colours (N, 3)."""


class Ply(_Points):
    """Binary PLY: x right, y down, z forward, in the unit that a comment names."""

    holds: ClassVar[str] = "points and colours in the camera's frame; K and unit as comments"
    means_metres: ClassVar[bool] = False
    suffix: ClassVar[str] = "ply"

    def _packed(
        self, points: NDArray[np.float32], colours: NDArray[np.uint8], frame: Frame
    ) -> bytes:
        vertices = np.empty(len(points), _VERTEX)
        vertices["position"], vertices["colour"] = points, colours
        properties = [*(f"float {axis}" for axis in "xyz")]
        properties += [f"uchar {colour}" for colour in ("red", "green", "blue")]
        lines = [
            "ply",
            "format binary_little_endian 1.0",
            *(f"comment {name} {value}" for name, value in _about(frame).items()),
            f"element vertex {len(points)}",
            *(f"property {what}" for what in properties),
            "end_header",
        ]
        return "".join(f"{line}\n" for line in lines).encode() + vertices.tobytes()


class Glb(_Points):
    """Binary glTF: x right, y up, z towards the viewer, metres; colours are linear light."""

    holds: ClassVar[str] = (
        "points in glTF's axes, metres, with their colours as linear light; K in `extras`"
    )
    suffix: ClassVar[str] = "glb"

    def _packed(
        self, points: NDArray[np.float32], colours: NDArray[np.uint8], frame: Frame
    ) -> bytes:
        # The axes differ by their signs alone.
        turned = points * np.diag(CameraAxes.OPENGL.to_opencv()).astype("<f4")
        # Floats, for dark colours lie too close in linear light for 8 bits, and of 16 trimesh takes
        # the lower ones.
        data = turned.tobytes() + linear_light(colours).astype("<f4").tobytes()
        return _glb(_scene(turned, len(data), _about(frame)), data)


def _about(frame: Frame) -> dict[str, str]:
    camera = frame.camera
    assert camera.intrinsics is not None
    k = camera.intrinsics
    known = {
        "sample_id": frame.sample.sample_id,
        "unit": frame.unit,
        "size": f"{camera.width} {camera.height}",
        "fx_fy_cx_cy": f"{k.fx} {k.fy} {k.cx} {k.cy}",
        "pixel_centres": "integer",
        "intrinsics_source": camera.source,
        "digital_source_type": frame.row.get("digital_source_type"),
    }
    # A header of PLY ends its comments with their lines.
    return {name: one_line(value) for name, value in known.items() if value is not None}


def _scene(points: NDArray[np.float32], size: int, about: Mapping[str, str]) -> dict[str, Any]:
    asset = {"version": "2.0", "generator": "mfsynth", "extras": dict(about)}
    if not len(points):
        # An accessor has at least one element, and a buffer a byte.
        return {"asset": asset, "scene": 0, "scenes": [{}]}
    split, count = points.nbytes, len(points)
    return {
        "asset": asset,
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "mode": _POINTS}]}
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": _FLOAT,
                "count": count,
                "type": "VEC3",
                "min": points.min(axis=0).tolist(),
                "max": points.max(axis=0).tolist(),
            },
            {"bufferView": 1, "componentType": _FLOAT, "count": count, "type": "VEC3"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": split, "target": _ARRAY_BUFFER},
            {"buffer": 0, "byteOffset": split, "byteLength": size - split, "target": _ARRAY_BUFFER},
        ],
        "buffers": [{"byteLength": size}],
    }


def _glb(scene: Mapping[str, Any], data: bytes) -> bytes:
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = [(_JSON, text), *([(_BIN, data)] if data else [])]
    body = b"".join(struct.pack("<II", len(part), kind) + part for kind, part in chunks)
    return struct.pack("<III", _MAGIC, _VERSION, 12 + len(body)) + body
