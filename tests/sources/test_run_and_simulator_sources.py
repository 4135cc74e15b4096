"""mfsynth's own runs and simulator images as training data."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny_run
from training_files import assert_same_items, one_line_error, source

from mfsynth.datasets import RGBDDataset
from mfsynth.geometry import DepthKind
from mfsynth.prompts import load_library
from mfsynth.shards.commits import commit
from mfsynth.shards.refilter import refilter
from mfsynth.shards.run_manifest import open_run
from mfsynth.shards.views import Bound, Rules
from mfsynth.simulation import STYLES, render_dataset
from mfsynth.sources.prompts import PromptItems
from mfsynth.sources.simulated import RenderSettings
from mfsynth.storage.store import ObjectStore

SCENES = {"library": "tabletop", "size": 16, "seed": 3}


def test_the_pairs_of_a_view_are_those_that_are_trained_on(tmp_path):
    store = tiny_run.make_run(str(tmp_path))
    refilter(store, "strict", Rules({"registration": Bound(9.0, is_minimum=True)}))
    opened = source(kind="mfsynth", url=str(tmp_path), view="strict")
    pairs = RGBDDataset(tmp_path, view="strict")
    assert [*opened.texts()] == [pair.prompt for pair in pairs]
    assert 0 < len(opened) == len(pairs) < 8
    with one_line_error("no view 'loose'; it has strict"):
        source(kind="mfsynth", url=str(tmp_path), view="loose")


def test_the_pairs_of_a_run_are_samples_with_their_prompts(tmp_path):
    tiny_run.make_run(str(tmp_path))
    opened = source(kind="mfsynth", url=str(tmp_path))
    pairs = RGBDDataset(tmp_path)
    assert len(opened) == len(pairs) == 8
    for index in (7, 0):
        np.testing.assert_array_equal(opened[index].rgb, pairs[index].rgb)
        np.testing.assert_array_equal(opened[index].depth, pairs[index].depth)
        assert opened[index].text == pairs[index].prompt
        assert opened[index].slots == pairs[index].slots != {}
    assert list(opened.texts()) == [pair.prompt for pair in pairs]
    assert_same_items(pickle.loads(pickle.dumps(opened))[2], opened[2])


def test_a_run_without_pairs_and_a_missing_one_are_told(tmp_path):
    tiny_run.make_run(str(tmp_path / "run"), shards=0)
    with one_line_error("the run has no committed pairs"):
        source(kind="mfsynth", url=str(tmp_path / "run"))
    with one_line_error("nowhere"):
        source(kind="mfsynth", url=str(tmp_path / "nowhere"))


def test_depth_of_unknown_shift_is_refused(tmp_path):
    store = ObjectStore.open(str(tmp_path))
    open_run(store, tiny_run.make_manifest())
    records = [
        replace(record, depth_kind=DepthKind.AFFINE_INVARIANT_Z)
        if hasattr(record, "depth_kind")
        else record
        for record in tiny_run.make_records(0)
    ]
    assert commit(store, tiny_run.upload_shard(store, 0, records))
    with one_line_error("affine_invariant_z has an unknown shift, which no scale makes z-depth"):
        source(kind="mfsynth", url=str(tmp_path))


@pytest.fixture(scope="module")
def cached(opengl, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "cache"
    render_dataset(folder, scenes=3, views=1, **SCENES)
    return str(folder)


def test_cached_scenes_are_samples_and_pickle_without_their_images(cached):
    opened = source(kind="cached_scenes", path=cached)
    assert len(opened) == 3
    assert opened[2].rgb.shape == (16, 16, 3)
    assert (opened[2].depth > 0).all()
    assert list(opened.texts()) == [item.text for item in opened]
    data = pickle.dumps(opened)
    assert len(data) < 500
    assert_same_items(pickle.loads(data)[1], opened[1])


def test_cached_scenes_have_the_slots_of_a_library_that_is_what_it_was(cached, tmp_path):
    item = source(kind="cached_scenes", path=cached)[2]
    assert item.slots == PromptItems(load_library("tabletop", 3))[2].slots
    assert all(word in item.text for word in item.slots["colour"])
    changed = shutil.copytree(cached, tmp_path / "changed")
    about = json.loads((changed / "dataset.json").read_text())
    for key, value in (("library_digest", "0" * 16), ("library", "no such library")):
        (changed / "dataset.json").write_text(json.dumps(about | {key: value}))
        assert source(kind="cached_scenes", path=str(changed))[2].slots == {}


def test_a_folder_without_rendered_scenes_is_told(tmp_path):
    with one_line_error("holds no rendered scenes"):
        source(kind="cached_scenes", path=str(tmp_path))


@pytest.mark.usefixtures("opengl")
def test_a_configuration_names_library_and_style(tmp_path):
    names = {"library": "tabletop_shapes", "style": "varied", "seed": 3}
    settings = RenderSettings(scenes=2, views=1, **names)
    rendered = settings.render(str(tmp_path / "scenes"), 16)
    assert rendered.settings.style == STYLES["varied"]
    stored = source(kind="cached_scenes", path=str(tmp_path / "scenes"))
    live = source(kind="live_scenes", scenes=2, size=16, **names)
    for index in range(2):
        assert_same_items(live[index], stored[index])
    assert stored[0].intrinsics != stored[1].intrinsics
    assert_same_items(pickle.loads(pickle.dumps(live))[1], live[1])


def test_live_scenes_are_those_that_would_have_been_cached(cached):
    live = source(kind="live_scenes", scenes=3, **SCENES)
    stored = source(kind="cached_scenes", path=cached)
    assert len(live) == 3
    for index in (2, 0, 2):
        assert_same_items(live[index], stored[index])
    assert list(live.texts()) == list(stored.texts())
    with pytest.raises(IndexError):
        live[3]
    assert_same_items(pickle.loads(pickle.dumps(live))[1], live[1])


def test_rendering_in_a_fork_of_a_process_that_has_rendered_is_refused_instead_of_hanging(cached):
    live = source(kind="live_scenes", scenes=3, **SCENES)
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_render_and_tell, args=(live, send), daemon=True)
    child.start()
    assert receive.poll(60)
    assert "start_method spawn" in receive.recv()
    child.join(60)


def _render_and_tell(live, send):
    try:
        live[0]
        send.send("rendered")
    except Exception as error:
        send.send(str(error))


def test_an_unknown_prompt_library_is_told():
    with one_line_error("tabeltop"):
        source(kind="live_scenes", scenes=1, size=16, library="tabeltop")


def test_items_know_their_cameras_and_where_they_are(cached, tmp_path):
    tiny_run.make_run(str(tmp_path))
    run = source(kind="mfsynth", url=str(tmp_path))
    assert run[1].intrinsics == tiny_run.make_sample(1).intrinsics
    assert run[0].intrinsics is None
    assert run[0].name == f"{tmp_path}: {tiny_run.RUN_ID}-000000000"
    stored = source(kind="cached_scenes", path=cached)
    assert stored[2].intrinsics.fx == stored[2].intrinsics.fy > 0
    assert stored[2].name == f"{cached}: image 2"
    assert source(kind="live_scenes", scenes=3, **SCENES)[2].name == "tabletop: scene 2"
