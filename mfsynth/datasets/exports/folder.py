"""A plain folder: what anybody's script reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import ClassVar

from mfsynth.config.documents import json_document
from mfsynth.datasets.exports.base import Block, Content, Exporter, Facts, described, npy
from mfsynth.datasets.exports.pairs import Frame, Pairs


class PlainFolder(Exporter):
    """rgb/KEY.jpg, depth/KEY.npy (float32), camera/KEY.json, metadata.jsonl.

    Of pairs that have them mask/KEY.png and poses/KEY.json as runs have them, sensor/KEY.npy
    (float32, metres), and other/KEY.SUFFIX.
    """

    holds: ClassVar[str] = (
        "the JPEG as it is, depth as float32 .npy, K, size, pose and unit as JSON; masks, objects, "
        "a sensor's depth and other files where a source has them"
    )
    keeps: ClassVar[Set[Content]] = frozenset(Content)
    means_metres: ClassVar[bool] = False
    has_pictures: ClassVar[bool] = True
    wants_labels: ClassVar[bool] = True

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
            labels = _labels(frame)
            files |= labels
            # They came with the source, too.
            photographs += labels
        return Block(files, photographs=photographs)

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        keys = [row["sample_id"] for row in pairs.rows(["sample_id"])]
        return {"metadata.jsonl": described(pairs, lambda number: f"rgb/{keys[number]}.jpg")}


def _labels(frame: Frame) -> dict[str, bytes]:
    key, sample = frame.sample.sample_id, frame.sample
    files = {
        f"{name}/{key}.{suffix}": frame.files[name]
        for name, suffix in (("mask", "png"), ("poses", "json"))
        if name in frame.files
    }
    if sample.sensor is not None:
        files[f"sensor/{key}.npy"] = npy(sample.sensor)
    return files | {f"other/{key}.{suffix}": data for suffix, data in sample.others.items()}


def _camera(frame: Frame) -> dict[str, object]:
    camera, pose = frame.camera, frame.sample.camera_to_world
    return {
        "width": camera.width,
        "height": camera.height,
        "K": None if camera.intrinsics is None else camera.intrinsics.matrix().tolist(),
        "source": camera.source,
        "camera_to_world": None if pose is None else pose.tolist(),
        "pixel_centres": "integer",
        "depth_unit": frame.unit,
        "depth_invalid": 0,
    }
