"""Labels of a source pass through a run: what it knew of a view is what the pair knows."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tarfile
import zlib

import cv2
import numpy as np
import pytest
from depth_files import npy_of
from metric_run import make_labelled_run
from PIL import Image
from tiny_jobs import SIZES, make, members, rows_of

from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.augmentations import HorizontalFlip, RandomCrop
from mfsynth.errors import MfsynthError
from mfsynth.runs.driver import generate
from mfsynth.runs.items import RunItems
from mfsynth.runs.jobs import require_usable
from mfsynth.runs.reproduce import find_candidate, make_again
from mfsynth.shards.commits import read_commits
from mfsynth.shards.finalize import finalize
from mfsynth.shards.labels import encode_mask
from mfsynth.shards.verify import verify_run

TURN = np.array([[0, -1, 0, 0.5], [1, 0, 0, 0], [0, 0, 1, -2], [0, 0, 0, 1]], float)
SETTINGS = {
    "mask": "{name}.mask.png",
    "poses": "{name}.poses.json",
    "camera_to_world": {"file": "{name}.pose.txt"},
    "others": {"normals.npy": "{name}.normals.npy"},
}


def mask_of(number: int) -> np.ndarray:
    mask = np.zeros(SIZES[number], np.uint16)
    mask[8:20, 6:18] = 7
    mask[20:30, 10:28] = 300 + number
    return mask


def poses_of(number: int) -> bytes:
    at = [*np.eye(4).ravel()]
    listed = [
        {"id": 7, "name": "mug", "object_to_camera": at, "grasp": [1, 2]},
        {"id": 300 + number, "name": "läufer"},
    ]
    return json.dumps(listed, indent=2).encode()


def encoded(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((mask_of(1) % 256).astype(np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


def png_of_few_bits(ids: np.ndarray, bits: int) -> bytes:
    """Greyscale of 1, 2 or 4 bits, which neither Pillow nor OpenCV writes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data).to_bytes(4)
        return len(data).to_bytes(4) + name + data + crc

    single = np.unpackbits(ids.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
    rows = np.packbits(single.reshape(len(ids), -1), axis=-1)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def labelled(photographs):
    """Photographs with metric depth and all labels, but of the third, which has none."""
    settings = photographs.add_depth(keep=0.9) | {"labels": SETTINGS}
    for number in (0, 1, 3, 4):
        stem = photographs.folder / str(number)
        # Of 16 bits as OpenCV compresses them, of 8 bits as Pillow does, and not a PNG at all.
        if number == 1:
            Image.fromarray((mask_of(1) % 256).astype(np.uint8)).save(f"{stem}.mask.png")
        else:
            cv2.imwrite(f"{stem}.mask.png", mask_of(number))
        stem.with_suffix(".poses.json").write_bytes(poses_of(number))
        np.savetxt(stem.with_suffix(".pose.txt"), TURN)
        np.save(stem.with_suffix(".normals.npy"), np.ones((*SIZES[number], 3), np.float16))
    return settings


@pytest.mark.parametrize("mode", ["i2d", "d2i"])
def test_labels_of_a_folder_are_in_the_pairs_byte_for_byte(job, photographs, labelled, mode):
    config = job(mode, labelled)
    store = make(config)
    assert verify_run(store).problems == ()
    rows = rows_of(store)
    for number, row in enumerate(rows):
        found = members(store, number)
        if number == 2:
            assert {*found} == {"rgb", "depth", "json"}
            assert (row["mask_offset"], row["normals_npy_size"]) == (None, None)
            assert (row["camera_to_world"], row["objects"]) == (None, [])
            continue
        assert [*found] == ["rgb", "depth", "mask", "poses", "normals_npy", "json"]
        for name, suffix in (("mask", "mask.png"), ("poses", "poses.json")):
            assert found[name] == (photographs.folder / f"{number}.{suffix}").read_bytes()
        assert found["normals_npy"] == (photographs.folder / f"{number}.normals.npy").read_bytes()
        assert row["camera_to_world"] == TURN.ravel().tolist()
        assert row["objects"] == ["mug", "läufer"]
        about = json.loads(found["json"])
        assert about["camera_to_world"] == row["camera_to_world"]
        assert {*about["sha256"]} == {
            *("rgb.jpg", "depth.png", "mask.png", "poses.json", "normals.npy")
        }


def test_a_reader_gets_labels_if_it_asks_for_them(job, labelled):
    store = make(job("d2i", labelled))
    without = RGBDDataset(store.url)[0]
    assert (without.mask, without.objects) == (None, ())
    assert np.array_equal(without.camera_to_world, TURN)
    pairs = RGBDDataset(store.url, labels=True)
    assert np.array_equal(pairs[3].mask, mask_of(3))
    assert [(one.id, one.name) for one in pairs[3].objects] == [(7, "mug"), (303, "läufer")]
    assert np.array_equal(pairs[3].objects[0].matrix, np.eye(4))
    assert pairs[3].objects[1].matrix is None
    assert np.load(io.BytesIO(pairs[3].others["normals.npy"])).shape[2] == 3
    some = pairs.select([0, 3])
    crop = RandomCrop(30, 40)
    fields = ("depth", "mask", "camera_to_world")
    batch = next(iter(some.loader(2, fields=fields, augment=[crop], shuffle=False)))
    assert batch["mask"].shape == batch["depth"].shape == (2, 30, 40)
    assert batch["camera_to_world"].shape == (2, 4, 4)
    flipped = HorizontalFlip(p=1)(pairs[0], np.random.default_rng(0))
    assert np.array_equal(flipped.mask, mask_of(0)[:, ::-1])
    assert (flipped.camera_to_world, flipped.objects) == (None, ())
    with pytest.raises(MfsynthError, match=r"mask, but .* without labels; open it with labels"):
        next(iter(RGBDDataset(store.url).loader(2, fields=fields)))


def test_a_run_over_a_run_hands_its_labels_on(job, labelled, tmp_path):
    first = make(job("i2d", labelled, metres_per_unit="source", keep_rejects="all"))
    again = job("d2i", {"kind": "mfsynth", "url": first.url})
    second = make(again.model_copy(update={"output": str(tmp_path / "second")}))
    assert verify_run(second).problems == ()
    for number in range(len(rows_of(first))):
        before, after = members(first, number), members(second, number)
        for name in ("mask", "poses", "normals_npy", "sensor"):
            assert after.get(name) == before.get(name)
        assert "sensor" in after
    wanted = [row["camera_to_world"] for row in rows_of(first)]
    assert [row["camera_to_world"] for row in rows_of(second)] == wanted
    units = [row["sensor_unit_per_code"] for row in rows_of(first)]
    assert [row["sensor_unit_per_code"] for row in rows_of(second)] == units
    assert "sensor" not in rows_of(second)[0]


def test_a_run_over_a_run_says_whose_sensor_it_was_or_brings_its_own(job, labelled, tmp_path):
    first = make(job("d2i", labelled, sensor={"preset": "d435"}))
    source = {"kind": "mfsynth", "url": first.url}
    for own in ({}, {"sensor": {"preset": "kinect_v1"}}):
        config = job("d2i", source, **own)
        second = make(config.model_copy(update={"output": str(tmp_path / f"second{len(own)}")}))
        assert verify_run(second).problems == ()
        before, after = members(first), members(second)
        assert (after["sensor"] == before["sensor"]) == (not own)
        preset = own.get("sensor", {"preset": "d435"})["preset"]
        assert json.loads(after["json"])["sensor"]["preset"] == preset
        assert {row["sensor"] for row in rows_of(second)} == {preset}


def test_a_run_over_a_run_has_its_jpegs_byte_for_byte(job, labelled, tmp_path):
    first = make(job("d2i", labelled))
    again = job("i2d", {"kind": "mfsynth", "url": first.url})
    second = make(again.model_copy(update={"output": str(tmp_path / "second")}))
    for number in range(len(rows_of(first))):
        assert members(second, number)["rgb"] == members(first, number)["rgb"]


def test_tar_files_have_labels_as_folders_have_them(job, photographs, labelled):
    with tarfile.open(photographs.folder / "all.tar", "w") as tar:
        for path in sorted(photographs.folder.glob("[0-9].*")):
            tar.add(path, path.name)
    labels = {
        "mask": "mask.png",
        "poses": "poses.json",
        "camera_to_world": {"file": "pose.txt", "inverse": True},
        "others": {"normals.npy": "normals.npy"},
    }
    source = {"kind": "webdataset", "shards": str(photographs.folder / "all.tar")} | {
        "depth_key": "depth.png",
        "codes_per_unit": 1000.0,
        "caption_key": None,
        "labels": labels,
    }
    store = make(job("d2i", source))
    assert verify_run(store).problems == ()
    assert members(store, 4)["mask"] == (photographs.folder / "4.mask.png").read_bytes()
    inverse = np.linalg.inv(TURN)
    assert np.allclose(np.reshape(rows_of(store)[0]["camera_to_world"], (4, 4)), inverse)


@pytest.mark.usefixtures("opengl_of_any_thread")
def test_the_simulator_says_what_each_pixel_shows_and_where_it_is(job):
    scenes = {"kind": "live_scenes", "scenes": 2, "size": 48, "masks": True}
    store = make(job("d2i", scenes))
    assert verify_run(store).problems == ()
    for pair in RGBDDataset(store.url, labels=True):
        assert pair.depth_kind == "metric_z"
        assert pair.intrinsics_source == "rendered"
        assert {*np.unique(pair.mask)} == {0, *(one.id for one in pair.objects)}
        for one in pair.objects:
            colour, shape = one.name.split()
            assert colour in pair.prompt
            assert shape in pair.prompt
            # The body's origin is at its foot: near its pixels, and about as far as they are.
            u, v, z = pair.intrinsics @ one.matrix[:3, 3]
            rows, columns = np.nonzero(pair.mask == one.id)
            assert np.hypot(u / z - columns.mean(), v / z - rows.mean()) < 12
            assert z == pytest.approx(np.median(pair.depth[rows, columns]), rel=0.3)


def test_rejected_pairs_reproductions_and_documents_have_them(job, labelled):
    checks = {"validity": {"min_dynamic_range": 1000.0}}
    config = job("d2i", labelled, checks=checks, keep_rejects="all")
    store = make(config)
    assert rows_of(store) == []
    assert rows_of(store, "rejects")[0]["objects"] == ["mug", "läufer"]
    finalize(store)
    assert verify_run(store).problems == ()
    pair = make_again(config.output, *find_candidate(config.output, 0, trust=True), "cpu")
    assert [name.split(".", 1)[1] for name in pair.members] == [
        *("rgb.jpg", "depth.png", "mask.png", "poses.json", "normals.npy", "json")
    ]


def test_objects_that_part_ways_with_their_image_are_named_in_its_row(job, labelled):
    checks = {"object_depth_error": {"max_object": 0.0, "max_background": 99.0, "steps": 1}}
    store = make(job("d2i", labelled, checks=checks))
    assert verify_run(store).problems == ()
    [kept] = rows_of(store)
    assert (kept["source"], kept["parted_objects"]) == ("2.jpg", [])
    assert kept["check_depth_error_object"] is None
    first, *_ = rows_of(store, "rejects")
    assert first["reasons"] == ["depth_error_object"]
    assert first["parted_objects"] == ["7 mug", "300 läufer"]
    assert first["check_depth_error_background"] > 0


def test_verify_sees_a_mask_that_changed(job, labelled):
    store = make(job("d2i", labelled))
    row, receipt = rows_of(store)[0], read_commits(store)[0]
    path = store.local_root / receipt.objects["tar"].key
    data = bytearray(path.read_bytes())
    data[row["mask_offset"] + 60] ^= 1
    path.write_bytes(data)
    assert any("mask.png: its bytes changed" in line for line in verify_run(store).problems)
    with pytest.raises(MfsynthError, match=r"the mask of .* changed"):
        RGBDDataset(store.url, labels=True)[0]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("1.mask.png", encode_mask(np.zeros((9, 9), np.uint16)), "mask.png: is 9x9, not 48x64"),
        ("1.mask.png", b"\x89PNG\r\n\x1a\nbroken", "1.mask.png: .*picture"),
        ("1.mask.png", encoded("JPEG"), "1.mask.png: a JPEG of this kind does not keep numbers"),
        ("1.mask.png", encoded("WEBP"), "1.mask.png: a WEBP of this kind does not keep numbers"),
        ("1.mask.png", encoded("TIFF", compression="jpeg"), "a TIFF of this kind does not keep"),
        ("1.mask.png", npy_of(np.zeros((0, 5), np.uint16)), r"numbers .*, this is uint16 \(0, 5\)"),
        ("1.poses.json", b'[{"id": 0, "name": "mug"}]', "object 0: id is no number from 1"),
        ("1.poses.json", b'[{"id": 1}, {"id": 1}]', "two objects have one id"),
        ("1.poses.json", b"{}", "not a list of objects"),
        ("1.pose.txt", b"1 0 0 0\n0 1 0 0\n0 0 2 0\n0 0 0 1\n", "scales, shears or mirrors"),
        ("1.pose.txt", b"1 2 3\n", "1.pose.txt: a pose is a matrix of 4x4"),
        ("1.pose.txt", b"1 0 0 0\n0 1 0 0\n0 0 1 -inf\n0 0 0 1\n", "numbers that are not finite"),
    ],
)
def test_labels_that_are_none_put_their_image_into_quarantine(
    job, photographs, labelled, monkeypatch, file, content, message
):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    (photographs.folder / file).write_bytes(content)
    config = job("d2i", labelled | {"max_skipped": 0.5}, shard_size=2)
    source_of = RunItems(config).source
    with pytest.raises(MfsynthError, match=message):
        source_of.load(1)
    assert source_of.load(0).labels.mask is not None


@pytest.mark.parametrize("bits", [1, 2, 4, "pgm"])
def test_masks_of_few_bits_have_the_numbers_that_are_stored(job, photographs, labelled, bits):
    most = 8 if bits == "pgm" else 2**bits
    ids = (np.arange(SIZES[1][0])[:, None] + np.arange(SIZES[1][1])) % most
    if bits == "pgm":
        # Its highest number is 7, which Pillow would make 255.
        header = b"P5\n%d %d\n7\n" % (ids.shape[1], ids.shape[0])
        mask = header + ids.astype(np.uint8).tobytes()
    else:
        mask = png_of_few_bits(ids, bits)
    (photographs.folder / "1.mask.png").write_bytes(mask)
    item = RunItems(job("d2i", labelled)).source.load(1)
    np.testing.assert_array_equal(item.labels.mask, ids)


def test_an_image_that_is_turned_can_not_keep_its_labels(job, photographs, labelled):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photographs.folder / "0.jpg").save(photographs.folder / "0.jpg", exif=exif)
    source = labelled | {"depths": None, "codes_per_unit": None}
    source_of = RunItems(job("i2d", source)).source
    with pytest.raises(MfsynthError, match="0: is turned as its orientation says"):
        source_of.load(0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"mask": "{name}.masks.png"}, "source.labels: of 5 items of the source none has mask.png"),
        ({"others": {"rgb.jpg": "x"}}, "'rgb.jpg' can't be a suffix"),
        ({"others": {"rgb": "x"}}, "'rgb' can't be a suffix"),
        ({"others": {"A b.png": "x"}}, "'A b.png' can't be a suffix"),
        ({"others": {"check.png": "x"}}, "'check.png' would be taken for a column"),
        ({"others": {"slot_a.png": "x"}}, "'slot_a.png' would be taken for a column"),
        ({"others": {"a.b": "x", "a_b.c": "x", "a.b_c": "x"}}, "'a.b_c' can't be a suffix"),
        ({"episode": "(?P<episode>.*)"}, "needs the groups"),
        ({"episode": "("}, "no regular expression"),
        ({"episode": "(?P<episode>.*)/(?P<frame>.*)"}, "does not match it"),
    ],
)
def test_settings_of_labels_are_refused_before_anything_is_made(
    job, photographs, labelled, labels, message
):
    with pytest.raises(MfsynthError, match=message):
        generate(job("d2i", labelled | {"labels": labels}), job="retexture")


def test_what_labels_hold_is_part_of_the_fingerprint(job, photographs, labelled):
    def digest() -> str:
        return RunItems(job("d2i", labelled)).fingerprint("r").digest

    before = digest()
    shutil.copy(photographs.folder / "0.mask.png", photographs.folder / "4.mask.png")
    assert digest() != before


def test_labels_of_a_run_may_be_as_sparse_as_they_are(job, tmp_path):
    first = make_labelled_run(str(tmp_path / "first"), pairs=3, unmasked=range(3))
    config = job("d2i", {"kind": "mfsynth", "url": first.url})
    found = require_usable(RunItems(config), config)
    assert found.labels == {"mask.png": 0, "poses.json": 3}


def test_a_run_over_bop_scenes_does_not_ask_for_cameras_that_they_may_lack(job, tmp_path):
    scene = tmp_path / "bop" / "000001"
    for folder in ("rgb", "depth", "mask_visib"):
        (scene / folder).mkdir(parents=True)
    mask = np.zeros((24, 32), np.uint8)
    mask[4:9, 4:9] = 255
    cv2.imwrite(str(scene / "rgb/000000.png"), np.zeros((24, 32, 3), np.uint8))
    cv2.imwrite(str(scene / "depth/000000.png"), np.full((24, 32), 1000, np.uint16))
    cv2.imwrite(str(scene / "mask_visib/000000_000000.png"), mask)
    camera = {"cam_K": [30.0, 0, 15.5, 0, 30.0, 11.5, 0, 0, 1], "depth_scale": 1.0}
    turn = [1, 0, 0, 0, 1, 0, 0, 0, 1]
    truth = [{"cam_R_m2c": turn, "cam_t_m2c": [0, 0, 1000.0], "obj_id": 5}]
    (scene / "scene_camera.json").write_text(json.dumps({"0": camera}))
    (scene / "scene_gt.json").write_text(json.dumps({"0": truth}))
    source = {"kind": "folder", "layout": "bop", "path": str(scene.parent)}
    config = job("d2i", source | {"labels": {"preset": "bop"}})
    found = require_usable(RunItems(config), config)
    assert found.labels == {"mask.png": 1, "poses.json": 1, "camera_to_world": 0}
    (scene / "scene_gt.json").unlink()
    with pytest.raises(MfsynthError, match=r"source\.labels: of 1 items .* none has mask\.png"):
        require_usable(RunItems(config), config)
