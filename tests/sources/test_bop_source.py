"""Scenes of BOP: depth by each image's scale, masks, poses and cameras of their objects."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from pydantic import ValidationError
from training_files import codes, image, one_line_error, png, source, write

from mfsynth.sources.contents import content_digest
from mfsynth.sources.registry import source_settings

K = [7.0, 0, 3.4, 0, 6.5, 2.6, 0, 0, 1]
TURN = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
BOXES = ((slice(0, 2), slice(0, 3)), (slice(3, 6), slice(4, 8)))


def flat(rows):
    return [value for row in rows for value in row]


def scene(root, camera=True):
    truth, cameras = {}, {}
    for number in (3, 12):
        name = f"{number:06d}"
        write(root / "rgb" / f"{name}.png", png(image(number)))
        write(root / "depth" / f"{name}.png", png(codes(number) // 4))
        cameras[str(number)] = {"cam_K": K, "depth_scale": 0.1}
        if camera:
            world = {"cam_R_w2c": flat(TURN), "cam_t_w2c": [100.0, 200.0, 300.0]}
            cameras[str(number)] |= world
        truth[str(number)] = [
            {"obj_id": 5 + at, "cam_R_m2c": flat(TURN), "cam_t_m2c": [10.0 * at, 0, 800.0]}
            for at in range(2)
        ]
        for at, box in enumerate(BOXES):
            mask = np.zeros((6, 8), np.uint8)
            mask[box] = 255
            write(root / "mask_visib" / f"{name}_{at:06d}.png", png(mask))
    write(root / "scene_camera.json", json.dumps(cameras))
    write(root / "scene_gt.json", json.dumps(truth))
    return root


def bop(root, **labels):
    labels = {"preset": "bop", **labels}
    return {"kind": "folder", "layout": "bop", "path": str(root), "labels": labels}


def test_masks_poses_and_cameras_of_a_scene_are_the_labels_of_its_images(tmp_path):
    scene(tmp_path / "000001")
    images = source(**bop(tmp_path))
    assert images.labels == ("mask.png", "poses.json", "camera_to_world")
    item = images[1]
    wanted = np.zeros((6, 8), np.uint16)
    for at, box in enumerate(BOXES):
        wanted[box] = at + 1
    np.testing.assert_array_equal(item.labels.mask, wanted)
    np.testing.assert_allclose(item.depth, codes(12) // 4 * 0.0001, rtol=1e-6)
    assert item.labels.names == {1: "obj_000005", 2: "obj_000006"}
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = TURN, (0.01, 0, 0.8)
    np.testing.assert_allclose(item.labels.objects[1].matrix, pose)
    pose[:3, 3] = 0.1, 0.2, 0.3
    world = np.reshape(item.labels.camera_to_world, (4, 4))
    np.testing.assert_allclose(world, np.linalg.inv(pose), atol=1e-12)


def test_a_scene_may_lack_objects_and_the_place_of_its_camera(tmp_path):
    (scene(tmp_path / "1", camera=False) / "scene_gt.json").unlink()
    labels = source(**bop(tmp_path))[0].labels
    assert (labels.mask, labels.objects, labels.camera_to_world) == (None, (), None)


def test_a_scene_may_lack_masks_and_has_its_poses_then(tmp_path):
    shutil.rmtree(scene(tmp_path / "1") / "mask_visib")
    settings = bop(tmp_path)
    labels = source(**settings)[0].labels
    assert labels.mask is None
    assert [one.name for one in labels.objects] == ["obj_000005", "obj_000006"]
    assert content_digest(source_settings(settings), source(**settings))
    seen = {"3": [{"px_count_visib": 4}, {}]}
    (tmp_path / "1" / "scene_gt_info.json").write_text(json.dumps(seen))
    with one_line_error("000003_000000.png: No such file"):
        _ = source(**settings)[0].labels


def test_the_content_has_the_masks(tmp_path):
    settings = bop(scene(tmp_path / "1").parent)
    before = content_digest(source_settings(settings), source(**settings))
    write(tmp_path / "1" / "mask_visib" / "000003_000000.png", png(np.ones((6, 8), np.uint8)))
    assert content_digest(source_settings(settings), source(**settings)) != before


@pytest.mark.parametrize(
    ("file", "data", "problem"),
    [
        ("mask_visib/000003_000001.png", None, "000003_000001.png: No such file"),
        (
            "mask_visib/000003_000000.png",
            png(np.ones((5, 8), np.uint8)),
            "a mask of 8x5 for 8x6 pixels; restore it",
        ),
        ("mask_visib/000003_000000.png", b"x", "corrupt or not a mask"),
        ("scene_gt.json", "{", "not valid JSON"),
        ("scene_gt.json", '{"3": 7}', "3 is no list of objects"),
        ("scene_gt.json", '{"3": [{"obj_id": 5}]}', "000003_000000|no pose cam_R_m2c"),
        ("scene_gt.json", '{"12": []}', "no '3' in it"),
    ],
)
def test_labels_that_are_broken_are_one_line(tmp_path, file, data, problem):
    root = scene(tmp_path / "1")
    if data is None:
        (root / file).unlink()
    else:
        write(root / file, data)
    with one_line_error(problem):
        source(**bop(tmp_path))[0]


def test_the_preset_is_of_folders_and_takes_the_place_of_names(tmp_path):
    with pytest.raises(ValidationError, match="give preset, or mask, poses and camera_to_world"):
        source(**bop(tmp_path, mask="../mask.png"))
    for kind, place in (("webdataset", "shards"), ("table", "path")):
        with pytest.raises(ValidationError, match="preset is of folders"):
            source(kind=kind, **{place: "x"}, labels={"preset": "bop"})
