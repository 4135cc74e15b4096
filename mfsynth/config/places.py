"""Where in a file the fields of a model are: their key paths, and what pydantic calls them."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mfsynth.config.kinds import OfKind


@dataclass(frozen=True, slots=True)
class Place:
    """Where a problem is, as a file has it: pydantic names what it has chosen beside the keys.

    Attributes:
        keys: From the outermost, with the numbers of list items.
        section: The model that the last key is one of, or would be; None where there is none.
        kinds: What may be chosen there, by the name to choose it by; empty for anything else.
        chosen: What was chosen on the way, by the path to it without numbers.
    """

    keys: tuple[str | int, ...]
    section: type[BaseModel] | None
    kinds: Mapping[str, Any]
    chosen: Mapping[str, type[BaseModel]]


def place_of(loc: Sequence[str | int], model: type[BaseModel]) -> Place:
    """The place that pydantic says a problem is at.

    Args:
        loc: Of the problem.
        model: That the whole file was to be.
    """
    here: _Type | None = _Type(model)
    section: type[BaseModel] | None = None
    keys: list[str | int] = []
    fields: list[str] = []
    chosen: dict[str, type[BaseModel]] = {}
    for part in loc:
        if here is None:
            keys.append(part)
        elif here.model is not None:
            section, name = here.model, str(part)
            field = section.model_fields.get(name)
            here = _Type.of_field(field) if field is not None else None
            fields.append(name)
            if field is None or name not in getattr(section, "internal_fields", ()):
                keys.append(part)
        elif kinds := here.kinds(str(part)):
            here = _Type.of(kinds[str(part)]) if str(part) in kinds else None
            if here is not None and here.model is not None:
                section = chosen[".".join(fields)] = here.model
        elif _is_union(here.bare):
            # Of several types, none of which fits, the part names one.
            here = None
            break
        else:
            here = here.item
            keys.append(part)
    return Place(tuple(keys), section or model, here.kinds() if here else {}, chosen)


def key_paths(
    model: type[BaseModel], chosen: Mapping[str, type[BaseModel]] | None = None
) -> Iterator[str]:
    """All key paths that a file can have, sections before what is in them.

    Args:
        model: Of the whole file.
        chosen: By their paths, what there is where several classes may be.
    """
    return _key_paths(model, chosen or {}, "", "")


def _key_paths(
    model: type[BaseModel], chosen: Mapping[str, type[BaseModel]], prefix: str, fields: str
) -> Iterator[str]:
    internal = getattr(model, "internal_fields", ())
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if name not in internal:
            yield path
        section = chosen.get(f"{fields}{name}", _section(_Type.of_field(field)))
        if section is not None:
            # Keys of what no file names stand beside the model's own.
            inner = prefix if name in internal else f"{path}."
            yield from _key_paths(section, chosen, inner, f"{fields}{name}.")


@dataclass(frozen=True, slots=True)
class _Type:
    """An annotation without what a file doesn't see of it.

    Attributes:
        bare: It.
        discriminator: The key that chooses one of a union; None for no key.
        of_kind: What finds the class instead of a union; None for nothing.
    """

    bare: Any
    discriminator: str | None = None
    of_kind: OfKind | None = None

    @classmethod
    def of(cls, annotation: Any, about: Sequence[Any] = ()) -> _Type:
        """Of an annotation, and what is said about it."""
        found = [*about]
        while True:
            members = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
            if typing.get_origin(annotation) is Annotated:
                found += annotation.__metadata__
                annotation = annotation.__origin__
            elif _is_union(annotation) and len(members) == 1:
                [annotation] = members
            else:
                break
        names = [getattr(each, "discriminator", None) for each in found]
        return cls(
            annotation,
            next((name for name in names if isinstance(name, str)), None),
            next((each for each in found if isinstance(each, OfKind)), None),
        )

    @classmethod
    def of_field(cls, field: FieldInfo) -> _Type:
        """Of a model's field."""
        return cls.of(field.annotation, (field, *field.metadata))

    @property
    def model(self) -> type[BaseModel] | None:
        """It, if it is a model."""
        is_one = isinstance(self.bare, type) and issubclass(self.bare, BaseModel)
        return self.bare if is_one and self.of_kind is None else None

    @property
    def item(self) -> _Type | None:
        """Of the items of a list, or of a mapping."""
        if typing.get_origin(self.bare) not in (list, tuple, dict):
            return None
        inner = typing.get_args(self.bare)
        return _Type.of(inner[-1] if typing.get_origin(self.bare) is dict else inner[0])

    def kinds(self, name: str | None = None) -> dict[str, Any]:
        """What may be chosen, by the name to choose it by; packages are asked for the named one."""
        if self.of_kind is not None:
            return dict(self.of_kind.classes(name))
        if self.discriminator is None:
            return {}
        members = typing.get_args(self.bare)
        return {kind: one for one in members for kind in _names(_Type.of(one), self.discriminator)}


def _names(member: _Type, discriminator: str) -> Iterator[str]:
    if member.model is not None:
        yield from typing.get_args(member.model.model_fields[discriminator].annotation)
    elif _is_union(member.bare):
        for one in typing.get_args(member.bare):
            yield from _names(_Type.of(one), discriminator)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _section(found: _Type | None) -> type[BaseModel] | None:
    """The model of what a key holds, or of the items of its list."""
    while found is not None and found.model is None:
        found = found.item
    return found.model if found is not None else None
