"""What a tabletop scene is: a typed description, sampled from a prompt's slots. No MuJoCo here."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.random import Generator

from mfsynth.errors import MfsynthError
from mfsynth.prompts import Prompt, PromptSource, derive_seed, load_library

Rgb = tuple[float, float, float]

MAX_OBJECTS = 4
# Metres from the table's middle: beyond four objects side by side, within the smallest table.
_CLUTTER_DISTANCE = (0.27, 0.36)

COLOURS: Mapping[str, Rgb] = {
    "red": (0.80, 0.06, 0.06),
    "orange": (1.00, 0.52, 0.02),
    "yellow": (0.98, 0.86, 0.08),
    "green": (0.07, 0.55, 0.14),
    "blue": (0.06, 0.22, 0.80),
    "purple": (0.46, 0.12, 0.66),
    "pink": (0.98, 0.26, 0.58),
    "turquoise": (0.05, 0.72, 0.70),
    "white": (0.97, 0.97, 0.96),
    "black": (0.05, 0.05, 0.055),
}
TABLES: Mapping[str, Rgb] = {
    "wooden": (0.62, 0.42, 0.25),
    "white": (0.80, 0.79, 0.77),
    "grey": (0.41, 0.42, 0.44),
    "dark": (0.25, 0.24, 0.26),
    "marble": (0.76, 0.77, 0.78),
    "tiled": (0.44, 0.57, 0.60),
}
FINISHES = ("plain", "striped", "spotted")


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """How large a shape may be, in metres."""

    radius: tuple[float, float]
    height: tuple[float, float]


# Half the longest edge for cube and box. A ball's, a cube's height follows from its radius.
SHAPES: Mapping[str, ShapeRange] = {
    "cube": ShapeRange((0.036, 0.044), (0.0, 0.0)),
    "ball": ShapeRange((0.040, 0.050), (0.0, 0.0)),
    "cylinder": ShapeRange((0.029, 0.036), (0.095, 0.120)),
    "cone": ShapeRange((0.045, 0.055), (0.100, 0.125)),
    "bowl": ShapeRange((0.056, 0.066), (0.046, 0.056)),
    "mug": ShapeRange((0.036, 0.042), (0.078, 0.092)),
    "bottle": ShapeRange((0.026, 0.032), (0.110, 0.128)),
    "plate": ShapeRange((0.058, 0.068), (0.018, 0.022)),
    "box": ShapeRange((0.050, 0.060), (0.040, 0.050)),
}
BOX_ASPECT = 0.6
"""Width of a box over its length."""


@dataclass(frozen=True, slots=True)
class Lighting:
    """A lamp that casts shadows, a fill light without, and light from everywhere."""

    key: Rgb
    fill: Rgb
    ambient: Rgb


LIGHTS: Mapping[str, Lighting] = {
    "bright": Lighting((0.62, 0.62, 0.60), (0.22, 0.22, 0.23), (0.40, 0.40, 0.41)),
    "dim": Lighting((0.36, 0.36, 0.38), (0.10, 0.10, 0.11), (0.30, 0.30, 0.32)),
    "warm": Lighting((0.66, 0.54, 0.38), (0.19, 0.15, 0.10), (0.40, 0.33, 0.24)),
    "cold": Lighting((0.40, 0.52, 0.66), (0.12, 0.15, 0.20), (0.28, 0.34, 0.42)),
}


@dataclass(frozen=True, slots=True)
class View:
    """From where cameras may look: degrees above the table."""

    elevation: tuple[float, float]


VIEWS: Mapping[str, View] = {
    "from above": View((50.0, 70.0)),
    "from the front": View((20.0, 40.0)),
}


@dataclass(frozen=True, slots=True)
class RoomStyle:
    """What a kind of room looks like: textures, each with two tones to mix colours from.

    Attributes:
        wall: Kind of the walls' surface.
        wall_tones: Its colours lie between these.
        wall_repeat: How often the texture comes along a wall.
        floor: Kind of the floor's surface.
        floor_tones: As for the walls.
    """

    wall: str
    wall_tones: tuple[Rgb, Rgb]
    wall_repeat: float
    floor: str
    floor_tones: tuple[Rgb, Rgb]


# Where a prompt names no room.
_BARE = RoomStyle(
    "plain", ((0.72, 0.70, 0.66), (0.60, 0.64, 0.68)), 1.0,
    "plain", ((0.42, 0.38, 0.34), (0.36, 0.37, 0.38)),
)  # fmt: skip
ROOMS: Mapping[str, RoomStyle] = {
    "kitchen": RoomStyle(
        "tiled", ((0.76, 0.78, 0.72), (0.62, 0.72, 0.74)), 2.0,
        "tiled", ((0.52, 0.42, 0.36), (0.46, 0.45, 0.43)),
    ),
    "office": RoomStyle(
        "plain", ((0.74, 0.71, 0.64), (0.58, 0.64, 0.70)), 2.0,
        "plain", ((0.30, 0.33, 0.38), (0.36, 0.32, 0.30)),
    ),
    "workshop": RoomStyle(
        "brick", ((0.58, 0.36, 0.28), (0.60, 0.52, 0.44)), 2.0,
        "wooden", ((0.44, 0.34, 0.26), (0.34, 0.30, 0.27)),
    ),
}  # fmt: skip
# Of what no prompt names: furniture and clutter.
_MUTED: Sequence[Rgb] = (
    (0.55, 0.44, 0.32), (0.36, 0.28, 0.22), (0.66, 0.64, 0.60),
    (0.30, 0.32, 0.34), (0.40, 0.46, 0.42), (0.50, 0.42, 0.42),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A box or an upright cylinder that no prompt names: furniture, or clutter on the table.

    Attributes:
        is_round: Whether it is a cylinder.
        rgb: Its colour, each in [0, 1].
        size: Half its length, width and height in metres; a cylinder's length is its diameter.
        x: Where its middle is, metres from the middle of the table.
        y: The same along the other axis.
        yaw: Turn about the vertical, radians.
    """

    is_round: bool
    rgb: Rgb
    size: tuple[float, float, float]
    x: float
    y: float
    yaw: float


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object, standing on the table.

    Attributes:
        colour: Its name in the caption.
        shape: Its name in the caption.
        finish: Its name in the caption, which leaves out "plain".
        rgb: The colour itself, each in [0, 1].
        radius: Metres; half the longest edge for a cube and a box.
        height: Metres.
        x: Where it stands, metres from the middle of the table.
        y: The same along the other axis.
        yaw: Turn about the vertical, radians. A mug's handle points this way.
    """

    colour: str
    shape: str
    finish: str
    rgb: Rgb
    radius: float
    height: float
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0

    @property
    def footprint(self) -> float:
        """Radius of the circle on the table that holds the object however it is turned."""
        if self.shape == "cube":
            return self.radius * math.sqrt(2)
        if self.shape == "box":
            return self.radius * math.hypot(1, BOX_ASPECT)
        if self.shape == "mug":
            return self.radius + self.handle_reach
        return self.radius

    @property
    def handle_reach(self) -> float:
        """How far a mug's handle stands out from its wall, in metres."""
        return 0.72 * self.radius


@dataclass(frozen=True, slots=True)
class Room:
    """What is around the table, so that every pixel has a depth of a few metres at most."""

    style: RoomStyle
    wall: Rgb
    floor: Rgb
    half_width: float
    table_half_width: float
    table_height: float
    furniture: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class TabletopScene:
    """Everything that decides a scene, before physics and cameras.

    Attributes:
        caption: The prompt's text.
        objects: One to `MAX_OBJECTS`, without interpenetration.
        clutter: On the table, away from the objects.
        table: Name of the table's material.
        table_rgb: Its colour.
        light: Name of the lighting.
        lighting: The lights themselves.
        lamp: Position of the lamp in metres; the table's middle is the origin, z is up.
        view: Name of the view.
        room: Surroundings.
        seed: Decides all that the slots leave open, cameras too.
        placement: Which of the seed's layouts this is.
    """

    caption: str
    objects: tuple[SceneObject, ...]
    clutter: tuple[Block, ...]
    table: str
    table_rgb: Rgb
    light: str
    lighting: Lighting
    lamp: tuple[float, float, float]
    view: str
    room: Room
    seed: int
    placement: int = 0

    @classmethod
    def from_prompt(cls, prompt: Prompt, seed: int) -> TabletopScene:
        """The scene that a tabletop prompt describes.

        Args:
            prompt: With the slots `objects`, `table`, `light` and `view`. With a slot
                `room`, furniture and clutter come along; otherwise the room is bare.
            seed: Decides sizes, shades and places; nonnegative.

        Raises:
            MfsynthError: A slot is missing or names something that the simulator doesn't have.
        """
        slots = _Slots(prompt)
        rng = _rng(seed, 0)
        kinds = slots.objects()
        table, light, view = (
            slots.choice("table", TABLES),
            slots.choice("light", LIGHTS),
            slots.choice("view", VIEWS),
        )
        style = ROOMS[slots.choice("room", ROOMS)] if slots.has("room") else None
        tone = rng.uniform(0.0, 1.0)
        scene = cls(
            caption=prompt.text,
            objects=tuple(_sample_object(*kind, rng) for kind in kinds),
            clutter=() if style is None else _sample_clutter(_rng(seed, 4)),
            table=table,
            table_rgb=_shade(TABLES[table], rng, 0.04),
            light=light,
            lighting=_dimmed(LIGHTS[light], rng.uniform(0.92, 1.06)),
            lamp=_lamp(rng),
            view=view,
            room=_sample_room(style, tone, seed, rng),
            seed=seed,
        )
        return scene.placed(0)

    def placed(self, placement: int) -> TabletopScene:
        """The same objects in another layout; layouts are numbered from 0."""
        return replace(
            self, objects=_place(self.objects, _rng(self.seed, 1, placement)), placement=placement
        )

    def rng(self, purpose: int) -> Generator:
        """Random numbers for what comes after the description, such as cameras."""
        return _rng(self.seed, 2, self.placement, purpose)


def scene_prompts(library: str, seed: int) -> PromptSource:
    """Open the prompts that `scenes` numbers.

    Args:
        library: Name or path of a prompt library of tabletop scenes.
        seed: Of prompts and scenes.

    Raises:
        MfsynthError: There is no such library.
    """
    return load_library(library, seed=seed)


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
            TabletopScene.from_prompt(
                library.prompt(index), derive_seed(seed, "tabletop scene", index)
            ),
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


def _rng(seed: int, *purpose: int) -> Generator:
    return np.random.default_rng([seed, *purpose])


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
    look = style or _BARE
    half_width = rng.uniform(1.5, 1.9)
    return Room(
        style=look,
        wall=_mix(*look.wall_tones, tone),
        floor=_mix(*look.floor_tones, tone),
        half_width=half_width,
        table_half_width=rng.uniform(0.45, 0.6),
        table_height=rng.uniform(0.65, 0.75),
        furniture=() if style is None else _sample_furniture(half_width, _rng(seed, 3)),
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
