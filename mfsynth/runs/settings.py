"""A run's configuration with its checks validated and their defaults filled in.

`mfsynth.config` knows nothing of checks: to it their settings are any mappings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import create_model

from mfsynth.checks import Input, check_names, open_checks
from mfsynth.checks.registry import BUILT_IN, HOW_TO_ADD, find_check, plugin_versions
from mfsynth.config import Fingerprint, RunConfig, fingerprint
from mfsynth.config.base import Settings
from mfsynth.config.loading import GivenSettings, read_run_settings
from mfsynth.config.schema import SamplerConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import ModelInfo

# Of `CheckedPair`, what a worker has to show.
_INPUTS: tuple[Input, ...] = ("rgb", "depth", "own_depth", "text")

# Settings of format version 1 have null for those of these that are not run; of other checks they
# have nothing, so that a new one leaves the fingerprints of runs without it as they are.
_ALWAYS_NAMED = ("validity", "registration", "flying_pixels", "self_agreement")


def load_run_config(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    output: str | None = None,
    pairs: int | None = None,
) -> RunConfig:
    """Load the configuration of a run, complete; for its arguments see `load_config`.

    Raises:
        MfsynthError: One line that names the file or `--set`, the key, and what to do.
    """
    return _complete(read_run_settings(name_or_path, overrides, output, pairs))


def complete(config: RunConfig) -> RunConfig:
    """A configuration with its checks validated and their defaults filled in. Idempotent.

    Raises:
        MfsynthError: One line that names the key and says what to do.
    """
    return _complete(GivenSettings(config.model_dump()))


def run_fingerprint(config: RunConfig, prompts_digest: str, model_revision: str) -> Fingerprint:
    """The fingerprint of a complete configuration; see `mfsynth.config.fingerprint`."""
    versions = plugin_versions(name for name, values in config.checks.items() if values is not None)
    plugins = {f"checks.{name}": version for name, version in versions.items()}
    return fingerprint(config, prompts_digest, model_revision, plugins)


def check_sampler(sampler: SamplerConfig, model: ModelInfo) -> None:
    """Check that a model can be sampled so.

    Raises:
        MfsynthError: Few-step weights, and not the steps that they are for; or the preset for them
            without them.
    """
    if sampler.mode != "joint":
        return
    if model.few_steps is not None:
        model.few_steps.check(
            steps=sampler.steps,
            guidance=(sampler.guidance, sampler.depth_guidance),
            refine_steps=sampler.refine_steps,
            refine_start=sampler.refine_start,
        )
    elif sampler.preset == "distilled":
        raise MfsynthError(
            "sampler.preset: distilled is for few-step weights; name their folder in "
            "model.few_steps, or take another preset"
        )


class _Checks(Settings):
    where_more_keys_are: ClassVar[str] = f"; for another check, {HOW_TO_ADD}"


def _complete(given: GivenSettings) -> RunConfig:
    named = given.values.get("checks")
    typed = given.validate(_model(named if isinstance(named, Mapping) else ()))
    # As `run.json` will have them: what can't be read back from there is refused now.
    checks = typed.model_dump(mode="json", include={"checks"})["checks"]
    checks = {n: kept for n, kept in checks.items() if kept is not None or n in _ALWAYS_NAMED}
    config = RunConfig.model_validate({**typed.model_dump(exclude={"checks"}), "checks": checks})
    for name, check in open_checks(config.checks).items():
        if lacking := {*check.inputs} - {*_INPUTS}:
            raise MfsynthError(
                f"checks.{name}: looks at {', '.join(sorted(lacking))}, which a run does not "
                "have; leave this check out"
            )
    return config


def _model(named: Iterable[object]) -> type[RunConfig]:
    """The type of a configuration in which checks are typed as well.

    Packages are imported only for checks that are named; of others the names are enough, to
    suggest them.
    """
    used = {*BUILT_IN} | {*named}
    types = {name: find_check(name) if name in used else Settings for name in check_names()}
    fields: dict[str, Any] = {name: (kind | None, None) for name, kind in types.items()}
    checks: Any = create_model("Checks", __base__=_Checks, **fields)
    return create_model("CompleteRunConfig", __base__=RunConfig, checks=(checks, checks()))
