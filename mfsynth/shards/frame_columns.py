"""Columns of a LeRobot data set's frames as a file of a pair's sample: `KEY.lerobot.json`.

    {"action": {"dtype": "float32", "shape": [2], "names": ["x", "y"], "value": [0.5, "NaN"]}}

Each has what its data set's meta/info.json says of it, and its value: nested as the shape has it,
one of [1] without a list. Decimals are those of float64, by which float32 comes back to the bit;
NaN and infinities, which JSON lacks, are the texts `NaN`, `Infinity` and `-Infinity`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.documents import strict_json

FRAME: Final = "lerobot.json"
"""Suffix of the file."""
_TEXT: Final = "string"
_WHOLE: Final = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
# Python's types of one value.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    _TEXT: (str,),
    "bool": (bool,),
    **dict.fromkeys(_WHOLE, (int,)),
    **dict.fromkeys(("float32", "float64"), (float, int)),
}
_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# Of LeRobot's own features.
_MOST_AXES = 5


@dataclass(frozen=True, slots=True)
class FrameColumn:
    """What is said of a column.

    Attributes:
        dtype: `string`, `bool`, or numpy's name of numbers.
        shape: Of a value.
        names: Of its components, as the data set has them.
    """

    dtype: str
    shape: tuple[int, ...]
    names: Any = None

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Self | None:
        """A column as meta/info.json describes it; None of one with other things than plain values.

        Raises:
            ValueError: It has no shape.
        """
        dtype, shape = about.get("dtype"), about.get("shape")
        if not isinstance(dtype, str) or dtype not in _TYPES:
            return None
        if not isinstance(shape, list) or not 1 <= len(shape) <= _MOST_AXES:
            raise ValueError(f"shape is {shape!r:.40}, no list of one to {_MOST_AXES} numbers")
        if not all(type(side) is int and side >= 1 for side in shape):
            raise ValueError(f"shape is {shape!r:.40}, which is not of numbers from 1")
        return cls(dtype, tuple(shape), about.get("names"))

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.dtype == _TEXT

    @property
    def described(self) -> dict[str, Any]:
        """As meta/info.json has it."""
        return {"dtype": self.dtype, "shape": [*self.shape], "names": self.names}

    def value(self, found: Any) -> NDArray[Any]:
        """A value as an array: of Python's texts, or of numbers of its type; of shape () for [1].

        Args:
            found: Python's own value, or nested lists of such.

        Raises:
            ValueError: It is of another type or shape, or lacks values.
        """
        array = np.array(found, object)
        if self.shape == (1,):
            array = array.reshape(()) if array.shape == (1,) else array
            fits = array.shape == ()
        else:
            fits = array.shape == self.shape
        types = _TYPES[self.dtype]
        if not fits or not all(type(one) in types for one in array.flat):
            raise ValueError(f"is no whole {self.dtype} of the shape {[*self.shape]}")
        if self.is_text:
            return array
        try:
            with np.errstate(over="raise"):
                wide = array.astype(np.float64) if self.dtype.startswith("float") else array
                return wide.astype(self.dtype)
        except (OverflowError, FloatingPointError):
            raise ValueError(f"is beyond {self.dtype}") from None


def encode_frame(columns: Mapping[str, FrameColumn], values: Mapping[str, NDArray[Any]]) -> bytes:
    """The file.

    Args:
        columns: By name.
        values: Of each, as `FrameColumn.value` gives them.
    """
    document = {
        name: {**column.described, "value": _plain(values[name].tolist())}
        for name, column in columns.items()
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def decode_frame(data: bytes) -> tuple[dict[str, FrameColumn], dict[str, NDArray[Any]]]:
    """Columns and their values by name.

    Raises:
        ValueError: It is no such file; says what is wrong.
    """
    try:
        document = strict_json(data)
    except ValueError as error:
        raise ValueError(f"{FRAME}: not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise ValueError(f"{FRAME}: no object of columns by name")
    columns, values = {}, {}
    for name, about in document.items():
        where = f"{FRAME}: {name:.60}"
        if not isinstance(about, dict):
            raise ValueError(f"{where}: no object with dtype, shape and value")
        try:
            column = FrameColumn.of(about)
            if column is None:
                raise ValueError(f"dtype is {about.get('dtype')!r:.40}, which is none of a column")
            found = about.get("value")
            values[name] = column.value(found if column.is_text else _numbers(found))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        columns[name] = column
    return columns, values


def _plain(value: Any) -> Any:
    """A value, or nested lists, as JSON has it."""
    if isinstance(value, list):
        return [*map(_plain, value)]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [*map(_numbers, value)]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
