"""Labels of BOP scenes (github.com/thodan/bop_toolkit, docs/bop_datasets_format.md).

A scene has scene_gt.json with the objects of every image, perhaps mask_visib/ with what is seen of
each, and scene_camera.json, perhaps with where the camera is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError
from mfsynth.shards.labels import (
    MASK,
    POSES,
    Matrix,
    ObjectPose,
    encode_mask,
    encode_poses,
    rigid,
)
from mfsynth.sources.beside import Beside, filled, value_at
from mfsynth.sources.containers import open_picture
from mfsynth.sources.guards import decoding

TRUTH, CAMERAS, MASKS = "../scene_gt.json", "../scene_camera.json", "../mask_visib"
SEEN = "../scene_gt_info.json"
_MILLIMETRE: Final = 0.001


def read_bop(beside: Beside, shape: tuple[int, int]) -> tuple[dict[str, bytes], Matrix | None]:
    """Labels of an image in a scene.

    Instances are numbered from 1 in the order of scene_gt.json, and named as the models are, as
    obj_000005; their poses are in metres.

    Args:
        beside: The files beside it.
        shape: Its rows and columns.

    Returns:
        Mask and poses by their suffixes, and where the camera is in the scene; none of a scene
        without scene_gt.json, no mask of an image without any, or of which nobody says it.

    Raises:
        MfsynthError: A file is not what it should be, or masks are missing: some of an image, or
            all of one of which scene_gt_info.json says how much is seen.
    """
    number = filled("{number}", beside.stem)
    files: dict[str, bytes] = {}
    if beside.has(TRUTH):
        data, name = beside.read(TRUTH)
        objects = value_at(data, name, (number,))
        if not isinstance(objects, list):
            raise MfsynthError(f"{name}: {number} is no list of objects; restore it")
        poses = [_object(one, at + 1, f"{name}: {number}") for at, one in enumerate(objects)]
        files = {POSES: encode_poses(poses)}
        seen = [f"{MASKS}/{int(number):06d}_{at:06d}.png" for at in range(len(objects))]
        if not seen or any(map(beside.has, seen)) or _says_what_is_seen(beside, number):
            mask = np.zeros(shape, np.uint16)
            for at, file in enumerate(seen):
                mask[_visible(beside, file, shape)] = at + 1
            files[MASK] = encode_mask(mask)
    if not beside.has(CAMERAS):
        return files, None
    data, name = beside.read(CAMERAS)
    camera = value_at(data, name, (number,))
    if not isinstance(camera, Mapping) or "cam_R_w2c" not in camera:
        return files, None
    pose = _pose(camera, "w2c", f"{name}: {number}")
    return files, rigid(np.linalg.inv(np.reshape(pose, (4, 4))))


def _says_what_is_seen(beside: Beside, number: str) -> bool:
    if not beside.has(SEEN):
        return False
    data, name = beside.read(SEEN)
    found = value_at(data, name, (number,))
    return isinstance(found, list) and any("px_count_visib" in one for one in found)


def _visible(beside: Beside, file: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    data, name = beside.read(file)
    with decoding(name, "a mask", "restore it"), open_picture(data, name) as picture:
        seen = np.asarray(picture)
    if seen.shape != shape:
        told = "x".join(map(str, seen.shape[::-1]))
        raise MfsynthError(f"{name}: a mask of {told} for {shape[1]}x{shape[0]} pixels; restore it")
    return np.asarray(seen > 0)


def _object(values: Any, one: int, where: str) -> ObjectPose:
    number = values.get("obj_id") if isinstance(values, Mapping) else None
    if not isinstance(number, int):
        raise MfsynthError(f"{where}: object {one - 1} has no obj_id; restore it")
    return ObjectPose(one, f"obj_{number:06d}", _pose(values, "m2c", where))


def _pose(values: Mapping[str, Any], kind: str, where: str) -> Matrix:
    try:
        turn = np.asarray(values[f"cam_R_{kind}"], np.float64).reshape(3, 3)
        move = np.asarray(values[f"cam_t_{kind}"], np.float64).reshape(3, 1) * _MILLIMETRE
        return rigid(np.hstack([turn, move]))
    except (KeyError, TypeError, ValueError) as error:
        raise MfsynthError(f"{where}: no pose cam_R_{kind}, cam_t_{kind} ({error})") from error
