"""Cameras by their vendors' figures."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from mfsynth.geometry.camera_presets import CAMERA_PRESETS
from mfsynth.geometry.sensors.presets import SENSORS, Stereo, StructuredLight, TimeOfFlight

MODELS = {
    "active stereo": Stereo,
    "passive stereo": Stereo,
    "structured light": StructuredLight,
    "time of flight": TimeOfFlight,
}


@pytest.mark.parametrize("name", CAMERA_PRESETS)
def test_the_whole_colour_image_has_the_vendors_field_of_view(name):
    view = CAMERA_PRESETS[name].colour
    camera = CAMERA_PRESETS[name].intrinsics(view.height, view.width)
    assert camera.horizontal_fov(view.width) == pytest.approx(view.horizontal)
    # Vendors round, and their lenses distort.
    assert camera.vertical_fov(view.height) == pytest.approx(view.vertical, abs=2.5)
    assert camera.fx == camera.fy
    assert (camera.cx, camera.cy) == ((view.width - 1) / 2, (view.height - 1) / 2)


@pytest.mark.parametrize(
    ("name", "height", "width", "horizontal"),
    [
        # A square has the height of the colour image: tan 34.5° · 1080/1920 = tan 21.1°.
        ("d435", 512, 512, 42.27),
        ("d435", 720, 1280, 69.0),
        # 4:3 has 1440 of the 1920 columns.
        ("d435", 480, 640, 54.54),
        # Wider than the colour image: all of its columns.
        ("d435", 256, 1024, 69.0),
        ("azure_kinect", 256, 256, 58.72),
        ("kinect_v1", 512, 512, 48.52),
    ],
)
def test_an_image_is_the_largest_centred_part_of_the_colour_image(name, height, width, horizontal):
    camera = CAMERA_PRESETS[name].intrinsics(height, width)
    assert camera.horizontal_fov(width) == pytest.approx(horizontal, abs=0.01)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (300, 400), (200, 900)])
def test_that_part_is_a_crop_and_a_resize_of_the_whole(height, width):
    preset = CAMERA_PRESETS["d455"]
    full = preset.colour
    share = min(full.width / width, full.height / height)
    top, left = (full.height - share * height) / 2, (full.width - share * width) / 2
    cut = preset.intrinsics(full.height, full.width).cropped(top, left)
    np.testing.assert_allclose(
        cut.resized(1 / share, 1 / share).matrix(), preset.intrinsics(height, width).matrix()
    )


def documented():
    """The rows of the table in docs/reference/cameras.md, by preset."""
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "reference" / "cameras.md").read_text(encoding="utf-8")
    for line in re.findall(r"^\| (`.*)\|$", page, re.MULTILINE):
        names, *cells = map(str.strip, line.split("|"))
        for name in re.findall("`([a-z0-9_]+)`", names):
            yield name, cells


def angles(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+)°", cell)]


def test_the_page_has_the_figures_of_every_preset():
    """Runs are identified by a preset's name: the page holds its figures to what they were."""
    rows = dict(documented())
    assert [*rows] == [*CAMERA_PRESETS]
    for name, (colour, depth, square, measures, baseline) in rows.items():
        preset = CAMERA_PRESETS[name]
        view = preset.colour
        across, down = map(int, re.search(r"at (\d+):(\d+)", colour).groups())
        assert (view.width * down, angles(colour)) == (
            view.height * across,
            [view.horizontal, view.vertical],
        )
        assert angles(depth) == [preset.depth.horizontal, preset.depth.vertical]
        assert angles(square) == [round(preset.intrinsics(64, 64).horizontal_fov(64), 1)]
        assert baseline == (
            "" if preset.baseline_m is None else f"{1000 * preset.baseline_m:.0f} mm"
        )
        triangulates = MODELS.get(measures) in (Stereo, StructuredLight)
        assert (preset.baseline_m is not None) == triangulates
        assert measures == "lidar" or isinstance(SENSORS[name].model, MODELS[measures])


def test_all_say_where_their_figures_are_from():
    for preset in CAMERA_PRESETS.values():
        assert len(preset.source) > 20
        for view in (preset.colour, preset.depth):
            assert 0 < view.vertical < view.horizontal < 180
            assert math.isclose(view.horizontal, view.vertical, rel_tol=0.5)
