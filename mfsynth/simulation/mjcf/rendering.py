"""Views of a model: images with exact depth, masks, poses and normals."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.normals import normals_from_depth
from mfsynth.simulation.camera_poses import CameraPose
from mfsynth.simulation.gl import gl_context, load_mujoco, no_opengl
from mfsynth.simulation.mjcf.loading import Named, OwnModel
from mfsynth.simulation.mjcf.states import Lights

# Samples down and across a pixel; odd, so that one is at its centre.
_SUPERSAMPLE = 3


@dataclass(frozen=True, slots=True, eq=False)
class ModelView:
    """One image of a model.

    Attributes:
        rgb: uint8 (H, W, 3), antialiased.
        depth: float32 (H, W), z-depth in metres at pixel centres; 0 where nothing is.
        intrinsics: The camera.
        camera_to_world: float64 (4, 4), OpenCV's axes, metres.
        mask: uint16 (H, W), numbers of instances, as `OwnModel` has them; 0 = none.
        parts: uint16 (H, W), numbers of bodies; 0 = none.
        normals: float32 (H, W, 3) of length 1, in camera axes, towards the camera; 0 where edges
            of surfaces run through a pixel. None where they weren't asked for.
        poses: float64 (4, 4) of each body by its number, to the camera.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: Intrinsics
    camera_to_world: NDArray[np.float64]
    mask: NDArray[np.uint16]
    parts: NDArray[np.uint16]
    normals: NDArray[np.float32] | None
    poses: dict[int, NDArray[np.float64]]


class ModelRenderer:
    """Renders a model in any state from any camera; serves one thread.

    Args:
        own: The model.
        height: Rows of the images.
        width: Columns of the images.

    Raises:
        MfsynthError: MuJoCo's OpenGL is missing, or can't draw images of this size.
    """

    def __init__(self, own: OwnModel, height: int, width: int) -> None:
        self._mujoco = mujoco = load_mujoco()
        gl_context()
        self._own, self._height, self._width = own, height, width
        # A copy: what is set and drawn for images changes nothing for others who use the model.
        self._model = model = copy(own.model)
        rows, columns = height * _SUPERSAMPLE, width * _SUPERSAMPLE
        model.vis.global_.offheight, model.vis.global_.offwidth = rows, columns
        model.vis.quality.offsamples = 0  # a multisampled depth is nobody's depth
        self._near = float(model.vis.map.znear * model.stat.extent)
        self._far = float(model.vis.map.zfar * model.stat.extent)
        try:
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        except mujoco.FatalError as error:
            raise no_opengl(error) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._rect = mujoco.mjr_maxViewport(self._context)
        if (self._rect.height, self._rect.width) != (rows, columns):
            raise MfsynthError(
                f"{own.path}: this machine's OpenGL draws {self._rect.width}x{self._rect.height} "
                f"pixels at most, and an image of {width}x{height} takes {columns}x{rows}; render "
                "smaller ones"
            )
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=1000 + 2 * model.ngeom)
        self._option = mujoco.MjvOption()
        # What is drawn for people alone has no surface.
        self._option.sitegroup[:] = 0
        self._option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = 0
        self._camera = mujoco.MjvCamera()
        self._image = np.empty((rows, columns, 3), np.uint8)
        self._buffer = np.empty((rows, columns), np.float32)

    def render(
        self,
        data: Any,
        pose: CameraPose,
        intrinsics: Intrinsics,
        lights: Lights | None = None,
        *,
        normals: bool = False,
    ) -> ModelView:
        """A view of a state.

        Args:
            data: mujoco.MjData.
            pose: Where the camera is.
            intrinsics: Its lens.
            lights: What changes of the model's lights.
            normals: Whether to find them.
        """
        self._light(lights, data)
        self._draw(data, pose, intrinsics, by_number=False)
        size = (self._width, self._height)
        mean = cv2.resize(self._image[::-1], size, interpolation=cv2.INTER_AREA)
        self._draw(data, pose, intrinsics, by_number=True)
        bodies, seen = self._bodies()
        depth = self._depth(seen)
        fine = intrinsics.resized(_SUPERSAMPLE, _SUPERSAMPLE)
        numbers = np.zeros(len(self._own.parts) + 1, np.uint16)
        for part in self._own.parts:
            numbers[part.number] = part.instance
        parts = _centres(bodies)
        return ModelView(
            rgb=np.asarray(mean, np.uint8),
            depth=_centres(depth),
            intrinsics=intrinsics,
            camera_to_world=pose.camera_to_world(),
            mask=numbers[parts],
            parts=parts,
            normals=_centres(normals_from_depth(depth, fine)) if normals else None,
            poses={part.body: _seen_from(pose, data, part) for part in self._own.parts},
        )

    def _light(self, lights: Lights | None, data: Any) -> None:
        """Lights of the model, and what was drawn for them."""
        model, shown = self._own.model, self._model
        shift, brightness = (
            (0.0, 1.0) if lights is None else (lights.shift, lights.brightness[:, None])
        )
        shown.light_pos[:] = model.light_pos + shift
        shown.light_diffuse[:] = model.light_diffuse * brightness
        shown.light_specular[:] = model.light_specular * brightness
        self._mujoco.mj_camlight(shown, data)

    def _draw(self, data: Any, pose: CameraPose, k: Intrinsics, *, by_number: bool) -> None:
        mujoco, scene = self._mujoco, self._scene
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, everything, scene
        )
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            scene.flags[flag] = by_number
        # Both of MuJoCo's eyes, which it averages, are this camera.
        left, right = (k.cx + 0.5) / k.fx, (self._width - 0.5 - k.cx) / k.fx
        top, bottom = (k.cy + 0.5) / k.fy, (self._height - 0.5 - k.cy) / k.fy
        for eye in scene.camera:
            eye.pos[:], eye.forward[:], eye.up[:] = (
                pose.position,
                pose.rotation[:, 2],
                -pose.rotation[:, 1],
            )
            eye.frustum_near, eye.frustum_far = self._near, self._far
            eye.frustum_top, eye.frustum_bottom = top * self._near, -bottom * self._near
            eye.frustum_center = (right - left) / 2 * self._near
            eye.frustum_width = (right + left) / 2 * self._near
        mujoco.mjr_render(self._rect, scene, self._context)
        mujoco.mjr_readPixels(self._image, self._buffer, self._rect, self._context)

    def _bodies(self) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Which body each sample shows, and whether it shows anything."""
        drawn = self._image[::-1].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        scene, model = self._scene, self._own.model
        numbers = np.zeros(scene.ngeom + 1, np.uint16)
        is_geom = self._mujoco.mjtObj.mjOBJ_GEOM
        for one in scene.geoms[: scene.ngeom]:
            if one.objtype == is_geom and one.segid >= 0:
                numbers[one.segid + 1] = model.geom_bodyid[one.objid]
        return numbers[drawn], drawn > 0

    def _depth(self, seen: NDArray[np.bool_]) -> NDArray[np.float32]:
        # Reversed z with a depth range of [0, 1]: 1 at the near plane, 0 at the far one.
        buffer = self._buffer[::-1].astype(np.float64)
        z = self._near * self._far / (self._near + buffer * (self._far - self._near))
        return np.where(seen, z, 0).astype(np.float32)


def _seen_from(pose: CameraPose, data: Any, part: Named) -> NDArray[np.float64]:
    """A body's pose in the camera's axes."""
    found = np.eye(4)
    found[:3, :3] = pose.rotation.T @ data.xmat[part.body].reshape(3, 3)
    found[:3, 3] = pose.to_camera(data.xpos[part.body])
    return found


def _centres(samples: NDArray[Any]) -> NDArray[Any]:
    """Of each pixel the sample at its centre."""
    first = _SUPERSAMPLE // 2
    return np.ascontiguousarray(samples[first::_SUPERSAMPLE, first::_SUPERSAMPLE])
