"""Depth of a camera beside the colour camera lands on the colour camera's pixels, or is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from depth_files import npy_of
from pydantic import ValidationError
from training_files import image, one_line_error, png, source, write

from mfsynth.geometry import Intrinsics
from mfsynth.geometry.registration import depth_in_camera
from mfsynth.sources.encoding import Encoding

COLOUR = {"fx": 9.5, "fy": 9.4, "cx": 3.6, "cy": 2.4}
DEPTH = {"fx": 6.0, "fy": 6.0, "cx": 3.5, "cy": 2.5}
POSE = np.array([[1, 0, 0, 0.4], [0, 1, 0, -0.02], [0, 0, 1, 0.1], [0, 0, 0, 1.0]])
Z = np.linspace(1, 2, 48, dtype=np.float32).reshape(6, 8)


def depth_of(root, extrinsics, size=(6, 8), **more):
    write(root / "rgb.png", png(image(0, *size)))
    write(root / "depth.npy", npy_of(Z))
    write(root / "pose.json", json.dumps({"T": (POSE * [[1, 1, 1, 1000]]).T.tolist()}))
    encoding = {
        "scale": 1,
        "camera": COLOUR,
        "depth_camera": DEPTH,
        "registration": "to_colour",
        "extrinsics": extrinsics,
        **more,
    }
    generic = {"kind": "folder", "layout": "generic", "path": str(root)}
    return source(**generic, images="rgb.png", depths="depth.npy", encoding=encoding)[0].depth


@pytest.mark.parametrize(
    "extrinsics",
    [
        {"matrix": POSE.ravel().tolist()},
        {"matrix": POSE[:3].ravel().tolist()},
        {"matrix": np.linalg.inv(POSE).ravel().tolist(), "direction": "colour_to_depth"},
        {"file": "pose.json", "path": "T", "order": "column", "metres": 0.001},
    ],
    ids=["4x4", "3x4", "inverse", "file"],
)
def test_depth_is_carried_over_by_extrinsics_however_they_are_given(tmp_path, extrinsics):
    wanted = depth_in_camera(Z, Intrinsics(**DEPTH), Intrinsics(**COLOUR), POSE, (6, 8))
    assert 0.3 < (wanted > 0).mean() < 1
    np.testing.assert_allclose(depth_of(tmp_path, extrinsics), wanted, rtol=1e-6)


def test_the_image_may_have_any_size(tmp_path):
    camera = {**COLOUR, "size": [8, 6]}
    depth = depth_of(tmp_path, {"matrix": POSE.ravel().tolist()}, (12, 16), camera=camera)
    assert depth.shape == (12, 16)
    assert depth[3:9, 8:12].all()


def test_a_pose_that_is_none_is_one_line(tmp_path):
    with one_line_error(r"rgb.png: no rotation in the pose"):
        depth_of(tmp_path, {"matrix": (2 * POSE).ravel().tolist()})
    with one_line_error("pose.json: extrinsics are 3x4 or 4x4"):
        depth_of(tmp_path, {"file": "pose.json", "path": "T.0"})


def test_another_camera_without_extrinsics_is_refused_with_the_remedy(tmp_path):
    with one_line_error("depth of another camera .* or set registration: to_colour"):
        depth_of(tmp_path, None, registration="same", depth_camera={**DEPTH, "fx": 3.9})


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"extrinsics": {"matrix": [1.0] * 16}}, "extrinsics are of registration to_colour"),
        ({"registration": "to_colour", "extrinsics": {}}, "by matrix or by file"),
        ({"registration": "to_colour", "extrinsics": {"matrix": [1.0]}}, "3x4 or 4x4"),
    ],
)
def test_settings_that_say_half_of_it_are_refused(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        Encoding(scale=1, **settings)


def test_both_cameras_and_extrinsics_are_needed():
    whole = {"camera": COLOUR, "depth_camera": DEPTH, "extrinsics": {"matrix": [1.0] * 16}}
    for name in whole:
        half = {key: value for key, value in whole.items() if key != name}
        encoding = Encoding(scale=1, registration="to_colour", **half)
        with pytest.raises(ValueError, match=f"to_colour needs {name}; give it"):
            encoding.require_complete()


PART = {"scale": 1, "registration": "crop"}
BOX = [4, 3, 16, 12]


def cropped_of(root, image_size, **encoding):
    """An image, and beside it depth of 8x6 pixels that shows a part of it."""
    write(root / "rgb.png", png(image(0, *image_size)))
    write(root / "depth.npy", npy_of(Z))
    generic = {"kind": "folder", "layout": "generic", "path": str(root)}
    return source(**generic, images="rgb.png", depths="depth.npy", encoding=PART | encoding)[0]


@pytest.mark.parametrize(
    ("crop", "size", "rows", "columns"),
    [
        ("centre", (18, 32), (0, 18), (4, 28)),
        ("centre", (20, 16), (4, 16), (0, 16)),
        ("centre", (6, 8), (0, 6), (0, 8)),
        (BOX, (18, 32), (3, 15), (4, 20)),
    ],
)
def test_depth_of_a_part_of_the_image_lies_there_and_nowhere_else(
    tmp_path, crop, size, rows, columns
):
    item = cropped_of(tmp_path, size, crop=crop)
    assert item.rgb.shape[:2] == item.depth.shape == size
    part = item.depth[slice(*rows), slice(*columns)]
    down, across = part.shape[0] // 6, part.shape[1] // 8
    np.testing.assert_array_equal(part, np.kron(Z, np.ones((down, across), np.float32)))
    assert (item.depth > 0).sum() == part.size


def test_the_camera_of_a_part_is_that_of_the_image_cut_and_resized(tmp_path):
    camera = {"fx": 40.0, "fy": 40.0, "cx": 15.5, "cy": 8.5}
    own = Intrinsics(**camera).cropped(BOX[1], BOX[0]).resized(0.5, 0.5)
    own = {"fx": own.fx, "fy": own.fy, "cx": own.cx, "cy": own.cy}
    both = {"camera": camera, "depth_camera": own}
    item = cropped_of(tmp_path, (18, 32), crop=BOX, **both)
    assert item.intrinsics == Intrinsics(**camera)
    with one_line_error("depth of another camera than the image's"):
        cropped_of(tmp_path, (18, 32), crop=[9, 3, 16, 12], **both)
    # Rays of its pixels are those of the image's camera there.
    rays = cropped_of(tmp_path, (18, 32), crop=BOX, camera=camera, axis="ray")
    given = cropped_of(tmp_path, (18, 32), crop=BOX, depth_camera=own, axis="ray")
    np.testing.assert_allclose(rays.depth, given.depth, rtol=1e-6)
    assert (rays.depth < item.depth).any()


@pytest.mark.parametrize(
    ("crop", "problem"),
    [
        (
            [20, 3, 16, 12],
            "depth.npy: encoding.crop ends at column 36, row 15 of an image of 32",
        ),
        ([0, 0, 16, 16], "depth of 8x6 pixels for a part of the image .*rgb.png of 16x16; mend"),
    ],
)
def test_a_part_that_can_not_be_is_one_line(tmp_path, crop, problem):
    with one_line_error(problem):
        cropped_of(tmp_path, (18, 32), crop=crop)


@pytest.mark.parametrize("half", [{"crop": "centre"}, {"registration": "crop"}])
def test_that_depth_is_of_a_part_and_of_which_are_said_together(half):
    with pytest.raises(ValidationError, match="registration crop and crop go together"):
        Encoding(scale=1, **half)
