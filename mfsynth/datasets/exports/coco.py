"""COCO instances (https://cocodataset.org/#format-data) of pairs whose source has masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mfsynth import __version__
from mfsynth.config.documents import json_document
from mfsynth.datasets.exports.base import (
    IN_METADATA,
    Block,
    Content,
    Exporter,
    Facts,
    described,
    npy,
)
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import box_of
from mfsynth.errors import MfsynthError

_UNNAMED = "object"


class Coco(Exporter):
    """images/KEY.jpg, depth/KEY.npy (float32), annotations/instances.json, metadata.jsonl."""

    holds: ClassVar[str] = (
        "the JPEG as it is, instances as run-length masks with box, area and name; depth as "
        "float32 .npy, unit and K in the image's record"
    )
    keeps: ClassVar[Set[Content]] = IN_METADATA | {Content.MASKS}
    cuts: ClassVar[str] = "names of objects that no mask shows"
    means_metres: ClassVar[bool] = False
    has_pictures: ClassVar[bool] = True
    wants_labels: ClassVar[bool] = True

    def require(self, pairs: Pairs) -> None:
        """See `Exporter`."""
        super().require(pairs)
        if not any(row["mask_offset"] is not None for row in pairs.rows(["mask_offset"])):
            raise MfsynthError(
                "no pair has a mask of instances, which this format is of; take a run whose source "
                "has them, or another format"
            )

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        files, instances, photographs = {}, [], []
        for frame in frames:
            key = frame.sample.sample_id
            image = f"images/{key}.jpg"
            files[image] = frame.files["rgb"]
            photographs += frame.photograph(image)
            files[f"depth/{key}.npy"] = npy(frame.depth)
            instances += _instances(frame)
        return Block(files, 0, {"instances": instances}, photographs)

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        found = [each for block in facts for each in block["instances"]]
        names = {name: n for n, name in enumerate(sorted({each["name"] for each in found}), 1)}
        annotations = [
            {
                "id": number,
                "image_id": each["image"] + 1,
                "category_id": names[each["name"]],
                "iscrowd": 0,
                **{key: each[key] for key in ("segmentation", "area", "bbox")},
            }
            for number, each in enumerate(found, 1)
        ]
        columns = ["sample_id", "licence", "digital_source_type"]
        rows = [*pairs.rows(columns)]
        licences = {licence: n for n, licence in enumerate(_distinct(rows), 1)}
        document = {
            "info": {"description": "RGB-D pairs made with mfsynth", "version": __version__},
            "licenses": [{"id": number, "name": name} for name, number in licences.items()],
            "categories": [{"id": number, "name": name} for name, number in names.items()],
            "images": [
                _image(number, row, pairs, licences[row["licence"] or "unknown"])
                for number, row in enumerate(rows)
            ],
            "annotations": annotations,
        }
        return {
            "annotations/instances.json": json_document(document),
            "metadata.jsonl": described(
                pairs, lambda number: f"images/{rows[number]['sample_id']}.jpg"
            ),
        }


def _distinct(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({row["licence"] or "unknown" for row in rows})


def _image(number: int, row: Mapping[str, Any], pairs: Pairs, licence: int) -> dict[str, Any]:
    camera = pairs.camera(number)
    return {
        # Readers take 0 for none.
        "id": number + 1,
        "file_name": f"{row['sample_id']}.jpg",
        "width": camera.width,
        "height": camera.height,
        "license": licence,
        "digital_source_type": row["digital_source_type"],
        "depth_file": f"depth/{row['sample_id']}.npy",
        "depth_unit": pairs.unit(number),
        "K": None if camera.intrinsics is None else camera.intrinsics.matrix().tolist(),
        "intrinsics_source": camera.source,
    }


def _instances(frame: Frame) -> list[dict[str, Any]]:
    """Of a pair, each with its name and what COCO says of it; none without a mask."""
    mask = frame.sample.mask
    if mask is None:
        return []
    names = {each.id: each.name for each in frame.sample.objects}
    found = []
    for number in map(int, np.unique(mask[mask > 0])):
        seen = mask == number
        found.append(
            {
                "image": frame.number,
                "name": names.get(number) or _UNNAMED,
                "segmentation": {"size": [*seen.shape], "counts": run_lengths(seen)},
                "area": int(seen.sum()),
                "bbox": box_of(seen),
            }
        )
    return found


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's run lengths, column by column: of what is outside and inside in turn.

    Args:
        mask: bool (H, W).
    """
    flat = mask.ravel(order="F")
    ends = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), len(flat)]
    lengths = np.diff(ends).tolist()
    return [0, *lengths] if flat[0] else lengths
