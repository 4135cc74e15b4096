"""From trusted pairs to a calibration: figures, limits, fused score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfsynth
from mfsynth.checks.base import Check, Input
from mfsynth.checks.calibration import (
    CALIBRATION,
    FUSED,
    Guarantee,
    Term,
    UsedEstimator,
    fused,
)
from mfsynth.checks.calibration_files import CalibrationFile, limit_settings
from mfsynth.checks.registry import networks_of, open_checks
from mfsynth.checks.verdict import score_infos
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.calibration.config import PERTURBED, CalibrateConfig, TrustedPart
from mfsynth.evaluation.calibration.estimates import Estimate, open_estimator, perturbed
from mfsynth.evaluation.calibration.figures import (
    clean_figures,
    fit_on,
    held_out_figures,
    one_of_each,
    power_figures,
)
from mfsynth.evaluation.calibration.limits import blocks, limits, needed
from mfsynth.evaluation.calibration.scoring import Scored, score_pairs
from mfsynth.evaluation.calibration.splitting import FITTING, split
from mfsynth.evaluation.calibration.trusted import Report, read_pairs, with_estimates

# Of `CheckedPair`, what trusted pairs can have.
_INPUTS: tuple[Input, ...] = ("rgb", "depth", "intrinsics", "camera", "estimate", "text", "slots")


def calibrate(config: CalibrateConfig, report: Report) -> CalibrationFile:
    """Measure checks on trusted pairs, and set limits on their scores.

    A quarter of the images, by chance, fits the fused score; the others give the limits, with one
    pair of each image. Without limits all fit it. Figures are of all pairs.

    Args:
        config: All that decides it; the same settings and files give the same calibration.
        report: Told how far it is.

    Raises:
        MfsynthError: A check or a source can't be had, a check looks at what trusted pairs don't
            have, or there are too few images for the limits; says how many are needed.
    """
    checks = _open_checks(config)
    used, estimate = _estimator(config, checks)

    def scored_of(parts: Sequence[TrustedPart]) -> tuple[Scored, tuple[dict[str, Any], ...]]:
        found = read_pairs(parts, config.height, config.width, report)
        if parts is config.data:
            _require_enough(found.images, checks, config)
        if used is not None:
            found = with_estimates(found, estimate, config.seed, report)
        return score_pairs(found.pairs, checks, config.seed, report), found.sources

    scored, sources = scored_of(config.data)
    has_limits = config.alpha is not None and config.delta is not None
    fits = split(scored.images, config.seed, FITTING if has_limits else 1)
    terms, bias = fit_on(scored, fits)
    found = _limits(scored, fits, terms, bias, checks, config)
    figures: dict[str, Any] = {
        "pairs": len(scored.images),
        "images": len(np.unique(scored.images)),
        "same_prompt": scored.same_prompt,
        "clean": clean_figures(scored),
        **power_figures(scored, config.draws, config.seed),
    }
    complete = {name: _with_limits(check, found) for name, check in checks.items()}
    if config.held_out is not None and found:
        # Those of scores that always abstained, too: a run has them.
        applied = score_infos(open_checks(complete).values())
        limited = {name: one.limit for name, one in applied.items() if one.limit is not None}
        others, more = scored_of(config.held_out)
        sources += tuple(one | {"held_out": True} for one in more)
        figures["held_out"] = held_out_figures(
            others, {**limited, FUSED: found[FUSED]}, terms, bias, config.seed
        )
    guarantee = None
    if config.alpha is not None and config.delta is not None:
        images = len(np.unique(scored.images[~fits]))
        guarantee = Guarantee(alpha=config.alpha, delta=config.delta, images=images)
    return CalibrationFile(
        version=1,
        made_with=f"mfsynth {mfsynth.__version__}",
        guarantee=guarantee,
        checks=complete,
        limits=found,
        terms=terms,
        bias=bias,
        estimator=used,
        networks={name: one.revision for name, one in networks_of(checks).items()} or None,
        settings=config.model_dump(
            mode="json", exclude={"data", "held_out", "output"}, exclude_none=True
        ),
        sources=sources,
        figures=figures,
    )


def _open_checks(config: CalibrateConfig) -> dict[str, Check]:
    if config.checks.get(CALIBRATION) is not None:
        raise MfsynthError(f"checks.{CALIBRATION}: is what this makes; leave it out")
    checks = open_checks(config.checks)
    if not checks:
        raise MfsynthError("checks: none; name those that the run has")
    for name, check in checks.items():
        if lacking := {*check.inputs} - {*_INPUTS}:
            raise MfsynthError(
                f"checks.{name}: looks at {', '.join(sorted(lacking))}, which trusted pairs don't "
                "have; leave this check out"
            )
        if check.on_abstain == "reject":
            raise MfsynthError(
                f"checks.{name}.on_abstain: reject, but no limit says how many good pairs a check "
                "abstains on; leave it out here, and set it in the run if it is to be"
            )
        if "estimate" in check.inputs and config.estimator is None:
            raise MfsynthError(
                f"checks.{name}: looks at what an estimator says; set estimator to embedded, a "
                f"folder, a hub id, or {PERTURBED} for upper bounds"
            )
    return checks


def _estimator(
    config: CalibrateConfig, checks: Mapping[str, Check]
) -> tuple[UsedEstimator | None, Estimate | None]:
    """The estimator, if there is one; without a function where a perturbed copy stands in."""
    if config.estimator is None:
        return None, None
    if all("estimate" not in one.inputs for one in checks.values()):
        raise MfsynthError(
            f"estimator: {config.estimator}, but no check looks at what it says; set it to null, "
            "or add estimator_agreement to checks"
        )
    return (
        (perturbed(), None) if config.estimator == PERTURBED else open_estimator(config.estimator)
    )


def _limited(checks: Mapping[str, Check]) -> list[str]:
    """The scores that get limits; the fused one, which sees most, comes first."""
    return [
        FUSED,
        *(score for one in checks.values() for score in limit_settings(type(one)).values()),
    ]


def _require_enough(images: int, checks: Mapping[str, Check], config: CalibrateConfig) -> None:
    if config.alpha is None or config.delta is None:
        return
    scores = len(_limited(checks))
    left = needed(scores, config.alpha, config.delta)
    # Those that fit the fused score, a part rounded down, come on top.
    least = max(left + (left - 1) // (FITTING - 1), FITTING)
    if images < least:
        raise MfsynthError(
            f"data: {images} images are too few for limits on {scores} scores at alpha "
            f"{config.alpha:g} and delta {config.delta:g}: {least} are needed; give more, a larger "
            "alpha or delta, fewer checks, or null for both for figures without limits"
        )


def _limits(
    scored: Scored,
    fits: NDArray[np.bool_],
    terms: tuple[Term, ...],
    bias: float,
    checks: Mapping[str, Check],
    config: CalibrateConfig,
) -> dict[str, float]:
    if config.alpha is None or config.delta is None:
        return {}
    some = one_of_each(scored.images, config.seed)
    rows = some[~fits[some]]
    order = _limited(checks)
    columns = {
        name: scored.signs[column] * scored.clean[rows, column]
        for column, name in enumerate(scored.names)
    }
    signs = dict(zip(scored.names, scored.signs, strict=True)) | {FUSED: -1.0}
    columns[FUSED] = -fused(scored.names, scored.clean[rows], terms, bias)
    count = blocks(len(rows), config.alpha, config.delta)
    values = limits(np.stack([columns[name] for name in order], axis=1), count)
    found = {
        # Not -0.
        name: float(signs[name] * limit) + 0.0
        for name, limit in zip(order, values, strict=True)
        if np.isfinite(limit)
    }
    if FUSED not in found:
        raise MfsynthError(
            "checks: none tells clean pairs from spoilt ones here, or all abstain; name others"
        )
    return found


def _with_limits(check: Check, found: Mapping[str, float]) -> dict[str, Any]:
    values = check.model_dump(mode="json")
    names = limit_settings(type(check))
    # The check's own limit of a score that always abstained is in the guarantee, too: a block was
    # spent for it, in which every pair lies that it says anything of.
    calibrated = {name: found[score] for name, score in names.items() if score in found}
    complete = type(check).model_validate(values | calibrated)
    return complete.model_dump(mode="json")
