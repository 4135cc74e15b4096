"""All that a run can hold: each format gives it back, or says that it is lost."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from metric_run import make_episode_run, make_full_run

from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.exports.base import IN_METADATA, Content
from mfsynth.datasets.exports.exporting import export
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.registry import FORMATS, open_exporter
from mfsynth.datasets.samples import RGBDSample
from mfsynth.shards.labels import Moment, decode_mask, decode_poses
from mfsynth.sources.registry import source_settings

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "exports.md"
# What of a sample every format has, or has in the words of `metadata.jsonl`.
IN_ALL = {"ref", "rgb", "depth", "valid", "intrinsics", "intrinsics_source", "camera"}
IN_ALL |= {"depth_kind", "mode", "model_id", "licence", "source_licence"}
OF_SAMPLES = {
    Content.SCORES: ["scores"],
    Content.TIMES: ["episode", "frame", "timestamp"],
    Content.CAMERAS: ["camera_to_world"],
    Content.MASKS: ["mask"],
    Content.OBJECTS: ["objects"],
    Content.SENSOR: ["sensor"],
    Content.OTHERS: ["others"],
}


@pytest.fixture(scope="module")
def full_run(tmp_path_factory):
    return make_full_run(str(tmp_path_factory.mktemp("runs") / "full"))


@pytest.fixture(scope="module")
def samples(full_run):
    return {sample.sample_id: sample for sample in RGBDDataset(full_run.url, labels=True)}


def exported(run, folder, name, *options):
    return export(Pairs(RGBDDataset(run.url)), name, open_exporter(name, options), folder)


def opened(**settings):
    return source_settings({"kind": "folder", **settings}).open()


def held(sample):
    """What a sample has of each kind, in plain values."""
    pose = sample.camera_to_world
    return {
        Content.SCORES: {k: None if math.isnan(v) else v for k, v in sample.scores.items()},
        Content.SLOTS: {name: [*taken] for name, taken in sample.slots.items()},
        Content.TIMES: [sample.episode, sample.frame, sample.timestamp],
        Content.CAMERAS: None if pose is None else pose.ravel().tolist(),
        Content.MASKS: None if sample.mask is None else sample.mask.tolist(),
        Content.OBJECTS: plain(sample.objects),
        Content.SENSOR: None if sample.sensor is None else sample.sensor.tolist(),
        Content.OTHERS: dict(sample.others),
    }


def plain(objects):
    return [[one.id, one.name, one.object_to_camera] for one in objects]


def metadata(out):
    lines = (out / "metadata.jsonl").read_text().splitlines()
    return {row["sample_id"]: row for row in map(json.loads, lines)}


def of_metadata(row):
    return {
        Content.SCORES: row["scores"],
        Content.SLOTS: row["slots"],
        Content.TIMES: [row[name] for name in ("episode", "frame", "timestamp")],
        Content.CAMERAS: row["camera_to_world"],
    }


def read_folder(out, key, row):
    other = {
        path.name.removeprefix(f"{key}."): path.read_bytes()
        for path in (out / "other").glob(f"{key}.*")
    }
    mask, poses, sensor = (
        out / folder / f"{key}.{suffix}"
        for folder, suffix in (("mask", "png"), ("poses", "json"), ("sensor", "npy"))
    )
    return {
        Content.MASKS: decode_mask(mask.read_bytes(), (24, 32)).tolist() if mask.exists() else None,
        Content.OBJECTS: plain(decode_poses(poses.read_bytes())) if poses.exists() else [],
        Content.SENSOR: np.load(sensor).tolist() if sensor.exists() else None,
        Content.OTHERS: other,
    }


def read_hdf5(out, key, row):
    import h5py

    with h5py.File(out / row["file_name"]) as file:
        found = {name: file[name][()] for name in file}
        pose = file.attrs.get("camera_to_world")
    assert (None if pose is None else pose.ravel().tolist()) == row["camera_to_world"]
    objects = json.loads(found.get("instance_attribute_maps", b"[]"))
    return {
        Content.MASKS: found["instance_segmaps"].tolist() if "instance_segmaps" in found else None,
        Content.OBJECTS: [
            [
                one["idx"],
                one["name"],
                None if (pose := one["object_to_camera"]) is None else tuple(pose),
            ]
            for one in objects
        ],
        Content.SENSOR: found["sensor_depth"].tolist() if "sensor_depth" in found else None,
    }


def read_coco(out, key, row):
    document = json.loads((out / "annotations" / "instances.json").read_bytes())
    names = {each["id"]: each["name"] for each in document["categories"]}
    [image] = [each for each in document["images"] if each["file_name"] == f"{key}.jpg"]
    # In the order of their numbers, which COCO has no place for.
    numbers = {"block": 2, "object": 9, "mug": 300}
    mask = np.zeros((24, 32), np.uint16)
    for each in document["annotations"]:
        if each["image_id"] == image["id"]:
            counts = each["segmentation"]["counts"]
            inside = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
            mask[inside.reshape(32, 24).T] = numbers[names[each["category_id"]]]
    return {Content.MASKS: mask.tolist() if mask.any() else None}


def read_bop(out, key, row):
    picture = out / row["file_name"]
    place, scene = str(int(picture.stem)), picture.parents[1]
    truth = json.loads((scene / "scene_gt.json").read_bytes())[place]
    names = json.loads((out / "objects.json").read_bytes())
    mask = np.zeros((24, 32), np.uint16)
    objects = []
    for number, one in enumerate(truth):
        seen = cv2.imread(str(scene / "mask_visib" / f"{picture.stem}_{number:06d}.png"), -1)
        mask[seen > 0] = 300
        pose = np.eye(4)
        pose[:3, :3] = np.reshape(one["cam_R_m2c"], (3, 3))
        pose[:3, 3] = np.divide(one["cam_t_m2c"], 1000)
        objects.append([300, names[str(one["obj_id"])], tuple(pose.ravel().tolist())])
    return {Content.MASKS: mask.tolist() if truth else None, Content.OBJECTS: objects}


def read_parquet(out, key, row):
    """By columns of the index, and files as they are."""
    pose, sensor = row["camera_to_world"], None
    if row["sensor_depth"] is not None:
        codes = cv2.imdecode(np.frombuffer(row["sensor_depth"]["bytes"], np.uint8), -1)
        sensor = (codes * row["sensor_unit_per_code"]).astype(np.float32).tolist()
    mask, poses, other = row["mask"], row["poses"], row["file_normals_npy"]
    return {
        Content.SCORES: {name: row[f"check_{name}"] for name in ("registration", "valid_fraction")},
        Content.SLOTS: {name: row[f"slot_{name}"] for name in ("colour", "view")},
        Content.TIMES: [row[name] for name in ("episode", "frame", "timestamp")],
        Content.CAMERAS: pose,
        Content.MASKS: None if mask is None else decode_mask(mask["bytes"], (24, 32)).tolist(),
        Content.OBJECTS: [] if poses is None else plain(decode_poses(poses)),
        Content.SENSOR: sensor,
        Content.OTHERS: {} if other is None else {"normals.npy": other},
    }


def read_lerobot(out, key, row):
    return {
        Content.TIMES: [row[f"source_{name}"] for name in ("episode", "frame", "timestamp")]
        if row["source_episode"]
        else [None, None, None]
    }


READ = {
    "coco": read_coco,
    "folder": read_folder,
    "hdf5": read_hdf5,
    "bop": read_bop,
    "parquet": read_parquet,
    "lerobot": read_lerobot,
}


def test_nothing_that_a_sample_can_have_is_forgotten_here():
    of_samples = {name for names in OF_SAMPLES.values() for name in names}
    assert {field.name for field in fields(RGBDSample)} == IN_ALL | of_samples
    # Prompts, and with them slots, are in `ref`.
    assert {*Content} == {*OF_SAMPLES, Content.SLOTS}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_gives_back_what_a_run_holds_or_says_that_it_is_lost(full_run, samples, out, name):
    if (module := FORMATS[name].needs_module) is not None:
        pytest.importorskip(module)
    exported(full_run, out, name)
    if name in ("parquet", "lerobot"):
        rows = {
            row["sample_id"]: row
            for path in sorted((out / "data").rglob("*.parquet"))
            for row in pq.read_table(path, partitioning=None).to_pylist()
        }
    else:
        rows = metadata(out)
    kind = FORMATS[name]
    assert rows.keys() == samples.keys()
    for key, row in rows.items():
        found = {} if name in ("parquet", "lerobot") else of_metadata(row)
        if name in READ:
            found |= READ[name](out, key, row)
        assert found.keys() == kind.keeps
        wanted = held(samples[key])
        if name == "bop":
            # Its `loses` says so: what has no pose.
            wanted[Content.OBJECTS] = [one for one in wanted[Content.OBJECTS] if one[2]]
            mask = wanted[Content.MASKS]
            wanted[Content.MASKS] = mask and np.where(np.equal(mask, 300), 300, 0).tolist()
        for content in kind.keeps:
            assert found[content] == wanted[content], (key, content)
    for content in Content:
        assert (content in kind.loses()) == (content not in kind.keeps)


def test_the_page_says_of_each_format_what_it_loses():
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    told = {row[0].strip("| `"): row[2] for row in rows if len(row) == 4}
    assert told.keys() >= FORMATS.keys()
    for name, kind in FORMATS.items():
        lost = {content for content in Content if content in told[name]}
        assert lost == {*Content} - {*kind.keeps}, name


def test_what_a_run_lacks_is_not_in_its_metadata(metric_run, out):
    exported(metric_run, out, "folder")
    for row in metadata(out).values():
        assert not {"episode", "frame", "timestamp", "camera_to_world"} & row.keys()
    assert not {*out.iterdir()} & {out / name for name in ("mask", "poses", "sensor", "other")}
    assert {Content.SCORES, Content.CAMERAS} < IN_METADATA


def by_place(out, samples):
    """Samples by the path of their image."""
    return {str(out / row["file_name"]): samples[key] for key, row in metadata(out).items()}


def assert_pose(found, sample):
    wanted = sample.camera_to_world
    if wanted is None:
        assert found is None
    else:
        np.testing.assert_allclose(np.reshape(found, (4, 4)), wanted, atol=1e-12)


def test_poses_of_scannet_are_read_by_its_layout_a_scene_a_recording(full_run, samples, out):
    exported(full_run, out, "scannet")
    items = opened(
        layout="scannet",
        path=str(out),
        encoding={"camera": {"file": "../intrinsic/intrinsic_color.txt"}},
        labels={
            "camera_to_world": {"file": "../pose/{name}.txt"},
            "episode": "(?P<episode>[^/]*)/color/(?P<frame>[0-9]+).*",
        },
    )
    wanted = by_place(out, samples)
    places = []
    for item in items:
        sample = wanted[item.name]
        assert_pose(item.labels.camera_to_world, sample)
        moment = item.labels.moment
        places.append((moment.episode, moment.frame, sample.episode, sample.frame))
    assert places == [
        ("scene0000_00", 0, "pour", 0),
        ("scene0000_00", 1, "pour", 4),
        ("scene0001_00", 0, "stack", 2),
        ("scene0001_00", 1, "stack", 3),
        ("scene0002_00", 0, None, None),
    ]


def test_poses_of_bop_are_read_by_its_preset_a_scene_a_recording(full_run, samples, out):
    exported(full_run, out, "bop", "split=train")
    items = opened(layout="bop", path=str(out), labels={"preset": "bop"})
    wanted = by_place(out, samples)
    scenes = []
    for item in items:
        sample = wanted[item.name]
        assert_pose(item.labels.camera_to_world, sample)
        assert [one.object_to_camera for one in item.labels.objects] == [
            pytest.approx(one.object_to_camera) for one in sample.objects if one.object_to_camera
        ]
        scenes.append((Path(item.name).parents[1].name, sample.episode))
    assert scenes == [*[("000000", "pour")] * 2, *[("000001", "stack")] * 2, ("000002", None)]


def test_a_plain_folder_is_read_with_all_labels(full_run, samples, out):
    exported(full_run, out, "folder")
    items = opened(
        layout="generic",
        path=str(out),
        images="rgb/*.jpg",
        depths="depth/*.npy",
        encoding={"scale": 1.0, "camera": {"file": "../camera/{name}.json", "path": "K"}},
        labels={
            "mask": "../mask/{name}.png",
            "poses": "../poses/{name}.json",
            "others": {"normals.npy": "../other/{name}.normals.npy"},
        },
    )
    wanted = by_place(out, samples)
    for item in items:
        sample, found = wanted[item.name], item.labels
        np.testing.assert_array_equal(found.mask, sample.mask)
        assert found.objects == sample.objects
        assert found.files.get("normals.npy") == sample.others.get("normals.npy")
        camera = json.loads((out / "camera" / f"{sample.sample_id}.json").read_bytes())
        assert_pose(camera["camera_to_world"], sample)


def rotation(x, y, z, w):
    """Of a unit quaternion."""
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def test_tum_has_the_frames_times_and_the_trajectory_of_each_recording(full_run, samples, out):
    exported(full_run, out, "tum")
    wanted = by_place(out, samples)
    times = {}
    for root in sorted(out.glob("sequence_*")):
        listed = [line.split() for line in (root / "rgb.txt").read_text().splitlines()]
        found = [(float(time), wanted[str(root / name)]) for time, name in listed[2:]]
        times[root.name] = [time for time, _ in found]
        lines = (root / "groundtruth.txt").read_text().splitlines()
        assert lines[1] == "# timestamp tx ty tz qx qy qz qw"
        poses = {}
        for line in lines[2:]:
            time, *values = map(float, line.split())
            assert np.linalg.norm(values[3:]) == pytest.approx(1)
            poses[time] = np.eye(4)
            poses[time][:3, :3], poses[time][:3, 3] = rotation(*values[3:]), values[:3]
        for time, sample in found:
            assert_pose(poses.get(time), sample)
            assert sample.timestamp in (time, None)
        # Its own layout pairs images and depth by these times.
        assert len(opened(layout="tum", path=str(root))) == len(found)
    assert times == {
        "sequence_0000": [0.125, 0.5],
        "sequence_0001": [7.0, 7.25],
        "sequence_0002": [0.0],
    }


@pytest.mark.parametrize("messages", ["foxglove", "ros2"])
def test_mcap_has_the_frames_times_a_file_a_recording(full_run, samples, out, messages):
    exported(full_run, out, "mcap", f"messages={messages}")
    times = []
    for path in sorted(out.glob("*.mcap")):
        items = source_settings({"kind": "recording", "path": str(path)}).open()
        times.append([item.labels.moment.timestamp for item in items])
    assert times == [pytest.approx([0, 0.375]), pytest.approx([0, 0.25]), [0]]
    files = {row["episode"]: row["file_name"] for row in metadata(out).values()}
    assert files == {"pour": "000000.mcap", "stack": "000001.mcap", None: "000002.mcap"}


def test_frames_without_times_of_their_own_are_a_second_apart(tmp_path, out):
    moments = [Moment("pour", 2, 0.5), Moment("pour", 1), Moment("stack", 0, 3.0), None]
    moments += [Moment("stack", 1, 3.0), None]
    store = make_episode_run(str(tmp_path / "run"), moments)
    scenes = Pairs(RGBDDataset(store.url)).by_frames.scenes
    # One frame lacks its time; two are at one time; two are no frames.
    assert scenes.numbers.tolist() == [0, 0, 1, 1, 2, 2]
    assert scenes.seconds.tolist() == scenes.since.tolist() == [0, 1, 0, 1, 0, 1]
    assert scenes.stretch_of(4, 1) == (4, 0)
    assert [*map(len, scenes.stretches(9))] == [2, 2, 2]


def test_pairs_that_are_no_frames_are_together_wherever_they_lie(tmp_path):
    moments = [None, Moment("pour", 0), None, Moment("stack", 0), None, Moment("pour", 1)]
    store = make_episode_run(str(tmp_path / "run"), moments)
    pairs = Pairs(RGBDDataset(store.url)).by_frames
    assert [*map(len, pairs.scenes.stretches(9))] == [2, 1, 3]
    assert pairs.scenes.numbers.tolist() == [0, 0, 1, 2, 2, 2]
