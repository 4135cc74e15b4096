"""BOP scenes (github.com/thodan/bop_toolkit, docs/bop_datasets_format.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.config.base import Count
from mfsynth.datasets.exports.base import (
    HIGHEST_CODE,
    IN_METADATA,
    Block,
    Content,
    Exporter,
    Facts,
    described,
    reach_of,
    whole_codes,
)
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import box_of, depth_png, mask_png

# Millimetres a code: as BOP's rendered images have it, and where they end before the pair does.
_FINE, _COARSE = 0.1, 1.0
_METRES: Final = 0.001


class Bop(Exporter):
    """Scenes of a split: rgb/, depth/, scene_camera.json; of pairs with posed objects their labels.

    A scene is of one recording; scene_camera.json has poses of cameras where there are any.
    mask_visib/ has what is seen of each object, scene_gt.json its pose, scene_gt_info.json its box
    and how many pixels are seen, or nothing of objects of a pair without a mask; objects.json says
    what the numbers of objects are called.

    Attributes:
        split: Name of the folder that the scenes are in.
        images_per_scene: Of each scene but the last.
    """

    holds: ClassVar[str] = (
        "the JPEG as it is, 16-bit PNG, cam_K, depth_scale and pose of the camera of each image; "
        "masks and poses of objects where a source has them"
    )
    keeps: ClassVar[Set[Content]] = IN_METADATA | {Content.MASKS, Content.OBJECTS}
    cuts: ClassVar[str] = (
        "depth beyond 65.534 m (becomes invalid); up to .05 mm, or .5 mm in images beyond 6.55 m; "
        "masks and names of objects that have no pose"
    )
    reach: ClassVar[tuple[float, float] | None] = (
        reach_of(1 / (_FINE * _METRES))[0],
        reach_of(1 / (_COARSE * _METRES))[1],
    )
    has_pictures: ClassVar[bool] = True
    needs_camera: ClassVar[bool] = True
    wants_labels: ClassVar[bool] = True

    split: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]+$")] = "train_mfsynth"
    images_per_scene: Count = 1000

    def arranged(self, pairs: Pairs) -> Pairs:
        """See `Exporter`."""
        return pairs.by_frames

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        files, lost, seen, photographs = {}, 0, [], []
        for frame in frames:
            codes, beyond = whole_codes(frame.depth, 1 / (_scale(frame.number, pairs) * _METRES))
            lost += beyond
            scene, image = self._place(frame.number, pairs)
            picture = f"{scene}/rgb/{image:06d}.jpg"
            files[picture] = frame.files["rgb"]
            photographs += frame.photograph(picture)
            files[f"{scene}/depth/{image:06d}.png"] = depth_png(codes, frame.row)
            for place, (mask, about) in enumerate(_objects(frame)):
                if mask is not None:
                    files[f"{scene}/mask_visib/{image:06d}_{place:06d}.png"] = mask_png(mask)
                seen.append({"scene": scene, "image": str(image), **about})
        facts = {"objects": seen} if seen else {}
        return Block(files, lost, facts, photographs)

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        scenes: dict[str, dict[str, Any]] = {}
        for number, pose in enumerate(pairs.poses()):
            scene, image = self._place(number, pairs)
            intrinsics = pairs.camera(number).intrinsics
            assert intrinsics is not None
            scenes.setdefault(scene, {})[str(image)] = {
                "cam_K": intrinsics.matrix().ravel().tolist(),
                "depth_scale": _scale(number, pairs),
                **({} if pose is None else _motion(np.linalg.inv(pose), "w2c")),
            }
        documents = {
            f"{scene}/scene_camera.json": _lines(cameras) for scene, cameras in scenes.items()
        }
        documents |= _labels([each for block in facts for each in block.get("objects", ())], scenes)
        documents["metadata.jsonl"] = described(
            pairs, lambda number: "{}/rgb/{:06d}.jpg".format(*self._place(number, pairs))
        )
        return documents

    def _place(self, number: int, pairs: Pairs) -> tuple[str, int]:
        scene, image = pairs.scenes.stretch_of(number, self.images_per_scene)
        return f"{self.split}/{scene:06d}", image


def _objects(frame: Frame) -> Iterator[tuple[NDArray[np.bool_] | None, dict[str, Any]]]:
    """What is seen of each posed object of a pair, if that is known, and what BOP says of it."""
    mask = frame.sample.mask
    for each in frame.sample.objects:
        pose = each.matrix
        if pose is None:
            continue
        visible = None if mask is None else mask == each.id
        info: dict[str, Any] = {}
        if visible is not None:
            info = {"bbox_visib": box_of(visible), "px_count_visib": int(visible.sum())}
        # Readers go by the place in both lists: an object of which nothing is known has one, too.
        yield visible, {"name": each.name, "gt": _motion(pose, "m2c"), "info": info}


def _motion(pose: NDArray[np.floating], kind: str) -> dict[str, list[float]]:
    return {
        f"cam_R_{kind}": pose[:3, :3].ravel().tolist(),
        f"cam_t_{kind}": (pose[:3, 3] / _METRES).tolist(),
    }


def _labels(
    objects: Sequence[Mapping[str, Any]], scenes: Mapping[str, Mapping[str, Any]]
) -> dict[str, bytes]:
    """Files of scenes with objects; none where there are no objects at all."""
    if not objects:
        return {}
    names = sorted({each["name"] for each in objects})
    found: dict[str, dict[str, list[Any]]] = {
        f"{scene}/scene_{kind}.json": {image: [] for image in images}
        for scene, images in scenes.items()
        for kind in ("gt", "gt_info")
    }
    for each in objects:
        number = {"obj_id": names.index(each["name"]) + 1}
        found[f"{each['scene']}/scene_gt.json"][each["image"]].append(each["gt"] | number)
        found[f"{each['scene']}/scene_gt_info.json"][each["image"]].append(each["info"])
    documents = {path: _lines(of) for path, of in found.items()}
    documents["objects.json"] = _lines({str(number): name for number, name in enumerate(names, 1)})
    return documents


def _scale(number: int, pairs: Pairs) -> float:
    """Millimetres a code."""
    return _FINE if pairs.far(number) <= HIGHEST_CODE * _FINE * _METRES else _COARSE


def _lines(images: Mapping[str, Any]) -> bytes:
    """JSON with a line an image, as BOP's own files are."""
    lines = ",\n".join(f'  "{image}": {json.dumps(about)}' for image, about in images.items())
    return f"{{\n{lines}\n}}\n".encode()
