"""A plain folder: what anybody's script reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from mfsynth.config.documents import json_document
from mfsynth.datasets.exports.base import Block, Exporter, Facts, described, npy
from mfsynth.datasets.exports.pairs import Frame, Pairs


class PlainFolder(Exporter):
    """rgb/KEY.jpg, depth/KEY.npy (float32), camera/KEY.json, metadata.jsonl."""

    holds: ClassVar[str] = "the JPEG as it is, depth as float32 .npy, K, size and unit as JSON"
    means_metres: ClassVar[bool] = False
    has_pictures: ClassVar[bool] = True

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        files, photographs = {}, []
        for frame in frames:
            key = frame.sample.sample_id
            image = f"rgb/{key}.jpg"
            files[image] = frame.files["rgb"]
            photographs += frame.photograph(image)
            files[f"depth/{key}.npy"] = npy(frame.depth)
            files[f"camera/{key}.json"] = json_document(_camera(frame))
        return Block(files, photographs=photographs)

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        keys = [row["sample_id"] for row in pairs.rows(["sample_id"])]
        return {"metadata.jsonl": described(pairs, lambda number: f"rgb/{keys[number]}.jpg")}


def _camera(frame: Frame) -> dict[str, object]:
    camera = frame.camera
    return {
        "width": camera.width,
        "height": camera.height,
        "K": None if camera.intrinsics is None else camera.intrinsics.matrix().tolist(),
        "source": camera.source,
        "pixel_centres": "integer",
        "depth_unit": frame.unit,
        "depth_invalid": 0,
    }
