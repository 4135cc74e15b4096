"""RGB, z-depth and intrinsics of scenes."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import Intrinsics
from mfsynth.shards.labels import (
    MASK,
    NO_LABELS,
    POSES,
    Labels,
    ObjectPose,
    encode_mask,
    encode_poses,
)
from mfsynth.simulation.camera_poses import CameraPose
from mfsynth.simulation.gl import gl_context, load_mujoco, no_opengl
from mfsynth.simulation.physics import SettledScene, settle
from mfsynth.simulation.scene import TabletopScene
from mfsynth.simulation.scene_sampling import place_objects
from mfsynth.simulation.views import RatedCamera, choose_cameras

_NEAR, _FAR = 0.05, 8.0
_PLACEMENTS = 5
# Samples down and across a pixel; odd, so that one is at its centre. RGB is their mean, depth the
# one at the centre, because a mean of depths lies on no surface.
_SUPERSAMPLE = 3


@dataclass(frozen=True, slots=True, eq=False)
class RenderedView:
    """One image of a scene, with its geometry.

    Attributes:
        rgb: uint8 (H, W, 3), antialiased.
        depth: float32 (H, W), z-depth in metres at pixel centres, everywhere valid.
        intrinsics: The camera.
        pose: Where it is, in the scene's world axes.
        caption: The prompt's text.
        view_index: Number of the view in the scene.
        labels: Mask and poses of the scene's objects, which are numbered from 1, where they were
            asked for.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: Intrinsics
    pose: CameraPose
    caption: str
    view_index: int
    labels: Labels = NO_LABELS


class SceneRenderer:
    """Renders one settled scene from any camera. A context manager; serves one thread.

    Args:
        settled: The scene.
        height: Rows of the images.
        width: Columns of the images.

    Raises:
        MfsynthError: MuJoCo or its OpenGL is missing.
    """

    def __init__(self, settled: SettledScene, height: int, width: int) -> None:
        self._mujoco = load_mujoco()
        gl_context()
        mujoco = self._mujoco
        self._settled = settled
        self._height, self._width = height, width
        rows, columns = height * _SUPERSAMPLE, width * _SUPERSAMPLE
        model = settled.model
        model.vis.global_.offheight, model.vis.global_.offwidth = rows, columns
        # A shadow map costs as much as a small image; its steps show in large ones.
        model.vis.quality.shadowsize = 1024 if max(height, width) <= 128 else 4096
        self._rect = mujoco.MjrRect(0, 0, columns, rows)
        try:
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        except mujoco.FatalError as error:
            raise no_opengl(error) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=100)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 1
        self._camera = mujoco.MjvCamera()
        self._rgb = np.empty((rows, columns, 3), dtype=np.uint8)
        self._depth = np.empty((rows, columns), dtype=np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.free()

    def render(
        self, pose: CameraPose, intrinsics: Intrinsics
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """RGB uint8 (H, W, 3) and z-depth float32 (H, W) in metres."""
        self._draw(pose, intrinsics)
        return self._resolve_rgb(), self._resolve_depth()

    def label(self, pose: CameraPose, intrinsics: Intrinsics) -> Labels:
        """Which object each pixel's centre shows, and where the objects are."""
        flags = self._mujoco.mjtRndFlag
        drawn_by_number = flags.mjRND_SEGMENT, flags.mjRND_IDCOLOR
        for flag in drawn_by_number:
            self._scene.flags[flag] = 1
        try:
            self._draw(pose, intrinsics)
        finally:
            for flag in drawn_by_number:
                self._scene.flags[flag] = 0
        k = _SUPERSAMPLE
        seen = self._rgb[::-1][k // 2 :: k, k // 2 :: k].astype(np.int64) @ (1, 256, 65536)
        # Geometry's number in the drawing, plus one, to the object whose body it is of.
        model, scene = self._settled.model, self._scene
        objects = [*enumerate(self._settled.scene.objects, start=1)]
        bodies = {model.body(f"object{number - 1}").id: number for number, _ in objects}
        number_of = np.zeros(int(seen.max()) + 1, np.uint16)
        for drawn in scene.geoms[: scene.ngeom]:
            if (
                drawn.objtype == self._mujoco.mjtObj.mjOBJ_GEOM
                and 0 <= drawn.segid + 1 <= len(number_of) - 1
            ):
                body = int(model.geom_bodyid[drawn.objid])
                number_of[drawn.segid + 1] = bodies.get(body, 0)
        mask = number_of[seen]
        world_to_camera = np.linalg.inv(pose.camera_to_world())
        poses = tuple(
            ObjectPose(
                number,
                f"{item.colour} {item.shape}",
                tuple((world_to_camera @ self._body(number - 1)).ravel().tolist()),
            )
            for number, item in objects
        )
        files = {MASK: encode_mask(mask), POSES: encode_poses(poses)}
        return Labels(files, mask, poses, tuple(pose.camera_to_world().ravel().tolist()))

    def _body(self, number: int) -> NDArray[np.float64]:
        body, matrix = self._settled.data.body(f"object{number}"), np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = body.xmat.reshape(3, 3), body.xpos
        return matrix

    def _draw(self, pose: CameraPose, intrinsics: Intrinsics) -> None:
        mujoco = self._mujoco
        mujoco.mjv_updateScene(
            self._settled.model,
            self._settled.data,
            self._option,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        self._aim(pose, intrinsics)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._rgb, self._depth, self._rect, self._context)

    def _aim(self, pose: CameraPose, intrinsics: Intrinsics) -> None:
        """Give MuJoCo's two eyes, which it averages, one frustum."""
        left = (intrinsics.cx + 0.5) / intrinsics.fx
        right = (self._width - 0.5 - intrinsics.cx) / intrinsics.fx
        top = (intrinsics.cy + 0.5) / intrinsics.fy
        bottom = (self._height - 0.5 - intrinsics.cy) / intrinsics.fy
        for eye in self._scene.camera:
            eye.pos[:] = pose.position
            eye.forward[:] = pose.rotation[:, 2]
            eye.up[:] = -pose.rotation[:, 1]
            eye.frustum_near = _NEAR
            eye.frustum_far = _FAR
            eye.frustum_top = top * _NEAR
            eye.frustum_bottom = -bottom * _NEAR
            eye.frustum_center = (right - left) / 2 * _NEAR
            eye.frustum_width = (right + left) / 2 * _NEAR

    def _resolve_rgb(self) -> NDArray[np.uint8]:
        size = (self._width, self._height)
        mean = cv2.resize(self._rgb[::-1], size, interpolation=cv2.INTER_AREA)
        return np.asarray(mean, dtype=np.uint8)

    def _resolve_depth(self) -> NDArray[np.float32]:
        k = _SUPERSAMPLE
        buffer = self._depth[::-1][k // 2 :: k, k // 2 :: k].astype(np.float64)
        # Reversed z with a depth range of [0, 1]: 1 at the near plane, 0 at the far one.
        z = _NEAR * _FAR / (_NEAR + buffer * (_FAR - _NEAR))
        return z.astype(np.float32)


def render_scene(
    scene: TabletopScene, views: int, height: int, width: int, *, labels: bool = False
) -> list[RenderedView]:
    """Settle a scene, choose cameras that show all its objects, and render it.

    Where no camera sees everything, objects are placed anew; after a few placements the clearest
    is taken.

    Args:
        scene: What to render.
        views: Number of cameras.
        height: Rows of the images.
        width: Columns of the images.
        labels: Whether to say which object a pixel shows, and where objects are.

    Returns:
        `views` images, a pure function of the arguments on one graphics driver.

    Raises:
        MfsynthError: MuJoCo or its OpenGL is missing.
    """
    settled, cameras = _arrange(scene, views, height, width)
    with SceneRenderer(settled, height, width) as renderer:
        rendered = []
        for view, camera in enumerate(cameras):
            rgb, depth = renderer.render(camera.pose, camera.intrinsics)
            said = renderer.label(camera.pose, camera.intrinsics) if labels else NO_LABELS
            rendered.append(
                RenderedView(rgb, depth, camera.intrinsics, camera.pose, scene.caption, view, said)
            )
    return rendered


def _arrange(
    scene: TabletopScene, views: int, height: int, width: int
) -> tuple[SettledScene, list[RatedCamera]]:
    best: tuple[float, SettledScene, list[RatedCamera]] | None = None
    for placement in range(_PLACEMENTS):
        settled = settle(place_objects(scene, placement))
        cameras = choose_cameras(settled, views, height, width)
        clearness = min((camera.clearness for camera in cameras), default=1.0) * settled.is_tidy
        if best is None or clearness > best[0]:
            best = (clearness, settled, cameras)
        if clearness >= scene.style.clear:
            break
    assert best is not None
    return best[1], best[2]
