"""What a tabletop scene is: a typed description, and what there is to describe. No MuJoCo here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from mfsynth.simulation.styles import SceneStyle

Rgb = tuple[float, float, float]

MAX_OBJECTS = 4

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
ANY_TABLE = "some"
"""A table of any surface and colour."""
FINISHES = ("plain", "striped", "spotted")


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
BARE_ROOM = RoomStyle(
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
        table: Kind of the table's surface.
        table_rgb: Its colour.
        light: Name of the lighting.
        lighting: The lights themselves.
        lamp: Position of the lamp in metres; the table's middle is the origin, z is up.
        view: Name of the view.
        room: Surroundings.
        seed: Decides all that the slots leave open, cameras too.
        style: Within which limits it was drawn.
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
    style: SceneStyle
    placement: int = 0

    def rng(self, purpose: int) -> Generator:
        """Random numbers for what comes after the description, such as cameras."""
        return scene_rng(self.seed, 2, self.placement, purpose)


def scene_rng(seed: int, *purpose: int) -> Generator:
    """Random numbers that depend on a seed and on what they are for."""
    return np.random.default_rng([seed, *purpose])
