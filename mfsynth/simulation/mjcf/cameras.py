"""Cameras in a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.camera_presets import CAMERA_PRESETS
from mfsynth.simulation.camera_poses import CameraPose
from mfsynth.simulation.mjcf.loading import OwnModel
from mfsynth.simulation.mjcf.settings import CameraRule

_AZIMUTH, _ELEVATION, _FOVY = (-180.0, 180.0), (20.0, 60.0), (45.0, 45.0)
# MuJoCo's cameras look along -z, with y up.
_TO_OPENCV = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A camera of a scene, the same in all its frames.

    Attributes:
        intrinsics: Its lens.
        fixed: Where it is in the world; None of one that goes with a body.
        number: Of the model's camera that it is; None of one with a place of its own.
        offset: Of that camera in its own axes.
    """

    intrinsics: Intrinsics
    fixed: CameraPose | None = None
    number: int | None = None
    offset: CameraPose | None = None

    def pose(self, data: Any) -> CameraPose:
        """Where it is in a state."""
        if self.fixed is not None:
            return self.fixed
        assert self.number is not None  # of one of the two kinds
        assert self.offset is not None
        turn = data.cam_xmat[self.number].reshape(3, 3) @ _TO_OPENCV
        place = data.cam_xpos[self.number] + turn @ self.offset.position
        return CameraPose(place, turn @ self.offset.rotation)


def default_cameras(own: OwnModel) -> tuple[CameraRule, ...]:
    """All cameras of a model, or else one that sees all of it."""
    if own.cameras:
        return tuple(CameraRule(name=name) for name in own.cameras)
    x, y, z = map(float, own.model.stat.center)
    away = 2.0 * float(own.model.stat.extent)
    return (CameraRule(around=(x, y, z), distance=(0.8 * away, 1.2 * away)),)


def draw_camera(
    own: OwnModel, rule: CameraRule, data: Any, height: int, width: int, rng: Generator
) -> Camera:
    """Draw a camera for a scene.

    Args:
        own: The model.
        rule: Within which limits.
        data: The scene's first state.
        height: Rows of its images.
        width: Columns.
        rng: Where all chance comes from.

    Raises:
        MfsynthError: The model has no such camera or body, or its camera is no pinhole.
    """
    number = None if rule.name is None else own.camera(rule.name)
    if rule.preset is not None:
        intrinsics = CAMERA_PRESETS[rule.preset].intrinsics(height, width)
    elif rule.fovy is not None or number is None:
        fovy = rng.uniform(*(rule.fovy or _FOVY))
        intrinsics = Intrinsics.from_vertical_fov(height, width, fovy)
    else:
        intrinsics = _lens(own, number, height, width)
    if number is not None:
        shift, turn = rule.shift or 0.0, math.radians(rule.turn or 0.0)
        offset = CameraPose(rng.uniform(-shift, shift, 3), _rotation(rng.uniform(-turn, turn, 3)))
        return Camera(intrinsics, number=number, offset=offset)
    around = rule.around
    target = data.xpos[own.body(around)] if isinstance(around, str) else np.array(around)
    assert rule.distance is not None  # a camera around something has one
    pose = CameraPose.looking_at(
        target,
        rng.uniform(*(rule.azimuth or _AZIMUTH)),
        rng.uniform(*(rule.elevation or _ELEVATION)),
        rng.uniform(*rule.distance),
    )
    return Camera(intrinsics, fixed=pose)


def _lens(own: OwnModel, number: int, height: int, width: int) -> Intrinsics:
    """Intrinsics of a camera of the model, whatever the proportions of its own images are."""
    model = own.model
    # Of earlier versions of MuJoCo the name is another.
    names = ("cam_projection", "cam_orthographic")
    flat = next(getattr(model, name) for name in names if hasattr(model, name))
    if flat[number]:
        name = own.cameras[number]
        raise MfsynthError(f"{own.path}: camera {name!r} is orthographic; name one in perspective")
    across, down = map(float, model.cam_sensorsize[number])
    if not across:
        return Intrinsics.from_vertical_fov(height, width, float(model.cam_fovy[number]))
    fx, fy, x, y = map(float, model.cam_intrinsic[number])
    # Of a sensor in metres; the principal point is from its middle, in MuJoCo's own signs.
    return Intrinsics(
        fx / across * width,
        fy / down * height,
        (width - 1) / 2 - x / across * width,
        (height - 1) / 2 - y / down * height,
    )


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turned about x, then y, then z, radians."""
    found = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one[i, i] = one[j, j] = math.cos(angle)
        one[j, i], one[i, j] = math.sin(angle), -math.sin(angle)
        found = one @ found
    return found
