"""Frames of LeRobot's data sets: which they are, their tasks, and depth in metres."""

from __future__ import annotations

import json
import math
import pickle

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from depth_files import png_of, tiff_of
from training_files import image, one_line_error, png, source, write
from video_files import write_video

from mfsynth.shards.frame_columns import decode_frame
from mfsynth.sources.contents import content_digest
from mfsynth.sources.registry import source_settings

RGB, DEPTH = "observation.images.front", "observation.images.front_depth"
LENGTHS = (3, 2)
IMAGES = [image(number, 32, 48) for number in range(5)]
Z = [np.linspace(0.3, 5 + number, 32 * 48).reshape(32, 48) for number in range(5)]
SHIFT = {"video.depth_min": 0.01, "video.depth_max": 10.0, "video.shift": 3.5}


def log_codes(z):
    low, high = math.log(0.01 + 3.5), math.log(10 + 3.5)
    codes = np.rint(4095 * (np.log(z + 3.5) - low) / (high - low)).astype(np.uint16)
    codes[0, :3] = 0
    return codes


def write_depth(path, codes):
    """As lerobot does."""
    options = {"x265-params": "lossless=1:log-level=error"}
    return write_video(path, codes, "gray12le", "libx265", **options)


def parquet(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)


def lerobot(root, features, columns=None, version="v3.0", **info):
    """Two episodes of three and two frames, ten a second, in one file each."""
    features = {RGB: {"dtype": "video", "shape": [32, 48, 3]}, **features}
    info = {
        "codebase_version": version,
        "fps": 10,
        "features": features,
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        **info,
    }
    write(root / "meta/info.json", json.dumps(info))
    frames = [(e, f) for e, length in enumerate(LENGTHS) for f in range(length)]
    parquet(
        root / "data/chunk-000/file-000.parquet",
        {
            "episode_index": [e for e, _ in frames],
            "frame_index": [f for _, f in frames],
            "timestamp": np.array([f / 10 for _, f in frames], np.float32),
            "task_index": [e for e, _ in frames],
            **(columns or {}),
        },
    )
    parquet(root / "meta/tasks.parquet", {"task_index": [0, 1], "task": ["pick", "place"]})
    places = {
        f"videos/{key}/{name}": value
        for key, feature in features.items()
        if feature["dtype"] == "video"
        for name, value in (
            ("chunk_index", [0, 0]),
            ("file_index", [0, 0]),
            ("from_timestamp", [0.0, 0.3]),
        )
    }
    parquet(root / "meta/episodes/chunk-000/file-000.parquet", {"episode_index": [0, 1], **places})
    for key, feature in features.items():
        if feature["dtype"] == "video":
            video = root / f"videos/{key}/chunk-000/file-000.mp4"
            if key == RGB:
                write_video(video, IMAGES, "rgb24", "libx264rgb", qp="0")
            else:
                write_depth(video, [log_codes(z) for z in Z])
    return {"kind": "lerobot", "path": str(root)}


def depth_video(**about):
    return {"dtype": "video", "shape": [32, 48, 1], "info": {"is_depth_map": True, **about}}


def test_frames_have_their_episodes_tasks_and_depth_of_a_logarithmic_video(tmp_path):
    settings = lerobot(tmp_path, {DEPTH: depth_video(**SHIFT)})
    frames = pickle.loads(pickle.dumps(source(**settings)))
    assert len(frames) == 5
    assert list(frames.texts()) == ["pick"] * 3 + ["place"] * 2
    for index in (4, 0, 1, 3, 2):
        item = frames[index]
        episode, number = (0, index) if index < 3 else (1, index - 3)
        assert frames.key(index) == f"episode_{episode:06d}/{number:06d}"
        assert (item.labels.moment.episode, item.labels.moment.frame) == (str(episode), number)
        np.testing.assert_array_equal(item.rgb, IMAGES[index])
        # The quantiser has no code for a hole: its nearest one is taken for it.
        assert not item.depth[0, :3].any()
        np.testing.assert_allclose(item.depth[1:], Z[index][1:], rtol=2e-3)
    every = source(**settings, every=2)
    assert [every.key(i)[-6:] for i in range(len(every))] == ["000000", "000002", "000000"]


def test_depth_of_linear_videos_and_of_pictures_in_rows_is_in_metres_too(tmp_path):
    linear = np.rint((Z[0] - 0.5).clip(0) / 9.5 * 4095).astype(np.uint16)
    about = {"video.depth_min": 0.5, "video.depth_max": 10.0, "video.use_log": False}
    settings = lerobot(tmp_path / "linear", {DEPTH: depth_video(**about)})
    write_depth(tmp_path / "linear" / f"videos/{DEPTH}/chunk-000/file-000.mp4", [linear] * 5)
    depth = source(**settings)[0].depth
    kept = depth > 0
    assert kept.mean() > 0.9
    np.testing.assert_allclose(depth[kept], Z[0][kept], atol=2e-3)
    for unit, files in (
        ("m", [tiff_of(z.astype(np.float32)) for z in Z]),
        ("mm", [png_of(np.rint(z * 1000).astype(np.uint16)) for z in Z]),
    ):
        cells = [{"bytes": data, "path": "x"} for data in files]
        feature = {"dtype": "image", "info": {"is_depth_map": True, "depth_unit": unit}}
        settings = lerobot(tmp_path / unit, {DEPTH: feature}, {DEPTH: cells})
        np.testing.assert_allclose(source(**settings)[4].depth, Z[4], atol=6e-4)


def test_images_alone_are_fine_and_a_camera_in_the_rows_is_theirs(tmp_path):
    feature = {"dtype": "float64", "shape": [4], "names": ["fx", "fy", "cx", "cy"]}
    values = [[40.0 + n, 41, 23, 15] for n in range(5)]
    frames = source(**lerobot(tmp_path, {"lens": feature}, {"lens": values}))
    assert frames[2].depth is None
    assert frames[2].intrinsics.fx == 42
    uncalibrated = source(**lerobot(tmp_path / "b", {"lens": feature}, {"lens": [[0.0] * 4] * 5}))
    with one_line_error("000002: lens: corrupt or not a camera .*; leave the frame out"):
        uncalibrated[2]


def test_the_content_is_that_of_the_frames_wherever_the_folder_lies(tmp_path, s3):
    settings = lerobot(tmp_path / "a", {DEPTH: depth_video(**SHIFT)})
    bucket = s3.new_bucket()
    fsspec.filesystem("s3").put(f"{tmp_path}/a/", f"{bucket}/b/", recursive=True)
    there = {**settings, "path": f"{bucket}/b"}
    np.testing.assert_array_equal(source(**there)[3].depth, source(**settings)[3].depth)
    digests = {content_digest(source_settings(s), source(**s)) for s in (settings, there)}
    assert len(digests) == 1


def digest(settings):
    return content_digest(source_settings(settings), source(**settings))


def test_the_content_has_what_meta_says_of_depth_and_of_episodes_in_videos(tmp_path):
    def of(far, begin):
        about = {**SHIFT, "video.depth_max": far}
        settings = lerobot(tmp_path, {DEPTH: depth_video(**about)})
        episodes = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
        table = pq.read_table(episodes).to_pydict()
        parquet(episodes, {**table, f"videos/{RGB}/from_timestamp": [0.0, begin]})
        return digest(settings)

    assert of(10.0, 0.3) == of(10.0, 0.3)
    assert len({of(10.0, 0.3), of(20.0, 0.3), of(10.0, 0.2)}) == 3


def test_the_content_has_the_files_that_encoding_names(tmp_path):
    settings = lerobot(tmp_path, {}) | {"encoding": {"camera": {"file": "K.txt"}}}
    digests = []
    for focal in ("40", "50"):
        write(tmp_path / "meta/K.txt", f"{focal} 0 23 0 {focal} 15 0 0 1")
        assert source(**settings)[0].intrinsics.fx == float(focal)
        digests.append(digest(settings))
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("features", "more", "settings", "problem"),
    [
        ({}, {"version": "v2.1"}, {}, "a LeRobot data set of v2.1; convert it to v3.0"),
        ({"wrist": depth_video()}, {}, {"image_key": "x"}, "no feature 'x' for image_key"),
        ({"wrist": {"dtype": "video"}}, {}, {}, "set image_key to one of .*front, wrist"),
        ({}, {"video_path": "../../{video_key}"}, {}, "video_path is no path in the folder"),
        ({}, {"video_path": "{nobody}.mp4"}, {}, "video_path names {nobody}; restore it"),
        ({}, {"video_path": "{video_key:03d}.mp4"}, {}, "video_path names {video_key:03d}"),
        ({}, {"fps": "ten"}, {}, "info.json: fps is 'ten', which is no number; mend it"),
        ({}, {"fps": -1}, {}, "info.json: fps is -1; mend it"),
        (
            {"d": {"dtype": "image", "info": {"is_depth_map": True}}},
            {},
            {},
            "info.json: d: its info has no depth_unit, m or mm, and codes_per_unit is missing; say",
        ),
        ({"d": depth_video()}, {}, {}, "d: its info has no video.depth_max and codes_per_unit is"),
        (
            {"d": depth_video(**SHIFT | {"video.depth_min": "near"})},
            {},
            {},
            "info.json: d: video.depth_min is 'near', which is no number; mend it",
        ),
        ({"d": depth_video(**SHIFT | {"video.depth_min": 10})}, {}, {}, "are no range; mend them"),
        ({"d": depth_video(**SHIFT, **{"video.use_log": "no"})}, {}, {}, "neither true nor false"),
        ({"d": {"dtype": "video", "info": "depth"}}, {}, {}, "info of d is no object of names"),
        (
            {"d": depth_video(**SHIFT)},
            {},
            {"encoding": {"quantity": "inverse_depth"}},
            "info.json: d: encoding: near is nothing of quantity inverse_depth; leave it out",
        ),
    ],
)
def test_what_is_not_clear_is_one_line(tmp_path, features, more, settings, problem):
    made = lerobot(tmp_path, features, **more)
    with one_line_error(problem):
        source(**made, **settings)


def test_what_is_broken_is_one_line(tmp_path):
    settings = lerobot(tmp_path, {DEPTH: depth_video(**SHIFT)})
    frames = source(**settings)
    (tmp_path / f"videos/{DEPTH}/chunk-000/file-000.mp4").write_bytes(b"x")
    with one_line_error(r"file-000.mp4: corrupt or not a video"):
        frames[0]
    write(tmp_path / "data/chunk-000/file-000.parquet", b"PAR1")
    with one_line_error("file-000.parquet: corrupt or not a table"):
        source(**settings)
    write(tmp_path / "meta/info.json", "{")
    with one_line_error("info.json: no description of a LeRobot data set"):
        source(**settings)
    with one_line_error("a LeRobot data set has it"):
        (tmp_path / "meta/info.json").unlink()
        source(**settings)


def test_a_table_of_frames_or_of_episodes_that_is_broken_is_left_out_beside_others(tmp_path):
    settings = lerobot(tmp_path, {})
    whole = [(frame.labels.moment, frame.rgb) for frame in source(**settings)]
    for folder in ("data", "meta/episodes"):
        path = tmp_path / folder / "chunk-000/file-000.parquet"
        table = pq.read_table(path)
        for episode in (0, 1):
            rows = table.filter(pc.field("episode_index") == episode)
            parquet(path.with_name(f"file-{episode:03d}.parquet"), rows.to_pydict())
    assert len(source(**settings)) == len(whole)
    for folder in ("data", "meta/episodes"):
        path = tmp_path / folder / "chunk-000/file-000.parquet"
        data = path.read_bytes()
        write(path, b"PAR1")
        frames = source(**settings)
        assert [frame.labels.moment for frame in frames] == [moment for moment, _ in whole[3:]]
        np.testing.assert_array_equal(frames[0].rgb, whole[3][1])
        assert "file-000.parquet: corrupt or not a table" in frames.skipped[0].reason
        with one_line_error("file-000.parquet: corrupt or not a table"):
            source(**settings, max_skipped=0)
        write(path, data)


def test_pictures_in_rows_are_read_from_their_parts(tmp_path):
    cells = [{"bytes": png(one), "path": "x"} for one in IMAGES]
    frames = source(**lerobot(tmp_path, {RGB: {"dtype": "image"}}, {RGB: cells}))
    for index in (4, 0, 2):
        np.testing.assert_array_equal(frames[index].rgb, IMAGES[index])


PLAIN = {
    "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["x", "y"]}},
    "grid": {"dtype": "float64", "shape": [2, 2], "names": None},
    "next.reward": {"dtype": "float32", "shape": [1], "names": None},
    "next.done": {"dtype": "bool", "shape": [1], "names": None},
    "code": {"dtype": "uint64", "shape": [1], "names": None},
    "note": {"dtype": "string", "shape": [1], "names": None},
}
VALUES = {
    "action": [np.array([0.1 * n, -0.0], np.float32).tolist() for n in range(5)],
    "grid": [[[n, math.nan], [math.inf, -math.inf]] for n in np.arange(5.0) / 3],
    "next.reward": np.array([0.1, np.nan, 1e-45, 3e38, 0], np.float32),
    "next.done": [False, False, True, False, True],
    "code": pa.array([2**64 - 1 - n for n in range(5)], pa.uint64()),
    "note": ["NaN", "a\0", "", "ä", "x"],
}


def test_the_other_plain_columns_of_a_frame_are_a_file_of_it_to_the_bit(tmp_path):
    counters = {"index": {"dtype": "int64", "shape": [1], "names": None}}
    lens = {"lens": {"dtype": "float64", "shape": [4], "names": ["fx", "fy", "cx", "cy"]}}
    columns = {**VALUES, "lens": [[40.0, 41, 23, 15]] * 5}
    frames = source(**lerobot(tmp_path, {**counters, **lens, **PLAIN}, columns))
    assert frames.labels == ("episode", "lerobot.json")
    assert frames[3].intrinsics.fx == 40
    for number in (3, 0, 4, 1, 2):
        labels = frames[number].labels
        assert labels.moment == frames.moment(number)
        told, values = decode_frame(labels.files["lerobot.json"])
        assert {name: column.described for name, column in told.items()} == PLAIN
        for name, about in PLAIN.items():
            wanted = VALUES[name][number]
            wanted = wanted.as_py() if isinstance(wanted, pa.Scalar) else wanted
            dtype = object if about["dtype"] == "string" else about["dtype"]
            assert values[name].dtype == dtype
            np.testing.assert_array_equal(values[name], np.array(wanted, dtype))
    assert np.signbit(decode_frame(frames[0].labels.files["lerobot.json"])[1]["action"][1])
    # Of a data set without any, there is no such file.
    assert source(**lerobot(tmp_path / "b", lens, columns)).labels == ("episode",)


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ([[1.0, None]] * 5, "action: is no whole float32 of the shape .2.; mend it, or"),
        ([[1.0, 2.0, 3.0]] * 5, "action: is no whole float32 of the shape"),
        ([[1.0, 2.0]] * 3 + [[1.0]] * 2, "action: is no whole float32"),
        ([["a", "b"]] * 5, "action: is no whole float32"),
        ([[1e300, 0.0]] * 5, "action: is beyond float32"),
    ],
)
def test_a_column_that_is_not_what_is_said_of_it_is_one_line(tmp_path, column, problem):
    about = {"dtype": "float32", "shape": [2], "names": None}
    cells = pa.array(column)
    columns = {"action": pa.chunked_array([cells])}
    frames = source(**lerobot(tmp_path, {"action": about}, columns))
    with one_line_error(f"episode_000001/000000: {problem}"):
        frames[3]


def test_what_a_frame_has_nothing_in_is_left_out_of_its_file(tmp_path):
    about = {"dtype": "float32", "shape": [2], "names": None}
    cells = pa.array([[1.0, 2.0], None, [3.0, 4.0], None, None], pa.list_(pa.float32()))
    columns = {"action": pa.chunked_array([cells])}
    frames = source(**lerobot(tmp_path, {"action": about}, columns))
    files = [frames[number].labels.files["lerobot.json"] for number in range(5)]
    have = ["action" in decode_frame(file)[1] for file in files]
    assert have == [True, False, True, False, False]


@pytest.mark.parametrize("shape", [None, [], [0], [True], 2])
def test_a_column_without_a_shape_is_one_line(tmp_path, shape):
    about = {"dtype": "float32", "shape": shape, "names": None}
    with one_line_error("info.json: action: shape is .*; mend it"):
        source(**lerobot(tmp_path, {"action": about}, {"action": [1.0] * 5}))


def test_a_column_that_the_rows_lack_is_one_line(tmp_path):
    with one_line_error("file-000.parquet: no column 'grid'"):
        source(**lerobot(tmp_path, {"grid": PLAIN["grid"]}))


def test_the_content_has_which_columns_are_handed_on(tmp_path):
    before = digest(lerobot(tmp_path, {}, {"note": VALUES["note"]}))
    assert digest(lerobot(tmp_path, {"note": PLAIN["note"]}, {"note": VALUES["note"]})) != before


def test_columns_are_read_of_the_parts_that_frames_lie_in_and_together(tmp_path, monkeypatch):
    frames = source(**lerobot(tmp_path, PLAIN, VALUES))
    parts = []
    read = pq.ParquetFile.read_row_group

    def counted(self, part, columns):
        parts.append((part, columns))
        return read(self, part, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert frames[2].labels.files
    assert frames[3].labels.files
    assert parts == [(1, [*PLAIN])]
