"""Frames of videos are items: in any order, with depth of the same moment, upright."""

from __future__ import annotations

import pickle
import struct
import sys

import fsspec
import numpy as np
import pytest
from pydantic import ValidationError
from training_files import codes, image, one_line_error, source, write
from video_files import write_video

from mfsynth.sources.contents import content_digest
from mfsynth.sources.registry import source_settings

MILLIMETRES = {"scale": 0.001, "invalid": [0]}
IMAGES = [image(number, 32, 48) for number in range(12)]
CODES = [codes(number, 32, 48) // 8 for number in range(12)]


def test_frames_come_out_in_any_order_and_say_which_they_are(tmp_path):
    write_video(tmp_path / "a" / "1.mkv", IMAGES, g="5")
    write_video(tmp_path / "b.MKV", IMAGES[:2])
    write(tmp_path / "a" / "._1.mkv", b"left by a file manager")
    videos = pickle.loads(pickle.dumps(source(kind="video", path=str(tmp_path))))
    assert len(videos) == 14
    for index in (3, 0, 11, 10, 11, 1, 2, 13, 4):
        item = videos[index]
        video, number = ("b.MKV", index - 12) if index > 11 else ("a/1.mkv", index)
        np.testing.assert_array_equal(item.rgb, IMAGES[number])
        assert videos.key(index) == f"{video}/{number:06d}"
        assert (item.labels.moment.episode, item.labels.moment.frame) == (video, number)
    with pytest.raises(IndexError):
        videos[14]


def test_a_lone_video_has_captions_and_every_nth_frame(tmp_path):
    path = write_video(tmp_path / "pick up the mug.mkv", IMAGES)
    constant = {"constant": "pick up the mug"}
    videos = source(kind="video", path=str(path), every=5, captions=constant)
    assert [videos.key(index) for index in range(3)] == [
        f"pick up the mug.mkv/{number:06d}" for number in (0, 5, 10)
    ]
    np.testing.assert_array_equal(videos[2].rgb, IMAGES[10])
    assert list(videos.texts()) == ["pick up the mug"] * 3


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        ("gray16le", MILLIMETRES),
        ("gray12le", {**MILLIMETRES, "scale": 0.002}),
    ],
)
def test_depth_comes_from_a_grey_video_code_for_code(tmp_path, pixels, encoding):
    stored = [one // 2 for one in CODES]
    write_video(tmp_path / "x" / "rgb.mkv", IMAGES)
    write_video(tmp_path / "x" / "depth.mkv", stored, pixels)
    paths = {"path": str(tmp_path), "videos": "*/rgb.mkv", "depths": "*/depth.mkv"}
    videos = source(kind="video", **paths, encoding=encoding)
    for index in (7, 0):
        depth = (stored[index] * encoding["scale"]).astype(np.float32)
        np.testing.assert_allclose(videos[index].depth, depth, rtol=1e-6)
        np.testing.assert_array_equal(videos[index].rgb, IMAGES[index])
    alone = source(kind="video", **{**paths, "videos": None}, encoding=encoding)
    assert alone[3].rgb is None
    np.testing.assert_array_equal(alone[3].depth, videos[3].depth)


@pytest.mark.parametrize(
    ("pixels", "highest"),
    [("gray10le", 1023), ("gray12le", 4095), ("gray14le", 16383), ("gray16le", 65535)],
)
def test_the_highest_code_of_a_grey_video_is_that_of_its_bits(tmp_path, pixels, highest):
    stored = np.linspace(1, highest - 1, 32 * 48).reshape(32, 48).astype(np.uint16)
    stored[:8] = highest
    write_video(tmp_path / "depth.mkv", [stored], pixels)

    def depth(**encoding):
        settings = {"path": str(tmp_path), "videos": None, "depths": "*.mkv"}
        return source(kind="video", **settings, encoding=encoding)[0].depth

    with one_line_error(f"have the code {highest}, as high as there is"):
        depth(scale=0.001)
    assert depth(near=0.5, far=8, invalid=["max"]).max() == pytest.approx(8, rel=0.02)
    metres = depth(scale=0.001, invalid=["max"])
    assert not metres[:8].any()
    np.testing.assert_allclose(metres[8:], stored[8:] / 1000, rtol=1e-6)


def test_frames_take_the_depth_that_is_nearest_in_time_and_not_too_far(tmp_path):
    write_video(tmp_path / "rgb.mkv", IMAGES[:4], times=[0, 10, 20, 30])
    write_video(tmp_path / "depth.mkv", CODES[:3], "gray16le", times=[1, 9, 34])
    settings = {
        "kind": "video",
        "path": str(tmp_path),
        "videos": "rgb.mkv",
        "depths": "depth.mkv",
        "encoding": MILLIMETRES,
        "max_seconds": 0.35,
    }
    with one_line_error("rgb.mkv: 2 of 4 frames have no depth; set max_seconds"):
        source(**settings)
    paired = source(**settings, depth="paired")
    assert [paired.key(index)[-2:] for index in range(len(paired))] == ["00", "01"]
    np.testing.assert_allclose(paired[1].depth, CODES[1] / 1000, rtol=1e-6)
    optional = source(**settings, depth="optional")
    assert [optional[index].depth is None for index in range(4)] == [False, False, True, True]
    longer = source(**{**settings, "max_seconds": 0.45}, depth="paired")
    assert len(longer) == 3


def test_frames_of_avi_are_those_of_their_times_or_refused(tmp_path):
    frames = [np.full((32, 48, 3), 20 * number, np.uint8) for number in range(12)]
    for name, options in (("guessed", {"bf": "3", "sc_threshold": "0"}), ("stored", {"bf": "0"})):
        write_video(tmp_path / f"{name}.avi", frames, "yuv420p", "libx264", **options)
    stored = source(kind="video", path=str(tmp_path / "stored.avi"))
    greys = [int(stored[index].rgb.mean()) for index in range(len(stored))]
    np.testing.assert_allclose(greys, [20 * number for number in range(12)], atol=6)
    with one_line_error("guessed.avi: its frames are stored in another order .* convert it"):
        source(kind="video", path=str(tmp_path / "guessed.avi"))


def test_three_bytes_of_a_video_are_codes(tmp_path):
    whole = [one.astype(np.uint32) * 100 for one in CODES[:2]]
    packed = [
        np.stack([one >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8) for one in whole
    ]
    write_video(tmp_path / "d.mkv", packed)
    encoding = {"packing": "bgr24", "scale": 1e-5, "invalid": [0]}
    videos = source(
        kind="video", path=str(tmp_path), videos=None, depths="*.mkv", encoding=encoding
    )
    np.testing.assert_allclose(videos[1].depth, whole[1] * 1e-5, rtol=1e-6)


def test_telephones_frames_are_upright_unless_depth_lies_beside_them(tmp_path):
    path = write_video(tmp_path / "a.mp4", IMAGES[:1], "yuv420p", "mpeg4", qscale="1")
    stored = source(kind="video", path=str(path))[0].rgb
    data = path.read_bytes()
    # The matrix of the track's header, a quarter clockwise, as a telephone held upright writes it.
    straight = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    track = data.index(b"tkhd")
    at = data.index(straight, track)
    other = write(tmp_path / "b.mp4", data[:at] + turned + data[at + len(turned) :])
    upright = source(kind="video", path=str(other))[0].rgb
    np.testing.assert_array_equal(upright, np.rot90(stored, -1))
    camera = {"camera": {"fx": 50.0, "fy": 50.0, "cx": 23.5, "cy": 15.5}}
    item = source(kind="video", path=str(other), encoding=camera)[0]
    np.testing.assert_array_equal(item.rgb, stored)
    assert (item.intrinsics.cx, item.intrinsics.cy) == (23.5, 15.5)


def test_a_video_in_a_store_is_the_one_on_the_disk(tmp_path, s3):
    path = write_video(tmp_path / "a.mkv", IMAGES)
    bucket = s3.new_bucket()
    fsspec.filesystem("s3").put(str(path), f"{bucket}/a.mkv")
    both = [{"kind": "video", "path": place} for place in (str(path), f"{bucket}/a.mkv")]
    here, there = (source(**one) for one in both)
    np.testing.assert_array_equal(here[4].rgb, there[4].rgb)
    digests = {content_digest(source_settings(one), source(**one)) for one in both}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "a.mp4: corrupt or not a video"),
        (b"no video" * 99, "a.mp4: corrupt or not a video"),
    ],
)
def test_a_file_that_is_no_video_is_one_line(tmp_path, data, problem):
    path = write(tmp_path / "a.mp4", data)
    with one_line_error(problem):
        source(kind="video", path=str(path), max_skipped=0.0)


def test_what_is_missing_or_is_no_depth_is_one_line(tmp_path):
    write_video(tmp_path / "a.mkv", IMAGES[:2])
    with one_line_error("b.mkv: no such video; check the path"):
        source(kind="video", path=str(tmp_path / "b.mkv"))
    with one_line_error(r"no videos \*.mp4; check the path"):
        source(kind="video", path=str(tmp_path), videos="*.mp4")
    both = {"kind": "video", "path": str(tmp_path), "encoding": MILLIMETRES}
    with one_line_error("a.mkv: no video of depth beside it; set depth to optional"):
        source(**both, videos="*.mkv", depths="*.avi")
    coloured = source(**both, videos=None, depths="*.mkv")
    with one_line_error("a.mkv: a video of bgr0; depth is in one grey plane"):
        coloured[0]
    with pytest.raises(ValidationError, match="give videos, depths, or both"):
        source(kind="video", path=str(tmp_path), videos=None)
    for kind in ("video", "lerobot", "recording"):
        with pytest.raises(ValidationError, match="have no files of labels beside them"):
            source(kind=kind, path=str(tmp_path), labels={"mask": "a.png"})
    with pytest.raises(ValidationError, match="codes_per_unit is missing"):
        source(kind="video", path=str(tmp_path), depths="*.mkv")


def test_a_video_that_ends_early_gives_its_whole_frames_and_names_the_broken_one(tmp_path):
    path = write_video(tmp_path / "a.mkv", IMAGES, g="1")
    data = path.read_bytes()
    write(path, data[: len(data) // 2])
    videos = source(kind="video", path=str(path))
    assert 2 < len(videos) < 12
    for index in range(len(videos) - 1):
        np.testing.assert_array_equal(videos[index].rgb, IMAGES[index])


def test_without_the_library_the_error_names_the_extra(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mkv", IMAGES[:1])
    monkeypatch.setitem(sys.modules, "av", None)
    with one_line_error(r"a.mkv: is read with PyAV, .*pip install 'mfsynth\[video\]'"):
        source(kind="video", path=str(path), max_skipped=0.0)
