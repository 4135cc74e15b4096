"""A run's configuration with its checks validated and their defaults filled in.

`mfsynth.config` knows nothing of checks: to it their settings are any mappings.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import create_model

from mfsynth.checks import Check, Input, check_names, open_checks, score_infos
from mfsynth.checks.base import NetworkInfo
from mfsynth.checks.calibration import CALIBRATION, Calibration
from mfsynth.checks.calibration_files import with_calibration
from mfsynth.checks.registry import (
    BUILT_IN,
    HOW_TO_ADD,
    LAST,
    find_check,
    networks_of,
    plugin_versions,
)
from mfsynth.config import Fingerprint, RunConfig, SamplerConfig, fingerprint
from mfsynth.config.base import Settings, Unset
from mfsynth.config.loading import GivenSettings, read_run_settings
from mfsynth.config.schema import checks_by_name
from mfsynth.errors import MfsynthError
from mfsynth.models import ModelInfo, model_info
from mfsynth.models.estimators.catalogue import EstimatorInfo
from mfsynth.models.few_steps.files import UNUSED_IN_FEW_STEPS
from mfsynth.runs.revisions import network_revisions
from mfsynth.shards.columns import PARTED, PHASH
from mfsynth.shards.labels import (
    CAMERA_TO_WORLD,
    EPISODE,
    MASK,
    POSES,
    SENSOR,
    SENSOR_PRESET,
    member_of,
)
from mfsynth.shards.run_manifest import ScoreInfo
from mfsynth.sources.registry import AnySource
from mfsynth.storage.protocols import require_openable
from mfsynth.storage.urls import absolute_url

# Of `CheckedPair`, what a worker has to show of any run.
_INPUTS: tuple[Input, ...] = ("rgb", "depth", "joint_depth", "estimate", "text", "slots", "scores")
_SENSOR = tuple(f"sensor_{part}" for part in ("offset", "size", "crc32", "unit_per_code"))
_COLUMNS_OF_LABELS = {
    CAMERA_TO_WORLD: ("camera_to_world",),
    MASK: ("mask_offset", "mask_size", "mask_crc32"),
    POSES: ("poses_offset", "poses_size", "poses_crc32", "objects"),
    EPISODE: ("episode", "frame", "timestamp"),
    SENSOR: _SENSOR,
    SENSOR_PRESET: ("sensor",),
}

_TypedSource = Unset[AnySource]

WHY_ABSTAINING = "the sampler makes depth of the finished image, so there is no other to compare"
"""Of checks that compare two depths of a pair."""


def load_run_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | RunConfig,
    overrides: Sequence[str] = (),
    *,
    output: str | None = None,
    pairs: int | None = None,
) -> RunConfig:
    """Load the configuration of a run, complete; for its arguments see `load_config`.

    Raises:
        MfsynthError: One line that names the file or `--set`, the key, and what to do.
    """
    given = read_run_settings(source, overrides, output, pairs)
    config = _complete(given)
    try:
        require_openable(absolute_url(config.output))
    except MfsynthError as error:
        raise given.error("output", str(error)) from error
    return config


def complete(config: RunConfig) -> RunConfig:
    """A configuration with its checks validated and their defaults filled in. Idempotent.

    Raises:
        MfsynthError: One line that names the key and says what to do.
    """
    return _complete(GivenSettings(config.model_dump()))


def run_fingerprint(
    config: RunConfig,
    prompts_digest: str | None,
    model_revision: str,
    estimator: EstimatorInfo | None = None,
    *,
    source: Mapping[str, Any] | None = None,
) -> Fingerprint:
    """The fingerprint of a complete configuration; see `mfsynth.config.fingerprint`.

    Args:
        config: The configuration.
        prompts_digest: Of its prompts; None where it has none.
        model_revision: That was loaded.
        estimator: That looks at its pairs; None for none.
        source: What its source holds, in place of its settings; None where it has none.
    """
    versions = plugin_versions(name for name, values in config.checks.items() if values is not None)
    beside: dict[str, Any] = {}
    if versions:
        beside["plugins"] = {f"checks.{name}": version for name, version in versions.items()}
    if source is not None:
        beside["source"] = dict(source)
    if own_depth_steps(config) and config.sampler.mode == "joint":
        # Runs of equal settings kept the joint depth once.
        beside["depth"] = "of the finished image"
    if estimator is not None and config.estimator is not None:
        settings = config.estimator.model_dump(mode="json")
        beside["estimator"] = {**settings, "revision": estimator.revision}
    if networks := network_revisions(config):
        # Also of a folder, or of a hub id without a revision.
        beside["networks"] = networks
    return fingerprint(config, prompts_digest, model_revision, beside)


def own_depth_steps(config: RunConfig) -> int:
    """Steps of the depth, the model's own for finished images, that a run makes for its checks.

    Of joint pairs it takes the place of the depth that was made with the image; for images of given
    depth (`d2i`) it is the estimate of their depth, where no estimator gives one. 0 where no check
    looks at both, or the sampler makes it anyway.
    """
    if config.sampler.mode == "d2i" and config.estimator is None:
        other: Input = "estimate"
    elif config.sampler.keeps_joint_depth:
        other = "joint_depth"
    else:
        return 0
    checks = open_checks(config.checks).values()
    return max((check.own_depth_steps for check in checks if other in check.inputs), default=0)


def added_columns(config: RunConfig, labels: Collection[str] = ()) -> tuple[str, ...]:
    """Those of `shards.columns.ADDED` that a run has which begins now.

    Args:
        config: The run.
        labels: What its source has; see `mfsynth.sources.base.LabelledSource`.
    """
    names: tuple[str, ...] = ()
    if config.camera is not None:
        names += ("camera",)
    if config.estimator is not None and (config.camera or config.source) is not None:
        names += tuple(f"estimated_{name}" for name in ("fx", "fy", "cx", "cy"))
    if config.metres_per_unit is not None:
        names += ("metres_per_unit", "metres_per_unit_error")
    if config.sensor is not None:
        names += ("sensor",)
    if config.metres_per_unit == "source" or config.sensor is not None:
        names += _SENSOR
    if config.source is not None:
        names += ("source", "copy", "scene", "source_licence")
    if any("mask" in check.inputs for check in open_checks(config.checks).values()):
        names += (PARTED,)
    for label, columns in _COLUMNS_OF_LABELS.items():
        if label in labels:
            names += columns
    return (*dict.fromkeys(names), PHASH)


def other_members(labels: Iterable[str]) -> list[str]:
    """Members of a run's samples that its source alone understands."""
    return [member_of(label) for label in labels if label not in _COLUMNS_OF_LABELS]


def abstaining_checks(config: RunConfig) -> dict[str, Check]:
    """The checks, by name, that have no joint depth to look at in any pair of a run."""
    if config.sampler.keeps_joint_depth:
        return {}
    checks = open_checks(config.checks)
    return {name: check for name, check in checks.items() if "joint_depth" in check.inputs}


def run_scores(config: RunConfig) -> dict[str, ScoreInfo]:
    """What a run keeps of its scores, by name.

    Raises:
        MfsynthError: There is no such network as a check asks, or limits were calibrated with
            another one.
    """
    checks = open_checks(config.checks)
    infos = score_infos(checks.values())
    networks = networks_of(checks)
    _require_calibrated_networks(checks, networks)
    for name, network in networks.items():
        for score in checks[name].scores:
            note = f"{infos[score.name].note}, by {network.id} (licence {network.licence})"
            infos[score.name] = replace(infos[score.name], note=note)
    for name in score_infos(abstaining_checks(config).values()):
        infos[name] = replace(infos[name], note=f"abstains: {WHY_ABSTAINING}")
    return infos


def _require_calibrated_networks(
    checks: Mapping[str, Check], networks: Mapping[str, NetworkInfo]
) -> None:
    """Refuses limits on what other networks say."""
    for check in checks.values():
        calibrated = (check.networks if isinstance(check, Calibration) else None) or {}
        for name, found in networks.items():
            if (wanted := calibrated.get(name, found.revision)) != found.revision:
                raise MfsynthError(
                    f"checks.{name}: {found.id} ({found.revision[:12]}), but checks.{CALIBRATION} "
                    f"was made with {wanted[:12]}; take that one, or calibrate with this one"
                )


def require_trained_for(sampler: SamplerConfig, model: ModelInfo) -> None:
    """Refuses to sample a model in a way that it was not trained for.

    Raises:
        MfsynthError: Few-step weights in other steps, or with guidance; the preset for them without
            them; or depth tokens left out with a model that, as far as its files say, has never
            been without them.
    """
    if sampler.mode != "joint":
        return
    if model.few_steps is not None:
        model.few_steps.check(
            steps=sampler.steps,
            guidance=(sampler.guidance, sampler.depth_guidance),
            refine_steps=sampler.refine_steps,
            refine_start=sampler.refine_start,
            depth_start=sampler.depth_start,
            unused={name: getattr(sampler, name) for name in UNUSED_IN_FEW_STEPS},
        )
    elif sampler.preset == "distilled":
        raise MfsynthError(
            "sampler.preset: distilled is for few-step weights; name their folder in "
            "model.few_steps, or take another preset"
        )
    if model.needs_depth_tokens and sampler.depth_start < 1:
        raise MfsynthError(
            f"sampler.depth_start: {sampler.depth_start:g} (preset {sampler.preset}) leaves depth "
            f"tokens out of steps, and {model.id} was never trained without them; set "
            "sampler.preset=reference, or sampler.depth_start=1"
        )


class _Checks(Settings):
    where_more_keys_are: ClassVar[str] = f"; for another check, {HOW_TO_ADD}"


def _complete(given: GivenSettings) -> RunConfig:
    named = checks_by_name(given.values.get("checks"))
    calibration = with_calibration(named) if isinstance(named, Mapping) else None
    if calibration is not None:
        named = calibration.checks
        given = replace(given, values={**given.values, "checks": named})
    typed = given.validate(_model(named if isinstance(named, Mapping) else ()))
    # As `run.json` will have them: what can't be read back from there is refused now.
    checks = typed.model_dump(mode="json", include={"checks"})["checks"]
    checks = {name: kept for name, kept in checks.items() if kept is not None}
    values = {**typed.model_dump(exclude={"checks", "source"}), "checks": checks}
    if typed.source is not None:
        values |= typed.model_dump(mode="json", include={"source"})
    config = RunConfig.model_validate(values)
    shown: set[Input] = {*_INPUTS}
    if config.camera is not None or config.source is not None:
        shown |= {"intrinsics", "camera"}
        shown |= {"mask"} if config.source is not None else set()
    elif config.estimator is not None:
        shown |= {"camera"}
    if config.model.kind is not None:
        shown -= {"joint_depth", "estimate"}
        _require_two_models(config)
    for name, check in open_checks(config.checks).items():
        # Of images for given depth the model itself may say what depth they show.
        own = config.sampler.mode == "d2i" and check.own_depth_steps > 0
        if "estimate" in check.inputs and config.estimator is None and not own:
            raise MfsynthError(
                f"checks.{name}: looks at what a depth estimator says of the image; set "
                "estimator.id, or leave this check out"
            )
        if lacking := {*check.inputs} - shown:
            remedy = "set camera, or " if lacking <= {"intrinsics", "camera"} else ""
            if config.model.kind is not None and lacking <= {"joint_depth", "estimate"}:
                remedy = "its depth is the estimator's: "
            raise MfsynthError(
                f"checks.{name}: looks at {', '.join(sorted(lacking))}, which a run does not "
                f"have; {remedy}leave this check out"
            )
    for name, check in abstaining_checks(config).items():
        if check.on_abstain == "reject":
            raise MfsynthError(
                f"checks.{name}.on_abstain: reject turns every pair down, for {WHY_ABSTAINING}; "
                "leave this check out"
            )
    _require_estimator_in_use(config)
    if calibration is not None and config.source is None:
        # Pairs of a source have its images' sizes.
        info = model_info(config.model)
        sampler = config.sampler
        calibration.require_size(sampler.height or info.height, sampler.width or info.width)
    return config


def _require_two_models(config: RunConfig) -> None:
    """Refuses what a run by a text-to-image pipeline and an estimator can't be.

    Raises:
        MfsynthError: It lacks an estimator or the size of its images, or asks for metres twice.
    """
    if config.estimator is None:
        raise MfsynthError(
            "model.kind: two_models takes depth from an estimator; set estimator.id to one that "
            "gives depth"
        )
    if config.sampler.height is None:
        raise MfsynthError(
            "model.kind: two_models makes images of whatever size; set sampler.height and "
            "sampler.width to that of the pipeline's training"
        )
    if config.metres_per_unit == "estimator":
        raise MfsynthError(
            "metres_per_unit: the depth of two_models is the estimator's already, in metres if it "
            "gives metres; leave it out"
        )


def _require_estimator_in_use(config: RunConfig) -> None:
    if config.estimator is None:
        if config.metres_per_unit == "estimator":
            raise MfsynthError(
                "metres_per_unit: estimator, and there is none; set estimator.id to a metric one, "
                "or give a number"
            )
        return
    if config.model.kind is not None:
        return
    looked_at = {name for check in open_checks(config.checks).values() for name in check.inputs}
    # Without a camera of its own, a run has the one that the estimator sees.
    seen = {"estimate"} | ({"camera"} if config.camera is None else set())
    if config.metres_per_unit != "estimator" and not looked_at & seen:
        raise MfsynthError(
            "estimator: nothing looks at what it says; name a check that does, set "
            "metres_per_unit=estimator, or leave it out"
        )


def _model(named: Iterable[object]) -> type[RunConfig]:
    """The type of a configuration in which checks and source are typed as well.

    Packages are imported only for checks that are named; of others the names are enough, to
    suggest them.
    """
    used = {*BUILT_IN, *LAST} | {*named}
    types = {name: find_check(name) if name in used else Settings for name in check_names()}
    fields: dict[str, Any] = {name: (kind | None, None) for name, kind in types.items()}
    checks: Any = create_model("Checks", __base__=_Checks, **fields)
    return create_model(
        "CompleteRunConfig",
        __base__=RunConfig,
        checks=(checks, checks()),
        source=(_TypedSource, None),
    )
