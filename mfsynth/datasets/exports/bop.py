"""BOP scenes (github.com/thodan/bop_toolkit, docs/bop_datasets_format.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from mfsynth.config.base import Count
from mfsynth.datasets.exports.base import (
    HIGHEST_CODE,
    Block,
    Exporter,
    Facts,
    described,
    reach_of,
    whole_codes,
)
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import depth_png

# Millimetres a code: as BOP's rendered images have it, and where they end before the pair does.
_FINE, _COARSE = 0.1, 1.0
_METRES: Final = 0.001


class Bop(Exporter):
    """Scenes of a split: rgb/, depth/ and scene_camera.json. There are no objects yet.

    Attributes:
        split: Name of the folder that the scenes are in.
        images_per_scene: Of each scene but the last.
    """

    holds: ClassVar[str] = "the JPEG as it is, 16-bit PNG, cam_K and depth_scale of each image"
    loses: ClassVar[str] = (
        "depth beyond 65.534 m (becomes invalid); up to .05 mm, or .5 mm in images beyond 6.55 m"
    )
    reach: ClassVar[tuple[float, float] | None] = (
        reach_of(1 / (_FINE * _METRES))[0],
        reach_of(1 / (_COARSE * _METRES))[1],
    )
    has_pictures: ClassVar[bool] = True
    needs_camera: ClassVar[bool] = True

    split: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]+$")] = "train_mfsynth"
    images_per_scene: Count = 1000

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        files, lost = {}, 0
        for frame in frames:
            codes, beyond = whole_codes(frame.depth, 1 / (_scale(frame.number, pairs) * _METRES))
            lost += beyond
            scene, image = self._place(frame.number)
            files[f"{scene}/rgb/{image:06d}.jpg"] = frame.files["rgb"]
            files[f"{scene}/depth/{image:06d}.png"] = depth_png(codes, frame.row)
        return Block(files, lost)

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        scenes: dict[str, dict[str, Any]] = {}
        for number in range(len(pairs)):
            scene, image = self._place(number)
            intrinsics = pairs.camera(number).intrinsics
            assert intrinsics is not None
            scenes.setdefault(scene, {})[str(image)] = {
                "cam_K": intrinsics.matrix().ravel().tolist(),
                "depth_scale": _scale(number, pairs),
            }
        documents = {
            f"{scene}/scene_camera.json": _lines(cameras) for scene, cameras in scenes.items()
        }
        documents["metadata.jsonl"] = described(
            pairs, lambda number: "{}/rgb/{:06d}.jpg".format(*self._place(number))
        )
        return documents

    def _place(self, number: int) -> tuple[str, int]:
        scene, image = divmod(number, self.images_per_scene)
        return f"{self.split}/{scene:06d}", image


def _scale(number: int, pairs: Pairs) -> float:
    """Millimetres a code."""
    return _FINE if pairs.far(number) <= HIGHEST_CODE * _FINE * _METRES else _COARSE


def _lines(images: Mapping[str, Any]) -> bytes:
    """JSON with a line an image, as BOP's own files are."""
    lines = ",\n".join(f'  "{image}": {json.dumps(about)}' for image, about in images.items())
    return f"{{\n{lines}\n}}\n".encode()
