"""Cameras that show all of a scene's objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import Intrinsics
from mfsynth.simulation.camera_poses import CameraPose, fitting_distance
from mfsynth.simulation.gl import load_mujoco
from mfsynth.simulation.physics import CLUTTER_GROUP, SettledScene
from mfsynth.simulation.scene import VIEWS

_CANDIDATES = 10
_NEAREST = 0.30
_MARGIN = 0.10
_RAYS = 40
_CLEAR = 0.70
_DETAIL_SHARE = 0.004
_CLUTTER_SHARE = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class RatedPose:
    """A camera and how well it shows the objects.

    Attributes:
        pose: The camera.
        clearness: Visible share of the object that is hidden most, in [0, 1]; halved where a
            detail such as a mug's handle can't be seen, or clutter fills the image.
    """

    pose: CameraPose
    clearness: float

    @property
    def is_clear(self) -> bool:
        """Whether every object can be recognised from here."""
        return self.clearness >= _CLEAR


def choose_poses(
    settled: SettledScene, count: int, intrinsics: Intrinsics, height: int, width: int
) -> list[RatedPose]:
    """Cameras around a scene, spread over azimuths, each the clearest of a few tries.

    What is visible is found with rays on the CPU, not by the renderer, so that cameras don't
    depend on the graphics driver.

    Args:
        settled: The scene.
        count: How many cameras.
        intrinsics: Of all of them.
        height: Rows of the image.
        width: Columns of the image.
    """
    rng = settled.scene.rng(0)
    low, high = VIEWS[settled.scene.view].elevation
    points = np.concatenate(settled.outlines)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    first = rng.uniform(0, 360)
    chosen = []
    for view in range(count):
        best: RatedPose | None = None
        for _ in range(_CANDIDATES):
            azimuth = first + 360 / count * (view + rng.uniform(-0.5, 0.5))
            elevation = rng.uniform(low, high)
            target = middle + rng.uniform(-0.012, 0.012, 3)
            nearest = fitting_distance(
                points, target, azimuth, elevation, intrinsics, height, width, _MARGIN
            )
            distance = max(nearest, _NEAREST) * rng.uniform(1.0, 1.15)
            pose = CameraPose.looking_at(target, azimuth, elevation, distance)
            rated = RatedPose(pose, _clearness(settled, pose, intrinsics, height, width))
            if best is None or rated.clearness > best.clearness:
                best = rated
            if best.is_clear:
                break
        assert best is not None
        chosen.append(best)
    return chosen


def _clearness(
    settled: SettledScene, pose: CameraPose, intrinsics: Intrinsics, height: int, width: int
) -> float:
    columns = np.linspace(0, width - 1, _RAYS)
    rows = np.linspace(0, height - 1, _RAYS)
    u, v = np.meshgrid(
        (columns - intrinsics.cx) / intrinsics.fx, (rows - intrinsics.cy) / intrinsics.fy
    )
    rays = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    directions = rays @ pose.rotation.T

    objects = range(len(settled.scene.objects))
    together = first_hits(settled, pose.position, directions, [*objects, CLUTTER_GROUP])
    owner = np.append(settled.model.geom_group, -1)[together]
    worst = 1.0
    for i in objects:
        alone = np.count_nonzero(first_hits(settled, pose.position, directions, [i]) >= 0)
        visible = np.count_nonzero(owner == i)
        worst = min(worst, visible / alone if alone else 0.0)
    if np.count_nonzero(owner == CLUTTER_GROUP) > _CLUTTER_SHARE * len(directions):
        worst *= 0.5
    for detail in settled.details:
        if np.count_nonzero(together == detail) < _DETAIL_SHARE * len(directions):
            worst *= 0.5
    return worst


def first_hits(
    settled: SettledScene,
    origin: NDArray[np.float64],
    directions: NDArray[np.float64],
    groups: Sequence[int],
) -> NDArray[np.int32]:
    """The geometry id that each ray meets first, -1 for none; only groups named are there."""
    mujoco = load_mujoco()
    mask = np.zeros(6, dtype=np.uint8)
    mask[list(groups)] = 1
    count = len(directions)
    hits = np.empty(count, dtype=np.int32)
    distances = np.empty(count)
    mujoco.mj_multiRay(
        settled.model, settled.data, origin, directions.ravel(), mask, True, -1,
        hits, distances, None, count, 10.0,
    )  # fmt: skip
    return hits
