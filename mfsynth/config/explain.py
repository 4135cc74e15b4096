"""Validation errors as one line: the key's path, what is wrong, what to do."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from mfsynth.config.suggestions import nearest

_UNKNOWN = ("extra_forbidden", "invalid_key")
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
    path = ".".join(str(part) for part in detail["loc"])
    return path, _problem(detail, path, model)


def key_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All key paths that a file can have, sections before what is in them."""
    internal = getattr(model, "internal_fields", ())
    for name, field in model.model_fields.items():
        if name in internal:
            continue
        path = f"{prefix}{name}"
        yield path
        section = _section(field.annotation)
        if section is not None:
            yield from key_paths(section, f"{path}.")


def _problem(detail: ErrorDetails, path: str, model: type[BaseModel]) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in _UNKNOWN:
        return f"unknown key; {_suggest_key(detail['loc'], model)}"
    if kind == "missing":
        return "missing; add it"
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}, not {value}"
    if _is_secret(detail["loc"], model):
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
    if kind == "union_tag_invalid":
        return f"must be one of {context['expected_tags']}, not {_shown(context['tag'])}"
    if kind == "value_error":
        return str(context["error"])
    return f"{detail['msg']}, not {_shown(value)}"


def _suggest_key(place: Sequence[str | int], model: type[BaseModel]) -> str:
    path = ".".join(map(str, place))
    section, _, name = path.rpartition(".")
    prefix = f"{section}." if section else ""
    known = [_beside(place, key) for key in key_paths(model)]
    siblings = [key for key in known if key.rpartition(".")[0] == section]
    match = nearest(path, siblings)
    if match is None:
        # The right key in the wrong section.
        leaves = {key.rpartition(".")[2]: key for key in reversed(known)}
        leaf = nearest(name, leaves)
        match = leaves[leaf] if leaf is not None else None
    if match is not None:
        return f"did you mean {match}?"
    if not siblings:
        return "check its spelling"
    names = ", ".join(key.removeprefix(prefix) for key in siblings)
    return f"known here: {names}{getattr(_model_at(place[:-1], model), 'where_more_keys_are', '')}"


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


def _model_at(place: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel] | None:
    """The model of a section, or of the items of a list; the place of the whole is empty."""
    found: type[BaseModel] | None = model
    for name in place:
        if isinstance(name, int):
            continue
        field = found.model_fields.get(name) if found is not None else None
        found = _section(field.annotation) if field is not None else None
    return found


def _is_secret(place: Sequence[str | int], model: type[BaseModel]) -> bool:
    section = _model_at(place[:-1], model)
    field = section.model_fields.get(str(place[-1])) if section is not None and place else None
    return field is not None and SecretStr in (field.annotation, *typing.get_args(field.annotation))


def _section(annotation: Any) -> type[BaseModel] | None:
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
