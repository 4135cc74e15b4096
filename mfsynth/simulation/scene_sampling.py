"""Drawing a tabletop scene from a prompt's slots and a seed."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.random import Generator

from mfsynth.errors import MfsynthError
from mfsynth.prompts import Prompt, PromptSource, derive_seed
from mfsynth.simulation.scene import (
    ANY_TABLE,
    BARE_ROOM,
    COLOURS,
    FINISHES,
    LIGHTS,
    MAX_OBJECTS,
    ROOMS,
    TABLES,
    Block,
    Lighting,
    Rgb,
    Room,
    RoomStyle,
    SceneObject,
    TabletopScene,
    scene_rng,
)
from mfsynth.simulation.styles import PLAIN, SHAPES, VIEWS, Range, SceneStyle

# What random numbers of a scene are for, each drawn on its own; 2 is for what comes after the
# description.
_DESCRIPTION, _PLACEMENT, _FURNITURE, _CLUTTER, _ROOM, _LIGHT, _TABLE = 0, 1, 3, 4, 5, 6, 7

# Metres from the table's middle: beyond four objects side by side, within the smallest table.
_CLUTTER_DISTANCE = (0.27, 0.36)
# Share of the way to the walls.
_LAMP_REACH = 0.85
# Narrower rooms have no place for furniture beside table and cameras.
_FURNISHED_HALF_WIDTH = 1.5
# Of its half width.
_LARGEST_TABLE = 0.95
SURFACES = ("plain", "tiled", "brick", "wooden", "marble", "checked", "banded")
# Of what no prompt names: furniture and clutter.
_MUTED: Sequence[Rgb] = (
    (0.55, 0.44, 0.32), (0.36, 0.28, 0.22), (0.66, 0.64, 0.60),
    (0.30, 0.32, 0.34), (0.40, 0.46, 0.42), (0.50, 0.42, 0.42),
)  # fmt: skip


def sample_scene(prompt: Prompt, seed: int, style: SceneStyle = PLAIN) -> TabletopScene:
    """Draw the scene that a tabletop prompt describes.

    Args:
        prompt: With the slots `objects`, `table`, `light` and `view`. With a slot `room`,
            furniture and clutter come along; otherwise the room is what the style makes of it.
        seed: Decides sizes, shades and places; nonnegative.
        style: Within which limits.

    Raises:
        MfsynthError: A slot is missing or names something that the simulator doesn't have.
    """
    slots = _Slots(prompt)
    rng = scene_rng(seed, _DESCRIPTION)
    kinds = slots.objects()
    table, light, view = (
        slots.choice("table", (*TABLES, ANY_TABLE)),
        slots.choice("light", LIGHTS),
        slots.choice("view", VIEWS),
    )
    named_room = ROOMS[slots.choice("room", ROOMS)] if slots.has("room") else None
    tone = rng.uniform(0.0, 1.0)
    objects = tuple(_sample_object(*kind, style, rng) for kind in kinds)
    table_rgb = _shade(TABLES.get(table, TABLES["grey"]), rng, style.table_shade)
    if table == ANY_TABLE:
        table, table_rgb = _any_surface(scene_rng(seed, _TABLE))
    lighting = _sample_lighting(LIGHTS[light], style, seed, rng)
    lamp = _sample_lamp(style, rng)
    room = _sample_room(named_room, style, tone, seed, rng)
    scene = TabletopScene(
        caption=prompt.text,
        objects=objects,
        clutter=() if named_room is None else _sample_clutter(scene_rng(seed, _CLUTTER)),
        table=table,
        table_rgb=table_rgb,
        light=light,
        lighting=lighting,
        lamp=_lamp_position(*lamp, room),
        view=view,
        room=room,
        seed=seed,
        style=style,
    )
    return place_objects(scene, 0)


def place_objects(scene: TabletopScene, placement: int) -> TabletopScene:
    """The same objects in another layout; layouts are numbered from 0."""
    rng = scene_rng(scene.seed, _PLACEMENT, placement)
    return replace(scene, objects=_place(scene.objects, scene.style.gap, rng), placement=placement)


def scenes(
    library: PromptSource, seed: int, indices: Iterable[int], style: SceneStyle = PLAIN
) -> Iterator[tuple[int, TabletopScene]]:
    """Scenes by number; each is a pure function of library, seed, style and its number.

    Args:
        library: Tabletop prompts; scene i shows prompt i.
        seed: Decides what prompts leave open.
        indices: Which scenes.
        style: Within which limits.

    Yields:
        The number and the scene.

    Raises:
        MfsynthError: A prompt of the library isn't one of a tabletop scene.
    """
    for index in indices:
        yield (
            index,
            sample_scene(library.prompt(index), derive_seed(seed, "tabletop scene", index), style),
        )


class _Slots:
    """Reads a prompt's slots, and says which one is wrong."""

    def __init__(self, prompt: Prompt) -> None:
        self._slots = prompt.slots
        self._text = prompt.text

    def has(self, name: str) -> bool:
        return name in self._slots

    def choice(self, name: str, known: Collection[str]) -> str:
        return self._known(name, self._slots.get(name), known)

    def objects(self) -> list[tuple[str, str, str]]:
        found = self._slots.get("objects")
        listed = isinstance(found, Sequence) and not isinstance(found, str)
        if not (listed and 1 <= len(cast("Sequence[object]", found)) <= MAX_OBJECTS):
            raise self._error("objects", found, f"a list of one to {MAX_OBJECTS} objects")
        kinds = []
        for i, item in enumerate(cast("Sequence[object]", found)):
            if not isinstance(item, Mapping):
                raise self._error(f"objects[{i}]", item, "a mapping with colour and shape")
            slots = cast("Mapping[str, object]", item)
            colour = self._known(f"objects[{i}].colour", slots.get("colour"), COLOURS)
            shape = self._known(f"objects[{i}].shape", slots.get("shape"), SHAPES)
            finish = self._known(f"objects[{i}].finish", slots.get("finish", "plain"), FINISHES)
            kinds.append((colour, shape, finish))
        return kinds

    def _known(self, name: str, value: object, known: Collection[str]) -> str:
        if not isinstance(value, str) or value not in known:
            raise self._error(name, value, "one of " + ", ".join(known))
        return value

    def _error(self, name: str, value: object, wanted: str) -> MfsynthError:
        return MfsynthError(
            f"the prompt {self._text!r} is no tabletop scene: slot {name} is {value!r}, "
            f"must be {wanted}; use the prompt library tabletop"
        )


def _shade(rgb: Rgb, rng: Generator, spread: float) -> Rgb:
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    hue = (hue + rng.uniform(-0.2, 0.2) * spread) % 1.0
    saturation = float(np.clip(saturation * (1 + rng.uniform(-1, 1) * spread), 0, 1))
    value = float(np.clip(value * (1 + rng.uniform(-1.5, 1.0) * spread), 0, 1))
    return colorsys.hsv_to_rgb(hue, saturation, value)


def _mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    return cast("Rgb", tuple(x + (y - x) * share for x, y in zip(a, b, strict=True)))


def _sample_lighting(light: Lighting, style: SceneStyle, seed: int, rng: Generator) -> Lighting:
    own = scene_rng(seed, _LIGHT)
    brightness = rng.uniform(*style.brightness)
    tint = 1 + own.uniform(-style.tint, style.tint, 3)

    def changed(rgb: Rgb, limits: Range) -> Rgb:
        factors = brightness * own.uniform(*limits) * tint
        return cast("Rgb", tuple(float(c * factor) for c, factor in zip(rgb, factors, strict=True)))

    return Lighting(
        key=changed(light.key, style.key),
        fill=changed(light.fill, style.fill),
        ambient=changed(light.ambient, style.ambient),
    )


def _sample_lamp(style: SceneStyle, rng: Generator) -> tuple[float, float, float]:
    """Direction, degrees from the vertical, and metres."""
    return (
        rng.uniform(0, 2 * np.pi),
        rng.uniform(*style.lamp_tilt),
        rng.uniform(*style.lamp_distance),
    )


def _lamp_position(
    turn: float, tilt: float, distance: float, room: Room
) -> tuple[float, float, float]:
    # A lamp behind a wall lights nothing.
    across = min(distance * math.sin(math.radians(tilt)), _LAMP_REACH * room.half_width)
    return (
        across * math.cos(turn),
        across * math.sin(turn),
        distance * math.cos(math.radians(tilt)),
    )


def _sample_object(
    colour: str, shape: str, finish: str, style: SceneStyle, rng: Generator
) -> SceneObject:
    size = style.shapes[shape]
    radius = rng.uniform(*size.radius)
    height = rng.uniform(*size.height) if size.height[1] else 2 * radius
    return SceneObject(colour, shape, finish, _shade(COLOURS[colour], rng, 0.10), radius, height)


def _sample_room(
    named: RoomStyle | None, style: SceneStyle, tone: float, seed: int, rng: Generator
) -> Room:
    look = named or (_any_room(scene_rng(seed, _ROOM)) if style.any_room else BARE_ROOM)
    half_width = rng.uniform(*style.room_half_width)
    table_half_width = min(rng.uniform(*style.table_half_width), _LARGEST_TABLE * half_width)
    furniture: tuple[Block, ...] = ()
    if look is not BARE_ROOM and half_width >= _FURNISHED_HALF_WIDTH:
        furniture = tuple(
            block
            for block in _sample_furniture(half_width, scene_rng(seed, _FURNITURE))
            if max(abs(block.x), abs(block.y)) > table_half_width
        )
    return Room(
        style=look,
        wall=_mix(*look.wall_tones, tone),
        floor=_mix(*look.floor_tones, tone),
        half_width=half_width,
        table_half_width=table_half_width,
        table_height=rng.uniform(*style.table_height),
        furniture=furniture,
    )


def _any_room(rng: Generator) -> RoomStyle:
    (walls, wall), (floors, floor) = _any_surface(rng), _any_surface(rng)
    return RoomStyle(walls, (wall, wall), rng.uniform(1.0, 4.0), floors, (floor, floor))


def _any_surface(rng: Generator) -> tuple[str, Rgb]:
    """A kind of surface, and its colour."""
    kind = str(rng.choice(SURFACES))
    colour = colorsys.hsv_to_rgb(rng.uniform(), 0.8 * rng.uniform() ** 1.5, rng.uniform(0.1, 0.95))
    return kind, colour


def _sample_furniture(half_width: float, rng: Generator) -> tuple[Block, ...]:
    """At most one cupboard or cabinet a wall, its back to it."""
    furniture = []
    for wall in rng.permutation(4)[: int(rng.integers(0, 4))]:
        size = (rng.uniform(0.25, 0.6), rng.uniform(0.15, 0.25), rng.uniform(0.4, 0.95))
        along, away = rng.uniform(-0.8, 0.8), half_width - size[1]
        x, y = ((along, away), (away, along), (along, -away), (-away, along))[wall]
        yaw = np.pi / 2 * (wall % 2)
        furniture.append(Block(False, _muted(rng), size, x, y, yaw))
    return tuple(furniture)


def _sample_clutter(rng: Generator) -> tuple[Block, ...]:
    """Books and tins towards the edge of the table, in directions that leave room between."""
    clutter = []
    first, count = rng.uniform(0, 2 * np.pi), int(rng.integers(0, 4))
    for turn in first + 2 * np.pi / 3 * np.arange(count) + rng.uniform(-0.5, 0.5, count):
        distance = rng.uniform(*_CLUTTER_DISTANCE)
        is_round = bool(rng.uniform() < 0.4)
        if is_round:
            radius = rng.uniform(0.022, 0.032)
            size = (radius, radius, rng.uniform(0.035, 0.055))
        else:
            size = (rng.uniform(0.05, 0.07), rng.uniform(0.035, 0.05), rng.uniform(0.008, 0.03))
        x, y = distance * math.cos(turn), distance * math.sin(turn)
        clutter.append(Block(is_round, _muted(rng), size, x, y, rng.uniform(-np.pi, np.pi)))
    return tuple(clutter)


def _muted(rng: Generator) -> Rgb:
    return _shade(_MUTED[int(rng.integers(len(_MUTED)))], rng, 0.15)


def _place(objects: Sequence[SceneObject], gaps: Range, rng: Generator) -> tuple[SceneObject, ...]:
    """Objects side by side, a little apart, around the table's middle."""
    spots: list[tuple[float, float, float]] = []
    for item in objects:
        spots.append(_spot(item.footprint, spots, gaps, rng))
    middle_x = sum(x for x, _, _ in spots) / len(spots)
    middle_y = sum(y for _, y, _ in spots) / len(spots)
    return tuple(
        replace(item, x=x - middle_x, y=y - middle_y, yaw=rng.uniform(-np.pi, np.pi))
        for item, (x, y, _) in zip(objects, spots, strict=True)
    )


def _spot(
    footprint: float, taken: Sequence[tuple[float, float, float]], gaps: Range, rng: Generator
) -> tuple[float, float, float]:
    """The tightest of a few random places next to what stands there already."""
    if not taken:
        return 0.0, 0.0, footprint
    free: list[tuple[float, float, float]] = []
    while len(free) < 4:
        x, y, radius = taken[int(rng.integers(len(taken)))]
        gap, turn = rng.uniform(*gaps), rng.uniform(0, 2 * np.pi)
        reach = radius + footprint + gap
        spot = (x + reach * math.cos(turn), y + reach * math.sin(turn), footprint)
        if all(
            math.dist(spot[:2], other[:2]) >= spot[2] + other[2] + 0.010 - 1e-9 for other in taken
        ):
            free.append(spot)
    return min(free, key=lambda spot: sum(math.dist(spot[:2], other[:2]) for other in taken))
