"""Masks and objects of a source in the formats that have a place for them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from metric_run import CAMERAS, TURNED, make_labelled_run, mask_of
from training_files import source

from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.exports.exporting import export
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.registry import open_exporter
from mfsynth.errors import MfsynthError


@pytest.fixture
def labelled(tmp_path):
    return make_labelled_run(str(tmp_path / "run"))


def exported(run, folder, name, *options, **settings):
    exporter = open_exporter(name, options)
    return export(Pairs(RGBDDataset(run.url), **settings), name, exporter, folder)


def decoded(segmentation):
    """By COCO's definition: lengths of runs outside and inside in turn, column by column."""
    height, width = segmentation["size"]
    inside = np.repeat(np.arange(len(segmentation["counts"])) % 2, segmentation["counts"])
    return inside.astype(bool).reshape(width, height).T


def test_coco_has_each_instance_of_each_mask_with_its_name_box_and_area(labelled, out):
    exported(labelled, out, "coco")
    document = json.loads((out / "annotations" / "instances.json").read_bytes())
    names = {each["id"]: each["name"] for each in document["categories"]}
    images = {each["id"]: each for each in document["images"]}
    pairs = RGBDDataset(labelled.url, labels=True)
    assert [*images] == [1, 2, 3]
    assert (
        len(document["annotations"]) == len({each["id"] for each in document["annotations"]}) == 6
    )
    for number, sample in enumerate(pairs):
        image = images[number + 1]
        path = out / "images" / image["file_name"]
        assert path.read_bytes() == pairs.with_files(number)[1]["rgb"]
        np.testing.assert_array_equal(np.load(out / image["depth_file"]), sample.depth)
        assert (image["width"], image["height"], image["depth_unit"]) == (32, 24, "metres")
        assert image["K"] == CAMERAS[number % 2].matrix().tolist()
        of_image = [each for each in document["annotations"] if each["image_id"] == number + 1]
        found = {names[each["category_id"]]: each for each in of_image}
        if sample.mask is None:
            assert found == {}
            continue
        np.testing.assert_array_equal(sample.mask, mask_of(number))
        assert {*found} == {"mug", "block", "object"}
        for name, instance in (("mug", 300), ("block", 2), ("object", 9)):
            each, seen = found[name], mask_of(number) == instance
            np.testing.assert_array_equal(decoded(each["segmentation"]), seen)
            assert each["area"] == np.count_nonzero(seen)
            left, top, width, height = each["bbox"]
            box = np.zeros_like(seen)
            box[top : top + height, left : left + width] = True
            assert (seen <= box).all()
            assert box[:, seen.any(axis=0)].any()
            assert seen[top].any()
            assert seen[top + height - 1].any()
            assert seen[:, left].any()
            assert seen[:, left + width - 1].any()


def test_coco_of_pairs_without_masks_is_refused(metric_run, out):
    with pytest.raises(MfsynthError, match="no pair has a mask of instances"):
        exported(metric_run, out, "coco")
    assert not out.exists()


def test_parquet_has_files_of_labels_as_they_are_and_is_read_with_them(labelled, out, tmp_path):
    import datasets

    exported(labelled, out, "parquet", "pairs_per_file=2")
    rows = [
        row
        for path in sorted(out.glob("data/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    pairs = RGBDDataset(labelled.url, labels=True)
    for number, row in enumerate(rows):
        files = pairs.with_files(number)[1]
        stored = {"mask": (row["mask"] or {}).get("bytes"), "poses": row["poses"]}
        assert {name: data for name, data in stored.items() if data is not None} == {
            name: files[name] for name in ("mask", "poses") if name in files
        }
        assert not {name for name in row if name.endswith(("_offset", "_size", "_crc32"))}
    assert (rows[2]["mask"], rows[2]["poses"], rows[2]["objects"]) == (None, None, [])
    card = (out / "README.md").read_text()
    assert "`mask` is a PNG of the number of the instance" in card
    opened = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    for number in range(2):
        np.testing.assert_array_equal(np.asarray(opened[number]["mask"]), mask_of(number))
    assert opened[2]["mask"] is None
    keys = {"depth_key": "depth", "caption_key": "prompt", "id_key": "sample_id"}
    labels = {"mask": "mask", "poses": "poses"}
    again = source(kind="table", path=str(out), **keys, labels=labels)
    np.testing.assert_array_equal(again[1].labels.mask, pairs[1].mask)
    assert again[1].labels.objects == pairs[1].objects


def test_bop_has_poses_of_pairs_without_masks_and_is_read_back(tmp_path, out):
    store = make_labelled_run(str(tmp_path / "run"), unmasked=(0,))
    exported(store, out, "bop", "split=train")
    scene = out / "train" / "000000"
    poses = json.loads((scene / "scene_gt.json").read_bytes())
    infos = json.loads((scene / "scene_gt_info.json").read_bytes())
    assert [one["obj_id"] for one in poses["0"]] == [1]
    assert poses["0"] == poses["1"]
    assert infos == {"0": [{}], "1": [{"bbox_visib": [0, 0, 5, 4], "px_count_visib": 20}], "2": []}
    assert [path.name for path in (scene / "mask_visib").iterdir()] == ["000001_000000.png"]
    labels = {"preset": "bop"}
    back = source(kind="folder", layout="bop", path=str(out / "train"), labels=labels)
    for number, item in enumerate(map(back.__getitem__, range(2))):
        [mug] = item.labels.objects
        np.testing.assert_allclose(mug.matrix, np.array(TURNED).reshape(4, 4), atol=1e-9)
        assert (item.labels.mask is not None) == bool(number)


def test_bop_has_what_is_seen_of_each_posed_object_and_its_pose_in_millimetres(labelled, out):
    exported(labelled, out, "bop", "images_per_scene=2", "split=train")
    assert json.loads((out / "objects.json").read_bytes()) == {"1": "mug"}
    first, second = (out / "train" / f"{scene:06d}" for scene in (0, 1))
    poses = json.loads((first / "scene_gt.json").read_bytes())
    infos = json.loads((first / "scene_gt_info.json").read_bytes())
    for image in range(2):
        [pose], [info] = poses[str(image)], infos[str(image)]
        assert pose["obj_id"] == 1
        matrix = np.array(TURNED).reshape(4, 4)
        np.testing.assert_allclose(pose["cam_R_m2c"], matrix[:3, :3].ravel())
        np.testing.assert_allclose(pose["cam_t_m2c"], [100, 0, 1500])
        [path] = (first / "mask_visib").glob(f"{image:06d}_*.png")
        assert path.name == f"{image:06d}_000000.png"
        seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(seen, np.where(mask_of(image) == 300, 255, 0))
        assert info == {"bbox_visib": [0, 0, 5, 4], "px_count_visib": 20}
    # The last pair has no labels.
    assert json.loads((second / "scene_gt.json").read_bytes()) == {"0": []}
    assert not (second / "mask_visib").exists()
