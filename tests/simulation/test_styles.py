"""Styles: what they let vary, that plain never changes, and that intrinsics stay right."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import fields, is_dataclass
from typing import get_args

import numpy as np
import pytest

from mfsynth.geometry import pixel_rays, project
from mfsynth.prompts import load_library
from mfsynth.simulation import STYLES, SceneRenderer, SceneStyle, render_scene, scenes
from mfsynth.simulation.physics import settle
from mfsynth.simulation.scene_sampling import place_objects
from mfsynth.simulation.views import choose_cameras, first_hits
from mfsynth.sources.simulated import StyleName

VARIED, ROAMING = STYLES["varied"], STYLES["roaming"]


def rounded(value):
    """A description as text that the last digits of a processor's arithmetic don't change."""
    if is_dataclass(value):
        named = {f.name: getattr(value, f.name) for f in fields(value)}
        return {key: rounded(v) for key, v in named.items() if not isinstance(v, SceneStyle)}
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, (tuple, list)):
        return [rounded(item) for item in value]
    return value


def drawn(name, count, style, seed=4):
    return [scene for _, scene in scenes(load_library(name, seed), seed, range(count), style)]


@pytest.mark.parametrize(
    ("library", "digest"),
    [
        ("tabletop", "f3f2bbce5221ec96fd8eb7d015fc01b7af89f258170bc653cf46e100e4de65a9"),
        ("tabletop_rooms", "4e863e0f128b4f9070ebe247c9ec366521c3a35f43b0e8f23782c97d1c30d6c6"),
    ],
)
def test_plain_scenes_never_change(library, digest):
    """Models were trained on them: who changes them makes a new style."""
    described = [rounded(scene) for scene in drawn(library, 20, STYLES["plain"])]
    text = json.dumps(described, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_a_style_is_read_from_what_it_wrote():
    for name, style in STYLES.items():
        assert style.name == name
        assert SceneStyle.from_document(json.loads(json.dumps(style.document()))) == style


def test_configurations_know_every_style():
    assert set(get_args(StyleName)) == set(STYLES)


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_objects_never_stand_in_each_other(style):
    for scene, placement in itertools.product(drawn("tabletop_rooms", 60, style), range(2)):
        for a, b in itertools.combinations(place_objects(scene, placement).objects, 2):
            assert math.dist((a.x, a.y), (b.x, b.y)) >= a.footprint + b.footprint


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_lamp_and_furniture_are_in_the_room_and_beyond_the_table(style):
    for scene in drawn("tabletop_shapes", 200, style):
        room = scene.room
        assert room.table_half_width < room.half_width
        assert max(abs(scene.lamp[0]), abs(scene.lamp[1])) < room.half_width
        assert scene.lamp[2] > 0.3
        for block in room.furniture:
            assert max(abs(block.x), abs(block.y)) > room.table_half_width


def test_a_varied_scene_has_any_room_light_and_height():
    varied = drawn("tabletop_shapes", 200, VARIED)
    assert {scene.room.style.wall for scene in varied} > {"plain", "brick", "tiled"}
    assert any(scene.room.furniture for scene in varied)
    spans = {
        "half_width": [scene.room.half_width for scene in varied],
        "table_height": [scene.room.table_height for scene in varied],
        "lamp": [np.linalg.norm(scene.lamp) for scene in varied],
        "light": [sum(scene.lighting.key) for scene in varied],
        "table": [scene.room.table_half_width for scene in varied],
        "size": [item.radius for scene in varied for item in scene.objects if item.shape == "cube"],
    }
    for name, values in spans.items():
        assert max(values) > 1.3 * min(values), name


def test_a_table_that_no_word_describes_is_any():
    tables = drawn("tabletop_anywhere", 60, VARIED)
    assert {scene.table for scene in tables} >= {"plain", "checked", "banded", "wooden"}
    assert np.std([scene.table_rgb for scene in tables], axis=0).min() > 0.15


def test_prompts_of_a_room_keep_it_in_every_style():
    for scene in drawn("tabletop_rooms", 40, VARIED):
        named = [room for room in ("kitchen", "office", "workshop") if room in scene.caption]
        wall = {"kitchen": "tiled", "office": "plain", "workshop": "brick"}
        if named:
            assert scene.room.style.wall == wall[named[0]]


@pytest.mark.usefixtures("opengl")
class TestCameras:
    def test_each_image_has_a_field_of_view_of_its_own(self):
        heights = []
        for scene in drawn("tabletop_shapes", 12, VARIED):
            for image in render_scene(scene, 2, 24, 32):
                heights.append(2 * math.degrees(math.atan(12 / image.intrinsics.fy)))
                assert image.intrinsics.fx == image.intrinsics.fy
                assert (image.intrinsics.cx, image.intrinsics.cy) == (15.5, 11.5)
        assert min(heights) >= 35 - 1e-9
        assert max(heights) <= 75 + 1e-9
        assert min(heights) < 42
        assert max(heights) > 68

    def test_the_table_has_the_depth_of_its_plane_whatever_the_field_of_view(self):
        for scene in drawn("tabletop_shapes", 16, VARIED):
            settled = settle(scene)
            (camera,) = choose_cameras(settled, 1, 32, 48)
            with SceneRenderer(settled, 32, 48) as renderer:
                _, depth = renderer.render(camera.pose, camera.intrinsics)
            rays = pixel_rays(32, 48, camera.intrinsics) @ camera.pose.rotation.T
            lengths = np.linalg.norm(rays, axis=-1, keepdims=True)
            directions = (rays / lengths).reshape(-1, 3)
            hits = first_hits(settled, camera.pose.position, directions, range(6))
            on_table = (hits == settled.model.geom("table").id).reshape(32, 48)
            # Where each pixel's ray meets the plane z = 0.
            expected = -camera.pose.position[2] / rays[..., 2]
            error = np.abs(depth / expected - 1)[on_table]
            assert error.size > 50
            # The renderer's edges, at round things, are a pixel off the rays' here and there.
            assert np.quantile(error, 0.95) < 1e-4

    def test_objects_are_wholly_in_the_frame_and_no_nearer_than_the_near_plane(self):
        for style in (STYLES["close"], VARIED):
            for scene in drawn("tabletop_shapes", 24, style):
                settled = settle(scene)
                for camera in choose_cameras(settled, 2, 64, 64):
                    for outline in settled.outlines:
                        seen = camera.pose.to_camera(outline)
                        assert seen[:, 2].min() > 0.08
                        pixels = project(seen, camera.intrinsics)
                        assert pixels.min() >= -0.5
                        assert pixels.max() <= 63.5

    def test_roaming_cameras_cut_things_stand_in_none_and_are_not_level(self):
        rolls, cut, count = [], 0, 0
        for scene in drawn("tabletop_shapes", 40, ROAMING):
            settled = settle(scene)
            for camera in choose_cameras(settled, 2, 64, 64):
                seen = [camera.pose.to_camera(outline) for outline in settled.outlines]
                assert min(points[:, 2].min() for points in seen) > 0.119
                pixels = np.concatenate([project(points, camera.intrinsics) for points in seen])
                cut += pixels.min() < -0.5 or pixels.max() > 63.5
                count += 1
                right, down, _ = camera.pose.rotation.T
                rolls.append(math.degrees(math.atan2(-right[2], -down[2])))
                np.testing.assert_allclose(np.cross(right, down), camera.pose.rotation[:, 2])
        assert 0.1 < cut / count < 0.6
        assert np.abs(rolls).max() <= 90
        assert min(rolls) < -5 < 5 < max(rolls)

    @pytest.mark.parametrize("style", [VARIED, ROAMING], ids=lambda style: style.name)
    def test_no_camera_is_in_a_wall_or_looks_over_one(self, style):
        for scene in drawn("tabletop_shapes", 40, style):
            (image,) = render_scene(scene, 1, 16, 16)
            assert np.abs(image.pose.position[:2]).max() < scene.room.half_width
            assert image.depth.min() > 0.06
            assert image.depth.max() < 8.0

    def test_close_things_fill_the_frame(self):
        """Share of pixels of the smallest object; what three can reach is less than 15 %."""
        shares = {1: [], 2: [], 3: []}
        for scene in drawn("tabletop_shapes", 60, STYLES["close"], seed=5):
            settled = settle(scene)
            (camera,) = choose_cameras(settled, 1, 64, 64)
            rays = pixel_rays(64, 64, camera.intrinsics).reshape(-1, 3)
            rays = rays / np.linalg.norm(rays, axis=1, keepdims=True) @ camera.pose.rotation.T
            groups = range(len(scene.objects))
            hits = first_hits(settled, camera.pose.position, rays, groups)
            owners = np.append(settled.model.geom_group, -1)[hits]
            shares[len(groups)].append(min(np.mean(owners == group) for group in groups))
        assert min(shares[1]) > 0.25
        assert np.median(shares[2]) > 0.15
        assert min(shares[2]) > 0.08
        assert np.median(shares[3]) > 0.07
