"""Rendered depth, cameras and colours, against geometry known by other means."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest

from mfsynth.geometry import Intrinsics, backproject, pixel_rays, project
from mfsynth.prompts import Prompt, load_library
from mfsynth.simulation import SceneRenderer, render_scene, rendering, sample_scene, scenes
from mfsynth.simulation.camera_poses import CameraPose
from mfsynth.simulation.gl import load_mujoco
from mfsynth.simulation.physics import settle
from mfsynth.simulation.scene import COLOURS
from mfsynth.simulation.styles import SHAPES, VIEWS
from mfsynth.simulation.views import choose_cameras

pytestmark = pytest.mark.usefixtures("opengl")


def ray_depth(settled, pose, camera, height, width):
    """z-depth by MuJoCo's collision rays, which share no code with its renderer."""
    rays = pixel_rays(height, width, camera).reshape(-1, 3)
    lengths = np.linalg.norm(rays, axis=1, keepdims=True)
    directions = rays / lengths @ pose.rotation.T
    count = height * width
    hits, distances = np.empty(count, np.int32), np.empty(count)
    load_mujoco().mj_multiRay(
        settled.model, settled.data, pose.position, directions.ravel(), None, True, -1,
        hits, distances, None, count, 10.0,
    )  # fmt: skip
    return (distances / lengths[:, 0]).reshape(height, width), hits.reshape(height, width)


def shows(image, item):
    """The pixel on which an object's middle falls."""
    middle = image.pose.to_camera(np.array([item.x, item.y, item.height / 2]))
    column, row = project(middle, image.intrinsics)
    return round(float(row)), round(float(column))


def world_points(image):
    pose = image.pose.camera_to_world()
    return backproject(image.depth, image.intrinsics) @ pose[:3, :3].T + pose[:3, 3]


def test_images_have_the_types_and_sizes_promised(make_scene):
    for view, image in enumerate(render_scene(make_scene(), 2, 24, 40)):
        assert (image.rgb.shape, image.rgb.dtype) == ((24, 40, 3), np.uint8)
        assert (image.depth.shape, image.depth.dtype) == ((24, 40), np.float32)
        assert image.view_index == view
        assert image.caption == "objects on a table"
        assert image.intrinsics == Intrinsics.from_vertical_fov(24, 40, 40.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("view", VIEWS)
def test_depth_agrees_with_rays_cast_through_pixel_centres(make_scene, shape, view):
    scene = make_scene(objects=[{"colour": "green", "shape": shape}], view=view)
    settled = settle(scene)
    (camera,) = choose_cameras(settled, 1, 48, 64)
    with SceneRenderer(settled, 48, 64) as renderer:
        _, depth = renderer.render(camera.pose, camera.intrinsics)
    expected, _ = ray_depth(settled, camera.pose, camera.intrinsics, 48, 64)
    error = np.abs(depth - expected) / expected
    # Renderers draw round things as polygons; rays meet the true sphere and cylinder.
    assert np.quantile(error, 0.9) < 1e-5
    assert np.quantile(error, 0.97) < 0.01


def test_depth_of_the_table_lies_in_the_plane_of_the_table(make_scene):
    for image in render_scene(make_scene(table="grey"), 3, 64, 64):
        world = world_points(image)
        on_table = np.abs(world[..., 2]) < 1e-4
        assert on_table.mean() > 0.4  # seen from above, most of the image is table
        assert np.abs(world[on_table, 2]).max() < 1e-5
        assert world[..., 2].min() > -1.0


def test_depth_is_z_and_not_the_ray_distance():
    settled = settle_single("cube", "from above")
    pose = CameraPose.looking_at(np.array([0.3, 0.3, 0.0]), 0.0, 89.9, 0.1)
    camera = Intrinsics.from_vertical_fov(32, 32, 60.0)
    with SceneRenderer(settled, 32, 32) as renderer:
        _, depth = renderer.render(pose, camera)
    # Straight down at a plane z-depth is one number; ray distance is 29 % more in the corners.
    np.testing.assert_allclose(depth, 0.1, rtol=5e-3)


def settle_single(shape, view, seed=0):
    slots = {"objects": [{"colour": "green", "shape": shape}], "table": "grey"}
    slots |= {"light": "bright", "view": view}
    return settle(sample_scene(Prompt.from_text("one object", slots), seed))


def test_a_ball_has_the_depth_of_its_sphere(make_scene):
    scene = make_scene(objects=[{"colour": "red", "shape": "ball"}])
    (image,) = render_scene(scene, 1, 65, 65)
    item = scene.objects[0]
    centre = image.pose.to_camera(np.array([item.x, item.y, item.radius]))
    row, column = shows(image, item)
    ray = pixel_rays(65, 65, image.intrinsics)[row, column]
    # |z·ray - centre| = radius, the nearer solution
    a, b, c = ray @ ray, ray @ centre, centre @ centre - item.radius**2
    z = (b - math.sqrt(b * b - a * c)) / a
    assert image.depth[row, column] == pytest.approx(z, abs=1e-3)


def test_an_off_centre_camera_sees_what_its_intrinsics_say():
    settled = settle_single("cube", "from the front")
    pose = CameraPose.looking_at(np.array([0, 0, 0.04]), 20.0, 30.0, 0.6)
    camera = Intrinsics(fx=90.0, fy=70.0, cx=10.0, cy=40.0)
    with SceneRenderer(settled, 48, 64) as renderer:
        _, depth = renderer.render(pose, camera)
    expected, _ = ray_depth(settled, pose, camera, 48, 64)
    assert np.quantile(np.abs(depth - expected) / expected, 0.98) < 1e-4


def test_every_pixel_has_a_depth_of_a_few_metres_at_most():
    library = load_library("tabletop", seed=11)
    for _, scene in scenes(library, 0, range(8)):
        for image in render_scene(scene, 2, 32, 32):
            assert image.depth.min() > 0.1
            assert image.depth.max() < 5.0


@pytest.mark.parametrize("view", VIEWS)
def test_cameras_keep_to_the_elevations_of_the_view(make_scene, view):
    low, high = VIEWS[view].elevation
    for image in render_scene(make_scene(view=view), 4, 32, 32):
        elevation = math.degrees(math.asin(-image.pose.rotation[2, 2]))
        assert low - 1e-9 <= elevation <= high + 1e-9


def test_objects_are_large_in_the_frame_wholly_inside_and_mostly_visible():
    library = load_library("tabletop", seed=5)
    for _, scene in scenes(library, 2, range(12)):
        settled = settle(scene)
        for rated in choose_cameras(settled, 2, 64, 64):
            _, hits = ray_depth(settled, rated.pose, rated.intrinsics, 64, 64)
            owner = np.append(settled.model.geom_group, -1)[hits]
            for i, outline in enumerate(settled.outlines):
                pixels = project(rated.pose.to_camera(outline), rated.intrinsics)
                assert pixels.min() > 0
                assert pixels.max() < 63
                assert np.ptp(pixels, axis=0).max() > 8
                if rated.clearness >= scene.style.clear:
                    assert np.count_nonzero(owner == i) > 30


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("light", ["bright", "dim", "warm"])
def test_an_object_is_rendered_in_its_colour(make_scene, colour, light):
    scene = make_scene(objects=[{"colour": colour, "shape": "ball"}], light=light, table="grey")
    image = render_scene(scene, 1, 64, 64)[0]
    row, column = shows(image, scene.objects[0])
    patch = image.rgb[row - 3 : row + 4, column - 3 : column + 4].reshape(-1, 3) / 255
    hue, saturation, value = colorsys.rgb_to_hsv(*np.median(patch, axis=0))
    if colour == "white":
        assert value > 0.4
        assert saturation < 0.45
    elif colour == "black":
        assert value < 0.25
    else:
        wanted = colorsys.rgb_to_hsv(*COLOURS[colour])[0]
        apart = abs((hue - wanted + 0.5) % 1 - 0.5)
        assert apart < 0.1
        assert saturation > 0.45


def test_rendering_a_scene_again_gives_the_same_bytes(make_scene):
    first = render_scene(make_scene(seed=4), 2, 32, 32)
    render_scene(make_scene(seed=9), 1, 48, 48)
    second = render_scene(make_scene(seed=4), 2, 32, 32)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(a.depth, b.depth)
        np.testing.assert_array_equal(a.pose.position, b.pose.position)


def test_supersampling_smooths_colour_and_leaves_depth_alone(make_scene, monkeypatch):
    scene = make_scene(seed=1)
    (smooth,) = render_scene(scene, 1, 48, 48)
    monkeypatch.setattr(rendering, "_SUPERSAMPLE", 1)
    (sharp,) = render_scene(scene, 1, 48, 48)
    # Colour is a mean of nine samples, depth the one at the pixel's centre.
    assert np.abs(sharp.rgb.astype(int) - smooth.rgb).max() > 20
    difference = np.abs(sharp.depth - smooth.depth) / sharp.depth
    assert np.mean(difference > 1e-5) < 0.005


def test_settled_objects_rest_on_the_table(make_scene):
    scene = make_scene(objects=[{"colour": "red", "shape": shape} for shape in ("mug", "cone")])
    settled = settle(scene)
    assert settled.is_tidy
    for outline in settled.outlines:
        assert outline[:, 2].min() == pytest.approx(0.0, abs=2e-3)
    assert np.abs(settled.data.qvel).max() < 0.05


def test_shadows_darken_the_table(make_scene):
    lamp_side = make_scene(table="white", light="bright")
    image = render_scene(lamp_side, 1, 64, 64)[0]
    world = world_points(image)
    table = image.rgb[np.abs(world[..., 2]) < 1e-4].mean(axis=1)
    assert np.quantile(table, 0.02) < 0.75 * np.median(table)
