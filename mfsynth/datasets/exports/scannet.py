"""Scenes as ScanNet's reader exports them (github.com/ScanNet/ScanNet, SensReader)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from mfsynth.datasets.exports.base import Block, Exporter, Facts, described, reach_of, whole_codes
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import depth_png

_CODES_PER_METRE: Final = 1000.0


class ScanNet(Exporter):
    """A scene a recording and camera: color/N.jpg, depth/N.png, pose/N.txt, intrinsic/*.txt.

    Frames without a pose have no pose/N.txt.
    """

    holds: ClassVar[str] = (
        "the JPEG as it is, 16-bit PNG in millimetres, poses of cameras and K of each scene as 4x4"
    )
    cuts: ClassVar[str] = "half a millimetre; depth beyond 65.534 m (becomes invalid)"
    reach: ClassVar[tuple[float, float] | None] = reach_of(_CODES_PER_METRE)
    has_pictures: ClassVar[bool] = True

    def arranged(self, pairs: Pairs) -> Pairs:
        """See `Exporter`."""
        return pairs.by_frames

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        files, lost, photographs = {}, 0, []
        for frame in frames:
            codes, beyond = whole_codes(frame.depth, _CODES_PER_METRE)
            lost += beyond
            scene, place = _place(frame.number, pairs)
            image = f"{scene}/color/{place}.jpg"
            files[image] = frame.files["rgb"]
            photographs += frame.photograph(image)
            files[f"{scene}/depth/{place}.png"] = depth_png(codes, frame.row)
            if (pose := frame.sample.camera_to_world) is not None:
                files[f"{scene}/pose/{place}.txt"] = _text(pose)
        return Block(files, lost, photographs=photographs)

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        documents = {}
        for number in range(len(pairs)):
            scene, place = _place(number, pairs)
            intrinsics = pairs.camera(number).intrinsics
            if place or intrinsics is None:
                continue
            matrix = np.eye(4)
            matrix[:3, :3] = intrinsics.matrix()
            for kind in ("color", "depth"):
                documents[f"{scene}/intrinsic/intrinsic_{kind}.txt"] = _text(matrix)
        documents["metadata.jsonl"] = described(
            pairs, lambda number: "{}/color/{}.jpg".format(*_place(number, pairs))
        )
        return documents


def _place(number: int, pairs: Pairs) -> tuple[str, int]:
    scenes = pairs.scenes_of_cameras
    return f"scene{scenes.numbers[number]:04d}_00", int(scenes.places[number])


def _text(matrix: NDArray[np.float64]) -> bytes:
    return "".join(" ".join(map(repr, row)) + "\n" for row in matrix.tolist()).encode()
