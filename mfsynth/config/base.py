"""What all typed settings have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_Item = TypeVar("_Item")


class Settings(BaseModel):
    """Base of all settings of runs, trainings, evaluations, checks and sources.

    Frozen, knows all its keys, converts no types (an integer is a fine float), and takes no number
    that is not finite: what a file says is what it means, or an error.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    internal_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that no file sets, so that no error suggests them."""

    where_more_keys_are: ClassVar[str] = ""
    """Goes on from the list of known keys, in the error about one that is not."""


def require_local(value: object) -> object:
    """The value, which is to become a path.

    Raises:
        ValueError: It is a URL.
    """
    if "://" in str(value):
        raise ValueError("must be a path of this machine, not a URL; copy what is there afterwards")
    return value


def require_rising(name: str, interval: tuple[float, float]) -> None:
    """See that an interval of noise levels begins with the lower one.

    Args:
        name: Of the setting.
        interval: Its two levels.

    Raises:
        ValueError: It doesn't.
    """
    low, high = interval
    if low > high:
        raise ValueError(f"{name} is [{low}, {high}]; put the lower level first")


def require_both_sides(height: int | None, width: int | None) -> None:
    """See that a size in pixels is whole, or left to the model.

    Raises:
        ValueError: One side of it is given.
    """
    if (height is None) != (width is None):
        raise ValueError("give both height and width, or neither for the model's own size")


LocalPath = Annotated[Path, Field(strict=False), BeforeValidator(require_local)]
"""Of what is written: of a URL a path would make a folder of that name."""

NonEmpty = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
# Documents have lists where settings have tuples, which can't be changed.
Items = Annotated[tuple[_Item, ...], Field(strict=False)]
Pair = Annotated[tuple[_Item, _Item], Field(strict=False)]
Unset = Annotated[_Item | None, Field(exclude_if=lambda value: value is None)]
"""Of a setting that came later: not given, it is no part of what is stored, nor of any digest."""
