"""Scenes as ScanNet's reader exports them (github.com/ScanNet/ScanNet, SensReader)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

import numpy as np

from mfsynth.datasets.exports.base import Block, Exporter, Facts, described, reach_of, whole_codes
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import depth_png
from mfsynth.geometry import Intrinsics

_CODES_PER_METRE: Final = 1000.0


class ScanNet(Exporter):
    """A scene a camera: color/N.jpg, depth/N.png, intrinsic/*.txt. There are no poses."""

    holds: ClassVar[str] = "the JPEG as it is, 16-bit PNG in millimetres, K of each scene as 4x4"
    loses: ClassVar[str] = "half a millimetre; depth beyond 65.534 m (becomes invalid)"
    reach: ClassVar[tuple[float, float] | None] = reach_of(_CODES_PER_METRE)
    has_pictures: ClassVar[bool] = True

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
        return Block(files, lost, photographs=photographs)

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        documents = {}
        for number, camera in enumerate(pairs.cameras):
            if camera.intrinsics is None:
                continue
            matrix = _four_by_four(camera.intrinsics)
            for kind in ("color", "depth"):
                documents[f"{_scene(number)}/intrinsic/intrinsic_{kind}.txt"] = matrix
        documents["metadata.jsonl"] = described(
            pairs, lambda number: "{}/color/{}.jpg".format(*_place(number, pairs))
        )
        return documents


def _scene(camera: int) -> str:
    return f"scene{camera:04d}_00"


def _place(number: int, pairs: Pairs) -> tuple[str, int]:
    camera, place = pairs.group(number)
    return _scene(camera), place


def _four_by_four(intrinsics: Intrinsics) -> bytes:
    matrix = np.eye(4)
    matrix[:3, :3] = intrinsics.matrix()
    return "".join(" ".join(map(repr, row)) + "\n" for row in matrix.tolist()).encode()
