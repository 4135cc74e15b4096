"""A user's own MuJoCo model as a source of views."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from mfsynth.errors import MfsynthError
from mfsynth.geometry import IntrinsicsSource
from mfsynth.shards.labels import Labels, Moment
from mfsynth.sources.base import labels_of, scene_of
from mfsynth.sources.contents import content_digest
from mfsynth.sources.registry import source_settings
from mfsynth.sources.simulated import RENDERED_TYPE

# MuJoCo is not even imported without.
pytestmark = pytest.mark.usefixtures("opengl")
SCENE = """
<mujoco>
  <worldbody>
    <light pos="0 0 3" dir="0 0 -1"/>
    <geom type="box" size="2 2 .05" pos="0 0 -.05" rgba=".7 .7 .7 1"/>
    <camera name="front" pos="0 -1 .8" xyaxes="1 0 0 0 .6 .8"/>
    <body name="red_cube" pos="0 0 .1"><freejoint/><geom type="box" size=".1 .1 .1"/></body>
    <body name="tin_can" pos=".5 0 .1"><freejoint/><geom type="cylinder" size=".05 .1"/></body>
    <body name="post" pos="-.6 0 .3"><geom type="cylinder" size=".03 .3"/></body>
  </worldbody>
  <keyframe><key name="start"/></keyframe>
</mujoco>
"""


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "scene.xml"
    path.write_text(SCENE)

    def of(**values):
        own = {"kind": "mujoco", "model": str(path), "scenes": 2, "height": 24, "width": 32}
        return source_settings(own | values)

    return of


def test_items_are_scenes_then_cameras_then_frames_with_words_of_the_model(settings):
    orbit = {"around": "red_cube", "distance": [1.0, 1.5]}
    motion = {"frames": 3}
    source = settings(cameras=["front", orbit], trajectory=motion).open()
    assert len(source) == 2 * 2 * 3
    keys = [source.key(index) for index in range(len(source))]
    assert keys[0] == "scene 0 camera 0 frame 0"
    assert keys[1] == "scene 0 camera 0 frame 1"
    assert keys[3] == "scene 0 camera 1 frame 0"
    assert keys[6] == "scene 1 camera 0 frame 0"
    assert len(set(keys)) == len(source)
    assert [scene_of(source, i) for i in range(12)] == ["scene 0"] * 6 + ["scene 1"] * 6
    assert {*source.texts()} == {"red cube, tin can"}
    assert {*settings(text="a cube").open().texts()} == {"a cube"}
    assert settings().open().key(1) == "scene 1 camera 0"


def test_an_item_is_the_same_in_any_order_and_process(settings):
    source = settings(trajectory={"frames": 2}).open()
    backwards = [source[index] for index in reversed(range(len(source)))][::-1]
    again = pickle.loads(pickle.dumps(source))
    for index, item in enumerate(backwards):
        other = again[index]
        assert np.array_equal(item.rgb, other.rgb)
        assert np.array_equal(item.depth, other.depth)
        assert item.intrinsics == other.intrinsics
    first, second = backwards[0], backwards[2]
    assert not np.array_equal(first.depth, second.depth)
    assert first.depth.max() > 0
    assert first.facts.unit == "metres"
    assert first.origin.camera is IntrinsicsSource.RENDERED
    assert first.origin.digital_source_type == RENDERED_TYPE
    with pytest.raises(IndexError):
        source[len(source)]


def test_what_a_source_is_hangs_on_its_settings_and_the_model_s_content(settings, tmp_path):
    def digest(values):
        return content_digest(values, values.open())

    first = digest(settings())
    moved = tmp_path / "moved.xml"
    moved.write_text(SCENE)
    assert digest(settings(model=str(moved))) == first
    assert digest(settings(seed=1)) != first
    moved.write_text(SCENE.replace(".1 .1 .1", ".1 .1 .12"))
    assert digest(settings(model=str(moved))) != first


def test_a_scene_that_comes_with_mfsynth_goes_by_its_name():
    source = source_settings({"kind": "mujoco", "model": "arm_on_table", "scenes": 1}).open()
    assert [source.key(index) for index in range(len(source))] == [
        *("scene 0 camera 0", "scene 0 camera 1", "scene 0 camera 2")
    ]
    with pytest.raises(MfsynthError, match=r"no 'arm_on_tabel' in .*; give a path, or arm"):
        source_settings({"kind": "mujoco", "model": "arm_on_tabel", "scenes": 1}).open()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cameras": ["frunt"]}, "no camera 'frunt'; did you mean front"),
        ({"cameras": [{"around": "cube", "distance": [1.0, 1.0]}]}, "no body 'cube'"),
        ({"keyframe": "home"}, "no keyframe 'home'"),
        ({"model": "none/scene.xml"}, "no such file"),
    ],
)
def test_what_the_model_has_not_is_told_when_it_is_opened(settings, values, said):
    with pytest.raises(MfsynthError, match=said):
        settings(**values).open()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cameras": []}, "at least 1 item"),
        ({"randomise": {"joints": {"*": 2.0}}}, "less than or equal to 1"),
        ({"trajectory": {"frames": 1}}, "greater than or equal to 2"),
        ({"height": 8}, "greater than or equal to 16"),
    ],
)
def test_settings_out_of_their_limits_are_refused(settings, values, said):
    with pytest.raises(ValidationError, match=said):
        settings(**values)


def test_items_have_the_labels_of_their_views_and_frames_an_episode(settings):
    source = settings(scenes=1, trajectory={"frames": 2, "fps": 4.0}, parts=True, normals=True)
    source = source.open()
    assert labels_of(source) == (
        *("camera_to_world", "mask.png", "poses.json", "episode"),
        *("parts.png", "parts.json", "normals.png"),
    )
    labels = source[1].labels
    assert labels.moment == source.moment(1) == Moment("scene 0 camera 0", 1, 0.25)
    assert labels.names == {1: "red_cube", 2: "tin_can", 3: "post"}
    again = Labels.of(labels.files, (24, 32))
    assert np.array_equal(again.mask, labels.mask)
    assert again.objects == labels.objects
    seen = {labels.names[number] for number in np.unique(labels.mask) if number}
    assert "red_cube" in seen
    normals = cv2.imdecode(np.frombuffer(labels.files["normals.png"], np.uint8), -1)[..., ::-1]
    vectors = normals / 32767.5 - 1
    known = normals.any(axis=2)
    assert np.linalg.norm(vectors[known], axis=1) == pytest.approx(1, abs=1e-3)
    assert (vectors[known][:, 2] < 0.2).all()
    alone = settings().open()
    assert labels_of(alone) == ("camera_to_world", "mask.png", "poses.json")
    assert alone.moment(0) is None
