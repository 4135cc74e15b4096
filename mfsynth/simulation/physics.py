"""From a scene's description to a settled MuJoCo state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.simulation import meshes, textures
from mfsynth.simulation.gl import load_mujoco
from mfsynth.simulation.scene import BOX_ASPECT, MAX_OBJECTS, Block, SceneObject, TabletopScene

_TIMESTEP = 0.004
_SETTLE_STEPS = 75
_DROP_HEIGHT = 0.004
_TABLE_THICKNESS = 0.03
# MuJoCo shows and hides geometry by group: objects get one each, all else shares the last two.
CLUTTER_GROUP = MAX_OBJECTS
_SCENERY_GROUP = MAX_OBJECTS + 1


@dataclass(frozen=True, slots=True, eq=False)
class SettledScene:
    """A scene after physics.

    Attributes:
        scene: What it was made from.
        model: mujoco.MjModel; object i is the body "object<i>", its geometry is in group i.
        data: mujoco.MjData at rest.
        outlines: float64 (N, 3) world points of each object whose hull holds it, metres.
        details: Geometry ids of small parts that a view should show, such as a mug's handle.
    """

    scene: TabletopScene
    model: Any
    data: Any
    outlines: tuple[NDArray[np.float64], ...]
    details: tuple[int, ...]

    @property
    def is_tidy(self) -> bool:
        """Whether every object still stands about where it was put."""
        for i, item in enumerate(self.scene.objects):
            body = self.data.body(f"object{i}")
            upright = float(body.xmat[8]) > math.cos(math.radians(5))
            if not upright or math.dist(body.xpos[:2], (item.x, item.y)) > 0.02:
                return False
        return True


def settle(scene: TabletopScene) -> SettledScene:
    """Build a scene, drop its objects by a few millimetres and let them come to rest.

    Raises:
        MfsynthError: MuJoCo or its OpenGL is missing.
    """
    mujoco = load_mujoco()
    model = _spec(mujoco, scene).compile()
    _paint(model, scene)
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=_SETTLE_STEPS)
    mujoco.mj_forward(model, data)
    outlines = tuple(
        _outline(item) @ data.body(f"object{i}").xmat.reshape(3, 3).T + data.body(f"object{i}").xpos
        for i, item in enumerate(scene.objects)
    )
    details = tuple(
        model.geom(f"handle{i}").id for i, item in enumerate(scene.objects) if item.shape == "mug"
    )
    return SettledScene(scene, model, data, outlines, details)


def _spec(mujoco: Any, scene: TabletopScene) -> Any:
    spec = mujoco.MjSpec()
    spec.option.timestep = _TIMESTEP
    # One unit of extent, so that clipping planes and shadow volumes below are metres.
    spec.stat.extent = 1.0
    spec.stat.center = [0.0, 0.0, 0.0]
    spec.visual.map.znear = 0.05
    spec.visual.map.zfar = 8.0
    spec.visual.map.shadowscale = 0.5
    spec.visual.quality.offsamples = 0  # a multisampled depth is nobody's depth
    spec.visual.headlight.diffuse = [0, 0, 0]
    spec.visual.headlight.specular = [0, 0, 0]
    spec.visual.headlight.ambient = scene.lighting.ambient
    _add_lights(mujoco, spec, scene)
    _add_room(mujoco, spec, scene)
    for i, item in enumerate(scene.objects):
        _add_object(mujoco, spec, item, i)
    return spec


def _add_lights(mujoco: Any, spec: Any, scene: TabletopScene) -> None:
    toward = -np.asarray(scene.lamp)
    spec.worldbody.add_light(
        name="lamp",
        type=mujoco.mjtLightType.mjLIGHT_SPOT,
        pos=scene.lamp,
        dir=toward / np.linalg.norm(toward),
        cutoff=75,
        exponent=1,
        castshadow=True,
        ambient=[0, 0, 0],
        diffuse=scene.lighting.key,
        specular=[0.6 * c for c in scene.lighting.key],
    )
    spec.worldbody.add_light(
        name="fill",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0, 0, 2],
        dir=[0.4 * toward[1], -0.4 * toward[0], -1.0],
        castshadow=False,
        ambient=[0, 0, 0],
        diffuse=scene.lighting.fill,
        specular=[0, 0, 0],
    )


def _add_room(mujoco: Any, spec: Any, scene: TabletopScene) -> None:
    room = scene.room
    table = _add_surface(mujoco, spec, "table", 1.0)
    floor = _add_surface(mujoco, spec, "floor", 2.0)
    wall = _add_surface(mujoco, spec, "wall", room.style.wall_repeat)
    box = mujoco.mjtGeom.mjGEOM_BOX
    half, top = room.table_half_width, _TABLE_THICKNESS / 2

    def add(size: Sequence[float], pos: Sequence[float], material: str, name: str) -> None:
        spec.worldbody.add_geom(
            name=name, type=box, size=size, pos=pos, material=material, group=_SCENERY_GROUP
        )

    add([half, half, top], [0, 0, -top], table, "table")
    ground = -room.table_height
    reach = room.half_width
    add([reach, reach, 0.05], [0, 0, ground - 0.05], floor, "floor")
    # So high that no camera looks over them.
    tall = max(1.6, room.half_width - 0.3)
    middle = ground + tall
    for name, x, y in (("east", 1, 0), ("north", 0, 1), ("west", -1, 0), ("south", 0, -1)):
        size = [0.05 if x else reach, 0.05 if y else reach, tall]
        add(size, [x * (reach + 0.05), y * (reach + 0.05), middle], wall, name)
    for item in room.furniture:
        _add_block(mujoco, spec, item, ground, _SCENERY_GROUP)
    for item in scene.clutter:
        _add_block(mujoco, spec, item, 0.0, CLUTTER_GROUP)


def _add_block(mujoco: Any, spec: Any, item: Block, ground: float, group: int) -> None:
    shapes, (length, _, height) = mujoco.mjtGeom, item.size
    spec.worldbody.add_geom(
        type=shapes.mjGEOM_CYLINDER if item.is_round else shapes.mjGEOM_BOX,
        size=[length, height, 0] if item.is_round else item.size,
        pos=[item.x, item.y, ground + height],
        quat=[math.cos(item.yaw / 2), 0, 0, math.sin(item.yaw / 2)],
        rgba=[*item.rgb, 1.0],
        group=group,
    )


def _add_surface(mujoco: Any, spec: Any, name: str, repeat: float) -> str:
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        width=textures.SIZE,
        height=textures.SIZE,
    )
    material = spec.add_material(name=name, texrepeat=[repeat, repeat], specular=0.05)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    return name


def _paint(model: Any, scene: TabletopScene) -> None:
    """Fill in the textures; the specification takes pixels only one Python number at a time."""
    rng, room = scene.rng(1), scene.room
    images = {
        "table": textures.surface(scene.table, scene.table_rgb, rng),
        "floor": textures.surface(room.style.floor, room.floor, rng),
        "wall": textures.surface(room.style.wall, room.wall, rng),
    }
    for i, item in enumerate(scene.objects):
        if item.finish != "plain":
            images[f"object{i}"] = textures.decoration(item.finish, item.rgb, rng)
    for name, image in images.items():
        first = int(model.tex_adr[model.texture(name).id])
        model.tex_data[first : first + image.size] = image.ravel()


def _add_object(mujoco: Any, spec: Any, item: SceneObject, index: int) -> None:
    body = spec.worldbody.add_body(
        name=f"object{index}",
        pos=[item.x, item.y, _DROP_HEIGHT],
        quat=[math.cos(item.yaw / 2), 0, 0, math.sin(item.yaw / 2)],
    )
    body.add_freejoint()
    common: dict[str, Any] = {
        "material": _add_finish(mujoco, spec, item, f"object{index}"),
        "group": index,
        "mass": 0.3,
        "friction": [0.8, 0.01, 0.01],
        "condim": 6,
    }
    radius, height = item.radius, item.height
    geom = mujoco.mjtGeom
    if item.shape in ("cube", "box"):
        width = radius if item.shape == "cube" else BOX_ASPECT * radius
        size = [radius, width, height / 2]
        body.add_geom(type=geom.mjGEOM_BOX, size=size, pos=[0, 0, height / 2], **common)
    elif item.shape == "ball":
        body.add_geom(type=geom.mjGEOM_SPHERE, size=[radius, 0, 0], pos=[0, 0, radius], **common)
    elif item.shape == "cylinder":
        size = [radius, height / 2, 0]
        body.add_geom(type=geom.mjGEOM_CYLINDER, size=size, pos=[0, 0, height / 2], **common)
    else:
        shell = _add_mesh(mujoco, spec, f"shell{index}", _shell(item))
        body.add_geom(type=geom.mjGEOM_MESH, meshname=shell, **common)
    if item.shape == "mug":
        ring = meshes.handle(item.handle_reach, 0.58 * height, 0.0075)
        handle = _add_mesh(mujoco, spec, f"handle{index}", ring)
        light = {**common, "mass": 0.01}
        body.add_geom(
            name=f"handle{index}",
            type=geom.mjGEOM_MESH,
            meshname=handle,
            pos=[radius - 0.004, 0, 0.52 * height],
            **light,
        )


def _add_finish(mujoco: Any, spec: Any, item: SceneObject, name: str) -> str:
    # Dark things are known by their highlights.
    gloss = 0.9 if max(item.rgb) < 0.2 else 0.45
    material = spec.add_material(name=name, specular=gloss, shininess=0.4)
    if item.finish == "plain":
        material.rgba = [*item.rgb, 1.0]
        return name
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_CUBE,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        width=textures.SIDE,
        height=6 * textures.SIDE,
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    return name


def _shell(item: SceneObject) -> meshes.TriangleMesh:
    if item.shape == "cone":
        return meshes.cone(item.radius, item.height)
    if item.shape == "mug":
        return meshes.mug(item.radius, item.height, wall=0.005)
    if item.shape == "bottle":
        return meshes.bottle(item.radius, item.height)
    if item.shape == "plate":
        return meshes.plate(item.radius, item.height, wall=0.005)
    return meshes.bowl(item.radius, item.height, wall=0.005)


def _add_mesh(mujoco: Any, spec: Any, name: str, mesh: meshes.TriangleMesh) -> str:
    spec.add_mesh(
        name=name,
        uservert=mesh.vertices.ravel(),
        userface=mesh.faces.ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX,
        maxhullvert=48,
    )
    return name


def _outline(item: SceneObject) -> NDArray[np.float64]:
    """Points in the object's own axes whose hull holds it."""
    if item.shape in ("cube", "box"):
        width = item.radius * (BOX_ASPECT if item.shape == "box" else 1.0)
        ring = np.array([(x * item.radius, y * width, 0.0) for x in (-1, 1) for y in (-1, 1)])
    else:
        turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        ring = item.radius * np.stack([np.cos(turns), np.sin(turns), 0 * turns], axis=1)
    lid = np.array([0.0, 0.0, item.height])
    if item.shape == "cone":
        return np.concatenate([ring, lid[None]])
    outline = np.concatenate([ring, ring + lid])
    if item.shape == "mug":
        tip = np.array(
            [[item.footprint, 0, 0.25 * item.height], [item.footprint, 0, 0.8 * item.height]]
        )
        outline = np.concatenate([outline, tip])
    return outline
