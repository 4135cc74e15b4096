"""`mfsynth data inspect` shows in seconds whether depth of files is what the settings say."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run
import yaml
from bag_files import ROS2, SECOND, image_message, write_bag
from click.testing import CliRunner
from depth_files import npy_of, png_of, z_map
from PIL import Image
from training_files import image, png, write, write_tar
from video_files import write_video

from mfsynth.cli.data import data
from mfsynth.errors import MfsynthError
from mfsynth.reports.depth_edges import depth_edges
from mfsynth.sources.guessing import guess_source

GENERIC = ["--set", "layout=generic", "--set", "images=*.png", "--set", "depths=*.npy"]


def inspect(*arguments):
    result = CliRunner().invoke(data, ["inspect", *map(str, arguments)])
    if isinstance(result.exception, MfsynthError):
        return result.exit_code, f"{result.output}error: {result.exception}"
    assert result.exception is None, result.output
    return result.exit_code, result.output


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        write(tmp_path / f"{number}.png", png(image(number)))
        write(tmp_path / f"{number}.npy", npy_of(z_map().astype(np.float32)))
    return tmp_path


def test_frames_are_shown_with_range_codes_camera_and_picture(folder, tmp_path):
    settings = ["--set", "encoding={scale: 1, camera: {fov: 90}}", "--frames", 2]
    picture = tmp_path / "seen" / "frames.png"
    code, said = inspect(folder, *GENERIC, *settings, "--picture", picture)
    assert code == 0
    assert "0.png, 8x6" in said
    assert "2.png" not in said
    assert "95.8% of the pixels valid, near 0.6" in said
    assert "far 3.85" in said
    assert "codes 0 (4.2% of the pixels) to 3.85532 (2.1%)" in said
    assert "6 items; of 2, 2 with depth" in said
    assert "camera: fx 4.0, fy 4.0, cx 3.5, cy 2.5 for 8x6 from its field of view" in said
    drawn = cv2.imread(str(picture))
    assert drawn.shape == (2 * 360 + 6, 3 * 480 + 12, 3)


@pytest.mark.parametrize(
    ("fx", "cx", "seen"),
    [(600.0, 320.0, "has its middle outside of the image"), (0.3, 0.5, "sees 161° across")],
    ids=["of larger images", "shares of the width"],
)
def test_a_camera_of_other_images_is_said(folder, fx, cx, seen):
    def said(**more):
        camera = {"fx": fx, "fy": fx, "cx": cx, "cy": cx * 0.75, **more}
        encoding = f"encoding={json.dumps({'scale': 1, 'camera': camera})}"
        return inspect(folder, *GENERIC, "--set", encoding)[1]

    assert f"camera: that of {folder}/0.png {seen}; if its numbers are of images of" in said()
    if fx > 1:
        assert "camera: that of" not in said(size=[640, 480])


def test_what_is_no_depth_is_said_frame_by_frame(folder):
    write(folder / "1.npy", b"")
    code, said = inspect(folder, *GENERIC, "--set", "encoding.scale=1")
    assert code == 1
    assert "1.npy: not a PNG, TIFF, NPY, NPZ, EXR" in said
    assert "3.png, 8x6" in said
    assert said.endswith("error: 1 of 4 frames can't be used; see above")


def test_frames_of_two_units_are_told(folder):
    write(folder / "2.npy", npy_of((z_map() * 1000).astype(np.float32)))
    _, said = inspect(folder, *GENERIC, "--set", "encoding.scale=1")
    assert "units: the median depth of " in said
    assert "2.png is 2.23e+03, of" in said
    write(folder / "2.npy", npy_of((z_map() * 10).astype(np.float32)))
    assert "units:" not in inspect(folder, *GENERIC, "--set", "encoding.scale=1")[1]


def test_a_folder_that_says_nothing_is_asked_for_its_layout(folder):
    code, said = inspect(folder)
    assert code == 1
    assert "a folder of images; say what it is by --set layout=NAME" in said
    assert inspect(folder / "nowhere")[1].count("no such folder; give a folder, tar files or") == 1
    write(folder / "notes.txt", "x")
    assert "notes.txt: not a file of any kind of source; give" in inspect(folder / "notes.txt")[1]


def test_a_mistake_in_a_setting_is_told_in_one_line(folder):
    code, said = inspect(folder, *GENERIC, "--set", "encoding.scale=much")
    assert code == 1
    assert "must be a number, not 'much'" in said
    code, said = inspect(folder, *GENERIC, "--set", "scale=0.001")
    assert code == 1
    assert said.startswith("error: --set: scale: unknown key; did you mean encoding.scale?")


def test_runs_tars_and_documents_are_known_by_what_they_are(folder, tmp_path):
    tiny_run.make_run(str(tmp_path / "run"))
    assert "units" in inspect(tmp_path / "run")[1]
    codes = np.rint(z_map() * 1000).astype(np.uint16)
    write_tar(tmp_path / "0.tar", [("a.png", png(image(0))), ("a.d.png", png_of(codes))])
    keys = {"image_key": "png", "depth_key": "d.png", "caption_key": None, "codes_per_unit": 1000}
    tars = ["--set=image_key=png", "--set=depth_key=d.png", "--set=caption_key=null"]
    _, said = inspect(tmp_path / "0.tar", *tars, "--set=codes_per_unit=1000")
    assert "near 0.6" in said
    document = {"kind": "webdataset", "shards": str(tmp_path / "0.tar"), **keys}
    write(tmp_path / "one.yaml", yaml.safe_dump(document))
    assert inspect(tmp_path / "one.yaml")[1].splitlines()[1:] == said.splitlines()[1:]
    write(tmp_path / "none.yaml", "a: 1")
    assert (
        "neither the settings of a source nor of a training" in inspect(tmp_path / "none.yaml")[1]
    )


def test_recordings_videos_tables_and_data_sets_are_known_by_their_names_and_files(tmp_path):
    path = write_video(tmp_path / "a.mkv", [image(0, 32, 48)])
    assert "a.mkv/000000, 48x32" in inspect(path)[1]
    rows = {"image": [png(image(0))], "text": ["a desk"]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    for place in (tmp_path / "a.parquet", tmp_path):
        _, said = inspect(place, "--set=caption_key=text")
        assert "row 0, 8x6" in said
        assert "text: a desk" in said
    named = tmp_path / "parquet"
    named.mkdir()
    (tmp_path / "a.parquet").rename(named / "0.parquet")
    assert "row 0, 8x6" in inspect(named)[1]
    message = image_message(ROS2, image(0), "rgb8", SECOND)
    bag = write_bag(tmp_path / "bag", [("/rgb", SECOND, message)], "mcap")
    for place in (bag, bag / "bag.mcap"):
        assert "/rgb at 1000000000 ns, 8x6" in inspect(place)[1]
    write(tmp_path / "robot" / "meta" / "info.json", '{"codebase_version": "v2.1", "features": {}}')
    assert "a LeRobot data set of v2.1" in inspect(tmp_path / "robot")[1]


def test_the_parts_of_a_training_are_shown_by_their_numbers(folder, tmp_path):
    part = {"kind": "folder", "layout": "generic", "path": str(folder), "images": "*.png"}
    with_depth = {**part, "depths": "*.npy", "encoding": {"scale": 1}}
    chosen = f"data={yaml.safe_dump([part, with_depth], default_flow_style=True)}"
    for name in ("embedded", "estimator"):
        _, said = inspect(name, "--set", chosen, "--frames", 1)
        assert "data.0\n" in said
        assert "depth: none" in said
        assert "data.1\n" in said


def test_edges_of_depth_are_where_it_jumps_also_across_holes():
    depth = np.full((4, 9), 2.0, np.float32)
    depth[:, 5:] = 1.0
    depth[:, 4] = 0
    depth[0, 8] = 1.04
    edges = depth_edges(depth)
    assert edges.any(axis=0).nonzero()[0].tolist() in ([4], [5])
    assert not depth_edges(np.zeros((4, 9), np.float32)).any()


@pytest.mark.parametrize("name", ["a.mcap", "0.tar"])
def test_a_url_is_told_without_its_credentials(name):
    code, said = inspect(f"memory://KEY:topsecret@bucket/{name}", "--set", "image_key=png")
    assert code != 0
    assert f"memory://bucket/{name}" in said
    assert "topsecret" not in said


def test_depth_alone_is_pictured_alone(folder, tmp_path_factory):
    picture = tmp_path_factory.mktemp("out") / "frames.png"
    settings = ["--set", "layout=generic", "--set", "depths=*.npy", "--set", "codes_per_unit=1"]
    status, output = inspect(folder, *settings, "--picture", picture)
    assert status == 0, output
    assert "no image" in output
    pixels = np.array(Image.open(picture))
    assert (pixels[:, :480] == 255).all()
    assert not (pixels[:, 488:960] == 255).all()


@pytest.mark.parametrize("name", ["my.target", "x.tars"])
def test_a_folder_whose_name_has_tar_in_it_is_a_folder(folder, tmp_path_factory, name):
    other = tmp_path_factory.mktemp("named") / name
    other.symlink_to(folder)
    status, output = inspect(other, *GENERIC, "--set", "codes_per_unit=1")
    assert status == 0, output


@pytest.mark.parametrize(
    ("place", "is_tar"),
    [
        ("data/a-{000..009}.tar", True),
        ("https://host/a.tar.gz?sig=b/c", True),
        ("s3://bucket/a.tar*", True),
        ("s3://bucket/my.target", False),
        ("s3://bucket/a.tars/run", False),
    ],
)
def test_tars_are_told_by_the_last_part_of_a_path(place, is_tar):
    assert (guess_source(place)["kind"] == "webdataset") == is_tar
