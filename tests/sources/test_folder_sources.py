"""Folders in published layouts: which image has which depth, in what unit, with what caption."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from training_files import (
    assert_same_items,
    codes,
    image,
    jpeg,
    one_line_error,
    png,
    source,
    write,
)

from mfsynth.sources.base import scene_of

REAL = Path(__file__).parents[1] / "data" / "real_rgbd"


def assert_sample(sample, number, unit, caption=""):
    np.testing.assert_array_equal(sample.rgb, image(number))
    np.testing.assert_array_equal(sample.depth, (codes(number) / unit).astype(np.float32))
    assert sample.text == caption


def make_tum(root, image_times, depth_times):
    for folder, times, make in (("rgb", image_times, image), ("depth", depth_times, codes)):
        lines = ["# a comment", "# timestamp filename"]
        for number, time in enumerate(times):
            write(root / folder / f"{time:.6f}.png", png(make(number)))
            lines.append(f"{time:.6f} {folder}/{time:.6f}.png")
        write(root / f"{folder}.txt", "\n".join(lines))
    return str(root)


def test_tum_pairs_by_time_the_closest_first_and_each_depth_once(tmp_path):
    # Depth 1 is near both images 1 and 2, and nearer to 2; depth 3 is too late for image 3.
    path = make_tum(tmp_path, [1.0, 2.000, 2.015, 3.0], [1.01, 2.012, 2.9, 3.03])
    tum = {"kind": "folder", "layout": "tum", "path": path}
    with one_line_error("2 of 4 images have no depth, the first is rgb/2.000000.png; set depth"):
        source(**tum)
    optional = source(**tum, depth="optional")
    assert len(optional) == 4
    assert_sample(optional[0], 0, 5000)
    assert optional[1].depth is None
    np.testing.assert_array_equal(optional[1].rgb, image(1))
    np.testing.assert_array_equal(optional[2].depth, (codes(1) / 5000).astype(np.float32))
    assert optional[3].depth is None
    paired = source(**tum, depth="paired")
    assert len(paired) == 2
    assert_same_items(paired[1], optional[2])
    assert len(source(**tum, depth="paired", max_seconds=0.05)) == 3


def test_scannet_pairs_color_and_depth_of_any_number_of_scenes(tmp_path):
    for number, scene in enumerate(["scene0000_00", "scene0000_01"]):
        write(tmp_path / scene / "color" / "7.jpg", jpeg(image(number, 12, 16)))
        write(tmp_path / scene / "depth" / "7.png", png(codes(number)))
    scannet = source(kind="folder", layout="scannet", path=str(tmp_path))
    assert len(scannet) == 2
    assert scannet[1].rgb.shape == (12, 16, 3)
    # The depth camera has fewer pixels.
    wanted = (codes(1) / 1000).astype(np.float32).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(scannet[1].depth, wanted)
    one = source(kind="folder", layout="scannet", path=str(tmp_path / "scene0000_01"))
    assert_same_items(one[0], scannet[1])


@pytest.mark.parametrize("last", ["-inf -inf -inf -inf", "0 0 0 1"])
@pytest.mark.parametrize("inverse", [None, True])
def test_a_frame_of_scannet_whose_camera_was_lost_has_no_pose(tmp_path, last, inverse):
    lost = "\n".join([*["-inf -inf -inf -inf"] * 3, last])
    known = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
    for number, pose in enumerate((known, lost)):
        write(tmp_path / "a" / "color" / f"{number}.jpg", jpeg(image(number)))
        write(tmp_path / "a" / "depth" / f"{number}.png", png(codes(number)))
        write(tmp_path / "a" / "pose" / f"{number}.txt", pose)
    pose = {"file": "../pose/{name}.txt", "inverse": inverse}
    settings = {"layout": "scannet", "path": str(tmp_path), "labels": {"camera_to_world": pose}}
    items = source(kind="folder", **settings)
    assert items[0].labels.camera_to_world is not None
    assert items[1].labels.camera_to_world is None
    np.testing.assert_array_equal(items[1].depth > 0, codes(1) > 0)


def test_kitti_pairs_trees_by_drive_camera_and_number(tmp_path):
    raw, annotated = tmp_path / "raw", tmp_path / "annotated"
    drive = "2011_09_26_drive_0001_sync"
    for number in range(3):
        camera = f"image_0{2 + number % 2}"
        name = f"{number:010d}.png"
        write(raw / "2011_09_26" / drive / camera / "data" / name, png(image(number)))
        if number:
            folder = annotated / "train" / drive / "proj_depth" / "groundtruth" / camera
            write(folder / name, png(codes(number)))
    kitti = {"kind": "folder", "layout": "kitti", "path": str(raw), "depth_path": str(annotated)}
    with one_line_error("1 of 3 images have no depth, the first is 2011_09_26/.*0000000000.png"):
        source(**kitti)
    pairs = source(**kitti, depth="paired")
    assert [pair.depth is not None for pair in pairs] == [True, True]
    by_number = {0: 2, 1: 1}
    for index, number in by_number.items():
        assert_sample(pairs[index], number, 256)
    lidar = annotated / "train" / drive / "proj_depth" / "velodyne_raw" / "image_02"
    write(lidar / "0000000002.png", png(codes(0)))
    with one_line_error("are depth of the same image; name a folder below"):
        source(**kitti)


def test_trees_that_mirror_each_other_pair_as_kitti_does(tmp_path):
    write(tmp_path / "rgb" / "street" / "a.png", png(image(4)))
    write(tmp_path / "lidar" / "street" / "a.png", png(codes(4)))
    paths = {"path": str(tmp_path / "rgb"), "depth_path": str(tmp_path / "lidar")}
    assert_sample(source(kind="folder", layout="kitti", **paths)[0], 4, 256)


def test_wildcards_of_the_image_are_those_of_its_depth(tmp_path):
    for number, (folder, name) in enumerate([("a/b", "1"), ("c", "2"), ("c/d", "3")]):
        write(tmp_path / folder / "rgb" / f"f{name}_rgb.png", png(image(number)))
        write(tmp_path / folder / "z" / f"z{name}.png", png(codes(number)))
    generic = {"kind": "folder", "layout": "generic", "path": str(tmp_path)}
    pairs = source(**generic, images="**/rgb/f?_rgb.png", depths="**/z/z?.png", codes_per_unit=1000)
    for index, number in enumerate([0, 2, 1]):
        assert_sample(pairs[index], number, 1000)
    some = source(**generic, images="c/rgb/f[2-9]_*.png")
    assert len(some) == 1
    assert some[0].depth is None
    with one_line_error(r"depths '\*/z.png' must have the wildcards of images .*: \*\*/ \?"):
        source(**generic, images="**/f?.png", depths="*/z.png", codes_per_unit=1)


def test_real_frames_are_read_in_metres():
    frames = source(
        kind="folder",
        layout="generic",
        path=str(REAL),
        images="*/*.rgb.jpg",
        depths="*/*.depth.png",
        codes_per_unit=1000,
        captions={"constant": "objects"},
    )
    assert len(frames) == 5
    names = sorted(path.relative_to(REAL).as_posix() for path in REAL.glob("*/*.depth.png"))
    for frame, name in zip(frames, names, strict=True):
        stored = cv2.imread(str(REAL / name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(frame.depth, (stored / 1000).astype(np.float32))
        assert 0.3 < np.median(frame.depth[frame.depth > 0]) < 3
        assert frame.rgb.shape[:2] == frame.depth.shape
        assert frame.text == "objects"


def test_a_source_pickles_small_and_gives_the_same_samples():
    frames = source(kind="folder", layout="generic", path=str(REAL), images="*/*.rgb.jpg")
    data = pickle.dumps(frames)
    assert len(data) < 5000
    assert_same_items(pickle.loads(data)[3], frames[3])


def make_folder(root):
    for number, name in enumerate("abc"):
        write(root / "rgb" / f"{name}.png", png(image(number)))
    return {
        "kind": "folder",
        "layout": "generic",
        "path": str(root),
        "images": "rgb/*.png",
    }


CAPTIONS = {"rgb/a.png": "a red, “red” cup", "rgb/b.png": "", "rgb/c.png": "a\u2028bowl"}


def test_captions_come_from_jsonl_by_path(tmp_path):
    folder = make_folder(tmp_path)
    rows = [
        json.dumps({"file_name": k, "text": v}, ensure_ascii=False) for k, v in CAPTIONS.items()
    ]
    write(tmp_path / "metadata.jsonl", "\n\n".join(reversed(rows)))
    opened = source(**folder, captions={"file": "metadata.jsonl"})
    assert list(opened.texts()) == [item.text for item in opened]
    assert list(opened.texts()) == list(CAPTIONS.values())


def test_captions_come_from_csv_under_other_keys(tmp_path):
    folder = make_folder(tmp_path)
    rows = "".join(f'{name},"{text}"\n' for name, text in CAPTIONS.items() if "red" not in text)
    write(tmp_path / "c.csv", 'image,caption\nrgb/a.png,"two\nlines"\n' + rows)
    keys = {"file": "c.csv", "image_key": "image", "caption_key": "caption"}
    captions = list(source(**folder, captions=keys).texts())
    assert captions == ["two\nlines", "", "a\u2028bowl"]


def test_without_settings_captions_are_empty(tmp_path):
    assert list(source(**make_folder(tmp_path)).texts()) == ["", "", ""]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("c.jsonl", '{"file_name": "rgb/a.png", "txt": "x"}', "c.jsonl:1: .*'text'.*mean txt?"),
        ("c.jsonl", '{"file_name": "rgb/a.png", "text": 3}', "c.jsonl:1: no text under"),
        ("c.jsonl", '\n{"file_name": ', "c.jsonl:2: not valid JSON"),
        ("c.jsonl", "[]", "c.jsonl:1: not a JSON object"),
        (
            "c.jsonl",
            '{"file_name": "rgb/a.png", "text": ""}',
            "rgb/b.png; .*2 of 3 items",
        ),
        ("c.csv", "file_name,caption\nrgb/a.png,x\n", "c.csv:2: no text under the key 'text'"),
        ("c.csv", "file_name,text\nrgb/a.png\n", "c.csv:2: 1 fields, but 2 columns"),
        ("c.csv", "file_name,text\nrgb/a.png,a, b\n", "c.csv:2: 3 fields, but 2 columns"),
        ("c.csv", "file_name,text,text\n", "c.csv:1: the column 'text' is there twice"),
        ("c.csv", "file_name,text\nrgb/a.png,a\nrgb/a.png,b\n", "c.csv:3: rgb/a.png is there"),
        ("c.jsonl", '{"file_name": "x", "text": "a", "text": "b"}', "c.jsonl:1: .*'text' is there"),
        ("c.csv", 'file_name,text\n"rgb/a.png"x,y\n', "c.csv:2: not valid CSV"),
        ("c.txt", "", "must end in .jsonl or .csv"),
        ("c.csv", b"file_name,text\n\xff,a\n", "not UTF-8"),
    ],
)
def test_a_fault_in_the_captions_is_told_with_its_place(tmp_path, name, content, problem):
    folder = make_folder(tmp_path)
    write(tmp_path / name, content)
    with one_line_error(problem):
        source(**folder, captions={"file": name})


def test_a_missing_caption_file_is_told(tmp_path):
    with one_line_error(r"c\.csv: No such file or directory; captions.file names it"):
        source(**make_folder(tmp_path), captions={"file": "c.csv"})


@pytest.mark.parametrize("layout", ["tum", "scannet", "kitti", "generic"])
def test_a_missing_and_an_empty_folder_are_told(tmp_path, layout):
    more = {"kitti": {"depth_path": str(tmp_path)}, "generic": {"images": "*.jpg"}}.get(layout, {})
    settings = {"kind": "folder", "layout": layout, **more}
    with one_line_error("nowhere: no such folder of images; check the path"):
        source(**settings, path=str(tmp_path / "nowhere"))
    if layout == "tum":
        with one_line_error(r"rgb\.txt: .*a TUM sequence has rgb\.txt and depth\.txt"):
            source(**settings, path=str(tmp_path))
        write(tmp_path / "rgb.txt", "# no frames")
        write(tmp_path / "depth.txt", "")
    with one_line_error(f"no images of the layout {layout}; check the path"):
        source(**settings, path=str(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("never", r"depth\.txt:3: not a time and a path"),
        ("nan depth/2.png", r"depth\.txt:3: not a time and a path"),
        ("2.0 depth/1.png", r"depth\.txt:3: depth/1\.png is there twice"),
        (b"2.0 depth/\xff.png", r"depth\.txt: list of times is not UTF-8"),
    ],
)
def test_a_bad_line_of_a_tum_list_is_told(tmp_path, line, message):
    make_tum(tmp_path, [1.0], [1.0])
    line = line if isinstance(line, bytes) else line.encode()
    write(tmp_path / "depth.txt", b"# times\n1.0 depth/1.png\n" + line + b"\n")
    with one_line_error(message):
        source(kind="folder", layout="tum", path=str(tmp_path))


def test_damaged_and_vanished_files_are_named_when_they_are_read(tmp_path):
    make_tum(tmp_path, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    tum = source(kind="folder", layout="tum", path=str(tmp_path))
    write(tmp_path / "depth" / "1.000000.png", png(codes(0).astype(np.uint8)))
    write(tmp_path / "rgb" / "2.000000.png", png(image(0))[:-30])
    (tmp_path / "depth" / "3.000000.png").unlink()
    for index, problem in enumerate(
        [r"depth/1\.000000\.png: a PNG that is 8-bit", r"rgb/2\.000000\.png: corrupt", "No such"]
    ):
        with one_line_error(problem):
            tum[index]


def test_maps_of_distances_become_z_depth_with_their_camera(tmp_path):
    write(tmp_path / "a.png", png(image(0)))
    write(tmp_path / "z" / "a.png", png(np.full((6, 8), 5000, np.uint16)))
    settings = {
        "images": "*.png",
        "depths": "z/*.png",
        "codes_per_unit": 1000,
        "path": str(tmp_path),
    }
    camera = {"fx": 4.0, "fy": 4.0, "cx": 3.0, "cy": 3.0}
    depth = source(kind="folder", layout="generic", ray_camera=camera, **settings)[0].depth
    assert depth[3, 3] == 5.0
    assert depth[3, 6] == pytest.approx(4.0)  # a ray with x / z = 3 / 4


def test_depth_without_images_is_a_source_of_its_own(tmp_path):
    for number in range(2):
        write(tmp_path / f"{number}.png", png(codes(number)))
        write(tmp_path / f"{number}.txt", f"a room {number}")
    generic = {"kind": "folder", "layout": "generic", "path": str(tmp_path)}
    camera = {"fx": 7.0, "fy": 7.0, "cx": 3.5, "cy": 2.5}
    encoding = {"scale": 0.001, "camera": camera, "orientation": 90}
    depths = source(**generic, depths="*.png", encoding=encoding, captions={"beside": "txt"})
    item = depths[1]
    assert (depths.key(1), item.rgb, item.text) == ("1.png", None, "a room 1")
    assert item.depth.shape == (8, 6)
    assert item.intrinsics.cx == 2.5
    with pytest.raises(ValidationError, match="give images, depths, or both"):
        source(**generic)


def test_frames_of_one_recording_are_of_one_scene_and_images_of_any_kind_are_not(tmp_path):
    path = make_tum(tmp_path / "tum", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    tum = source(kind="folder", layout="tum", path=path)
    assert len({scene_of(tum, index) for index in range(3)}) == 1
    for scene in ("a", "b"):
        for number in range(2):
            write(tmp_path / "scannet" / scene / "color" / f"{number}.jpg", jpeg(image(number)))
            write(tmp_path / "scannet" / scene / "depth" / f"{number}.png", png(codes(number)))
    folder = str(tmp_path / "scannet")
    scannet = source(kind="folder", layout="scannet", path=folder)
    assert len({scene_of(scannet, index) for index in range(4)}) == 2
    wildcards = {"images": "*/color/*.jpg", "depths": "*/depth/*.png", "codes_per_unit": 1000.0}
    generic = source(kind="folder", layout="generic", path=folder, **wildcards)
    assert len({scene_of(generic, index) for index in range(4)}) == 4
