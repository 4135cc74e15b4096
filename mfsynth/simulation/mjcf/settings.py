"""What is drawn of a model, and within which limits, as a configuration says it.

Names are patterns as of a shell: `arm_*` is all whose name begins so, `*` is all.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mfsynth.config.base import Count, Fraction, NonEmpty, Pair, Positive, Settings, Unset
from mfsynth.geometry.camera_presets import CAMERA_PRESETS

Metres = Annotated[float, Field(ge=0)]
Triple = Annotated[tuple[float, float, float], Field(strict=False)]
Turn = Annotated[float, Field(ge=0, le=180)]
Angle = Annotated[float, Field(gt=0, lt=180)]
_OF_ORBITS = ("distance", "azimuth", "elevation")
_OF_MODELS = ("shift", "turn")


def _known_preset(name: str) -> str:
    if name not in CAMERA_PRESETS:
        raise ValueError(f"must be one of {', '.join(CAMERA_PRESETS)}, not {name!r:.60}")
    return name


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"is {[*pair]}; put the lower one first")
    return pair


class ObjectRule(Settings):
    """How objects that move freely are put elsewhere.

    Attributes:
        shift: How far at most along the world's x, y and z, metres.
        turn: `yaw`, about the vertical; `any` way; or `none`.
    """

    shift: Triple = (0.1, 0.1, 0.0)
    turn: Literal["none", "yaw", "any"] = "yaw"


class LightRule(Settings):
    """How lights change.

    Attributes:
        shift: How far at most each moves along each axis, metres.
        brightness: Factors of each light, from the least to the greatest.
    """

    shift: Metres = 0.5
    brightness: Annotated[Pair[Metres], AfterValidator(_rising)] = (0.6, 1.4)


class Randomise(Settings):
    """What is drawn anew for each scene.

    Attributes:
        joints: By patterns of their names, how far hinges and slides may go of the way from where
            they start to either limit; those without limits turn by that share of half a turn.
        objects: By patterns of their bodies' names, how what moves freely is put elsewhere.
        lights: How lights change; null for lights as they are.
        settle: Seconds for which objects fall and come to rest, while other joints are held.
    """

    joints: dict[str, Fraction] = Field(default_factory=lambda: {"*": 0.5})
    objects: dict[str, ObjectRule] = Field(default_factory=lambda: {"*": ObjectRule()})
    lights: LightRule | None = LightRule()
    settle: Annotated[float, Field(ge=0, le=60)] = 0.5


class CameraRule(Settings):
    """A camera: one of the model's, by `name`, or one that looks at something from `around` it.

    Attributes:
        name: Of a camera of the model.
        shift: How far at most it is moved along each of its axes, metres.
        turn: By how many degrees at most it is turned about each of them.
        around: A body's name, or a point in the world's metres, which is in the image's middle.
        distance: Metres from it, from the least to the greatest.
        azimuth: Degrees about the vertical, from the x axis.
        elevation: Degrees above the horizon.
        fovy: Vertical field of view in degrees; else that of the model's camera, or 45.
        preset: In its place, a camera of `mfsynth.geometry.camera_presets`, as its colour image is.
    """

    name: Unset[NonEmpty] = None
    shift: Unset[Metres] = None
    turn: Unset[Turn] = None
    around: Unset[NonEmpty | Triple] = None
    distance: Unset[Annotated[Pair[Positive], AfterValidator(_rising)]] = None
    azimuth: Unset[Annotated[Pair[float], AfterValidator(_rising)]] = None
    elevation: Unset[
        Annotated[Pair[Annotated[float, Field(gt=-90, lt=90)]], AfterValidator(_rising)]
    ] = None
    fovy: Unset[Annotated[Pair[Angle], AfterValidator(_rising)]] = None
    preset: Unset[Annotated[str, AfterValidator(_known_preset)]] = None

    @model_validator(mode="before")
    @classmethod
    def _a_text_is_a_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.name is None) == (self.around is None):
            raise ValueError("give one of name, a camera of the model, and around, a body or point")
        others = _OF_ORBITS if self.name is not None else _OF_MODELS
        for other in others:
            if getattr(self, other) is not None:
                which = "around" if self.name is not None else "name"
                raise ValueError(f"{other} is for cameras with {which}; leave it out")
        if self.around is not None and self.distance is None:
            raise ValueError("distance: missing; how far the camera is from what it looks at")
        if self.fovy is not None and self.preset is not None:
            raise ValueError("give one of fovy and preset")
        return self

    @property
    def label(self) -> str:
        """What its views are called by."""
        if self.name is not None:
            return self.name
        where = self.around if isinstance(self.around, str) else [*(self.around or ())]
        return f"around {where}"


class Trajectory(Settings):
    """Frames of each scene, one after the other.

    Attributes:
        frames: How many.
        fps: In a second of the simulation.
        control: What moves actuators: `still`, nothing but what the start says; `keyframes`, from
            one to the next of the model's keyframes, evenly over the frames.
    """

    frames: Annotated[Count, Field(ge=2)]
    fps: Positive = 10.0
    control: Literal["still", "keyframes"] = "still"
