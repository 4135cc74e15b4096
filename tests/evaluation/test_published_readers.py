"""Data sets in their published layouts: what is read, in what order, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from published_folders import (
    PATHS,
    depth_map,
    image,
    write_depth,
    write_frame,
    write_image,
    write_split,
)

from mfsynth.errors import MfsynthError
from mfsynth.evaluation.readers.published import LAYOUTS, open_published

KITTI_SIZE = (375, 1242)
# KITTI's benchmark crop of that size: the bottom centre.
CROP = (slice(23, 375), slice(13, 1229))


def size_of(kind):
    return KITTI_SIZE if kind == "kitti_eigen" else (6, 8)


def frame_of(kind, number):
    return image(number, *size_of(kind)), depth_map(number, *size_of(kind))


def one_line_error(*parts):
    """An error in one line that has all of these in it, in their order."""
    return pytest.raises(MfsynthError, match="^.*" + ".*".join(map(re.escape, parts)) + ".*$")


@pytest.mark.parametrize("kind", PATHS)
def test_every_layout_gives_its_frames(kind, tmp_path):
    written = [frame_of(kind, number) for number in range(3)]
    lines = [write_frame(kind, tmp_path, number, *frame) for number, frame in enumerate(written)]
    found = open_published(kind, str(tmp_path), write_split(tmp_path / "split.txt", lines))
    assert found.name == kind
    assert found.protocol is LAYOUTS[kind].protocol
    assert len(found.frames) == 3
    for number, (rgb, depth) in enumerate(written):
        frame = found.frames[number]
        assert PATHS[kind][0].format(number) in frame.name
        if kind == "kitti_eigen":
            rgb, depth = rgb[CROP], depth[CROP]
        assert frame.rgb.dtype == np.uint8
        assert frame.depth.dtype == np.float32
        np.testing.assert_array_equal(frame.depth, depth)
        if PATHS[kind][0].endswith(".png"):
            np.testing.assert_array_equal(frame.rgb, rgb)
        else:
            assert frame.rgb.shape == rgb.shape


@pytest.mark.parametrize("kind", PATHS)
def test_without_a_split_all_of_a_folder_is_read_in_the_order_of_paths(kind, tmp_path):
    for number in (2, 0):
        write_frame(kind, tmp_path, number, *frame_of(kind, number))
    # Not of the layout: KITTI's other camera, NYUv2's filled depth, and the like.
    write_image(tmp_path / "test" / "kitchen_0004" / "filled_0000.png", image(0))
    write_image(tmp_path / "2011_09_26" / "drive" / "image_03" / "data" / "0.png", image(0))
    frames = open_published(kind, str(tmp_path)).frames
    assert [frame.name for frame in (frames[0], frames[1])] == [
        str(tmp_path / PATHS[kind][0].format(number)) for number in (0, 2)
    ]
    assert len(frames) == 2


def test_a_split_names_the_images_and_their_order(tmp_path):
    lines = [write_frame("nyu_v2", tmp_path, number, *frame_of("nyu_v2", 0)) for number in range(4)]
    without = lines[2].split()[0] + " None 721.5377"
    split = write_split(tmp_path / "split.txt", [lines[3], "", without, lines[1]])
    frames = open_published("nyu_v2", str(tmp_path), split).frames
    assert [frame.name[-8:-4] for frame in (frames[0], frames[1])] == ["0003", "0001"]
    assert len(frames) == 2


def test_annotated_depth_of_kitti_lies_in_parts_of_its_own(tmp_path):
    raw, annotated = tmp_path / "raw", tmp_path / "annotated"
    lines = [
        write_frame("kitti_eigen", raw, number, *frame_of("kitti_eigen", number), annotated / part)
        for number, part in enumerate(["train", "val"])
    ]
    split = write_split(tmp_path / "eigen.txt", lines)
    frames = open_published("kitti_eigen", str(raw), split, str(annotated)).frames
    for number in range(2):
        np.testing.assert_array_equal(frames[number].depth, depth_map(number, *KITTI_SIZE)[CROP])


def test_scannet_images_may_have_more_pixels_than_their_depth(tmp_path):
    write_frame("scannet", tmp_path, 0, image(0, 968, 1296), depth_map(0, 480, 640))
    frame = open_published("scannet", str(tmp_path)).frames[0]
    assert frame.rgb.shape == (968, 1296, 3)
    assert frame.depth.shape == (480, 640)


def test_what_is_missing_is_told_before_anything_is_read(tmp_path):
    with one_line_error("nowhere: no such folder"):
        open_published("diode", str(tmp_path / "nowhere"))
    with one_line_error(str(tmp_path), "no images of eth3d", "rgb/*/images", "check the path"):
        open_published("eth3d", str(tmp_path))
    with one_line_error("lost.txt", "no readable split list"):
        open_published("eth3d", str(tmp_path), str(tmp_path / "lost.txt"))
    lines = [
        write_frame("scannet", tmp_path, number, *frame_of("scannet", 0)) for number in range(3)
    ]
    split = write_split(tmp_path / "split.txt", [lines[0], "color/000300.jpg depth/000300.png"])
    with one_line_error("split.txt:2: color/000300.jpg", "*/color/*.jpg", "mend this line"):
        open_published("scannet", str(tmp_path), split)
    gone = tmp_path / PATHS["scannet"][1].format(1)
    gone.unlink()
    with one_line_error(str(gone), "3 images of scannet", "1 missing", "restore"):
        open_published("scannet", str(tmp_path))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("kind", "spoilt", "how", "problem"),
    [
        ("nyu_v2", 0, truncate, "corrupt or not an image"),
        ("nyu_v2", 0, lambda path: write_image(path, image(0)[..., :1]), "an image of mode L"),
        ("nyu_v2", 0, lambda path: write_depth("nyu_v2", path, depth_map(0)), "an image of mode I"),
        ("nyu_v2", 1, truncate, "corrupt or not a PNG"),
        ("scannet", 1, lambda path: write_image(path, image(0)), "8-bit with colour"),
        ("scannet", 1, lambda path: path.write_bytes(b"no image"), "not a PNG"),
        ("scannet", 0, lambda path: path.write_bytes(b"no image"), "(no known format)"),
        ("scannet", 1, lambda path: write_depth("scannet", path, depth_map(0, 6, 6)), "6x6 pixels"),
        ("eth3d", 1, truncate, "172 bytes, but float32 depth of the image's 8x6 pixels has 192"),
        ("diode", 1, truncate, "corrupt or not an array"),
        ("diode", 1, lambda path: np.save(path, np.array([{}]), allow_pickle=True), "not an array"),
        ("diode", 1, lambda path: np.save(path, np.ones((6, 9, 1))), "depth of (6, 9)"),
        (
            "kitti_eigen",
            1,
            lambda path: write_depth("kitti_eigen", path, depth_map(0, 300, 1242)),
            "1242x300 pixels",
        ),
        (
            "kitti_eigen",
            1,
            lambda path: write_depth("kitti_eigen", path, depth_map(0, 370, 1226)),
            "1226x370 pixels for an image of 1242x375, which can't be cropped alike",
        ),
    ],
)
def test_a_frame_that_cannot_be_read_is_named(kind, spoilt, how, problem, tmp_path):
    write_frame(kind, tmp_path, 0, *frame_of(kind, 0))
    write_frame(kind, tmp_path, 1, *frame_of(kind, 1))
    path = tmp_path / PATHS[kind][spoilt].format(0)
    how(path)
    frames = open_published(kind, str(tmp_path)).frames
    with one_line_error(str(path.with_suffix("")), problem, "; ", "fetch"):
        frames[0]
    assert frames[1].depth.max() > 0


def test_a_kitti_image_without_room_for_the_crop_is_named(tmp_path):
    write_frame("kitti_eigen", tmp_path, 7, image(0, 352, 1200), depth_map(0, 352, 1200))
    frames = open_published("kitti_eigen", str(tmp_path)).frames
    with one_line_error("0000000007.png", "no KITTI crop of 1216x352"):
        frames[0]
