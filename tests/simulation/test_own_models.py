"""Models of others: drawn states, cameras, and views whose labels are exact."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics, project
from mfsynth.simulation.camera_poses import CameraPose
from mfsynth.simulation.gl import load_mujoco
from mfsynth.simulation.mjcf.cameras import default_cameras, draw_camera
from mfsynth.simulation.mjcf.loading import OwnModel
from mfsynth.simulation.mjcf.rendering import ModelRenderer
from mfsynth.simulation.mjcf.settings import CameraRule, Randomise, Trajectory
from mfsynth.simulation.mjcf.states import begin

# MuJoCo is not even imported without.
pytestmark = pytest.mark.usefixtures("opengl")
HEIGHT, WIDTH = 48, 64
# A camera two metres above a floor that ends, with a box on it and an arm beside.
SCENE = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <light name="sun" pos="0 0 4" dir="0 0 -1" diffuse=".6 .6 .6"/>
    <geom name="floor" type="box" size=".9 .9 .05" pos="0 0 -.05" rgba=".8 .8 .8 1"/>
    <camera name="top" pos="0 0 2" fovy="60"/>
    <body name="box" pos="0.2 0.1 0.15">
      <freejoint/>
      <geom type="box" size=".1 .2 .15" rgba=".8 .1 .1 1"/>
    </body>
    <body name="arm" pos="-.5 0 0">
      <geom type="cylinder" size=".05 .1" pos="0 0 .1"/>
      <body name="link" pos="0 0 .25">
        <joint name="swing" axis="0 0 1" range="-90 90"/>
        <geom type="capsule" fromto="0 0 0 .2 0 0" size=".04"/>
        <site name="tip" pos=".2 0 .1" size=".05"/>
        <camera name="hand" pos=".2 0 .1" xyaxes="0 -1 0 0 0 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><position joint="swing" kp="20" kv="4" ctrlrange="-90 90"/></actuator>
  <keyframe>
    <key name="left" qpos=".2 .1 .15 1 0 0 0 -1" ctrl="-1"/>
    <key name="right" qpos=".2 .1 .15 1 0 0 0 1" ctrl="1"/>
  </keyframe>
</mujoco>
"""
AS_IT_IS = Randomise(joints={}, objects={}, lights=None, settle=0.0)


@pytest.fixture
def own(tmp_path):
    """Loads the scene, with texts in it replaced."""

    def load(**changes: str) -> OwnModel:
        text = SCENE
        for old, new in changes.get("replace", ()):
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "scene.xml"
        path.write_text(text)
        return OwnModel.load(str(path))

    return load


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed or 0)


def model_bytes(own) -> bytes:
    """All of a model, as MuJoCo itself would store it."""
    mujoco = load_mujoco()
    buffer = np.zeros(mujoco.mj_sizeModel(own.model), np.uint8)
    mujoco.mj_saveModel(own.model, None, buffer)
    return buffer.tobytes()


def view_of(own, data=None, rule=None, lights=None):
    data = begin(own, AS_IT_IS, None, None, rng()).at(0) if data is None else data
    camera = draw_camera(own, rule or CameraRule(name="top"), data, HEIGHT, WIDTH, rng())
    return ModelRenderer(own, HEIGHT, WIDTH).render(
        data, camera.pose(data), camera.intrinsics, lights, normals=True
    )


def test_a_view_has_metric_depth_the_camera_and_what_each_pixel_shows(own):
    model = own()
    view = view_of(model)
    assert view.rgb.shape == (HEIGHT, WIDTH, 3)
    assert view.intrinsics == Intrinsics.from_vertical_fov(HEIGHT, WIDTH, 60)
    names = {one.name: one.number for one in model.instances}
    assert names == {"box": 1, "arm": 2}
    at_box = project(np.array([[[0.2, -0.1, 1.7]]]), view.intrinsics)[0][0]
    column, row = np.rint(at_box).astype(int).ravel()
    assert view.mask[row, column] == names["box"]
    assert view.depth[row, column] == pytest.approx(1.7, abs=1e-4)
    assert set(np.unique(view.mask)) == {0, 1, 2}
    floor = (view.mask == 0) & (view.depth > 0)
    assert view.depth[floor] == pytest.approx(2.0, abs=1e-3)
    # Beyond the floor there is nothing.
    assert (view.depth[:, 0] == 0).all()
    assert not view.mask[:, 0].any()
    assert not view.normals[:, 0].any()
    # Looking down, up is towards the camera.
    inner = floor & view.normals.any(axis=2)
    assert inner.sum() > 0.8 * floor.sum()
    assert view.normals[inner] == pytest.approx(np.tile([0, 0, -1], (inner.sum(), 1)), abs=1e-2)


def test_poses_put_bodies_where_the_mask_shows_them(own):
    model = own()
    view = view_of(model)
    for part in model.parts:
        pose = view.poses[part.body]
        world = view.camera_to_world @ pose
        state = begin(model, AS_IT_IS, None, None, rng()).at(0)
        assert world[:3, 3] == pytest.approx(state.xpos[part.body])
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        place = project(pose[:3, 3].reshape(1, 1, 3), view.intrinsics)[0].ravel()
        column, row = np.rint(place[:2]).astype(int)
        assert view.mask[row, column] == part.instance
        if part.name != "arm":  # which its own link is above
            assert view.parts[row, column] == part.number


def test_depth_normals_and_camera_of_a_slanted_view_agree(own):
    rule = CameraRule(around=(0.0, 0.0, 0.0), distance=(1.5, 1.5), elevation=(40, 40))
    view = view_of(own(), rule=rule)
    floor = (view.mask == 0) & (view.depth > 0)
    rows, columns = np.nonzero(floor)
    k = view.intrinsics
    z = view.depth[floor].astype(np.float64)
    points = np.stack([(columns - k.cx) / k.fx * z, (rows - k.cy) / k.fy * z, z, np.ones_like(z)])
    heights = (view.camera_to_world @ points)[2]
    top = heights[np.abs(heights) < 0.02]
    assert np.abs(top).max() < 2e-3
    assert len(top) > 0.8 * len(heights)
    up = view.camera_to_world[:3, :3].T @ [0, 0, 1]
    known = floor & view.normals.any(axis=2)
    angles = np.degrees(np.arccos(np.clip(view.normals[known] @ up, -1, 1)))
    assert np.median(angles) < 0.5


def test_a_lens_of_a_sensor_is_what_mujoco_makes_of_it(own):
    lens = 'fovy="60"'
    given = 'resolution="64 48" sensorsize=".004 .003" focal=".003 .003" principal=".0004 .0002"'
    model = own(replace=[(lens, given)])
    mujoco = load_mujoco()
    data = begin(model, AS_IT_IS, None, None, rng()).at(0)
    found = draw_camera(model, CameraRule(name="top"), data, HEIGHT, WIDTH, rng()).intrinsics
    scene, camera = mujoco.MjvScene(model.model, maxgeom=100), mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera("top")
    everything = mujoco.mjtCatBit.mjCAT_ALL
    mujoco.mjv_updateScene(model.model, data, mujoco.MjvOption(), None, camera, everything, scene)
    eye = scene.camera[0]
    near, top, bottom = eye.frustum_near, eye.frustum_top, eye.frustum_bottom
    left, half = eye.frustum_center - eye.frustum_width, eye.frustum_width
    assert found.fx == pytest.approx(near * WIDTH / (2 * half), rel=1e-4)
    assert found.fy == pytest.approx(near * HEIGHT / (top - bottom), rel=1e-4)
    assert found.cx == pytest.approx(-left / (2 * half) * WIDTH - 0.5, abs=1e-3)
    assert found.cy == pytest.approx(top / (top - bottom) * HEIGHT - 0.5, abs=1e-3)


def test_an_orthographic_camera_is_refused(own):
    model = own(replace=[('fovy="60"', 'projection="orthographic" fovy="1"')])
    data = begin(model, AS_IT_IS, None, None, rng()).at(0)
    with pytest.raises(MfsynthError, match="camera 'top' is orthographic; name one in perspective"):
        draw_camera(model, CameraRule(name="top"), data, HEIGHT, WIDTH, rng())


def test_a_state_is_a_function_of_its_seed_and_keeps_within_its_limits(own):
    model = own()
    rule = Randomise(joints={"swing": 0.5}, objects={"box": {"shift": (0.1, 0.1, 0.0)}}, settle=0.1)
    states = [begin(model, rule, None, None, rng(seed)).at(0).qpos.copy() for seed in range(6)]
    assert np.array_equal(states[3], begin(model, rule, None, None, rng(3)).at(0).qpos)
    swings = np.array([state[7] for state in states])
    assert np.ptp(swings) > 0.1
    assert np.abs(swings).max() <= math.pi / 4
    moves = np.array([state[:2] for state in states]) - (0.2, 0.1)
    assert 0.02 < np.abs(moves).max() < 0.11


def test_objects_fall_and_rest_while_other_joints_are_held(own):
    model = own(replace=[("0.2 0.1 0.15", "0.2 0.1 0.3")])
    rule = Randomise(joints={"*": 1.0}, objects={}, settle=1.0)
    first = begin(model, rule.model_copy(update={"settle": 0.0}), None, None, rng()).at(0)
    rested = begin(model, rule, None, None, rng()).at(0)
    assert first.body("box").xpos[2] == pytest.approx(0.3)
    assert rested.body("box").xpos[2] == pytest.approx(0.15, abs=0.005)
    assert rested.qpos[7] == first.qpos[7]


def test_states_in_which_bodies_are_inside_each_other_are_drawn_anew(own):
    model = own()
    anywhere = Randomise(objects={"box": {"shift": (0.3, 0.3, 0.12), "turn": "none"}}, settle=0.0)
    for seed in range(4):
        state = begin(model, anywhere, None, None, rng(seed)).at(0)
        assert state.body("box").xpos[2] > 0.14
    below = Randomise(objects={"box": {"shift": (0.0, 0.0, 0.0)}}, settle=0.0)
    sunk = own(replace=[("0.2 0.1 0.15", "0.2 0.1 0.5"), ('qpos=".2 .1 .15', 'qpos=".2 .1 .1')])
    assert begin(sunk, below, "left", None, rng()).at(0) is not None  # as deep as it starts
    tight = Randomise(objects={"box": {"shift": (0.0, 0.0, 1e-9), "turn": "any"}}, settle=0.0)
    flat = own(replace=[("0.2 0.1 0.15", "0.2 0.1 0.02"), (".1 .2 .15", ".3 .3 .02")])
    with pytest.raises(MfsynthError, match="bodies are inside each other; randomise less"):
        begin(flat, tight, None, None, rng())


def test_a_frame_is_the_same_whichever_was_asked_for_before(own):
    model = own()
    motion = Trajectory(frames=4, fps=5.0)
    forward = begin(model, AS_IT_IS, "left", motion, rng())
    states = [forward.at(frame).qpos.copy() for frame in range(4)]
    backward = begin(model, AS_IT_IS, "left", motion, rng())
    for frame in (3, 0, 2, 1):
        assert np.array_equal(backward.at(frame).qpos, states[frame])


def test_keyframes_lead_the_controls_from_one_to_the_next(own):
    model = own()
    motion = Trajectory(frames=11, fps=5.0, control="keyframes")
    episode = begin(model, AS_IT_IS, "left", motion, rng())
    swings = [float(episode.at(frame).qpos[7]) for frame in (0, 5, 10)]
    assert swings[0] == pytest.approx(-1)
    assert swings[0] < swings[1] < swings[2]
    assert swings[2] > 0.6
    still = begin(model, AS_IT_IS, "left", Trajectory(frames=11, fps=5.0), rng())
    assert still.at(10).qpos[7] == pytest.approx(-1, abs=0.05)


def test_an_unstable_simulation_is_told_and_leaves_no_file(own, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    model = own(replace=[('timestep="0.005"', 'timestep="0.005" gravity="0 0 -1e13"')])
    with pytest.raises(MfsynthError, match="the simulation is unstable"):
        begin(model, AS_IT_IS.model_copy(update={"settle": 2.0}), None, None, rng())
    assert [path.name for path in Path.cwd().iterdir()] == ["scene.xml"]
    assert capfd.readouterr().out == ""


def test_lights_change_a_view_and_not_the_model(own):
    model = own()
    episode = begin(model, AS_IT_IS, None, None, rng())
    bright = Randomise(joints={}, objects={}, lights={"shift": 0.0, "brightness": (0.2, 0.2)})
    dark = begin(model, bright, None, None, rng()).lights
    data = episode.at(0)
    camera = draw_camera(model, CameraRule(name="top"), data, HEIGHT, WIDTH, rng())
    renderer = ModelRenderer(model, HEIGHT, WIDTH)

    def shot(lights):
        return renderer.render(data, camera.pose(data), camera.intrinsics, lights)

    before, dim, after = shot(None), shot(dark), shot(None)
    assert dim.rgb.mean() < 0.7 * before.rgb.mean()
    assert np.array_equal(before.rgb, after.rgb)
    assert np.array_equal(before.depth, dim.depth)
    fresh = own()
    assert (fresh.digest, model_bytes(fresh)) == (model.digest, model_bytes(model))


def test_a_camera_of_the_model_goes_with_its_body(own):
    model = own()
    data = begin(model, AS_IT_IS, "left", None, rng()).at(0)
    camera = draw_camera(model, CameraRule(name="hand"), data, HEIGHT, WIDTH, rng())
    other = begin(model, AS_IT_IS, "right", None, rng()).at(0)
    assert not np.allclose(camera.pose(data).position, camera.pose(other).position)
    # It looks along the arm, with the world's up at its top.
    pose = camera.pose(data)
    link = data.body("link").xmat.reshape(3, 3)
    assert pose.rotation[:, 2] == pytest.approx(link[:, 0], abs=1e-6)
    assert pose.rotation[:, 1] == pytest.approx([0, 0, -1], abs=1e-6)
    moved = CameraRule(name="hand", shift=0.1, turn=5.0)
    drawn = draw_camera(model, moved, data, HEIGHT, WIDTH, rng(1)).pose(data)
    offset = CameraPose(drawn.position - pose.position, drawn.rotation @ pose.rotation.T)
    assert 0 < np.abs(offset.position).max() < 0.18
    assert offset.rotation @ offset.rotation.T == pytest.approx(np.eye(3), abs=1e-9)
    assert not np.allclose(offset.rotation, np.eye(3), atol=1e-3)


def test_a_model_without_cameras_is_seen_from_around_it(own):
    assert [rule.label for rule in default_cameras(own())] == ["top", "hand"]
    model = own(
        replace=[
            ('<camera name="top" pos="0 0 2" fovy="60"/>', ""),
            ('<camera name="hand" pos=".2 0 .1" xyaxes="0 -1 0 0 0 1"/>', ""),
        ]
    )
    (rule,) = default_cameras(model)
    assert rule.around is not None


def test_cameras_without_names_go_by_their_numbers(own):
    model = own(replace=[('<camera name="top" ', "<camera ")])
    assert [rule.label for rule in default_cameras(model)] == ["camera0", "hand"]
    same = view_of(own(), rule=CameraRule(name="top"))
    assert np.array_equal(view_of(model, rule=CameraRule(name="camera0")).rgb, same.rgb)


# What decides views or motion, each in a way of its own.
TEXTURED = """
<mujoco>
  <option density="0" iterations="100"/>
  <visual><map zfar="50"/><headlight diffuse=".4 .4 .4"/></visual>
  <statistic center="0 0 0" extent="2"/>
  <asset>
    <texture name="plain" type="2d" file="plain.png"/>
    <texture name="other" type="2d" builtin="flat" width="8" height="8" rgb1="0 0 1"/>
    <material name="first" texture="plain"/>
    <material name="second" texture="other"/>
    <mesh name="wedge" file="wedge.obj"/>
    <mesh name="spike" vertex="0 0 0 .1 0 0 0 .1 0 0 0 .3"/>
  </asset>
  <worldbody>
    <light pos="0 0 3" castshadow="true"/>
    <camera name="c" pos="0 -2 1" mode="targetbody" target="p"/>
    <body name="p" pos="0 0 .5"><freejoint/>
      <geom type="mesh" mesh="wedge" material="first"/></body>
    <body name="q" pos="1 0 .5"><freejoint/>
      <geom type="sphere" size=".1" material="second"/></body>
  </worldbody>
  <equality><weld body1="p" body2="q" active="false"/></equality>
</mujoco>
"""


@pytest.fixture
def textured(tmp_path):
    """Loads a model with a mesh and an image in a folder, with a text in it replaced."""

    def load(old="", new="", folder="here", blue=0) -> OwnModel:
        assert old in TEXTURED
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        (place / "scene.xml").write_text(TEXTURED.replace(old, new, 1) if old else TEXTURED)
        cv2.imwrite(str(place / "plain.png"), np.full((8, 8, 3), (blue, 90, 90), np.uint8))
        corners = "v 0 0 0\nv .2 0 0\nv 0 .2 0\nv 0 0 .2\n"
        (place / "wedge.obj").write_text(f"{corners}f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
        return OwnModel.load(str(place / "scene.xml"))

    return load


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('target="p"', 'target="q"'),
        ('mode="targetbody"', 'mode="targetbodycom"'),
        ('name="first" texture="plain"', 'name="first" texture="other"'),
        ('density="0"', 'density="1000"'),
        ('iterations="100"', 'iterations="5"'),
        ('castshadow="true"', 'castshadow="false"'),
        ('zfar="50"', 'zfar="1"'),
        ('headlight diffuse=".4 .4 .4"', 'headlight diffuse="0 0 0"'),
        ('center="0 0 0"', 'center="0 0 1"'),
        ('extent="2"', 'extent="3"'),
        ('mesh="wedge"', 'mesh="spike"'),
        ('active="false"', 'active="true"'),
    ],
)
def test_all_of_a_model_decides_its_digest(textured, old, new):
    assert textured(old, new).digest != textured().digest


def test_images_decide_the_digest_and_where_files_lie_does_not(textured):
    first = textured()
    assert textured(folder="elsewhere").digest == first.digest
    # Why the digest isn't that of the bytes that MuJoCo stores.
    assert model_bytes(textured(folder="elsewhere")) != model_bytes(first)
    assert textured(folder="bluer", blue=1).digest != first.digest


def test_a_bad_model_or_name_is_told_in_a_line(own, tmp_path):
    broken = tmp_path / "broken.xml"
    broken.write_text('<mujoco><worldbody><geom type="boxx"/></worldbody></mujoco>')
    with pytest.raises(
        MfsynthError, match=r"broken.xml: MuJoCo can't read it \(.*boxx.*; mend"
    ) as e:
        OwnModel.load(str(broken))
    assert "\n" not in str(e.value)
    with pytest.raises(MfsynthError, match="no such file; give the path of a MuJoCo model"):
        OwnModel.load(str(tmp_path / "none.xml"))
    with pytest.raises(MfsynthError, match=r"^https://h/x.xml: no such file") as e:
        OwnModel.load("https://user:topsecret@h/x.xml?sig=topsecret")
    assert "topsecret" not in str(e.value)
    model = own()
    with pytest.raises(MfsynthError, match="no camera 'tup'; did you mean top"):
        model.camera("tup")
    with pytest.raises(MfsynthError, match=r"no free body 'mug_.+it has box"):
        begin(model, Randomise(objects={"mug_*": {}}), None, None, rng())
    with pytest.raises(MfsynthError, match="no joint 'elbow'"):
        begin(model, Randomise(joints={"elbow": 1.0}), None, None, rng())
    with pytest.raises(MfsynthError, match="no keyframe 'home'"):
        begin(model, AS_IT_IS, "home", None, rng())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give one of name"),
        ({"name": "a", "around": "b", "distance": [1, 2]}, "give one of name"),
        ({"name": "a", "distance": [1, 2]}, "distance is for cameras with around"),
        ({"around": "b", "distance": [1, 2], "turn": 3}, "turn is for cameras with name"),
        ({"around": "b"}, "distance: missing"),
        ({"around": "b", "distance": [2, 1]}, "put the lower one first"),
        ({"name": "a", "fovy": [40, 50], "preset": "d435"}, "give one of fovy and preset"),
        ({"name": "a", "preset": "d999"}, "must be one of d435"),
    ],
)
def test_a_camera_that_is_none_is_refused(values, said):
    with pytest.raises(ValidationError, match=said):
        CameraRule.model_validate(values)
