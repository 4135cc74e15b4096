"""Numbers that lie in files beside images: metadata, cameras, masks."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.documents import decode_utf8, parse_yaml, strict_json
from mfsynth.errors import MfsynthError
from mfsynth.geometry.rgbd import Mask
from mfsynth.sources.containers import is_array, open_picture, read_array
from mfsynth.sources.encoding import BesideRule
from mfsynth.sources.guards import decoding

_NUMBER = re.compile(r"(\d+)\D*$", re.ASCII)
# How OpenCV's YAML begins, which is no directive of YAML, and how it says that numbers are a
# matrix: a mapping, whose `data` they are.
_OF_OPENCV = re.compile(r"\A%YAML:[\d.]+|!!opencv-(?:nd-)?matrix\b")
_BY_SPACE = re.compile(r"[^\s,]\s+[^\s,]")
# Of three rows, which say it, and of four.
_POSE_NUMBERS, _POSE_SIZES = 12, (12, 16)


Place = tuple[str, ...]
"""Keys and indices that lead to a value of a document."""


class Beside(Protocol):
    """The files beside an image."""

    @property
    def stem(self) -> str:
        """The image's name without folder and extension."""
        ...

    def has(self, file: str) -> bool:
        """Whether there is such a file."""
        ...

    def read(self, file: str) -> tuple[bytes, str]:
        """Content and full name of a file, which is named as `Encoding` says.

        Raises:
            MfsynthError: It can't be read.
        """
        ...


def filled(template: str, stem: str) -> str:
    """A file's name, or a place in one, for an image of a name without extension.

    Raises:
        MfsynthError: `{number}` is asked for, and there is none in the name.
    """
    number = _NUMBER.search(stem)
    if number is None and "{number}" in template:
        raise MfsynthError(f"{stem}: no number in the name for {template}; use {{name}}")
    found = template.replace("{name}", stem)
    return found if number is None else found.replace("{number}", str(int(number[1])))


def place_of(template: str, stem: str) -> Place:
    """The keys and indices of a place, for an image of a name without extension.

    Raises:
        MfsynthError: As `filled`.
    """
    # Divided first: a name may have dots of its own.
    return tuple(filled(part, stem) for part in template.split("."))


def value_at(data: bytes, name: str, place: Place) -> Any:
    """What is at a place of a document.

    Raises:
        MfsynthError: There is nothing; says where the way ends.
    """
    return _at(_document(data, name), place, name)


def number_at(data: bytes, name: str, place: Place) -> float:
    """The number at a place of a document.

    Raises:
        MfsynthError: There is none; says where the way ends.
    """
    value = value_at(data, name, place)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MfsynthError(f"{name}: {_told(place)} is no number; mend it or set another place")
    if not np.isfinite(value):
        raise MfsynthError(f"{name}: {_told(place)} is {value}; mend it")
    return float(value)


def matrix_at(data: bytes, name: str, place: Place | None) -> NDArray[np.float64]:
    """The matrix at a place of a document, or that a file of numbers or a .npy file is.

    Raises:
        MfsynthError: There is none.
    """
    return _finite(_numbers_at(data, name, place), name)


def pose_at(data: bytes, name: str, place: Place | None) -> NDArray[np.float64] | None:
    """The matrix of a pose, likewise; None where it says that nobody knows the pose.

    That is how ScanNet stores frames of which its reconstruction lost the camera: all is -inf.

    Raises:
        MfsynthError: There is none, or numbers are not finite in some places.
    """
    matrix = _numbers_at(data, name, place)
    # The last row has no part in it.
    if matrix.size in _POSE_SIZES and not np.isfinite(matrix.ravel()[:_POSE_NUMBERS]).any():
        return None
    return _finite(matrix, name)


def _numbers_at(data: bytes, name: str, place: Place | None) -> NDArray[np.float64]:
    if is_array(data):
        value: Any = read_array(data, name, None if place is None else _told(place), "replace it")
    elif place is not None:
        value = value_at(data, name, place)
    else:
        text = decode_utf8(data, name, "matrix")
        try:
            value = np.loadtxt(io.StringIO(text.replace(",", " ")), ndmin=2)
        except ValueError as error:
            raise MfsynthError(
                f"{name}: no rows of numbers; if the matrix is in a document, say where by "
                "camera.path"
            ) from error
        _require_one_separator(text, name)
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        where = "it" if place is None else _told(place)
        raise MfsynthError(f"{name}: {where} is no matrix of numbers; set camera.path") from error
    return matrix


def _finite(matrix: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    if not np.isfinite(matrix).all():
        raise MfsynthError(f"{name}: a matrix with numbers that are not finite; mend it")
    return matrix


def _require_one_separator(text: str, name: str) -> None:
    for number, line in enumerate(text.splitlines(), start=1):
        numbers = line.partition("#")[0]
        if "," in numbers and _BY_SPACE.search(numbers):
            raise MfsynthError(
                f"{name}:{number}: commas within numbers, or between some of them alone; put one "
                "between any two or none, and write fractions with a point"
            )


def kept_by(data: bytes, name: str, rule: BesideRule) -> Mask:
    """The pixels that a mask leaves.

    Raises:
        MfsynthError: It is no picture or array of one channel.
    """
    if is_array(data):
        values = read_array(data, name, None, "replace it")
    else:
        with decoding(name, "a picture", "replace it"), open_picture(data, name) as picture:
            values = np.asarray(picture)
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2:
        raise MfsynthError(f"{name}: a mask has one channel, this has {values.shape}; replace it")
    keep: Mask = np.ones(values.shape, np.bool_)
    if rule.at_least is not None:
        keep &= values >= rule.at_least
    if rule.at_most is not None:
        keep &= values <= rule.at_most
    return keep


def _told(place: Place) -> str:
    """A place, for people."""
    return ".".join(place)


# Of one file are the numbers of thousands of frames.
@functools.lru_cache(maxsize=4)
def _document(data: bytes, name: str) -> Any:
    text = decode_utf8(data, name, "metadata")
    if name.lower().endswith((".yaml", ".yml")):
        return parse_yaml(_OF_OPENCV.sub("", text), name)
    try:
        return strict_json(text)
    except ValueError as error:
        raise MfsynthError(f"{name}: not valid JSON ({error}); mend it") from error


def _at(document: Any, place: Place, name: str) -> Any:
    value, gone = document, ""
    for part in place:
        inner: Any = None
        if isinstance(value, Mapping):
            inner = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdecimal():
            inner = value[int(part)] if int(part) < len(value) else None
        if inner is None:
            keys = ", ".join(map(str, list(value)[:8])) if isinstance(value, Mapping) else "none"
            where = f"under {gone}" if gone else "in it"
            raise MfsynthError(f"{name}: no {part!r} {where}; there: {keys}")
        value, gone = inner, f"{gone}.{part}" if gone else part
    return value
