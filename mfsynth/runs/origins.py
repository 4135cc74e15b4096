"""Each setting of a run's configuration, and where its value comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mfsynth.checks.calibration_files import with_calibration
from mfsynth.config import RunConfig
from mfsynth.config.documents import parse_yaml
from mfsynth.config.loading import GivenSettings, read_run_settings
from mfsynth.config.presets import SAMPLER_PRESETS
from mfsynth.config.renamed import RENAMED
from mfsynth.config.resources import is_path
from mfsynth.config.schema import checks_by_name
from mfsynth.errors import MfsynthError
from mfsynth.runs.settings import load_run_config
from mfsynth.storage.credentials import without_credentials

DEFAULT = "default"
# Whom to tell how a run ends may be a URL with a secret in it.
_HIDDEN = ("runtime", "on_event")

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that a run has.

    Attributes:
        path: Its keys, from the outermost.
        value: As JSON has it, without credentials.
        origin: `default`, `--set`, `--out`, `--pairs`, the file, `preset NAME`,
            `calibration FILE`, or `as KEY` of one that follows another.
    """

    path: Path
    value: Any
    origin: str


def settings_of(
    source: str, overrides: Sequence[str] = (), output: str | None = None, pairs: int | None = None
) -> tuple[RunConfig, list[Setting]]:
    """A run's complete configuration, and each setting of it; arguments as of `load_run_config`.

    Settings are in the order of the configuration, those of a section beside each other. Unset
    ones that belong to nothing that the run has are left out.

    Raises:
        MfsynthError: As of `load_run_config`.
    """
    config = load_run_config(source, overrides, output=output, pairs=pairs)
    given = read_run_settings(source, overrides, output, pairs)
    calibrated = _of_calibration(given)
    where = without_credentials(source) if is_path(source) else f"{source}.yaml"
    found = []
    for path, value in _leaves(config.model_dump(mode="json")):
        # All of a configuration, by its present names.
        if path == _HIDDEN or (path[-1] in RENAMED and not _has(given.values, path)):
            continue
        origin = (
            _given(path, given, where)
            or _of_sampler(path, value, config.sampler.preset)
            or (calibrated.get(path[1]) if path[0] == "checks" else None)
            or DEFAULT
        )
        found.append(Setting(path, _shown(value), origin))
    return config, found


def yaml_lines(settings: Sequence[Setting]) -> list[str]:
    """The settings as YAML that `generate` takes, each with its origin as a comment."""
    rows: list[tuple[str, str]] = []
    above: Path = ()
    for setting in settings:
        *sections, key = setting.path
        for depth, name in enumerate(sections):
            if above[: depth + 1] != tuple(sections[: depth + 1]):
                rows.append((f"{'  ' * depth}{_scalar(name)}:", ""))
        indent = "  " * len(sections)
        rows.append((f"{indent}{_scalar(key)}: {_scalar(setting.value)}", setting.origin))
        above = tuple(sections)
    width = min(48, max((len(text) for text, _ in rows), default=0))
    return [f"{text:{width}}  # {origin}" if origin else text for text, origin in rows]


def _leaves(values: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _given(path: Path, given: GivenSettings, where: str) -> str:
    for depth in range(len(path), 0, -1):
        key = ".".join(path[:depth])
        if key in given.overridden:
            return given.overridden[key]
    return where if _has(given.values, path) else ""


def _of_sampler(path: Path, value: Any, preset: str) -> str:
    section, *keys = path
    if section != "sampler" or keys[0] not in (settings := SAMPLER_PRESETS[preset]):
        return ""
    wanted = settings[keys[0]]
    wanted = [*wanted] if isinstance(wanted, tuple) else wanted
    # Where a run sets guidance alone, that of depth goes with it.
    return f"preset {preset}" if value == wanted else "as sampler.guidance"


def _has(values: Any, path: Path) -> bool:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def _of_calibration(given: GivenSettings) -> dict[str, str]:
    """Checks whose settings are those of a calibration that is named, each with the file."""
    named = checks_by_name(given.values.get("checks"))
    found = with_calibration(named) if isinstance(named, Mapping) else None
    if found is None:
        return {}
    origin = f"calibration {without_credentials(named['calibration']['path'])}"
    # A check that only the run names is as it is named.
    return {name: origin for name, values in found.checks.items() if values != named.get(name)}


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return value


def _scalar(value: Any) -> str:
    """A value in one line of YAML; text without quotes where it is read as the same."""
    if isinstance(value, str) and value.isprintable():
        try:
            if parse_yaml(f"[{value}]", "") == [value] and parse_yaml(value, "") == value:
                return value
        except MfsynthError:
            pass
    return json.dumps(value, ensure_ascii=False)
