"""Styles: within which limits a scene varies where its prompt leaves it open. No MuJoCo here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

Range = tuple[float, float]


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


@dataclass(frozen=True, slots=True)
class View:
    """From where cameras may look: degrees above the table."""

    elevation: tuple[float, float]


VIEWS: Mapping[str, View] = {
    "from above": View((50.0, 70.0)),
    "from the front": View((20.0, 40.0)),
}


@dataclass(frozen=True, slots=True)
class SceneStyle:
    """Limits of what no prompt names; each value is drawn evenly between two.

    Attributes:
        name: What a configuration calls it.
        shapes: How large objects are.
        gap: Between neighbours on the table, metres; at least 0.01.
        views: From where cameras look, degrees above the table.
        fov_degrees: Vertical field of view, drawn for each image.
        margin: Share of the half frame that stays free at each edge; below 0, what of it lies
            beyond an edge that may cut objects.
        nearest: Least distance of a camera, metres: from the objects' middle, or from their
            nearest point where they fill the frame.
        distance: Of a camera, in distances at which objects just fit the frame.
        retreat: Factor of every such distance, drawn for an image before its camera is chosen.
        fills_frame: Cameras come as near as the frame allows and take the direction that shows the
            smallest object largest. Otherwise they look at the objects' middle, and the first
            direction that shows all of them will do.
        clear: Share of an object that must be visible, in [0, 1].
        tries: Directions that are looked from, for each camera.
        rays: Down and across an image, to see what is visible from a direction.
        room_half_width: Metres from the table's middle to the walls.
        table_half_width: Metres; a table that has no place in its room is made smaller.
        table_height: Metres.
        lamp_tilt: Degrees from the vertical.
        lamp_distance: Metres from the table's middle.
        brightness: Factor of all light.
        key: Factor of the lamp's light.
        fill: Of the light without shadows.
        ambient: Of the light from everywhere.
        tint: Largest change of a light's red, green and blue.
        table_shade: How far a table's colour lies from that of its name.
        roll: How far cameras are tilted to a side, degrees.
        any_room: Walls and floors have any surface and colour where a prompt names no room, and
            large rooms have furniture. Otherwise such a room is bare.
    """

    name: str
    shapes: Mapping[str, ShapeRange]
    gap: Range
    views: Mapping[str, View]
    fov_degrees: Range
    margin: float
    nearest: float
    distance: Range
    retreat: Range
    fills_frame: bool
    clear: float
    tries: int
    rays: int
    room_half_width: Range
    table_half_width: Range
    table_height: Range
    lamp_tilt: Range
    lamp_distance: Range
    brightness: Range
    key: Range
    fill: Range
    ambient: Range
    tint: float
    table_shade: float
    any_room: bool
    roll: Range = (0.0, 0.0)

    def document(self) -> dict[str, Any]:
        """What `from_document` reads: mappings, lists, numbers, as JSON has them."""
        return _as_json(asdict(self))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """A style from its document.

        Raises:
            TypeError: The document isn't one of a style.
        """
        fields: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in document.items()
        }
        fields["shapes"] = {
            name: ShapeRange(**{key: tuple(v) for key, v in size.items()})
            for name, size in fields["shapes"].items()
        }
        fields["views"] = {
            name: View(tuple(view["elevation"])) for name, view in fields["views"].items()
        }
        return cls(**fields)


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


# What the first models were trained on, before there were styles: it never changes.
PLAIN = SceneStyle(
    name="plain",
    shapes=SHAPES,
    gap=(0.010, 0.035),
    views=VIEWS,
    fov_degrees=(40.0, 40.0),
    margin=0.10,
    nearest=0.30,
    distance=(1.0, 1.15),
    retreat=(1.0, 1.0),
    fills_frame=False,
    clear=0.70,
    tries=10,
    rays=40,
    room_half_width=(1.5, 1.9),
    table_half_width=(0.45, 0.6),
    table_height=(0.65, 0.75),
    lamp_tilt=(25, 48),
    lamp_distance=(1.1, 1.4),
    brightness=(0.92, 1.06),
    key=(1.0, 1.0),
    fill=(1.0, 1.0),
    ambient=(1.0, 1.0),
    tint=0.0,
    table_shade=0.04,
    any_room=False,
)
# Compact solids: about as wide as high, so that none is small where all fit the frame.
_COMPACT = {
    **SHAPES,
    "cube": ShapeRange((0.036, 0.042), (0.0, 0.0)),
    "ball": ShapeRange((0.044, 0.050), (0.0, 0.0)),
    "cylinder": ShapeRange((0.036, 0.042), (0.080, 0.100)),
    "cone": ShapeRange((0.050, 0.056), (0.090, 0.110)),
    "bowl": ShapeRange((0.050, 0.056), (0.048, 0.056)),
}
CLOSE = replace(
    PLAIN,
    name="close",
    shapes=_COMPACT,
    gap=(0.010, 0.020),
    views={"from above": View((45.0, 62.0)), "from the front": View((18.0, 38.0))},
    margin=0.03,
    nearest=0.12,
    distance=(1.0, 1.04),
    fills_frame=True,
    clear=0.90,
    tries=16,
    rays=24,
    # A dark side shows neither colour nor shape.
    key=(0.73, 0.73),
    ambient=(1.3, 1.3),
)
VARIED = replace(
    CLOSE,
    name="varied",
    shapes={
        name: ShapeRange((0.85 * r.radius[0], 1.15 * r.radius[1]), r.height)
        for name, r in _COMPACT.items()
    },
    gap=(0.010, 0.045),
    views={"from above": View((40.0, 75.0)), "from the front": View((3.0, 40.0))},
    fov_degrees=(35.0, 75.0),
    nearest=0.09,
    distance=(1.0, 1.1),
    retreat=(1.0, 4.0),
    tries=5,
    room_half_width=(0.6, 4.0),
    # As large as the room: then it is a floor that things stand on.
    table_half_width=(0.45, 3.0),
    table_height=(0.4, 1.1),
    lamp_tilt=(5, 60),
    lamp_distance=(0.7, 1.8),
    brightness=(0.5, 1.2),
    key=(0.5, 1.0),
    fill=(0.4, 1.2),
    ambient=(0.8, 1.3),
    tint=0.25,
    table_shade=0.20,
    any_room=True,
)
# Things of all sizes, cut by the frame and hidden by others, in rooms that are not much larger than
# what stands in them, before cameras that nobody holds level: what an estimator is to know of.
ROAMING = replace(
    VARIED,
    name="roaming",
    shapes={
        name: ShapeRange(
            (0.6 * r.radius[0], 3.5 * r.radius[1]), (0.6 * r.height[0], 3.5 * r.height[1])
        )
        for name, r in _COMPACT.items()
    },
    gap=(0.010, 0.300),
    views={"from above": View((30.0, 75.0)), "from the front": View((2.0, 35.0))},
    margin=-0.7,
    nearest=0.12,
    clear=0.25,
    tries=2,
    rays=16,
    room_half_width=(0.8, 4.0),
    table_half_width=(0.6, 4.0),
    table_height=(0.1, 1.1),
    brightness=(0.4, 1.6),
    roll=(-8.0, 8.0),
)
STYLES: Mapping[str, SceneStyle] = {style.name: style for style in (PLAIN, CLOSE, VARIED, ROAMING)}
