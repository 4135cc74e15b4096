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
    BARE_ROOM,
    COLOURS,
    FINISHES,
    LIGHTS,
    MAX_OBJECTS,
    ROOMS,
    SHAPES,
    TABLES,
    VIEWS,
    Block,
    Lighting,
    Rgb,
    Room,
    RoomStyle,
    SceneObject,
    TabletopScene,
    scene_rng,
)

# What random numbers of a scene are for, each drawn on its own; 2 is for what comes after the
# description.
_DESCRIPTION, _PLACEMENT, _FURNITURE, _CLUTTER = 0, 1, 3, 4

# Metres from the table's middle: beyond four objects side by side, within the smallest table.
_CLUTTER_DISTANCE = (0.27, 0.36)
# Of what no prompt names: furniture and clutter.
_MUTED: Sequence[Rgb] = (
    (0.55, 0.44, 0.32), (0.36, 0.28, 0.22), (0.66, 0.64, 0.60),
    (0.30, 0.32, 0.34), (0.40, 0.46, 0.42), (0.50, 0.42, 0.42),
)  # fmt: skip


def sample_scene(prompt: Prompt, seed: int) -> TabletopScene:
    """Draw the scene that a tabletop prompt describes.

    Args:
        prompt: With the slots `objects`, `table`, `light` and `view`. With a slot `room`,
            furniture and clutter come along; otherwise the room is bare.
        seed: Decides sizes, shades and places; nonnegative.

    Raises:
        MfsynthError: A slot is missing or names something that the simulator doesn't have.
    """
    slots = _Slots(prompt)
    rng = scene_rng(seed, _DESCRIPTION)
    kinds = slots.objects()
    table, light, view = (
        slots.choice("table", TABLES),
        slots.choice("light", LIGHTS),
        slots.choice("view", VIEWS),
    )
    style = ROOMS[slots.choice("room", ROOMS)] if slots.has("room") else None
    tone = rng.uniform(0.0, 1.0)
    scene = TabletopScene(
        caption=prompt.text,
        objects=tuple(_sample_object(*kind, rng) for kind in kinds),
        clutter=() if style is None else _sample_clutter(scene_rng(seed, _CLUTTER)),
        table=table,
        table_rgb=_shade(TABLES[table], rng, 0.04),
        light=light,
        lighting=_dimmed(LIGHTS[light], rng.uniform(0.92, 1.06)),
        lamp=_lamp(rng),
        view=view,
        room=_sample_room(style, tone, seed, rng),
        seed=seed,
    )
    return place_objects(scene, 0)


def place_objects(scene: TabletopScene, placement: int) -> TabletopScene:
    """The same objects in another layout; layouts are numbered from 0."""
    rng = scene_rng(scene.seed, _PLACEMENT, placement)
    return replace(scene, objects=_place(scene.objects, rng), placement=placement)


def scenes(
    library: PromptSource, seed: int, indices: Iterable[int]
) -> Iterator[tuple[int, TabletopScene]]:
    """Scenes by number; each is a pure function of the library, the seed and its number.

    Args:
        library: Tabletop prompts; scene i shows prompt i.
        seed: Decides what prompts leave open.
        indices: Which scenes.

    Yields:
        The number and the scene.

    Raises:
        MfsynthError: A prompt of the library isn't one of a tabletop scene.
    """
    for index in indices:
        yield (
            index,
            sample_scene(library.prompt(index), derive_seed(seed, "tabletop scene", index)),
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


def _dimmed(light: Lighting, factor: float) -> Lighting:
    def scale(rgb: Rgb) -> Rgb:
        return cast("Rgb", tuple(c * factor for c in rgb))

    return Lighting(scale(light.key), scale(light.fill), scale(light.ambient))


def _lamp(rng: Generator) -> tuple[float, float, float]:
    turn, tilt, distance = rng.uniform(0, 2 * np.pi), rng.uniform(25, 48), rng.uniform(1.1, 1.4)
    across = distance * math.sin(math.radians(tilt))
    return (
        across * math.cos(turn),
        across * math.sin(turn),
        distance * math.cos(math.radians(tilt)),
    )


def _sample_object(colour: str, shape: str, finish: str, rng: Generator) -> SceneObject:
    size = SHAPES[shape]
    radius = rng.uniform(*size.radius)
    height = rng.uniform(*size.height) if size.height[1] else 2 * radius
    return SceneObject(colour, shape, finish, _shade(COLOURS[colour], rng, 0.10), radius, height)


def _sample_room(style: RoomStyle | None, tone: float, seed: int, rng: Generator) -> Room:
    look = style or BARE_ROOM
    half_width = rng.uniform(1.5, 1.9)
    furniture: tuple[Block, ...] = ()
    if style is not None:
        furniture = _sample_furniture(half_width, scene_rng(seed, _FURNITURE))
    return Room(
        style=look,
        wall=_mix(*look.wall_tones, tone),
        floor=_mix(*look.floor_tones, tone),
        half_width=half_width,
        table_half_width=rng.uniform(0.45, 0.6),
        table_height=rng.uniform(0.65, 0.75),
        furniture=furniture,
    )


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


def _place(objects: Sequence[SceneObject], rng: Generator) -> tuple[SceneObject, ...]:
    """Objects side by side, a little apart, around the table's middle."""
    spots: list[tuple[float, float, float]] = []
    for item in objects:
        spots.append(_spot(item.footprint, spots, rng))
    middle_x = sum(x for x, _, _ in spots) / len(spots)
    middle_y = sum(y for _, y, _ in spots) / len(spots)
    return tuple(
        replace(item, x=x - middle_x, y=y - middle_y, yaw=rng.uniform(-np.pi, np.pi))
        for item, (x, y, _) in zip(objects, spots, strict=True)
    )


def _spot(
    footprint: float, taken: Sequence[tuple[float, float, float]], rng: Generator
) -> tuple[float, float, float]:
    """The tightest of a few random places next to what stands there already."""
    if not taken:
        return 0.0, 0.0, footprint
    free: list[tuple[float, float, float]] = []
    while len(free) < 4:
        x, y, radius = taken[int(rng.integers(len(taken)))]
        gap, turn = rng.uniform(0.010, 0.035), rng.uniform(0, 2 * np.pi)
        reach = radius + footprint + gap
        spot = (x + reach * math.cos(turn), y + reach * math.sin(turn), footprint)
        if all(
            math.dist(spot[:2], other[:2]) >= spot[2] + other[2] + 0.010 - 1e-9 for other in taken
        ):
            free.append(spot)
    return min(free, key=lambda spot: sum(math.dist(spot[:2], other[:2]) for other in taken))
