"""Validation errors as one line: the key's path, what is wrong, what to do."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from mfsynth.config.places import Place, key_paths, place_of
from mfsynth.config.suggestions import did_you_mean, nearest

_UNKNOWN = ("extra_forbidden", "invalid_key")
_WRONG_KIND = ("union_tag_invalid", "union_tag_not_found")
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}
_TYPES = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "a text",
    "path_type": "a path",
    "bool_type": "true or false",
    "model_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "finite_number": "a finite number",
}


def explain(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """The first problem of a validation error.

    Args:
        error: What validating the values of `model` raised.
        model: The model.

    Returns:
        The key path ("" for the whole document), and what is wrong and what to do.
    """
    # A misspelt key may well be why another one is missing, so it is told first.
    details = sorted(error.errors(), key=lambda detail: detail["type"] not in _UNKNOWN)
    detail = details[0]
    place = place_of(detail["loc"], model)
    keys: tuple[str | int, ...] = place.keys
    if detail["type"] in _WRONG_KIND:
        keys += (_discriminator(detail),)
    return ".".join(map(str, keys)), _problem(detail, place, model)


def _problem(detail: ErrorDetails, place: Place, model: type[BaseModel]) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in _UNKNOWN:
        return f"unknown key; {_suggest_key(place, model)}"
    if kind == "missing":
        return "missing; add it"
    if kind == "union_tag_not_found":
        return f"missing; add it, one of {', '.join(place.kinds)}"
    if kind == "union_tag_invalid":
        what, given = _discriminator(detail), context["tag"]
        return f"unknown {what} {_shown(given)}; {did_you_mean(given, place.kinds)}"
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}, not {value}"
    if _is_secret(place):
        return f"must be {_TYPES.get(kind, 'another value')}; what it is isn't shown"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}, not {_shown(value)}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {_shown(value)}"
    if kind == "string_pattern_mismatch":
        return f"may have a-z, 0-9, _ and -, and begins with a-z or 0-9, not {_shown(value)}"
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "value_error":
        return str(context["error"])
    return f"{detail['msg']}, not {_shown(value)}"


def _discriminator(detail: ErrorDetails) -> str:
    return str(detail["ctx"]["discriminator"]).strip("'")


def _suggest_key(place: Place, model: type[BaseModel]) -> str:
    path = ".".join(map(str, place.keys))
    section, _, name = path.rpartition(".")
    prefix = f"{section}." if section else ""
    known = [_beside(place.keys, key) for key in key_paths(model, place.chosen)]
    siblings = [key for key in known if key.rpartition(".")[0] == section]
    # The right key in the wrong section comes after any of its own.
    for keys in (siblings, known):
        leaves = {key.rpartition(".")[2]: key for key in reversed(keys)}
        if (leaf := nearest(name, leaves)) is not None:
            return f"did you mean {leaves[leaf]}?"
    if not siblings:
        return "check its spelling"
    names = ", ".join(key.removeprefix(prefix) for key in siblings)
    return f"known here: {names}{getattr(place.section, 'where_more_keys_are', '')}"


def _beside(place: Sequence[str | int], key: str) -> str:
    """A key path with the indices of the list items that it shares with a place: `data.0.path`."""
    names, rest = key.split("."), list(place)
    path = [names[0]]
    for above, name in itertools.pairwise(names):
        rest = rest[1:] if rest[:1] == [above] else []
        while rest and isinstance(rest[0], int):
            path.append(str(rest.pop(0)))
        path.append(name)
    return ".".join(path)


def _is_secret(place: Place) -> bool:
    fields = place.section.model_fields if place.section is not None else {}
    field = fields.get(str(place.keys[-1])) if place.keys else None
    return field is not None and SecretStr in (field.annotation, *typing.get_args(field.annotation))


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
