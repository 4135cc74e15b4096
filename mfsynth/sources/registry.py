"""Which kinds of sources there are: mfsynth's own, and those of installed packages."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal, Union

from pydantic import Field, TypeAdapter, create_model

from mfsynth.config.base import Settings
from mfsynth.errors import MfsynthError
from mfsynth.sources.settings import SourceSettings

GROUP = "mfsynth.sources"
"""Entry points of this group name `SourceSettings` of other packages by their kind."""


def source_settings(values: Mapping[str, Any]) -> SourceSettings:
    """Settings of a source from the values of a file; their `kind` says of which.

    Packages are imported only for the kind that is named.

    Raises:
        ValidationError: There is no such kind, or a setting of it is missing, unknown or wrong.
        MfsynthError: A package's kind can't be used; names the package.
    """
    kind = values.get("kind")
    return _kinds(kind if isinstance(kind, str) else None).validate_python(values)


@functools.cache
def _kinds(wanted: str | None) -> TypeAdapter[SourceSettings]:
    # Here, for none of these is light, and settings are read in commands that open no source.
    from mfsynth.sources.folders import FolderSettings
    from mfsynth.sources.runs import RunSettings
    from mfsynth.sources.simulated import CachedScenesSettings, LiveScenesSettings
    from mfsynth.sources.webdatasets import WebDatasetSettings

    kinds: dict[str, Any] = {
        "mfsynth": RunSettings,
        "webdataset": WebDatasetSettings,
        "folder": FolderSettings,
        "cached_scenes": CachedScenesSettings,
        "live_scenes": LiveScenesSettings,
    }
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in kinds:
            raise _unusable(point, "there is a source of that name already")
        kinds[point.name] = _load(point) if point.name == wanted else _name_only(point.name)
    union: Any = Union[tuple(kinds.values())]  # noqa: UP007
    return TypeAdapter(Annotated[union, Field(discriminator="kind")])


def _name_only(kind: str) -> type[Settings]:
    """Of a kind that isn't asked for the name is enough, to suggest it."""
    tag: Any = Literal[kind]
    return create_model(kind, __base__=Settings, kind=(tag, ...))


def _load(point: EntryPoint) -> type[SourceSettings]:
    try:
        found = point.load()
    # Exception: importing a package can raise anything.
    except Exception as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise _unusable(point, f"{point.value} can't be loaded ({problem})") from error
    if not (isinstance(found, type) and issubclass(found, SourceSettings)):
        raise _unusable(point, f"{point.value} is no subclass of SourceSettings")
    kind = found.model_fields.get("kind")
    if kind is None or typing.get_args(kind.annotation) != (point.name,):
        raise _unusable(point, f'{point.value} has no field kind: Literal["{point.name}"]')
    return found


def _unusable(point: EntryPoint, problem: str) -> MfsynthError:
    package = "unknown" if point.dist is None else point.dist.name
    return MfsynthError(
        f"source {point.name!r} of the package {package}: {problem}; mend or uninstall the package"
    )
