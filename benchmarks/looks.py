"""Other looks of the simulator's scenes: the same things before the same camera, other images.

`flat` has one colour a thing (tables, walls and floors with the simulator's fine mottle) and light
from everywhere, no patterns, shadows or lamp. `randomised` has any colour, surface and pattern on
anything, and any light (domain randomisation, arXiv 1703.06907). Geometry and camera of a scene
hang on neither, so depth is the same to the last bit (`tests/simulation/test_looks.py`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from mfsynth.simulation import TabletopScene
from mfsynth.simulation.scene import FINISHES, Block, Lighting, Rgb, RoomStyle
from mfsynth.simulation.scene_sampling import SURFACES

LOOKS = ("flat", "randomised")

_EVEN = Lighting(key=(0.0, 0.0, 0.0), fill=(0.25, 0.25, 0.25), ambient=(0.65, 0.65, 0.65))
_REPEATS = (1.0, 6.0)
_STRENGTHS = {"key": (0.1, 0.9), "fill": (0.0, 0.5), "ambient": (0.15, 0.6)}
# The lamp, metres: anywhere above the table and within the room.
_LAMP_HEIGHT, _LAMP_SHARE = (0.5, 1.6), 0.6


def restyled(scene: TabletopScene, look: str, rng: Generator) -> TabletopScene:
    """A scene in another look, which `rng` draws."""
    return _flat(scene) if look == "flat" else _randomised(scene, rng)


def _flat(scene: TabletopScene) -> TabletopScene:
    room = scene.room
    tones = (room.wall, room.wall), (room.floor, room.floor)
    style = RoomStyle("plain", tones[0], 1.0, "plain", tones[1])
    return replace(
        scene,
        objects=tuple(replace(item, finish="plain") for item in scene.objects),
        table="plain",
        lighting=_EVEN,
        room=replace(room, style=style),
    )


def _randomised(scene: TabletopScene, rng: Generator) -> TabletopScene:
    room = scene.room
    surfaces = [str(kind) for kind in rng.choice(SURFACES, 3)]
    wall, floor, table = (_any_colour(rng) for _ in range(3))
    style = RoomStyle(
        surfaces[0], (wall, wall), rng.uniform(*_REPEATS), surfaces[1], (floor, floor)
    )
    objects = tuple(
        replace(item, rgb=_any_colour(rng), finish=str(rng.choice(FINISHES)))
        for item in scene.objects
    )
    reach = _LAMP_SHARE * min(room.half_width, 1.5)
    return replace(
        scene,
        objects=objects,
        clutter=_recoloured(scene.clutter, rng),
        table=surfaces[2],
        table_rgb=table,
        lighting=Lighting(**{name: _light(rng, limits) for name, limits in _STRENGTHS.items()}),
        lamp=(*rng.uniform(-reach, reach, 2).tolist(), rng.uniform(*_LAMP_HEIGHT)),
        room=replace(
            room, style=style, wall=wall, floor=floor, furniture=_recoloured(room.furniture, rng)
        ),
    )


def _recoloured(blocks: tuple[Block, ...], rng: Generator) -> tuple[Block, ...]:
    return tuple(replace(block, rgb=_any_colour(rng)) for block in blocks)


def _any_colour(rng: Generator) -> Rgb:
    red, green, blue = rng.uniform(0.05, 0.95, 3).tolist()
    return red, green, blue


def _light(rng: Generator, limits: tuple[float, float]) -> Rgb:
    red, green, blue = np.clip(rng.uniform(*limits) * rng.uniform(0.7, 1.3, 3), 0, 1).tolist()
    return red, green, blue
