"""Recordings of robots: every encoding of depth in metres, paired by time, with their cameras."""

from __future__ import annotations

import pickle
import struct
import sys

import numpy as np
import pytest
from bag_files import (
    SECOND,
    camera_message,
    compressed_message,
    image_message,
    rvl_of,
    store_of,
    write_bag,
)
from depth_files import png_of
from training_files import codes, image, jpeg, one_line_error, source, write

from mfsynth.geometry import Intrinsics
from mfsynth.geometry.registration import depth_in_camera
from mfsynth.sources.contents import content_digest
from mfsynth.sources.registry import source_settings
from mfsynth.sources.ros_images import image_of, unpack_rvl

RGB, DEPTH = "/camera/color/image_raw", "/camera/depth/image_rect_raw"
CAMERA = (7.0, 6.5, 3.4, 2.6)
CODES = codes(0) // 16
METRES = (CODES / 1000).astype(np.float32)


def recording(root, kind, depth_of, *, times=((1.0, 1.01),), cameras=(CAMERA, CAMERA), more=()):
    """A recording of images and of depth a little later."""
    store = store_of(kind)
    messages = [
        ("/camera/color/camera_info", 0, camera_message(store, cameras[0], (8, 6))),
        ("/camera/depth/camera_info", 0, camera_message(store, cameras[1], (8, 6))),
        *((topic, time, make(store)) for topic, time, make in more),
    ]
    for number, (time, depth_time) in enumerate(times):
        at, later = round(time * SECOND), round(depth_time * SECOND)
        messages.append((RGB, at, image_message(store, image(number), "rgb8", at, padding=4)))
        messages.append((DEPTH, later, depth_of(store, later)))
    path = write_bag(root / f"run.{kind}", messages, kind)
    return {"kind": "recording", "path": str(path)}


def raw(encoding="16UC1", pixels=CODES, **more):
    return lambda store, time: image_message(store, pixels, encoding, time, **more)


def compressed(data, kind):
    return lambda store, time: compressed_message(store, data, kind, time)


HEADER = struct.pack("<iff", 0, 0, 0)
INVERSE = struct.pack("<iff", 0, 100.0, -5.0)
INVERSE_CODES = (
    np.where(METRES > 0, 100 / np.maximum(METRES, 1e-3) - 5, 0).round().astype(np.uint16)
)


@pytest.mark.parametrize(
    ("kind", "depth_of", "tolerance"),
    [
        ("bag", raw(), 1e-6),
        ("mcap", raw(padding=2), 1e-6),
        ("db3", raw(big=True), 1e-6),
        ("mcap", raw("32FC1", np.where(METRES > 0, METRES, np.nan)), 1e-6),
        ("bag", compressed(HEADER + png_of(CODES), "16UC1; compressedDepth"), 1e-6),
        ("mcap", compressed(HEADER + png_of(CODES), "16UC1; compressedDepth png"), 1e-6),
        ("mcap", compressed(HEADER + rvl_of(CODES), "16UC1; compressedDepth rvl"), 1e-6),
        ("mcap", compressed(INVERSE + png_of(INVERSE_CODES), "32FC1; compressedDepth png"), 0.03),
        ("mcap", compressed(png_of(CODES), "16UC1; png compressed "), 1e-6),
    ],
    ids=["bag", "mcap", "db3", "32FC1", "old", "png", "rvl", "inverse", "plain"],
)
def test_depth_of_every_encoding_is_in_metres(tmp_path, kind, depth_of, tolerance):
    items = pickle.loads(pickle.dumps(source(**recording(tmp_path, kind, depth_of))))
    item = items[0]
    np.testing.assert_array_equal(item.rgb, image(0))
    np.testing.assert_array_equal(item.depth == 0, METRES == 0)
    np.testing.assert_allclose(item.depth, METRES, rtol=tolerance)
    assert item.intrinsics == Intrinsics(*CAMERA)
    assert items.key(0) == f"run.{kind}/1000000000"
    assert (item.labels.moment.episode, item.labels.moment.frame) == (f"run.{kind}", 0)


@pytest.mark.parametrize("kind", ["bag", "mcap", "db3"])
@pytest.mark.parametrize("stamped", [True, False])
def test_frames_have_the_times_of_their_sensor_and_of_the_recorder_without(tmp_path, kind, stamped):
    store = store_of(kind)
    taken = [100.0, 100.1, 100.2, 100.3]
    # Written down in twos, as they come over a network.
    logged = [100.25, 100.251, 100.45, 100.451]
    messages = [
        (RGB, round(log * SECOND), image_message(store, image(number), "rgb8", stamp))
        for number, (time, log) in enumerate(zip(taken, logged, strict=True))
        for stamp in [round(time * SECOND) if stamped else 0]
    ]
    path = write_bag(tmp_path / f"run.{kind}", messages, kind)
    found = source(kind="recording", path=str(path))
    times = [found.moment(index).timestamp for index in range(4)]
    wanted = np.array(taken if stamped else logged)
    np.testing.assert_allclose(times, wanted - wanted[0], atol=1e-9)


BENT = (0.1, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("topic", "about", "wanted", "told"),
    [
        ("image_raw", {"rectified": (9, 9, 4, 3)}, CAMERA, ""),
        ("image_rect_color", {"rectified": (9, 9, 4, 3), "distortion": BENT}, (9, 9, 4, 3), ""),
        ("image_rect", {}, CAMERA, ""),
        # At the farthest corner x = 3.6 / 7, y = -2.6 / 6.5: off by .1 r^2 = .042 of both.
        ("image_raw", {"distortion": BENT}, CAMERA, "bends the corners by 0.2 pixels"),
        # Twice the pixels, of which every other one is read; centres of pixels are whole numbers.
        ("image_raw", {"size": (16, 12), "binning": (2, 2)}, (3.5, 3.25, 1.45, 1.05), ""),
        ("image_raw", {"size": (16, 12), "region": (1, 2, 6, 8)}, (7, 6.5, 2.4, 0.6), ""),
    ],
    ids=["raw", "rectified", "no P", "bent", "binned", "region"],
)
def test_a_camera_is_that_of_the_images_of_its_topic(
    tmp_path, monkeypatch, topic, about, wanted, told
):
    monkeypatch.setattr("mfsynth.sources.recordings._BENT", 0.1)
    store = store_of("mcap")
    size = about.get("size", (8, 6))
    more = {key: value for key, value in about.items() if key != "size"}
    messages = [
        ("/cam/camera_info", 0, camera_message(store, CAMERA, size, **more)),
        (f"/cam/{topic}", SECOND, image_message(store, image(0), "rgb8", SECOND)),
    ]
    path = write_bag(tmp_path / "run.mcap", messages, "mcap")
    item = source(kind="recording", path=str(path))[0]
    found = item.intrinsics
    np.testing.assert_allclose((found.fx, found.fy, found.cx, found.cy), wanted)
    assert told in item.camera_from
    assert ("bends" in item.camera_from) == bool(told)


@pytest.mark.parametrize(
    ("topic", "about", "problem"),
    [
        ("image_raw", {"model": "equidistant"}, "is of a fisheye lens .*; rectify it"),
        (
            "image_rect",
            {"distortion": BENT},
            "is rectified, .* has distortion and no P",
        ),
    ],
)
def test_a_camera_that_nobody_knows_is_one_line_until_settings_say_it(
    tmp_path, topic, about, problem
):
    store = store_of("mcap")
    messages = [
        ("/cam/camera_info", 0, camera_message(store, CAMERA, (8, 6), **about)),
        (f"/cam/{topic}", SECOND, image_message(store, image(0), "rgb8", SECOND)),
    ]
    path = write_bag(tmp_path / "run.mcap", messages, "mcap")
    with one_line_error(f"/cam/{topic} {problem}"):
        source(kind="recording", path=str(path))
    known = dict(zip(("fx", "fy", "cx", "cy"), CAMERA, strict=True))
    items = source(kind="recording", path=str(path), encoding={"camera": known})
    assert items[0].intrinsics == Intrinsics(*CAMERA)


@pytest.mark.parametrize("seed", range(4))
def test_rvl_is_read_as_it_was_written(seed):
    random = np.random.default_rng(seed)
    made = random.integers(0, 65536 >> 5 * seed, (31, 17), dtype=np.uint16)
    made[random.random(made.shape) < 0.4] = 0
    np.testing.assert_array_equal(unpack_rvl(rvl_of(made), "x"), made)
    np.testing.assert_array_equal(unpack_rvl(rvl_of(0 * made), "x"), 0 * made)
    with pytest.raises(ValueError, match="ends early"):
        unpack_rvl(rvl_of(made)[:-60], "x")


def rvl_of_numbers(*numbers):
    """A map of 16x16 pixels in RVL of any numbers, which may be none of a map."""
    nibbles = []
    for number in numbers:
        digits = [number >> 3 * place & 7 for place in range(max(1, -(-number.bit_length() // 3)))]
        nibbles += [digit | 8 for digit in digits[:-1]] + digits[-1:]
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        int("".join(f"{n:x}" for n in nibbles[at : at + 8]), 16) for at in range(0, len(nibbles), 8)
    ]
    return struct.pack("<II", 16, 16) + struct.pack(f"<{len(words)}I", *words)


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ((0, 2**64 - 2), "a run of no pixels, or of more than are left"),
        ((2**64 - 2, 1), "a run of no pixels, or of more than are left"),
        ((250, 7, *[1] * 7), "a run of no pixels, or of more than are left"),
        ((0, 0, 256, 0), "a run of no pixels"),
        ((255, 1, 2**60), "a code of more than 11 nibbles"),
    ],
)
def test_rvl_with_runs_and_codes_of_no_map_is_refused_at_once(numbers, problem):
    with pytest.raises(ValueError, match=problem):
        unpack_rvl(rvl_of_numbers(*numbers), "x")


@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("bgr8", image(0)[..., ::-1]),
        ("rgba8", np.dstack([image(0), np.full((6, 8), 9, np.uint8)])),
        ("bgra8", np.dstack([image(0)[..., ::-1], np.full((6, 8), 9, np.uint8)])),
    ],
)
def test_images_are_rgb_whatever_the_order_of_their_channels(tmp_path, encoding, pixels):
    store = store_of("mcap")
    message = image_message(store, np.ascontiguousarray(pixels), encoding, SECOND)
    path = write_bag(tmp_path / "a", [("/rgb", SECOND, message)], "mcap")
    np.testing.assert_array_equal(source(kind="recording", path=str(path))[0].rgb, image(0))


COLOUR = np.array([200, 100, 50], np.uint8)


def bayer(pattern):
    """A mosaic of one colour, by the letters of its two rows."""
    tile = [["rgb".index(letter) for letter in row] for row in (pattern[:2], pattern[2:])]
    return np.tile(COLOUR[np.array(tile)], (4, 4))


def packed(order):
    """One colour in YUV 4:2:2 by BT.601, two pixels in four bytes."""
    r, g, b = COLOUR.astype(float)
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u, v = 128 - 0.148 * r - 0.291 * g + 0.439 * b, 128 + 0.439 * r - 0.368 * g - 0.071 * b
    four = [{"y": y, "u": u, "v": v}[letter] for letter in order]
    return np.tile(np.rint(four).astype(np.uint8).reshape(2, 2), (8, 4, 1))


@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        *((f"bayer_{pattern}8", bayer(pattern)) for pattern in ("rggb", "bggr", "gbrg", "grbg")),
        ("yuv422", packed("uyvy")),
        ("yuv422_yuy2", packed("yuyv")),
    ],
)
def test_mosaics_and_halved_colours_become_the_colour_that_they_are_of(encoding, pixels):
    message = image_message(store_of("mcap"), pixels, encoding, SECOND)
    found = image_of(message)
    assert found.shape == (8, 8, 3)
    np.testing.assert_allclose(found[2:-2, 2:-2] - COLOUR.astype(int), 0, atol=3)


def test_grey_images_and_photographs_are_images_too(tmp_path):
    store, data = store_of("mcap"), jpeg(image(0))
    grey = image_message(store, image(0)[..., 0], "mono8", SECOND)
    photograph = compressed_message(store, data, "rgb8; jpeg compressed bgr8", SECOND)
    path = write_bag(tmp_path / "a", [("/a", SECOND, grey), ("/b", SECOND, photograph)], "mcap")
    settings = {"kind": "recording", "path": str(path)}
    with one_line_error("set image_key to one of /a, /b"):
        source(**settings)
    np.testing.assert_array_equal(
        source(**settings, image_key="/a")[0].rgb[..., 1], image(0)[..., 0]
    )
    assert source(**settings, image_key="/b", caption="a desk")[0].origin.jpeg == data
    with one_line_error("no such topic '/bb' for image_key; did you mean /b"):
        source(**settings, image_key="/bb")


def test_images_take_the_depth_that_is_nearest_in_time(tmp_path):
    times = ((1.0, 1.015), (1.1, 1.2), (1.3, 1.31))
    settings = recording(tmp_path, "bag", raw(), times=times)
    with one_line_error(r"1 of 3 images have no depth within 0.02 s, the closest is 0.01 s away"):
        source(**settings)
    paired = source(**settings, depth="paired")
    assert [paired.key(i) for i in range(2)] == ["run.bag/1000000000", "run.bag/1300000000"]
    optional = source(**settings, depth="optional")
    assert [optional[i].depth is None for i in range(3)] == [False, True, False]
    assert len(source(**settings, max_seconds=0.1)) == 3
    assert source(**settings, max_seconds=0.1, every=2).key(1) == "run.bag/1300000000"


def test_depth_of_another_camera_is_refused_or_carried_over(tmp_path):
    settings = recording(tmp_path, "mcap", raw(), cameras=(CAMERA, (4.0, 4.0, 3.5, 2.5)))
    with one_line_error("depth of another camera than the image's .* set registration: to_colour"):
        source(**settings)[0]
    with one_line_error("registration to_colour needs extrinsics; give it"):
        source(**settings, encoding={"registration": "to_colour"})
    pose = np.eye(4)
    pose[0, 3] = 0.02
    encoding = {"registration": "to_colour", "extrinsics": {"matrix": pose.ravel().tolist()}}
    depth = source(**settings, encoding=encoding)[0].depth
    cameras = Intrinsics(4.0, 4.0, 3.5, 2.5), Intrinsics(*CAMERA)
    np.testing.assert_array_equal(depth, depth_in_camera(METRES, *cameras, pose, (6, 8)))


def test_depth_may_be_taken_alone_in_its_own_camera(tmp_path):
    own = (4.0, 4.0, 3.5, 2.5)
    settings = recording(tmp_path, "mcap", raw(), cameras=(CAMERA, own))
    alone = source(**settings, depth_alone=True)
    assert alone[0].rgb is None
    assert alone[0].intrinsics == Intrinsics(*own)
    assert alone.key(0) == "run.mcap/1010000000"
    np.testing.assert_allclose(alone[0].depth, METRES, rtol=1e-6)


def realsense(unit):
    """What librealsense records beside the images: the unit, and where its cameras are."""
    types = store_of("bag").types
    zero = types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    beside = types["geometry_msgs/msg/Vector3"](0.3, 0.0, 0.0)
    straight = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    pose = types["geometry_msgs/msg/Transform"]
    depth, colour = "/device_0/sensor_0", "/device_0/sensor_1"
    cameras = ((4.0, 4.0, 3.5, 2.5), CAMERA)
    images = [
        image_message(store_of("bag"), pixels, encoding, SECOND)
        for pixels, encoding in ((CODES, "mono16"), (image(0), "rgb8"))
    ]
    infos = [camera_message(store_of("bag"), values, (8, 6)) for values in cameras]
    return [
        (f"{depth}/option/Depth Units/value", 1, types["std_msgs/msg/Float32"](unit)),
        (f"{depth}/Depth_0/tf/0", 1, pose(zero, straight)),
        (f"{colour}/Color_0/tf/0", 1, pose(beside, straight)),
        (f"{depth}/Depth_0/info/camera_info", 1, infos[0]),
        (f"{colour}/Color_0/info/camera_info", 1, infos[1]),
        (f"{depth}/Depth_0/image/data", 2, images[0]),
        (f"{colour}/Color_0/image/data", 2, images[1]),
    ]


def test_what_realsense_records_of_units_and_cameras_is_taken(tmp_path):
    path = write_bag(tmp_path / "a.bag", realsense(0.0001), "bag")
    settings = {"kind": "recording", "path": str(path)}
    item = source(**settings, encoding={"registration": "to_colour"})[0]
    pose = np.eye(4)
    pose[0, 3] = -0.3
    cameras = Intrinsics(4.0, 4.0, 3.5, 2.5), Intrinsics(*CAMERA)
    wanted = depth_in_camera(METRES / 10, *cameras, pose, (6, 8))
    assert (wanted > 0).any()
    np.testing.assert_allclose(item.depth, wanted, rtol=1e-6)
    without = write_bag(tmp_path / "b.bag", realsense(0.0001)[1:], "bag")
    with one_line_error("b.bag: codes_per_unit is missing"):
        source(kind="recording", path=str(without), encoding={"registration": "same"})


@pytest.mark.parametrize("kind", ["bag", "mcap", "db3"])
def test_messages_that_were_recorded_at_one_time_are_items_of_their_own(tmp_path, kind):
    store, messages = store_of(kind), []
    for number, logged in enumerate((1, 1, 2, 1)):
        stamp = (number + 1) * SECOND
        pixels = image_message(store, image(number), "rgb8", stamp)
        maps = image_message(store, CODES + number, "16UC1", stamp)
        messages += [(DEPTH, logged * SECOND, maps), (RGB, logged * SECOND, pixels)]
    messages.sort(key=lambda message: message[1])
    path = write_bag(tmp_path / f"run.{kind}", messages, kind)
    items = source(kind="recording", path=str(path))
    suffixes = ["1000000000", "1000000000.1", "2000000000", "1000000000.2"]
    assert [items.key(n) for n in range(4)] == [f"run.{kind}/{suffix}" for suffix in suffixes]
    for number in (3, 0, 2, 1):
        np.testing.assert_array_equal(items[number].rgb, image(number))
        metres = ((CODES + number) / 1000).astype(np.float32)
        np.testing.assert_allclose(items[number].depth, metres, rtol=1e-6)


def test_depth_of_two_encodings_in_one_topic_is_not_of_one_unit(tmp_path):
    store = store_of("mcap")
    messages = [
        (topic, number * SECOND, image_message(store, pixels, encoding, number * SECOND))
        for number, (pixels, encoding) in enumerate(((CODES, "16UC1"), (METRES, "32FC1")), 1)
        for topic, pixels, encoding in (
            ("/rgb", image(number), "rgb8"),
            ("/depth", pixels, encoding),
        )
    ]
    items = source(kind="recording", path=str(write_bag(tmp_path / "a", messages, "mcap")))
    assert items[0].depth.max() < 4.1
    with one_line_error("32FC1 among 16UC1, of another unit perhaps; leave it out"):
        items[1]


def test_a_camera_of_other_images_is_not_taken(tmp_path):
    store = store_of("mcap")
    messages = [
        ("/camera/depth/camera_info", 0, camera_message(store, CAMERA, (8, 6))),
        (RGB, SECOND, image_message(store, image(0), "rgb8", SECOND)),
    ]
    settings = {"kind": "recording", "path": str(write_bag(tmp_path / "a", messages, "mcap"))}
    assert source(**settings)[0].intrinsics is None
    given = source(**settings, camera_key="/camera/depth/camera_info")
    assert given[0].intrinsics == Intrinsics(*CAMERA)


def test_depth_alone_is_a_recording_too(tmp_path):
    store = store_of("mcap")
    info = camera_message(store, CAMERA, (8, 6))
    depth = image_message(store, CODES, "16UC1", SECOND)
    messages = [("/depth/camera_info", 0, info), ("/depth/image", SECOND, depth)]
    path = write_bag(tmp_path / "a", messages, "mcap", empty=("/rgb",))
    item = source(kind="recording", path=str(path))[0]
    assert item.rgb is None
    assert item.intrinsics == Intrinsics(*CAMERA)
    np.testing.assert_allclose(item.depth, METRES, rtol=1e-6)


def test_the_content_is_that_of_the_recording_wherever_it_lies(tmp_path):
    digests = []
    for folder, time in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / folder).mkdir()
        settings = recording(tmp_path / folder, "bag", raw(), times=((time, time),))
        digests.append(content_digest(source_settings(settings), source(**settings)))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("kind", ["bag", "mcap"])
def test_the_content_has_the_files_that_encoding_names_beside_the_recording(tmp_path, kind):
    settings = recording(tmp_path, kind, raw())
    settings["encoding"] = {"camera": {"file": "K.txt"}}
    digests = []
    for focal in ("6.5", "6.55"):
        write(tmp_path / "K.txt", f"7 0 3.4 0 {focal} 2.6 0 0 1")
        items = source(**settings)
        assert items[0].intrinsics.fy == float(focal)
        digests.append(content_digest(source_settings(settings), items))
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("depth_of", "problem"),
    [
        (raw("mono16"), "codes_per_unit is missing"),
        (compressed(b"short", "16UC1; compressedDepth png"), "corrupt or not a recording"),
        (compressed(HEADER + b"x" * 99, "16UC1; compressedDepth"), "which has no reader"),
        (compressed(HEADER + rvl_of(CODES)[:24], "16UC1; compressedDepth rvl"), "ends early"),
        (compressed(HEADER + png_of(CODES)[:70], "16UC1; compressedDepth"), "not a PNG"),
        (raw(pixels=np.full((6, 8), 65535, np.uint16)), "add it to encoding.invalid"),
        (raw(pixels=CODES[:3]), "the camera is of 8x6 pixels, the images are 8x3"),
    ],
)
def test_depth_that_can_not_be_read_is_one_line(tmp_path, depth_of, problem):
    with one_line_error(problem):
        source(**recording(tmp_path, "bag", depth_of))[0]


def test_what_is_no_recording_is_one_line(tmp_path):
    for name in ("a.bag", "a.mcap", "a.db3"):
        path = write(tmp_path / name, b"#ROSBAG V2.0\n" + bytes(64))
        with one_line_error(f"{name}: corrupt or not a recording"):
            source(kind="recording", path=str(path))
    with one_line_error("no such recording; check the path"):
        source(kind="recording", path=str(tmp_path / "b.bag"))
    with one_line_error("^s3://bucket/a.bag: recordings are read from a disk; copy it there"):
        source(kind="recording", path="s3://KEY:secret@bucket/a.bag")
    text = store_of("mcap").types["std_msgs/msg/String"]("hello")
    path = write_bag(tmp_path / "talk", [("/chatter", 1, text)], "mcap")
    with one_line_error("no topic of images; topics: /chatter"):
        source(kind="recording", path=str(path))


def test_without_the_library_the_error_names_the_extra(tmp_path, monkeypatch):
    path = write(tmp_path / "a.bag", b"#ROSBAG")
    monkeypatch.setitem(sys.modules, "rosbags.highlevel", None)
    with one_line_error(r"is read with rosbags, .*pip install 'mfsynth\[ros\]'"):
        source(kind="recording", path=str(path))
