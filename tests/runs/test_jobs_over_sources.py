"""Sources of every kind become runs: annotated, retextured, verified, by episodes."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bag_files import SECOND, camera_message, image_message, store_of, write_bag
from depth_files import exr_of, hdf5_of, npy_of
from metric_run import make_episode_run
from tiny_jobs import depth_of, make, picture, rows_of
from training_files import jpeg, png, write, write_tar
from video_files import write_video

from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.exports.exporting import export
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.registry import open_exporter
from mfsynth.shards.labels import Moment
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.verify import verify_run
from mfsynth.sources.registry import source_settings

COUNT = 3
CAMERA = (30.0, 30.0, 15.5, 15.5)
IMAGES = [picture(number, 32, 32) for number in range(COUNT)]
CODES = [np.rint(1000 * depth_of(number, 32, 32)).astype(np.uint16) for number in range(COUNT)]


def video(root):
    write_video(root / "rgb.mkv", IMAGES)
    write_video(root / "depth.mkv", CODES, "gray16le")
    paths = {"path": str(root), "videos": "rgb.mkv", "depths": "depth.mkv"}
    return {"kind": "video", **paths, "encoding": {"scale": 0.001}}


def table(root):
    rows = {
        "image": [png(one) for one in IMAGES],
        "depth": [png(one) for one in CODES],
        "text": [f"a room {number}" for number in range(COUNT)],
        "K": [[30.0, 0, 15.5, 0, 30, 15.5, 0, 0, 1]] * COUNT,
    }
    pq.write_table(pa.table(rows), root / "a.parquet")
    keys = {"depth_key": "depth", "caption_key": "text"}
    encoding = {"scale": 0.001, "camera": {"file": "K"}}
    return {"kind": "table", "path": str(root), **keys, "encoding": encoding}


def recording(root):
    store = store_of("mcap")
    messages = [("/camera_info", 0, camera_message(store, CAMERA, (32, 32)))]
    for number in range(COUNT):
        time = (number + 1) * SECOND
        messages.append(("/rgb", time, image_message(store, IMAGES[number], "rgb8", time)))
        messages.append(("/depth", time, image_message(store, CODES[number], "16UC1", time)))
    path = write_bag(root / "pour", messages, "mcap")
    return {"kind": "recording", "path": str(path), "caption": "pour the milk"}


@pytest.mark.parametrize(
    ("of", "mode"), [(video, "i2d"), (table, "d2i"), (recording, "d2i")], ids=["v", "t", "r"]
)
def test_items_of_every_kind_of_source_become_pairs_of_a_verified_run(job, tmp_path, of, mode):
    (tmp_path / "source").mkdir()
    settings = of(tmp_path / "source")
    store = make(job(mode, settings))
    assert verify_run(store).problems == ()
    rows, pairs = rows_of(store), RGBDDataset(store.url)
    assert len(rows) == COUNT
    for number, (row, pair) in enumerate(zip(rows, pairs, strict=True)):
        if mode == "d2i":
            np.testing.assert_allclose(pair.depth, CODES[number] / 1000, rtol=1e-3)
            assert pair.depth_kind.is_metric
        else:
            # What is no JPEG is compressed as one.
            assert np.abs(pair.rgb.astype(int) - IMAGES[number]).mean() < 3
        if of is not video:
            np.testing.assert_array_equal(pair.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]], CAMERA)
        episode = {video: "rgb.mkv", table: None, recording: "pour"}[of]
        assert (row.get("episode"), row.get("frame")) == (episode, None if of is table else number)
    assert len({row["seed"] for row in rows}) == (COUNT if of is table else 1)


def frames(root, image, depth, encode):
    """Images and depth maps, by number, in files named as wanted."""
    for number, (rgb, codes) in enumerate(zip(IMAGES, CODES, strict=True)):
        write(root / image.format(number), jpeg(rgb) if image.endswith("jpg") else png(rgb))
        write(root / depth.format(number), encode(codes))


def folder(root, layout, **more):
    return {"kind": "folder", "layout": layout, "path": str(root), **more}


def tum(root):
    frames(root, "rgb/{}.png", "depth/{}.png", lambda codes: png(5 * codes))
    for kind in ("rgb", "depth"):
        lines = [f"{number}.0 {kind}/{number}.png\n" for number in range(COUNT)]
        write(root / f"{kind}.txt", "".join(lines))
    return folder(root, "tum")


def scannet(root):
    frames(root, "scene0000_00/color/{}.jpg", "scene0000_00/depth/{}.png", png)
    return folder(root, "scannet")


def bop(root):
    frames(root, "000001/rgb/{:06d}.png", "000001/depth/{:06d}.png", lambda codes: png(10 * codes))
    camera = [30.0, 0, 15.5, 0, 30, 15.5, 0, 0, 1]
    about = {str(number): {"cam_K": camera, "depth_scale": 0.1} for number in range(COUNT)}
    write(root / "000001/scene_camera.json", json.dumps(about))
    return folder(root, "bop")


def exr(root):
    frames(root, "{}.png", "{}.exr", lambda codes: exr_of(Z=(codes / 1000).astype(np.float32)))
    return folder(root, "generic", images="*.png", depths="*.exr", encoding={"scale": 1})


def hdf5(root):
    frames(root, "{}.png", "{}.h5", lambda codes: hdf5_of(frame__depth=codes))
    encoding = {"key": "frame/depth", "scale": 0.001}
    return folder(root, "generic", images="*.png", depths="*.h5", encoding=encoding)


def npy(root):
    frames(root, "{}.png", "{}.npy", lambda codes: npy_of((codes / 1000).astype(np.float32)))
    return folder(root, "generic", images="*.png", depths="*.npy", encoding={"scale": 1})


def tar_of_depth(root):
    write_tar(root / "0.tar", [(f"{n}.depth.png", png(codes)) for n, codes in enumerate(CODES)])
    keys = {"image_key": None, "depth_key": "depth.png", "caption_key": None}
    return {"kind": "webdataset", "shards": str(root / "0.tar"), "codes_per_unit": 1000.0, **keys}


@pytest.mark.parametrize("of", [tum, scannet, bop, exr, hdf5, npy, tar_of_depth])
def test_depth_of_every_layout_gets_images_and_is_stored_in_the_metres_that_it_has(
    job, tmp_path, of
):
    store = make(job("d2i", of(tmp_path / "source")))
    assert verify_run(store).problems == ()
    pairs = RGBDDataset(store.url)
    assert len(pairs) == COUNT
    for pair, codes in zip(pairs, CODES, strict=True):
        np.testing.assert_allclose(pair.depth, codes / 1000, rtol=2e-4)
        assert (pair.depth_kind, pair.rgb.shape) == ("metric_z", (32, 32, 3))


def with_columns(folder):
    """A data set of an arm: what it was told and what it was, each frame; in float32."""
    rng = np.random.default_rng(0)
    about = {
        "action": {"dtype": "float32", "shape": [6], "names": [f"joint{n}" for n in range(6)]},
        "observation.state": {"dtype": "float32", "shape": [6], "names": None},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
    }
    info = folder / "meta/info.json"
    described = json.loads(info.read_text())
    info.write_text(json.dumps(described | {"features": described["features"] | about}))
    [path] = (folder / "data").glob("*/*.parquet")
    rows = pq.read_table(path, partitioning=None)
    for name, feature in about.items():
        values = rng.normal(size=(len(rows), *feature["shape"])).astype(np.float32)
        values = values > 0 if feature["dtype"] == "bool" else values
        cells = pa.array([value[0] if value.size == 1 else value for value in values])
        rows = rows.append_column(name, cells)
    pq.write_table(rows, path)
    return about


def test_a_lerobot_data_set_is_annotated_and_is_one_again_that_says_whence(job, tmp_path):
    moments = [Moment("pour", 0, 0.0), Moment("pour", 1, 0.1), Moment("stack", 0, 0.0)]
    first = make_episode_run(str(tmp_path / "first"), moments)

    def exported(url, name):
        export(Pairs(RGBDDataset(url)), "lerobot", open_exporter("lerobot", []), tmp_path / name)
        return {"kind": "lerobot", "path": str(tmp_path / name)}

    settings = exported(first.url, "lerobot")
    about = with_columns(tmp_path / "lerobot")
    store = make(job("i2d", settings, metres_per_unit="source"))
    assert verify_run(store).problems == ()
    made = RGBDDataset(store.url)
    assert [(pair.episode, pair.frame) for pair in made] == [("0", 0), ("0", 1), ("1", 0)]
    back = source_settings(exported(store.url, "annotated")).open()
    for frame, pair, before in zip(back, made, RGBDDataset(first.url), strict=True):
        np.testing.assert_array_equal(frame.depth, pair.depth)
        np.testing.assert_array_equal(frame.rgb, before.rgb)
        assert frame.text == before.prompt
    told = json.loads((tmp_path / "annotated/meta/provenance.json").read_text())
    [run] = told["runs"]
    assert (run["mode"], run["fingerprint"]) == ("i2d", read_run(store).fingerprint)
    assert [(one["episode"], one["frames"]) for one in told["episodes"]] == [("0", 2), ("1", 1)]
    info = json.loads((tmp_path / "annotated/meta/info.json").read_text())
    [before], [after] = (
        (tmp_path / name / "data").glob("*/*.parquet") for name in ("lerobot", "annotated")
    )
    before, after = (pq.read_table(path, partitioning=None) for path in (before, after))
    for name, feature in about.items():
        assert info["features"][name] == feature
        # To the bit, also of what float64 would round.
        assert after.column(name).to_pylist() == before.column(name).to_pylist()
    assert after.schema.field("action").type.value_type == pa.float32()
    stats = json.loads((tmp_path / "annotated/meta/stats.json").read_text())
    assert np.shape(stats["action"]["mean"]) == (6,)
