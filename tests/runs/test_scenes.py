"""Views of one scene, and frames of one recording, stay known as such in runs over them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from started import start
from tiny_jobs import depth_of, make, members, picture, rows_of

from mfsynth.datasets import RGBDDataset
from mfsynth.evaluation.calibration.config import TrustedPart
from mfsynth.evaluation.calibration.trusted import read_pairs
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.verify import verify_run
from mfsynth.simulation import render_dataset
from mfsynth.sources.base import scene_of
from mfsynth.sources.registry import source_settings

SCENES, VIEWS = 5, 2
HALVES = {"a": 0.5, "b": 0.5}


@pytest.fixture
def recordings(tmp_path):
    """A folder in a layout of recordings, whose frames are of no episode."""
    root = tmp_path / "recordings"
    for number in range(SCENES * VIEWS):
        scene, frame = divmod(number, VIEWS)
        for kind in ("color", "depth"):
            (root / f"scene{scene:04d}_00" / kind).mkdir(parents=True, exist_ok=True)
        folder = root / f"scene{scene:04d}_00"
        cv2.imwrite(str(folder / "color" / f"{frame}.jpg"), picture(number, 32, 32))
        codes = np.rint(1000 * depth_of(number, 32, 32)).astype(np.uint16)
        cv2.imwrite(str(folder / "depth" / f"{frame}.png"), codes)
    return {
        "kind": "folder",
        "layout": "scannet",
        "path": str(root),
        "captions": {"constant": "a room"},
    }


@pytest.fixture
def views(tmp_path, opengl_of_any_thread):
    """Scenes of a simulator, each from several sides, which are no episodes."""
    render_dataset(tmp_path / "scenes", scenes=SCENES, views=VIEWS, size=32, seed=0)
    return {"kind": "cached_scenes", "path": str(tmp_path / "scenes")}


def scenes_of(settings):
    """Numbers of scenes, as they are first met."""
    opened = source_settings(settings).open()
    known: dict[str, int] = {}
    return [known.setdefault(scene_of(opened, i), len(known)) for i in range(len(opened))]


def trusted(settings):
    part = TrustedPart.model_validate(settings)
    return [pair.image for pair in read_pairs([part], 32, 32, lambda *_: None).pairs]


@pytest.mark.parametrize("kind", ["recordings", "views"])
def test_a_run_over_views_of_scenes_has_as_many_independent_images(job, tmp_path, request, kind):
    settings = request.getfixturevalue(kind)
    wanted = [scene for scene in range(SCENES) for _ in range(VIEWS)]
    assert scenes_of(settings) == trusted(settings) == wanted
    for folder in ("of the source", "of the run"):
        store = make(job("d2i", settings, output=str(tmp_path / folder)))
        assert verify_run(store).problems == ()
        settings = {"kind": "mfsynth", "url": store.url}
        assert scenes_of(settings) == trusted(settings) == wanted
        rows = rows_of(store)
        assert len({row["scene"] for row in rows}) == SCENES
        assert json.loads(members(store, 3)["json"])["scene"] == rows[3]["scene"]
        pairs = RGBDDataset(store.url)
        assert [pair.ref.scene for pair in pairs] == [row["scene"] for row in rows]
        torn = [
            {*part.index["scene"].to_pylist()} for part in pairs.split(HALVES, "source").values()
        ]
        assert set.intersection(*torn)
        parts = [{*part.index["scene"].to_pylist()} for part in pairs.split(HALVES).values()]
        assert all(parts)
        assert not set.intersection(*parts)


def test_copies_and_rejects_are_of_their_item_s_scene(job, recordings):
    checks = {
        "validity": {"min_valid_fraction": 1.0, "max_far_fraction": 1.0, "min_dynamic_range": 1.0}
    }
    codes = np.zeros((32, 32), np.uint16)
    codes[:30] = 1000
    folder = recordings["path"]
    cv2.imwrite(f"{folder}/scene0002_00/depth/1.png", codes)
    store = make(job("d2i", recordings, copies=2, checks=checks))
    assert verify_run(store).problems == ()
    rejects = rows_of(store, "rejects")
    assert [(row["source"], row["scene"]) for row in rejects] == [
        ("scene0002_00/color/1.jpg", "scene0002_00/color")
    ] * 2
    rows = rows_of(store)
    assert {row["scene"] for row in rows if row["source"] == "scene0002_00/color/0.jpg"} == {
        "scene0002_00/color"
    }
    assert {row["copy"] for row in rows} == {0, 1}


def test_of_a_source_that_does_not_say_nothing_is_kept(job, tmp_path, opengl_of_any_thread):
    store = make(job("d2i", {"kind": "live_scenes", "scenes": 2, "size": 32}, copies=2))
    assert verify_run(store).problems == ()
    assert [row["scene"] for row in rows_of(store)] == [None] * 4
    # Copies of an item are one all the same.
    assert scenes_of({"kind": "mfsynth", "url": store.url}) == [0, 0, 1, 1]


def test_a_run_that_began_without_the_column_goes_on_without_it(job, recordings):
    config = job("d2i", recordings)
    store = start(config)
    begun = json.loads(store.read_bytes("run.json"))
    for table in ("columns", "reject_columns"):
        begun[table] = [column for column in begun[table] if column["name"] != "scene"]
    store.put_bytes("run.json", json.dumps(begun).encode())
    make(config)
    assert verify_run(store).problems == ()
    assert "scene" not in {column["name"] for column in read_run(store).columns}
    assert "scene" not in rows_of(store)[0]
    assert "scene" not in json.loads(members(store)["json"])
    assert {pair.ref.scene for pair in RGBDDataset(store.url)} == {None}
    assert len({*scenes_of({"kind": "mfsynth", "url": store.url})}) == SCENES * VIEWS
