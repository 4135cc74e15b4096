"""Frames of an episode keep one prompt and one appearance, in order."""

from __future__ import annotations

from itertools import groupby

import cv2
import numpy as np
import pytest
from started import plan_of
from tiny_jobs import depth_of, make, picture, rows_of

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.prompts import derive_seed
from mfsynth.runs.items import RunItems
from mfsynth.shards.labels import Moment
from mfsynth.shards.verify import verify_run
from mfsynth.simulation import render_dataset

EXPRESSION = r"(?P<episode>.*)/rgb/(?P<frame>\d+)\.png"
FRAMES = {"pour": (2, 9, 10), "stack": (0, 1)}


@pytest.fixture
def recordings(tmp_path):
    """Two episodes in folders, whose frames' names have no leading zeros."""
    root = tmp_path / "recordings"
    for episode, frames in FRAMES.items():
        for frame in frames:
            for kind in ("rgb", "depth"):
                (root / episode / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / episode / "rgb" / f"{frame}.png"), picture(frame, 32, 32))
            codes = np.rint(1000 * depth_of(frame, 32, 32)).astype(np.uint16)
            cv2.imwrite(str(root / episode / "depth" / f"{frame}.png"), codes)
            (root / episode / "rgb" / f"{frame}.txt").write_text(f"{episode}, frame {frame}")
    return {
        **{"kind": "folder", "layout": "generic", "path": str(root), "codes_per_unit": 1000.0},
        **{"images": "*/rgb/*.png", "depths": "*/depth/*.png"},
        "captions": {"beside": "txt"},
        "labels": {"episode": EXPRESSION},
    }


@pytest.mark.parametrize("of", ["texts", "prompts"])
def test_frames_of_an_episode_have_one_prompt_and_seed_in_the_order_of_their_numbers(
    job, run_folder, recordings, of
):
    changes = {} if of == "texts" else {"prompts": run_folder.values["prompts"]}
    store = make(job("d2i", recordings, copies=2, **changes))
    assert verify_run(store).problems == ()
    rows = rows_of(store)
    # Shards have their fixed ranges: an episode goes on in the next one.
    assert [row["shard"] for row in rows] == [number // 3 for number in range(10)]
    found = [(row["episode"], row["frame"], row["copy"]) for row in rows]
    wanted = [
        (episode, frame, copy)
        for episode, frames in FRAMES.items()
        for frame in frames
        for copy in (0, 1)
    ]
    assert found == wanted
    for row in rows:
        assert row["seed"] == derive_seed(0, "episode", row["episode"], row["copy"])
    by_episode = {
        key: {row["prompt"] for row in of_one}
        for key, of_one in groupby(
            sorted(rows, key=lambda row: (row["episode"], row["copy"])),
            key=lambda row: (row["episode"], row["copy"]),
        )
    }
    if of == "texts":
        first = {key: {f"{key[0]}, frame {FRAMES[key[0]][0]}"} for key in by_episode}
        assert by_episode == first
    else:
        prompts = ["a red cube", "a blue ball", "a blue cube", "a red cube"]
        assert [text for texts in by_episode.values() for text in texts] == prompts


def test_a_photograph_of_an_episode_keeps_the_caption_that_is_its_own(job, recordings):
    items = RunItems(job("i2d", recordings))
    assert [items[number].text for number in range(5)] == [
        f"{episode}, frame {frame}" for episode, frames in FRAMES.items() for frame in frames
    ]


def test_a_sensor_s_noise_is_new_in_each_frame_of_an_episode(job, recordings, tmp_path):
    root = tmp_path / "recordings"
    for kind in ("rgb", "depth"):
        still = (root / "pour" / kind / "2.png").read_bytes()
        for frame in (9, 10):
            (root / "pour" / kind / f"{frame}.png").write_bytes(still)
        for frame in (0, 1):
            (root / "stack" / kind / f"{frame}.png").write_bytes(still)
    for text in root.glob("*/rgb/*.txt"):
        text.write_text("a red cube")
    camera = {"fx": 30.0, "fy": 30.0, "cx": 15.5, "cy": 15.5}
    source = recordings | {"encoding": {"camera": camera, "unit": "metres"}}
    store = make(job("d2i", source, sensor={"preset": "kinect_v1"}))
    pairs = [*RGBDDataset(store.url, labels=True)]
    frames = [pair for pair in pairs if pair.episode == pairs[0].episode]
    assert len(frames) == 3
    assert all(np.array_equal(one.rgb, frames[0].rgb) for one in frames)
    assert frames[0].sensor.any()
    assert len({one.sensor.tobytes() for one in frames}) == 3


def test_a_run_over_episodes_has_them_each_copy_being_one(job, recordings, tmp_path):
    first = make(job("d2i", recordings, copies=2))
    again = job("i2d", {"kind": "mfsynth", "url": first.url})
    second = make(again.model_copy(update={"output": str(tmp_path / "second")}))
    assert verify_run(second).problems == ()
    pairs = RGBDDataset(second.url)
    assert [(pair.episode, pair.frame) for pair in pairs][:4] == [
        *(("pour#0", 2), ("pour#1", 2), ("pour#0", 9), ("pour#1", 9))
    ]
    assert len({pair.seed for pair in pairs}) == 4
    # But both were one recording.
    assert {pair.ref.scene for pair in pairs} == {*FRAMES}


@pytest.mark.usefixtures("opengl_of_any_thread")
def test_views_of_a_scene_are_an_episode_if_one_says_so(job, tmp_path):
    render_dataset(tmp_path / "scenes", scenes=2, views=2, size=16, seed=0)
    settings = {"kind": "cached_scenes", "path": str(tmp_path / "scenes")}
    apart, together = (
        plan_of(job("d2i", {**settings, **more})) for more in ({}, {"episodes": True})
    )
    assert len({apart.candidate(number).seed for number in range(4)}) == 4
    assert apart.candidate(1).item.labels.moment is None
    assert [together.candidate(number).item.labels.moment for number in range(4)] == [
        Moment(f"scene {scene}", view) for scene in (0, 1) for view in (0, 1)
    ]
    assert len({together.candidate(number).seed for number in range(4)}) == 2


def test_two_images_that_are_one_frame_are_refused(job, recordings):
    recordings["labels"]["episode"] = r"(?P<episode>)[a-z]+/rgb/\d?(?P<frame>\d)\.png"
    with pytest.raises(MfsynthError, match="both are frame 0 of the episode ''"):
        plan_of(job("d2i", recordings))
