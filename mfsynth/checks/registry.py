"""The checks that there are: those of mfsynth, and those of installed packages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from mfsynth.checks.base import Check, NetworkInfo
from mfsynth.checks.blur import Blur
from mfsynth.checks.boundary_f1 import BoundaryF1
from mfsynth.checks.calibration import CALIBRATION, Calibration
from mfsynth.checks.depth_error import DepthError
from mfsynth.checks.estimator_agreement import EstimatorAgreement
from mfsynth.checks.exposure import Exposure
from mfsynth.checks.field_of_view import FieldOfView
from mfsynth.checks.flying_pixels import FlyingPixels
from mfsynth.checks.normals import Normals
from mfsynth.checks.object_depth_error import ObjectDepthError
from mfsynth.checks.ordinal_agreement import OrdinalAgreement
from mfsynth.checks.planarity import Planarity
from mfsynth.checks.prompt_agreement import PromptAgreement
from mfsynth.checks.prompt_objects import PromptObjects
from mfsynth.checks.registration import Registration
from mfsynth.checks.right_angles import RightAngles
from mfsynth.checks.self_agreement import SelfAgreement
from mfsynth.checks.tiles import Tiles
from mfsynth.checks.validity import Validity
from mfsynth.config.explain import explain
from mfsynth.config.plugins import distribution, find_plugins, load_plugin
from mfsynth.errors import MfsynthError

GROUP = "mfsynth.checks"
"""Of the entry points by which a package offers checks."""

HOW_TO_ADD = f"install a package that has it as an entry point in the group {GROUP}"
"""For errors about a check that is not there."""

BUILT_IN: Mapping[str, type[Check]] = MappingProxyType(
    {
        "validity": Validity,
        "registration": Registration,
        "flying_pixels": FlyingPixels,
        "self_agreement": SelfAgreement,
        "field_of_view": FieldOfView,
        "tiles": Tiles,
        "estimator_agreement": EstimatorAgreement,
        "ordinal_agreement": OrdinalAgreement,
        "boundary_f1": BoundaryF1,
        "normals": Normals,
        "planarity": Planarity,
        "right_angles": RightAngles,
        "exposure": Exposure,
        "blur": Blur,
        "prompt_agreement": PromptAgreement,
        "prompt_objects": PromptObjects,
        "depth_error": DepthError,
        "object_depth_error": ObjectDepthError,
    }
)
"""By name, in the order of their scores in the tables of a run; `LAST` comes behind others'."""

LAST: Mapping[str, type[Check]] = MappingProxyType({CALIBRATION: Calibration})
"""What looks at the scores of all others."""


def check_names() -> tuple[str, ...]:
    """All names, in the order of their scores: mfsynth's own, those of packages by name, `LAST`.

    Raises:
        MfsynthError: Two checks have the same name.
    """
    return (*BUILT_IN, *_plugins(), *LAST)


def find_check(name: str) -> type[Check]:
    """The check of a name out of `check_names`; imports the package that has it.

    Raises:
        MfsynthError: It can't be imported, or is no check.
    """
    own = {**BUILT_IN, **LAST}
    if name in own:
        return own[name]
    plugin = _plugins()[name]
    # mypy wants a class that can be instantiated; only subclasses of this one are.
    found = load_plugin(plugin, Check)  # type: ignore[type-abstract]
    if problem := _problem(found):
        raise MfsynthError(
            f"checks.{name}: {plugin.value} of {distribution(plugin)} {problem}; "
            "mend or uninstall it"
        )
    return found


def plugin_versions(names: Iterable[str]) -> dict[str, str]:
    """Of those of the named checks that are not mfsynth's own: distribution and version."""
    plugins = _plugins()
    return {name: distribution(plugins[name]) for name in sorted(plugins.keys() & {*names})}


def open_checks(settings: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Check]:
    """The checks of a run by name, in the order of their scores.

    Args:
        settings: By name of the check, as a run's configuration has them; None is no check.

    Raises:
        MfsynthError: A check can't be had, settings are not what their check takes, or two give a
            score of the same name.
    """
    wanted = {name: values for name, values in settings.items() if values is not None}
    known = check_names()
    if unknown := wanted.keys() - {*known}:
        raise MfsynthError(
            f"checks.{min(unknown)}: there is no such check here, only {', '.join(known)}; "
            f"{HOW_TO_ADD}"
        )
    checks: dict[str, Check] = {}
    givers: dict[str, str] = {}
    for name in (name for name in known if name in wanted):
        kind = find_check(name)
        try:
            checks[name] = kind.model_validate(wanted[name])
        except ValidationError as error:
            path, problem = explain(error, kind)
            where = ".".join(filter(None, ("checks", name, path)))
            raise MfsynthError(f"{where}: {problem}") from error
        for score in checks[name].scores:
            if (other := givers.setdefault(score.name, name)) != name:
                raise MfsynthError(
                    f"checks.{name}: gives a score {score.name!r}, as {other} does; leave one out"
                )
    return checks


def load_checks(settings: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Check]:
    """As `open_checks`, with what they need beside their settings; for those that measure.

    Raises:
        MfsynthError: As `open_checks`; or what a check needs isn't there.
    """
    checks = open_checks(settings)
    for name, check in checks.items():
        with _named(name):
            check.load()
    return checks


def networks_of(checks: Mapping[str, Check]) -> dict[str, NetworkInfo]:
    """The networks that checks ask, by the names of the checks that ask one. Loads no weights.

    Raises:
        MfsynthError: There is no such network.
    """
    found: dict[str, NetworkInfo] = {}
    for name, check in checks.items():
        with _named(name):
            if (network := check.network()) is not None:
                found[name] = network
    return found


@contextmanager
def _named(check: str) -> Iterator[None]:
    try:
        yield
    except MfsynthError as error:
        raise MfsynthError(f"checks.{check}: {error}") from error


def _plugins() -> dict[str, EntryPoint]:
    return find_plugins(GROUP, {**BUILT_IN, **LAST})


def _problem(check: type[Check]) -> str | None:
    """What a class lacks to be a check; None if nothing."""
    for name in ("inputs", "scores"):
        if not hasattr(check, name):
            return f"has no {name}"
    for score in check.scores:
        if score.limit is not None and score.limit not in check.model_fields:
            return f"names the limit {score.limit!r} of a score, but has no such setting"
    return None
