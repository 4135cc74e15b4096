"""What a tabletop scene is: a typed description, sampled from a prompt's slots. No MuJoCo here."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.random import Generator

from mfsynth.errors import MfsynthError
from mfsynth.prompts import Prompt, PromptSource, derive_seed, load_library

Rgb = tuple[float, float, float]

COLOURS: Mapping[str, Rgb] = {
    "red": (0.80, 0.06, 0.06),
    "orange": (1.00, 0.52, 0.02),
    "yellow": (0.98, 0.86, 0.08),
    "green": (0.07, 0.55, 0.14),
    "blue": (0.06, 0.22, 0.80),
    "purple": (0.46, 0.12, 0.66),
    "white": (0.97, 0.97, 0.96),
    "black": (0.05, 0.05, 0.055),
}
TABLES: Mapping[str, Rgb] = {
    "wooden": (0.62, 0.42, 0.25),
    "white": (0.80, 0.79, 0.77),
    "grey": (0.41, 0.42, 0.44),
    "dark": (0.25, 0.24, 0.26),
}


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """How large a shape may be, in metres."""

    radius: tuple[float, float]
    height: tuple[float, float]


# Half an edge for the cube. A ball's, a cube's height follows from its radius.
SHAPES: Mapping[str, ShapeRange] = {
    "cube": ShapeRange((0.036, 0.044), (0.0, 0.0)),
    "ball": ShapeRange((0.040, 0.050), (0.0, 0.0)),
    "cylinder": ShapeRange((0.029, 0.036), (0.095, 0.120)),
    "cone": ShapeRange((0.045, 0.055), (0.100, 0.125)),
    "bowl": ShapeRange((0.056, 0.066), (0.046, 0.056)),
    "mug": ShapeRange((0.036, 0.042), (0.078, 0.092)),
}


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
class SceneObject:
    """One object, standing on the table.

    Attributes:
        colour: Its name in the caption.
        shape: Its name in the caption.
        rgb: The colour itself, each in [0, 1].
        radius: Metres; half an edge for a cube.
        height: Metres.
        x: Where it stands, metres from the middle of the table.
        y: The same along the other axis.
        yaw: Turn about the vertical, radians. A mug's handle points this way.
    """

    colour: str
    shape: str
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
        if self.shape == "mug":
            return self.radius + self.handle_reach
        return self.radius

    @property
    def handle_reach(self) -> float:
        """How far a mug's handle stands out from its wall, in metres."""
        return 0.72 * self.radius


@dataclass(frozen=True, slots=True)
class Room:
    """What stands behind the table, so that every pixel has a depth of a few metres at most."""

    wall: Rgb
    floor: Rgb
    half_width: float
    table_half_width: float
    table_height: float


@dataclass(frozen=True, slots=True)
class TabletopScene:
    """Everything that decides a scene, before physics and cameras.

    Attributes:
        caption: The prompt's text.
        objects: One to three, without interpenetration.
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
            prompt: With the slots ``objects``, ``table``, ``light`` and ``view``.
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
        tone = rng.uniform(0.0, 1.0)
        scene = cls(
            caption=prompt.text,
            objects=tuple(_sample_object(colour, shape, rng) for colour, shape in kinds),
            table=table,
            table_rgb=_shade(TABLES[table], rng, 0.04),
            light=light,
            lighting=_dimmed(LIGHTS[light], rng.uniform(0.92, 1.06)),
            lamp=_lamp(rng),
            view=view,
            room=Room(
                wall=_mix((0.72, 0.70, 0.66), (0.60, 0.64, 0.68), tone),
                floor=_mix((0.42, 0.38, 0.34), (0.36, 0.37, 0.38), tone),
                half_width=rng.uniform(1.5, 1.9),
                table_half_width=rng.uniform(0.45, 0.6),
                table_height=rng.uniform(0.65, 0.75),
            ),
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

    def choice(self, name: str, known: Mapping[str, object]) -> str:
        return self._known(name, self._slots.get(name), known)

    def objects(self) -> list[tuple[str, str]]:
        found = self._slots.get("objects")
        if isinstance(found, str) or not isinstance(found, Sequence) or not 1 <= len(found) <= 3:
            raise self._error("objects", found, "a list of one to three objects")
        kinds = []
        for i, item in enumerate(found):
            if not isinstance(item, Mapping):
                raise self._error(f"objects[{i}]", item, "a mapping with colour and shape")
            slots = cast("Mapping[str, object]", item)
            colour = self._known(f"objects[{i}].colour", slots.get("colour"), COLOURS)
            shape = self._known(f"objects[{i}].shape", slots.get("shape"), SHAPES)
            kinds.append((colour, shape))
        return kinds

    def _known(self, name: str, value: object, known: Mapping[str, object]) -> str:
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


def _sample_object(colour: str, shape: str, rng: Generator) -> SceneObject:
    size = SHAPES[shape]
    radius = rng.uniform(*size.radius)
    height = rng.uniform(*size.height) if size.height[1] else 2 * radius
    return SceneObject(colour, shape, _shade(COLOURS[colour], rng, 0.10), radius, height)


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
