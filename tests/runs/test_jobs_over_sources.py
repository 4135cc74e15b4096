"""Videos, tables and recordings become runs: annotated, retextured, verified, by episodes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bag_files import SECOND, camera_message, image_message, store_of, write_bag
from tiny_jobs import depth_of, make, picture, rows_of
from training_files import png
from video_files import write_video

from mfsynth.datasets import RGBDDataset
from mfsynth.shards.verify import verify_run

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
