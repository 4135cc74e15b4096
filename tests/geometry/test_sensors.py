from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfsynth.geometry import Intrinsics
from mfsynth.geometry.camera_presets import CAMERA_PRESETS
from mfsynth.geometry.sensors.presets import SENSORS
from mfsynth.geometry.sensors.scene import Scene
from mfsynth.geometry.sensors.sensing import sense
from mfsynth.geometry.sensors.time_of_flight import reflected

FOCAL = 500.0


def camera(height=120, width=160, focal=FOCAL):
    return Intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2)


def wall(z, height=120, width=160):
    return np.full((height, width), z, np.float32)


def speckled(shape, seed=0, low=150):
    """Bright, with texture, so that nothing is lost for want of it."""
    rng = np.random.default_rng(seed)
    return rng.integers(low, 256, (*shape, 1), np.uint8).repeat(3, axis=2)


def seen(depth, name, rgb=None, intrinsics=None, seed=0, sensor=None):
    rgb = speckled(depth.shape) if rgb is None else rgb
    rng = np.random.default_rng(seed)
    return sense(depth, rgb, intrinsics or camera(*depth.shape), sensor or SENSORS[name], rng)


def quiet_stereo(name="d435"):
    model = replace(SENSORS[name].model, error_px=0.0, lateral_px=0.0, least_contrast=0.0)
    return replace(SENSORS[name], model=model)


def rms_of_error(depth, name, **settings):
    found = seen(depth, name, **settings)
    error = (found - depth)[found > 0]
    assert error.size > 0.9 * depth.size
    return float(np.sqrt(np.mean(error**2)))


def test_every_camera_but_the_lidar_has_a_model():
    assert set(CAMERA_PRESETS) - set(SENSORS) == {"l515"}
    for sensor in SENSORS.values():
        assert (sensor.baseline > 0) == (sensor.camera.baseline_m is not None)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(sorted(SENSORS)), st.integers(0, 2**32), st.floats(0, 1))
def test_a_sensor_returns_nothing_where_there_is_nothing(name, seed, share):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.2, 5.0, (24, 40)).astype(np.float32)
    depth[rng.random(depth.shape) < share] = 0
    rgb = rng.integers(0, 256, (24, 40, 3), np.uint8)
    found = sense(depth, rgb, camera(24, 40, 40.0), SENSORS[name], rng)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert not found[depth == 0].any()


@pytest.mark.parametrize("name", sorted(SENSORS))
def test_the_same_seed_gives_the_same_depth_and_another_gives_another(name):
    depth = wall(1.0)
    first, again, other = (seen(depth, name, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["d435", "d455", "kinect_v1"])
def test_near_things_throw_a_shadow_to_their_left_as_wide_as_disparities_differ(name):
    near, far = 0.8, 1.6
    depth = wall(far)
    depth[30:90, 60:110] = near
    sensor = quiet_stereo(name) if name != "kinect_v1" else SENSORS[name]
    found = seen(depth, name, sensor=sensor)
    width = FOCAL * sensor.baseline * (1 / near - 1 / far)
    holes = found[40:80] == 0
    measured = holes[:, :60].sum(axis=1)
    # Structured light has edges that waver.
    assert np.median(measured) == pytest.approx(width, abs=1.5)
    first = int(60 - np.median(measured))
    assert holes[:, first + 2 : 58].mean() > 0.95
    assert holes[:, : first - 2].mean() < 0.01
    assert holes[:, 113:].mean() < 0.01


@pytest.mark.parametrize("name", ["d435", "kinect_v1"])
@pytest.mark.parametrize("tiny", [1e-6, 1e-41])
@pytest.mark.filterwarnings("error")
def test_however_near_a_pixel_is_it_takes_no_more_memory(name, tiny):
    depth = wall(1.5)
    depth[0, 0] = tiny
    tracemalloc.start()
    try:
        found = seen(depth, name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * depth.nbytes
    # What wavers at its edge may show what is behind it.
    assert found[found > 0] == pytest.approx(1.5, abs=0.1)
    assert (found > 0).mean() > 0.9


def test_a_surface_that_recedes_hides_nothing_of_itself():
    x = np.arange(160, dtype=np.float32)[None, :].repeat(120, axis=0)
    depth = (1.0 + 0.004 * np.abs(x - 80)).astype(np.float32)
    assert (seen(depth, "d435", sensor=quiet_stereo()) > 0).mean() > 0.99


def test_error_of_stereo_grows_with_the_square_of_distance():
    sensor = SENSORS["d435"]
    per_square = sensor.model.error_px / (sensor.focal_px * sensor.baseline)
    for z in (1.0, 2.0, 4.0):
        assert rms_of_error(wall(z), "d435") == pytest.approx(per_square * z**2, rel=0.15)


@pytest.mark.parametrize(("name", "z"), [("d435", 2.0), ("kinect_v1", 2.0), ("azure_kinect", 2.0)])
def test_noise_in_metres_does_not_hang_on_the_size_of_the_image(name, z):
    small = rms_of_error(wall(z), name, intrinsics=camera(focal=FOCAL))
    large = rms_of_error(wall(z, 240, 320), name, intrinsics=camera(240, 320, 2 * FOCAL))
    assert small == pytest.approx(large, rel=0.2)


def test_noise_of_stereo_comes_in_blobs():
    depth = wall(2.0)
    found = seen(depth, "d435")
    error = (found - depth)[:, 10:-10]
    rows = error - error.mean()
    alike = (rows[:, :-2] * rows[:, 2:]).mean() / (rows**2).mean()
    assert alike > 0.5


def test_what_is_nearer_than_the_disparities_that_are_searched_is_a_hole():
    sensor = quiet_stereo()
    nearest = sensor.focal_px * sensor.baseline / sensor.model.range_px
    assert nearest == pytest.approx(0.27, abs=0.01)  # 28 cm by its datasheet
    assert not seen(wall(0.98 * nearest), "d435", sensor=sensor).any()
    assert (seen(wall(1.05 * nearest), "d435", sensor=sensor) > 0).mean() > 0.9


def test_structured_light_has_the_published_noise_in_steps_of_disparity():
    sensor = SENSORS["kinect_v1"]
    scale = sensor.focal_px * sensor.baseline
    for z in (1.0, 2.0, 3.0):
        depth = wall(z)
        expected = 0.0012 + 0.0019 * (z - 0.4) ** 2
        # Of one wall all steps lie alike, which adds to it or takes from it.
        step = z**2 / 8 / scale
        assert rms_of_error(depth, "kinect_v1") == pytest.approx(expected, abs=0.35 * step)
        found = seen(depth, "kinect_v1")
        eighths = 8 * scale / found[found > 0]
        tolerance = 8 * scale / z**2 * sensor.unit
        assert np.abs(eighths - np.rint(eighths)).max() < tolerance


def test_time_of_flight_mixes_depths_at_edges_and_stereo_does_not():
    depth = wall(2.0)
    depth[:, 80:] = 1.0

    def between(name, **settings):
        found = seen(depth, name, **settings)
        return int(((found > 1.15) & (found < 1.85)).sum())

    assert between("azure_kinect") > 60
    assert between("d435", sensor=quiet_stereo()) == 0


def test_light_takes_detours_in_corners_and_nowhere_else():
    def bias(slope, hole=False):
        x = (np.arange(160, dtype=np.float32)[None, :] - 79.5) / FOCAL
        x = x.repeat(120, axis=0)
        depth = (1 / (1 + slope * np.abs(x))).astype(np.float32)  # two planes that meet at x = 0
        if hole:
            depth[100:, 100:] = 0
        scene = Scene.of(depth, speckled(depth.shape, low=240), camera(), SENSORS["azure_kinect"])
        return reflected(scene)

    assert bias(0.0).max() < 1e-5
    assert bias(-0.9).max() < 1e-5  # an edge towards the camera
    corner = bias(1.0)
    # Walls move away and the corner hardly does: it gets round.
    assert corner[60, 20] > 1e-3
    assert corner[60, 79] < 0.6 * corner[60, 20]
    assert bias(1.0, hole=True)[60, 20] == pytest.approx(corner[60, 20], rel=0.3)


@pytest.mark.parametrize("shape", [(1, 300), (300, 2), (1, 1)])
@pytest.mark.parametrize("name", sorted(SENSORS))
def test_an_image_of_any_proportions_can_be_seen(name, shape):
    found = seen(wall(1.5, *shape), name)
    assert found.shape == shape
    assert np.isfinite(found).all()


def test_too_little_light_makes_holes():
    rgb = speckled((120, 160), low=240)
    rgb[:, 80:] = 20
    for name, z in (("azure_kinect", 3.0), ("kinect_v1", 4.0)):
        found = seen(wall(z), name, rgb=rgb)
        assert (found[:, :75] > 0).mean() > 0.95, name
        assert (found[:, 85:] > 0).mean() < 0.05, name


def test_without_texture_only_a_projector_helps_stereo():
    plain = np.full((120, 160, 3), 200, np.uint8)
    assert (seen(wall(1.0), "d435", rgb=plain) > 0).mean() > 0.95
    assert (seen(wall(1.0), "d405", rgb=plain) > 0).mean() == 0
    assert (seen(wall(1.0), "d405") > 0).mean() > 0.95


def test_what_the_depth_sensor_does_not_see_of_the_image_is_a_hole():
    preset = CAMERA_PRESETS["azure_kinect"]
    depth = wall(1.0, 90, 160)
    view = preset.intrinsics(90, 160)
    found = seen(depth, "azure_kinect", intrinsics=view)
    edge = 79.5 - view.fx * np.tan(np.radians(75 / 2))
    assert not found[:, : int(edge)].any()
    assert (found[:, int(edge) + 2 : 120] > 0).mean() > 0.99
