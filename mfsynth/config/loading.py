"""From YAML, `--set` and the command line to a validated configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from mfsynth.config.base import Settings
from mfsynth.config.documents import parse_yaml, read_yaml
from mfsynth.config.explain import explain
from mfsynth.config.renamed import warn_of_earlier_names
from mfsynth.config.resources import resolve_resource
from mfsynth.config.schema import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials

_Settings = TypeVar("_Settings", bound=Settings)

_COMMAND_LINE = "--set"
_OPTIONS = {"output": "--out", "target.pairs": "--pairs", "estimator": "--estimator"}
_ALTERNATIVES = {
    "target.pairs": ("candidates", "all"),
    "target.candidates": ("pairs", "all"),
    "target.all": ("pairs", "candidates"),
    "prompts.library": ("file",),
    "prompts.file": ("library",),
    "camera.preset": ("fov",),
    "camera.fov": ("preset",),
}


@dataclass(frozen=True, slots=True)
class GivenSettings:
    """Settings as they were given, before anything has validated them.

    Attributes:
        values: The settings, nested.
        where: Their file, for error messages; "" for none.
        overridden: Key paths of those that come from the command line, with their option.
    """

    values: Mapping[Any, Any]
    where: str = ""
    overridden: Mapping[str, str] = field(default_factory=dict)

    def validate(self, model: type[_Settings]) -> _Settings:
        """The settings as a model has them.

        Raises:
            MfsynthError: One line that names the file or `--set`, the key, and what to do.
        """
        try:
            return model.model_validate(self.values)
        except ValidationError as error:
            raise self.error(*explain(error, model)) from error

    def error(self, path: str, problem: str) -> MfsynthError:
        """What is wrong with the settings at a key path, with where they come from."""
        # A rule on a whole section is broken by a setting in it, and the other way round.
        origins = (
            option
            for key, option in self.overridden.items()
            if f"{path}.".startswith(f"{key}.") or f"{key}.".startswith(f"{path}.")
        )
        origin = next(origins, self.where)
        # An option of its own says which setting it is.
        named = path if origin != _OPTIONS.get(path) else ""
        return MfsynthError(": ".join(part for part in (origin, named, problem) if part))


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | RunConfig,
    overrides: Sequence[str] = (),
    *,
    output: str | None = None,
    pairs: int | None = None,
) -> RunConfig:
    """Load the configuration of a run; `mfsynth.runs.settings.load_run_config` validates more.

    Args:
        source: The name of a configuration in `configs/`, a path or fsspec URL, the content of such
            a file, or a configuration that is one already.
        overrides: Each `"a.b=c"`, `c` in YAML; later ones win. Setting one of two
            alternatives (such as `target.pairs`) takes the other away.
        output: Replaces `output`.
        pairs: Replaces `target`.

    Returns:
        The configuration; the settings of its checks are as they were given.

    Raises:
        MfsynthError: One line that names the file or `--set`, the key, and what to do.
    """
    return read_run_settings(source, overrides, output, pairs).validate(RunConfig)


def read_run_settings(
    source: str | os.PathLike[str] | Mapping[str, Any] | RunConfig,
    overrides: Sequence[str],
    output: str | None,
    pairs: int | None,
) -> GivenSettings:
    """Read what `load_config` validates; arguments and errors are its own."""
    given: list[tuple[str, Any]] = [("output", output)] if output is not None else []
    given += [("target.pairs", pairs)] if pairs is not None else []
    if isinstance(source, RunConfig):
        return read_overrides(source.model_dump(), overrides, given=given)
    if isinstance(source, Mapping):
        read = read_overrides(source, overrides, given=given)
        warn_of_earlier_names(read.values, "", read.overridden)
        return read
    read = _read_settings("configs", os.fspath(source), overrides, given)
    warn_of_earlier_names(read.values, read.where, read.overridden)
    _require_no_command(read)
    return read


def _require_no_command(given: GivenSettings) -> None:
    """A file is data: what it says is read, never run."""
    runtime = given.values.get("runtime")
    target = runtime.get("on_event") if isinstance(runtime, Mapping) else None
    from_a_file = not {"runtime.on_event", "runtime"} & {*given.overridden}
    if from_a_file and isinstance(target, str) and not target.startswith(("http://", "https://")):
        raise MfsynthError(
            f"{given.where}: runtime.on_event: a file may name a URL (https://…) only; give a "
            "command by MFSYNTH_ON_EVENT or --set"
        )


def load_settings(
    model: type[_Settings],
    kind: str,
    name_or_path: str,
    overrides: Sequence[str] = (),
    given: Sequence[tuple[str, Any]] = (),
) -> _Settings:
    """Load any configuration.

    Args:
        model: What it must be.
        kind: The folder of shipped ones, `"configs"` or a folder in it.
        name_or_path: The name of one in that folder, or a path or fsspec URL.
        overrides: Each `"a.b=c"`, `c` in YAML; later ones win.
        given: Keys and values that win over all.

    Raises:
        MfsynthError: One line that names the file or `--set`, the key, and what to do.
    """
    return _read_settings(kind, name_or_path, overrides, given).validate(model)


def _read_settings(
    kind: str, name_or_path: str, overrides: Sequence[str], given: Sequence[tuple[str, Any]]
) -> GivenSettings:
    url = resolve_resource(kind, name_or_path)
    where = without_credentials(url)
    values = read_yaml(url, "configuration")
    if not isinstance(values, dict):
        raise MfsynthError(f"{where}: configuration must be a mapping of keys to values")
    return read_overrides(values, overrides, where, given)


def read_overrides(
    values: Mapping[Any, Any],
    overrides: Sequence[str],
    where: str = "",
    given: Sequence[tuple[str, Any]] = (),
) -> GivenSettings:
    """Settings with others over them.

    Args:
        values: Nested.
        overrides: Each `"a.b=c"`, `c` in YAML; later ones win.
        where: Their file, for error messages.
        given: Keys and values that win over all; each has an option of its own.

    Raises:
        MfsynthError: An override is none.
    """
    parsed = [_parse_override(override) for override in overrides]
    for key, value in (*parsed, *given):
        values = _with_setting(values, key, value)
    options = {key: _COMMAND_LINE for key, _ in parsed} | {key: _OPTIONS[key] for key, _ in given}
    return GivenSettings(values, where, options)


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise MfsynthError(f"{_COMMAND_LINE} {override!r}: write it as key.path=value")
    # What YAML has a star for makes no sense here, and wildcards begin with one.
    return key, value if value.startswith("*") else parse_yaml(value, f"{_COMMAND_LINE} {key}")


def _with_setting(values: Mapping[Any, Any], key: str, value: Any) -> Mapping[Any, Any]:
    """A copy of nested values with one of them set."""
    alternatives, head = _ALTERNATIVES.get(key, ()), key.partition(".")[0]
    if alternatives and isinstance(values.get(head), Mapping):
        rest = {name: kept for name, kept in values[head].items() if name not in alternatives}
        values = {**values, head: rest}
    return _replaced(values, key.split("."), value, key)


def _replaced(values: Any, path: Sequence[str], value: Any, key: str) -> Any:
    """A copy of nested values with what is at a path replaced; lists have numbers for names."""
    head, *tail = path
    if isinstance(values, list):
        if not (head.isdecimal() and int(head) < len(values)):
            raise MfsynthError(
                f"{_COMMAND_LINE} {key}: {head} is no item of a list of {len(values)}; they are "
                "numbered from 0"
            )
        item = _deeper(values[int(head)], head, tail, value, key)
        return [*values[: int(head)], item, *values[int(head) + 1 :]]
    return {**values, head: _deeper(values.get(head), head, tail, value, key)}


def _deeper(current: Any, head: str, tail: Sequence[str], value: Any, key: str) -> Any:
    if not tail:
        return value
    if current is not None and not isinstance(current, Mapping | list):
        raise MfsynthError(f"{_COMMAND_LINE} {key}: {head} is a value, not a section")
    return _replaced({} if current is None else current, tail, value, key)
