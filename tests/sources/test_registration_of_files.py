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
