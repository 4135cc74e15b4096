"""The estimator of a run: what is known of it, and whether it gives what the run looks for.

Limits that were calibrated with an estimator hold for what that one says, in the same precision.
"""

from __future__ import annotations

from mfsynth.checks import Check, open_checks
from mfsynth.checks.calibration import CALIBRATION, Calibration
from mfsynth.checks.field_of_view import FieldOfView
from mfsynth.config import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.geometry import EstimateKind
from mfsynth.models.estimators.catalogue import EstimatorInfo, estimator_info

WHY_BLIND = "the run has no camera, and its estimator sees none"
"""Of checks that look through a camera."""


def run_estimator(config: RunConfig) -> EstimatorInfo | None:
    """What is known of a run's estimator before it is loaded; None where there is none.

    Raises:
        MfsynthError: There is no such estimator, metres or a camera are asked of one that has none,
            every pair would be turned down for the lack of a camera, or limits were calibrated
            with another, with this one in another precision, or by older scores.
    """
    if config.estimator is None:
        _require_calibrated_without(config)
        return None
    info = estimator_info(config.estimator)
    _require_camera_seen(config, info)
    _require_not_blind(config, info)
    _require_calibrated_with(config, config.estimator.dtype, info)
    gives = info.gives_with(config.camera is not None)
    if config.model.kind is not None:
        _require_depth(config, info, gives)
    if config.metres_per_unit == "estimator" and gives is not EstimateKind.METRIC_Z:
        knows = "set camera, " if info.metric_with_camera else ""
        raise MfsynthError(
            f"metres_per_unit: {info.id} gives {gives.value.replace('_', ' ')}, no metres; {knows}"
            "name a metric estimator, give a number, or leave metres_per_unit out"
        )
    return info


def blind_checks(config: RunConfig, estimator: EstimatorInfo | None) -> dict[str, Check]:
    """The checks, by name, that have no camera to look at in any pair of a run."""
    if config.camera is not None or config.source is not None:
        return {}
    if estimator is not None and estimator.gives_camera:
        return {}
    checks = open_checks(config.checks)
    return {name: check for name, check in checks.items() if "camera" in check.inputs}


def _require_calibrated_without(config: RunConfig) -> None:
    """Refuses limits on what an estimator says: the model's own depth is no such thing."""
    for check in open_checks(config.checks).values():
        if isinstance(check, Calibration) and check.estimator is not None:
            raise MfsynthError(
                f"checks.{CALIBRATION}: made with what {check.estimator.name} says of images, and "
                "the run has no estimator; set estimator.id to it, or calibrate without one"
            )


def _require_camera_seen(config: RunConfig, info: EstimatorInfo) -> None:
    for name, check in open_checks(config.checks).items():
        if isinstance(check, FieldOfView) and not info.gives_camera:
            raise MfsynthError(
                f"checks.{name}: looks at what camera an estimator sees, and {info.id} sees none; "
                "name one that does, such as MoGe-2, or leave this check out"
            )


def _require_not_blind(config: RunConfig, info: EstimatorInfo) -> None:
    for name, check in blind_checks(config, info).items():
        if check.on_abstain == "reject":
            raise MfsynthError(
                f"checks.{name}.on_abstain: reject turns every pair down, for {WHY_BLIND}; set "
                "camera, or leave this check out"
            )


def _require_calibrated_with(config: RunConfig, dtype: str, info: EstimatorInfo) -> None:
    """Refuses limits on what another estimator says, or this one in another precision."""
    for check in open_checks(config.checks).values():
        used = check.estimator if isinstance(check, Calibration) else None
        if used is None:
            continue
        if used.revision != info.revision:
            raise MfsynthError(
                f"estimator.id: {info.id} ({info.revision[:12]}), but checks.{CALIBRATION} was "
                f"made with {used.name} ({used.revision[:12]}); take that one, or calibrate with "
                "this one"
            )
        if used.dtype != dtype:
            raise MfsynthError(
                f"estimator.dtype: {dtype}, but checks.{CALIBRATION} was made in {used.dtype}; set "
                f"estimator.dtype={used.dtype}"
            )
        if info.gives is EstimateKind.AFFINE_INVARIANT_DISPARITY and not used.counts_infinite:
            raise MfsynthError(
                f"checks.{CALIBRATION}: made by scores that left out what the disparity of "
                f"{info.id} puts at infinity, which they count by now; calibrate again"
            )


def _require_depth(config: RunConfig, info: EstimatorInfo, gives: EstimateKind) -> None:
    """Refuses to call a disparity that lacks its zero a depth, and metres relative."""
    if gives is EstimateKind.AFFINE_INVARIANT_DISPARITY:
        raise MfsynthError(
            f"estimator.id: {info.id} gives disparity up to a shift, of which no depth can be "
            "made; two_models takes one that gives depth"
        )
    if gives is EstimateKind.METRIC_Z and config.metres_per_unit is not None:
        raise MfsynthError(
            f"metres_per_unit: {info.id} gives metres already; leave metres_per_unit out"
        )
