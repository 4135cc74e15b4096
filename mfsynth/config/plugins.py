"""What installed packages add to mfsynth: classes that their entry points name."""

from __future__ import annotations

import functools
import sys
from collections.abc import Container
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeVar

from mfsynth.errors import MfsynthError

_Class = TypeVar("_Class")


def find_plugins(group: str, own: Container[str]) -> dict[str, EntryPoint]:
    """The entry points of a group by their names, in alphabetical order; nothing is imported.

    Args:
        group: `mfsynth.checks`, for example.
        own: Names that mfsynth has itself.

    Raises:
        MfsynthError: A name is there twice.
    """
    found: dict[str, EntryPoint] = {}
    for plugin in _installed(group, tuple((path, _changed(path)) for path in sys.path)):
        other = "mfsynth" if plugin.name in own else None
        if plugin.name in found:
            other = distribution(found[plugin.name])
        if other is not None:
            raise MfsynthError(
                f"{_key(plugin)}: {distribution(plugin)} has one of this name, and so has {other}; "
                "uninstall one of them"
            )
        found[plugin.name] = plugin
    return found


def load_plugin(plugin: EntryPoint, base: type[_Class]) -> type[_Class]:
    """Import a plug-in.

    Raises:
        MfsynthError: It can't be imported, or is no complete subclass of `base`.
    """
    try:
        found = plugin.load()
    # Exception: whatever the package raises while it is imported.
    except Exception as error:
        raise MfsynthError(
            f"{_key(plugin)}: {distribution(plugin)} can't be imported "
            f"({type(error).__name__}: {' '.join(str(error).split())}); mend or uninstall it"
        ) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise MfsynthError(
            f"{_key(plugin)}: {plugin.value} of {distribution(plugin)} is not a subclass of "
            f"{base.__module__}.{base.__qualname__}; mend or uninstall it"
        )
    if lacking := sorted(getattr(found, "__abstractmethods__", ())):
        raise MfsynthError(
            f"{_key(plugin)}: {plugin.value} of {distribution(plugin)} lacks {', '.join(lacking)}; "
            "mend or uninstall it"
        )
    return found


def distribution(plugin: EntryPoint) -> str:
    """Name and version of the package that a plug-in is in."""
    return f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist else plugin.value


@functools.lru_cache(maxsize=8)
def _installed(group: str, where: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """By name; to look through all packages takes longer than all else of a configuration."""
    return tuple(sorted(entry_points(group=group), key=lambda point: point.name))


def _changed(folder: str) -> int:
    """When a package came or went there last, in nanoseconds; 0 for what is no folder."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def _key(plugin: EntryPoint) -> str:
    return f"{plugin.group.removeprefix('mfsynth.')}.{plugin.name}"
