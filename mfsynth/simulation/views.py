"""Cameras that show all of a scene's objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mfsynth.geometry import Intrinsics
from mfsynth.simulation.camera_poses import CameraPose, fitting_distance, nearest_pose
from mfsynth.simulation.gl import load_mujoco
from mfsynth.simulation.physics import CLUTTER_GROUP, SettledScene
from mfsynth.simulation.styles import SceneStyle

_DETAIL_SHARE = 0.004
_CLUTTER_SHARE = 0.15
# Of the room around objects that don't fill their frame: how far they may be from its middle.
_DECENTRED = 0.7
# Of the room's half width, from where it looks at what stands in its middle.
_WITHIN_WALLS = 0.85
# What a scene's random numbers are for: 1 are its textures.
_POSES, _LENSES, _ROLLS = 0, 2, 3


@dataclass(frozen=True, slots=True, eq=False)
class RatedCamera:
    """A camera and how well it shows the objects.

    Attributes:
        pose: Where it is.
        intrinsics: Its lens.
        clearness: Visible share of the object that is hidden most, in [0, 1]; halved where a
            detail such as a mug's handle can't be seen, or clutter fills the image.
        smallest: Share of the image that the smallest object fills.
    """

    pose: CameraPose
    intrinsics: Intrinsics
    clearness: float
    smallest: float


def choose_cameras(settled: SettledScene, count: int, height: int, width: int) -> list[RatedCamera]:
    """Cameras around a scene, spread over azimuths, each the best of a few tries.

    What is visible is found with rays on the CPU, not by the renderer, so that cameras don't
    depend on the graphics driver.

    Args:
        settled: The scene; its style says what cameras there are.
        count: How many cameras.
        height: Rows of the image.
        width: Columns of the image.
    """
    style = settled.scene.style
    rng, lenses, rolls = (settled.scene.rng(purpose) for purpose in (_POSES, _LENSES, _ROLLS))
    points = np.concatenate(settled.outlines)
    first = rng.uniform(0, 360)
    chosen = []
    for view in range(count):
        intrinsics = Intrinsics.from_vertical_fov(height, width, lenses.uniform(*style.fov_degrees))
        retreat, room = lenses.uniform(*style.retreat), settled.scene.room.half_width
        roll = rolls.uniform(*style.roll)
        framing = _Framing(points, intrinsics, height, width, style, retreat, room, roll)
        best: RatedCamera | None = None
        for _ in range(style.tries):
            azimuth = first + 360 / count * (view + rng.uniform(-0.5, 0.5))
            elevation = rng.uniform(*style.views[settled.scene.view].elevation)
            pose = framing.pose(azimuth, elevation, rng)
            sight = _look(settled, pose, framing)
            if best is None or _may_be_better(sight, best, style):
                rated = RatedCamera(pose, intrinsics, _clearness(settled, sight), sight.smallest)
                if best is None or _rank(rated, style) > _rank(best, style):
                    best = rated
            if best.clearness >= style.clear and not style.fills_frame:
                break
        assert best is not None
        chosen.append(best)
    return chosen


@dataclass(frozen=True, eq=False)
class _Framing:
    """Puts cameras of one lens where they show all points."""

    points: NDArray[np.float64]
    intrinsics: Intrinsics
    height: int
    width: int
    style: SceneStyle
    retreat: float
    half_width: float
    roll: float

    def pose(self, azimuth: float, elevation: float, rng: Generator) -> CameraPose:
        near = self._filled if self.style.fills_frame else self._centred
        return near(azimuth, elevation, rng).rolled(self.roll)

    def _centred(self, azimuth: float, elevation: float, rng: Generator) -> CameraPose:
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        target = (low + high) / 2 + rng.uniform(-0.012, 0.012, 3)
        nearest = fitting_distance(
            self.points, target, azimuth, elevation,
            self.intrinsics, self.height, self.width, self.style.margin,
        )  # fmt: skip
        distance = max(nearest, self.style.nearest) * self._distance(rng)
        return CameraPose.looking_at(target, azimuth, elevation, distance)

    def _filled(self, azimuth: float, elevation: float, rng: Generator) -> CameraPose:
        """As near as the style allows; what room that leaves is anywhere in the frame."""
        near = nearest_pose(
            self.points, azimuth, elevation,
            self.intrinsics, self.height, self.width, self.style.margin,
        )  # fmt: skip
        depths = near.to_camera(self.points)[:, 2]
        middle = float(depths.mean())
        nearest = middle + max(0.0, self.style.nearest - float(depths.min()))
        back = nearest * self._distance(rng) - middle
        back = min(back, max(nearest - middle, self._to_walls(near)))
        room = back / 2 * np.array([self.width, self.height]) / self.intrinsics.fx
        right, down = rng.uniform(-_DECENTRED, _DECENTRED, 2) * room
        return near.moved(right, down, -back)

    def _distance(self, rng: Generator) -> float:
        """Of a camera, in distances at which objects just fit the frame."""
        return self.retreat * rng.uniform(*self.style.distance)

    def _to_walls(self, pose: CameraPose) -> float:
        """How far a camera may move back without coming near a wall."""
        position, backward = pose.position[:2], -pose.rotation[:2, 2]
        ahead = np.where(backward == 0, 1.0, backward)
        reach = (np.copysign(_WITHIN_WALLS * self.half_width, ahead) - position) / ahead
        return float(np.where(backward == 0, np.inf, reach).min())

    @cached_property
    def rays(self) -> NDArray[np.float64]:
        """Directions (N, 3) of rays that are spread over the image, in camera axes, of length 1."""
        columns = np.linspace(0, self.width - 1, self.style.rays)
        rows = np.linspace(0, self.height - 1, self.style.rays)
        camera = self.intrinsics
        u, v = np.meshgrid((columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy)
        rays: NDArray[np.float64] = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        return rays


@dataclass(frozen=True, slots=True, eq=False)
class _Sight:
    """What a camera sees, by rays: the geometry that each meets first, and whose that is."""

    origin: NDArray[np.float64]
    directions: NDArray[np.float64]
    hits: NDArray[np.int32]
    owners: NDArray[np.int32]
    smallest: float


def _look(settled: SettledScene, pose: CameraPose, framing: _Framing) -> _Sight:
    objects = range(len(settled.scene.objects))
    directions = framing.rays @ pose.rotation.T
    hits = first_hits(settled, pose.position, directions, [*objects, CLUTTER_GROUP])
    owners = np.append(settled.model.geom_group, -1)[hits]
    smallest = min(np.count_nonzero(owners == i) for i in objects) / len(directions)
    return _Sight(pose.position, directions, hits, owners, smallest)


def _clearness(settled: SettledScene, sight: _Sight) -> float:
    """See `RatedCamera`."""
    count = len(sight.directions)
    worst = 1.0
    for i in range(len(settled.scene.objects)):
        alone = np.count_nonzero(first_hits(settled, sight.origin, sight.directions, [i]) >= 0)
        visible = np.count_nonzero(sight.owners == i)
        worst = min(worst, visible / alone if alone else 0.0)
    if np.count_nonzero(sight.owners == CLUTTER_GROUP) > _CLUTTER_SHARE * count:
        worst *= 0.5
    for detail in settled.details:
        if np.count_nonzero(sight.hits == detail) < _DETAIL_SHARE * count:
            worst *= 0.5
    return worst


def _may_be_better(sight: _Sight, best: RatedCamera, style: SceneStyle) -> bool:
    """Spares most of the rays: clearness takes one an object."""
    return not style.fills_frame or best.clearness < style.clear or sight.smallest > best.smallest


def _rank(camera: RatedCamera, style: SceneStyle) -> tuple[float, float]:
    if style.fills_frame:
        return min(camera.clearness, style.clear), camera.smallest
    return camera.clearness, 0.0


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
