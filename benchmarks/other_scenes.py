"""Scenes that no model here was trained on: how far depth carries over to another generator.

    python benchmarks/other_scenes.py [--scenes 96] [--seed 0] [--sheet other_scenes.png]

Nothing is shared with `mfsynth.simulation` but the choice of OpenGL: stacks of prisms, pyramids,
tori, capsules and ellipsoids on the floor of a room whose walls are .6 to 4 m from the camera;
noise, checks and stripes in any two colours; level cameras or slightly rolled ones, 35° to 75°
high, that look past things as often as at them; one or two lamps, some of them dim. Never train on
them: they are the out-of-domain set.

Prints AbsRel and δ1 (scale-only alignment of each image, means over images) of what knows nothing
of the image (a constant, and the mean depth map of as many other scenes, each divided by its mean),
of a model's image-to-depth in one step and of an estimator. Then, for what it costs to hold
elsewhere, of the estimator on held-out scenes of the simulator. `--sheet` draws the first scenes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from model_card import agreement, estimate
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scene_sets import HELD_OUT_SEED, rendered

from mfsynth.config import ModelConfig
from mfsynth.evaluation.depth import image_to_depth
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.colour import colour_depth
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.estimators.embedded import load_estimator
from mfsynth.simulation.gl import gl_context, load_mujoco

OTHERS_SEED = 1_000_000
BATCH = 32
SHEET_COLUMNS, SHEET_ROWS, TILE = 12, 4, 128
NEAR, FAR = 0.04, 12.0
SUPERSAMPLE = 3
TEXTURE = 128

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OtherScene:
    """A rendered scene.

    Attributes:
        rgb: uint8 (H, W, 3).
        depth: float32 (H, W), z-depth in metres at pixel centres.
        things: bool (H, W), whether a pixel's centre shows a thing, not the room.
        intrinsics: The camera.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    things: NDArray[np.bool_]
    intrinsics: Intrinsics


@dataclass(frozen=True)
class Camera:
    position: tuple[float, float, float]
    right: tuple[float, float, float]
    up: tuple[float, float, float]
    fov_degrees: float


def other_scenes(count: int, size: int, seed: int) -> Iterator[OtherScene]:
    """Scenes of a seed; scene i doesn't depend on the others."""
    for index in range(count):
        yield render(*describe(np.random.default_rng([seed, index])), size)


# --- what there is: MuJoCo XML and textures ---------------------------------------------------


def describe(rng: Generator) -> tuple[str, dict[str, NDArray[np.uint8]], Camera]:
    """A scene's XML, the textures that it names, and its camera."""
    textures: dict[str, NDArray[np.uint8]] = {}
    assets: list[str] = []
    geoms: list[str] = []

    def material(name: str, cube: bool) -> str:
        textures[name] = texture(rng)
        kind = "cube" if cube else "2d"
        repeat = rng.uniform(0.6, 4)
        assets.append(
            f'<texture name="{name}" type="{kind}" builtin="flat" width="{TEXTURE}" '
            f'height="{TEXTURE}"/><material name="{name}" texture="{name}" '
            f'texrepeat="{repeat} {repeat}" specular="{rng.uniform(0, 0.7)}" '
            f'shininess="{rng.uniform(0.1, 0.9)}" reflectance="0"/>'
        )
        return f'material="{name}"'

    things = float(rng.uniform(0.5, 1.4))  # scale of all things
    middles: list[tuple[float, float]] = []
    for stack in range(int(rng.integers(3, 7))):
        x, y = rng.uniform(-0.5, 0.5, 2) * things
        if any(math.dist((x, y), other) < 0.32 * things for other in middles):
            continue
        middles.append((x, y))
        ground = 0.0
        for level in range(int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))):
            name = f"thing{stack}_{level}"
            width = things * rng.uniform(0.08, 0.20) * 0.85**level
            look = material(name, cube=True)
            thing, height = piece(rng, name, width, assets)
            turn = rng.uniform(0, 360)
            geoms.append(
                f'<body pos="{x} {y} {ground}" euler="0 0 {turn}"><geom {thing} {look}/></body>'
            )
            ground += height
            if not height:
                break

    camera = place_camera(rng, things)
    geoms += room(rng, camera, middles, material)
    lamps = "".join(
        f'<light pos="{rng.uniform(-0.5, 0.5) + camera.position[0] / 2} '
        f'{rng.uniform(-0.5, 0.5) + camera.position[1] / 2} {rng.uniform(1.2, 2.2)}" '
        f'dir="{rng.uniform(-0.5, 0.5)} {rng.uniform(-0.5, 0.5)} -1" cutoff="85" exponent="1" '
        f'diffuse="{colour(light(rng))}" specular="{colour(0.4 * light(rng))}"/>'
        for _ in range(int(rng.integers(1, 3)))
    )
    xml = (
        '<mujoco><compiler angle="degree"/><statistic extent="1" center="0 0 0"/><visual>'
        f'<map znear="{NEAR}" zfar="{FAR}"/><quality offsamples="0" shadowsize="1024"/>'
        f'<headlight ambient="{colour(rng.uniform(0.12, 0.40) * np.ones(3))}" '
        f'diffuse="{colour(rng.uniform(0, 0.25) * np.ones(3))}" specular="0 0 0"/></visual>'
        f"<asset>{''.join(assets)}</asset>"
        f"<worldbody>{lamps}{''.join(geoms)}{camera_xml(camera)}</worldbody></mujoco>"
    )
    return xml, textures, camera


def piece(rng: Generator, name: str, width: float, assets: list[str]) -> tuple[str, float]:
    """The geometry of a thing on z = 0, and its height; 0 where nothing can stand on it."""
    kind = str(rng.choice(["prism", "torus", "pyramid", "capsule", "ellipsoid"]))
    if kind == "capsule":
        length = width * rng.uniform(0.5, 1.5)
        if rng.uniform() < 0.5:
            return f'type="capsule" size="{width / 2} {length}" pos="0 0 {length + width / 2}"', 0
        return f'type="capsule" size="{width / 2} {length}" zaxis="1 0 0" pos="0 0 {width / 2}"', 0
    if kind == "ellipsoid":
        a, b, c = width * rng.uniform(0.45, 1.1, 3)
        return f'type="ellipsoid" size="{a} {b} {c}" pos="0 0 {c}"', 0
    if kind == "torus":
        tube = width * rng.uniform(0.2, 0.4)
        vertices, faces, height = *torus(width, tube), 2 * tube
    else:
        sides, height = int(rng.choice([3, 4, 5, 6, 8])), width * rng.uniform(0.6, 2.2)
        top = 1.0 if kind == "prism" else rng.uniform(0.05, 0.5)
        vertices, faces = frustum(width, top * width, height, sides)
    flat = " ".join(f"{v:.6f}" for v in vertices.ravel())
    corners = " ".join(str(i) for i in faces.ravel())
    assets.append(f'<mesh name="{name}" vertex="{flat}" face="{corners}" inertia="convex"/>')
    return f'type="mesh" mesh="{name}"', height


def frustum(low: float, high: float, height: float, sides: int) -> tuple[Vector, NDArray[np.int64]]:
    turns = 2 * np.pi * np.arange(sides) / sides
    ring = np.stack([np.cos(turns), np.sin(turns), np.zeros(sides)], axis=1)
    lid = np.array([0.0, 0.0, height])
    here = np.arange(sides)
    after = (here + 1) % sides
    up = sides
    faces = [
        *zip(here, after, up + after, strict=True),
        *zip(here, up + after, up + here, strict=True),
        *((0, int(after[i]), int(i)) for i in here[1:-1]),
        *((up, up + int(i), up + int(after[i])) for i in here[1:-1]),
    ]
    return np.concatenate([low * ring, high * ring + lid]), np.array(faces, dtype=np.int64)


def torus(radius: float, tube: float) -> tuple[Vector, NDArray[np.int64]]:
    around, across = 32, 14
    a, b = np.meshgrid(
        2 * np.pi * np.arange(around) / around,
        2 * np.pi * np.arange(across) / across,
        indexing="ij",
    )
    distance = radius - tube + tube * np.cos(b)
    vertices = np.stack([distance * np.cos(a), distance * np.sin(a), tube + tube * np.sin(b)], -1)
    number = np.arange(around * across).reshape(around, across)
    next_a, next_b = np.roll(number, -1, 0), np.roll(number, -1, 1)
    both = np.roll(next_a, -1, 1)
    faces = np.concatenate(
        [
            np.stack([number, next_a, both], -1).reshape(-1, 3),
            np.stack([number, both, next_b], -1).reshape(-1, 3),
        ]
    )
    return vertices.reshape(-1, 3), faces


def place_camera(rng: Generator, things: float) -> Camera:
    turn, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(8, 55))
    distance = things * rng.uniform(0.75, 1.35)
    outward = np.array(
        [
            math.cos(elevation) * math.cos(turn),
            math.cos(elevation) * math.sin(turn),
            math.sin(elevation),
        ]
    )
    target = np.array([*rng.uniform(-0.15, 0.15, 2) * things, rng.uniform(0, 0.2) * things])
    right = np.array([-math.sin(turn), math.cos(turn), 0.0])
    up = np.cross(outward, right)
    roll = np.radians(rng.normal(0, 4))
    level, upright = right, up
    right = math.cos(roll) * level + math.sin(roll) * upright
    up = math.cos(roll) * upright - math.sin(roll) * level
    position = target + distance * outward
    return Camera(
        tuple(position.tolist()), tuple(right.tolist()), tuple(up.tolist()), rng.uniform(35, 75)
    )


def room(
    rng: Generator, camera: Camera, middles: Sequence[tuple[float, float]], material: Any
) -> list[str]:
    """Floor, ceiling and four walls that hold camera and things, turned by any angle."""
    yaw = rng.uniform(0, 90)
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    inside = np.array([camera.position[:2], *middles]) @ np.array([[c, -s], [s, c]])
    # Of each wall: at least this far beyond camera and things, in all .6 to 4 m from the camera.
    low = inside.min(axis=0) - rng.uniform(0.25, 2.2, 2)
    high = inside.max(axis=0) + rng.uniform(0.25, 2.2, 2)
    (x0, y0), (x1, y1), top = low, high, rng.uniform(2.3, 3.0)
    x, y, half_x, half_y = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    floor, walls = material("floor", cube=False), material("walls", cube=False)
    boxes = [
        f'<geom type="box" size="{half_x} {half_y} .02" pos="{x} {y} -.02" {floor}/>',
        f'<geom type="box" size="{half_x} {half_y} .02" pos="{x} {y} {top}" rgba=".7 .7 .7 1"/>',
    ]
    for wx, wy, sx, sy in (
        (x0, y, 0.02, half_y), (x1, y, 0.02, half_y), (x, y0, half_x, 0.02), (x, y1, half_x, 0.02),
    ):  # fmt: skip
        boxes.append(
            f'<geom type="box" size="{sx} {sy} {top / 2}" pos="{wx} {wy} {top / 2}" {walls}/>'
        )
    return [f'<body euler="0 0 {yaw}">{"".join(boxes)}</body>']


def camera_xml(camera: Camera) -> str:
    axes = " ".join(f"{v}" for v in (*camera.right, *camera.up))
    position = " ".join(f"{v}" for v in camera.position)
    return f'<camera name="eye" pos="{position}" xyaxes="{axes}" fovy="{camera.fov_degrees}"/>'


def light(rng: Generator) -> Vector:
    """A lamp's colour; a third of them are dim."""
    strength = rng.uniform(0.12, 0.3) if rng.uniform() < 1 / 3 else rng.uniform(0.35, 0.85)
    return strength * rng.uniform(0.75, 1.0, 3)


def colour(rgb: Vector) -> str:
    return " ".join(f"{v:.4f}" for v in rgb)


def texture(rng: Generator) -> NDArray[np.uint8]:
    """Two colours, mixed by noise, stripes, checks or a gradient: uint8 (TEXTURE, TEXTURE, 3)."""
    rows, columns = np.mgrid[:TEXTURE, :TEXTURE] / TEXTURE
    kind = str(rng.choice(["noise", "stripes", "checks", "gradient", "flat"]))
    waves = int(rng.integers(2, 9))
    if kind == "noise":
        cells = rng.uniform(0, 1, (2 * waves, 2 * waves)).astype(np.float32)
        mix = cv2.resize(cells, (TEXTURE, TEXTURE), interpolation=cv2.INTER_CUBIC)
    elif kind == "stripes":
        mix = 0.5 + 0.5 * np.sin(2 * np.pi * waves * (rows if rng.uniform() < 0.5 else columns))
    elif kind == "checks":
        mix = (np.floor(waves * rows) + np.floor(waves * columns)) % 2
    elif kind == "gradient":
        mix = rows
    else:
        mix = np.zeros_like(rows)
    # Greyed, most of them: rooms are.
    bright = rng.uniform(0.1, 0.9)
    first = bright + rng.uniform(0.1, 1) * (rng.uniform(0.05, 0.95, 3) - bright)
    second = np.clip(first + rng.normal(0, 0.2, 3), 0.02, 0.98)
    grain = rng.normal(0, 0.03, (TEXTURE, TEXTURE, 1))
    image = first + np.clip(mix, 0, 1)[..., None] * (second - first) + grain
    return (255 * np.clip(image, 0, 1)).astype(np.uint8)


# --- images and figures -----------------------------------------------------------------------


def render(
    xml: str, textures: dict[str, NDArray[np.uint8]], camera: Camera, size: int
) -> OtherScene:
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string(xml)
    for name, image in textures.items():
        number = model.texture(name).id
        first = int(model.tex_adr[number])
        count = int(model.tex_height[number]) * int(model.tex_width[number]) * 3
        model.tex_data[first : first + count] = np.resize(image.ravel(), count)
    k = SUPERSAMPLE
    side = k * size
    model.vis.global_.offwidth = model.vis.global_.offheight = side
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    gl_context()
    context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
    eye, drawn = mujoco.MjvCamera(), mujoco.MjvScene(model, maxgeom=200)
    eye.type, eye.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera("eye").id
    everything = mujoco.mjtCatBit.mjCAT_ALL
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, eye, everything, drawn)
    area = mujoco.MjrRect(0, 0, side, side)

    def draw() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        pixels, buffer = np.empty((side, side, 3), np.uint8), np.empty((side, side), np.float32)
        mujoco.mjr_render(area, drawn, context)
        mujoco.mjr_readPixels(pixels, buffer, area, context)
        return pixels[::-1], buffer[::-1]

    pixels, buffer = draw()
    for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
        drawn.flags[flag] = 1
    numbers, _ = draw()
    context.free()
    middle = slice(k // 2, None, k)
    rgb = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    things = np.isin(
        numbers[middle, middle] @ np.array([1, 256, 65536]),
        # Drawn in the colour of its number plus one; the room is the last of the bodies.
        [
            one.segid + 1
            for one in drawn.geoms[: drawn.ngeom]
            if one.objtype == mujoco.mjtObj.mjOBJ_GEOM
            and model.geom_bodyid[one.objid] != model.nbody - 1
        ],
    )
    middles = buffer[middle, middle].astype(np.float64)
    depth = NEAR * FAR / (NEAR + middles * (FAR - NEAR))  # reversed z, 1 at the near plane
    intrinsics = Intrinsics.from_vertical_fov(size, size, camera.fov_degrees)
    return OtherScene(np.asarray(rgb, np.uint8), depth.astype(np.float32), things, intrinsics)


@click.command()
@click.option("--model", default="embedded", help="embedded, or a model folder.")
@click.option("--estimator", default="embedded", help="embedded, or an estimator's folder.")
@click.option("--scenes", default=96, help="How many.")
@click.option("--seed", default=0, help="Of the scenes.")
@click.option("--at-home", default=128, help="Held-out scenes of the simulator.")
@click.option(
    "--cache", default="out/benchmarks", type=click.Path(path_type=Path), help="Keeps them."
)
@click.option("--sheet", type=click.Path(path_type=Path), help="Draws the first scenes here.")
def main(
    model: str,
    estimator: str,
    scenes: int,
    seed: int,
    at_home: int,
    cache: Path,
    sheet: Path | None,
) -> None:
    """Print depth figures on scenes of another generator."""
    config = ModelConfig(id=model, dtype="float32")
    size = model_info(config).height
    images = list(other_scenes(scenes, size, seed))
    if sheet is not None:
        draw(images, sheet)
    rgb = np.stack([image.rgb for image in images])
    depth = np.stack([image.depth for image in images])
    others = np.stack([s.depth / s.depth.mean() for s in other_scenes(scenes, size, OTHERS_SEED)])
    network = load_estimator(estimator)
    predictions = {
        "constant depth": np.ones_like(depth),
        "mean depth map": np.broadcast_to(others.mean(axis=0), depth.shape),
        "i2d, 1 step": image_to_depth(load_pipeline(config, "cpu"), rgb, steps=1, batch_size=BATCH),
        "estimator": estimate(network, rgb),
    }
    click.echo(f"{scenes} scenes of another generator, seed {seed}, {size}×{size}\n")
    click.echo("| depth | AbsRel | δ1 |\n|---|---|---|")
    for name, predicted in predictions.items():
        absolute, close = agreement(predicted, depth)
        click.echo(f"| {name} | {absolute:.4f} | {close:.4f} |")
    held_out = rendered("shapes", at_home, size, HELD_OUT_SEED, cache)
    absolute, close = agreement(estimate(network, held_out.rgb), held_out.depth)
    click.echo(f"\nestimator on {at_home} held-out shapes: {absolute:.4f}, {close:.4f}")


def draw(images: Sequence[OtherScene], path: Path) -> None:
    """RGB above depth, in rows."""
    rows = []
    for start in range(0, min(len(images), SHEET_COLUMNS * SHEET_ROWS), SHEET_COLUMNS):
        row = images[start : start + SHEET_COLUMNS]
        for tiles in ([i.rgb for i in row], [colour_depth(i.depth) for i in row]):
            blank = [np.full_like(tiles[0], 255)] * (SHEET_COLUMNS - len(tiles))
            rows.append(np.concatenate([*tiles, *blank], axis=1))
    page = Image.fromarray(np.concatenate(rows))
    scale = TILE / images[0].rgb.shape[0]
    size = (round(page.width * scale), round(page.height * scale))
    page.resize(size, Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
