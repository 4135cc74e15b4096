"""Which kinds of sources there are: mfsynth's own, and those of installed packages."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Annotated, Any, Literal, Union

from pydantic import Field, TypeAdapter, create_model
from pydantic_core import PydanticKnownError

from mfsynth.config.base import Settings
from mfsynth.config.kinds import OfKind
from mfsynth.config.plugins import distribution, find_plugins, load_plugin
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


def _any_source(given: Any) -> SourceSettings:
    if isinstance(given, SourceSettings):
        return given
    if not isinstance(given, Mapping):
        raise PydanticKnownError("dict_type")
    return source_settings(given)


def built_in() -> dict[str, Any]:
    """Settings of mfsynth's own kinds of sources, by kind."""
    # Here, for none of these is light, and settings are read in commands that open no source.
    from mfsynth.sources.folders import FolderSettings
    from mfsynth.sources.lerobot import LeRobotSettings
    from mfsynth.sources.mujoco_models import MujocoSettings
    from mfsynth.sources.recordings import RecordingSettings
    from mfsynth.sources.runs import RunSettings
    from mfsynth.sources.simulated import CachedScenesSettings, LiveScenesSettings
    from mfsynth.sources.tables import TableSettings
    from mfsynth.sources.videos import VideoSettings
    from mfsynth.sources.webdatasets import WebDatasetSettings

    return {
        "mfsynth": RunSettings,
        "webdataset": WebDatasetSettings,
        "folder": FolderSettings,
        "video": VideoSettings,
        "lerobot": LeRobotSettings,
        "table": TableSettings,
        "recording": RecordingSettings,
        "cached_scenes": CachedScenesSettings,
        "live_scenes": LiveScenesSettings,
        "mujoco": MujocoSettings,
    }


@functools.cache
def _kinds(wanted: str | None) -> TypeAdapter[SourceSettings]:
    union: Any = Union[tuple(_classes(wanted).values())]  # noqa: UP007
    return TypeAdapter(Annotated[union, Field(discriminator="kind")])


def _classes(wanted: str | None) -> dict[str, Any]:
    kinds = built_in()
    for name, plugin in find_plugins(GROUP, kinds).items():
        kinds[name] = _load(plugin) if name == wanted else _name_only(name)
    return kinds


AnySource = Annotated[SourceSettings, OfKind(_any_source, _classes)]
"""Settings of a source, as a field of others."""


def _name_only(kind: str) -> type[Settings]:
    """Of a kind that isn't asked for the name is enough, to suggest it."""
    tag: Any = Literal[kind]
    return create_model(kind, __base__=Settings, kind=(tag, ...))


def _load(plugin: EntryPoint) -> type[SourceSettings]:
    # mypy wants a class that can be instantiated; only subclasses of this one are.
    found = load_plugin(plugin, SourceSettings)  # type: ignore[type-abstract]
    kind = found.model_fields.get("kind")
    if kind is None or typing.get_args(kind.annotation) != (plugin.name,):
        raise MfsynthError(
            f"sources.{plugin.name}: {plugin.value} of {distribution(plugin)} has no field kind: "
            f'Literal["{plugin.name}"]; mend or uninstall it'
        )
    return found
