"""What people are told of a run: how its pairs are made, its camera, where limits come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mfsynth.geometry import Intrinsics
from mfsynth.shards.run_manifest import RunManifest, ScoreInfo

UNKNOWN_LICENCE = "unknown"
"""Of what nobody states one of."""

NO_GUARANTEE = "what the calibration guarantees doesn't hold with them"
"""Of limits that were set by hand beside a calibration."""

# By mode of the sampler: how pairs come about, and what their depth is good for.
_MADE: Mapping[str, tuple[str, str]] = {
    "i2d": (
        "Images are those of a source; their depth was made by a generative model",
        "Depth is what the model believes, checked for consistency with the image, not measured. "
        "Don't use it as ground truth to evaluate against.",
    ),
    "d2i": (
        "Depth is that of a source; images were made for it by a generative model, not by a camera",
        "Depth is as exact as its source; what an image shows may differ from it: `depth_error`, "
        "where it was checked, says how far.",
    ),
}
_TWO_MODELS = (
    "Images were made by a generative model, not by a camera; their depth was estimated from them "
    "by another model",
    _MADE["i2d"][1].replace("the model", "the estimator"),
)
_JOINT = (
    "Image and depth were made by a generative model, not by a camera",
    _MADE["i2d"][1],
)


# By mode, as people search for data sets; of images also the last part of the IPTC's term.
_TAGS: Mapping[str, tuple[str, ...]] = {
    "i2d": ("annotated", "machine-generated-depth"),
    "d2i": ("retextured", "synthetic", "compositeWithTrainedAlgorithmicMedia"),
}
_JOINT_TAGS = ("generated", "synthetic", "trainedAlgorithmicMedia")


def how_made(settings: Mapping[str, Any]) -> tuple[str, str]:
    """How the pairs of a run come about, and what their depth is good for, by its settings."""
    return _MADE.get(mode_of(settings), _TWO_MODELS if is_of_two_models(settings) else _JOINT)


def is_of_two_models(settings: Mapping[str, Any]) -> bool:
    """Whether the depth of a run's pairs is that of its estimator."""
    model = settings.get("model")
    return isinstance(model, Mapping) and model.get("kind") == "two_models"


def licence_of_models(run: RunManifest) -> str | None:
    """What pairs may be used for as far as models decide it: of two models, by both licences.

    None where the model's isn't stated.
    """
    own = run.model.get("licence")
    if own is None or not is_of_two_models(run.settings):
        return own
    return both_licences(own, run.estimator.get("licence") or UNKNOWN_LICENCE)


def licence_of_pairs(run: RunManifest, index: pa.Table) -> str | None:
    """That of the models, or of pairs that begin with a source those of all of them.

    Args:
        run: What the run is.
        index: The rows of its pairs.
    """
    if "source" not in run.settings:
        return licence_of_models(run)
    return ", ".join(sorted({*index["licence"].to_pylist()}))


def both_licences(first: str, second: str) -> str:
    """The licence of what was made of two things, as SPDX has it."""
    return first if first.lower() == second.lower() else f"{first} AND {second}"


def tags_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """How the pairs of a run come about, in tags; photographs are never called synthetic."""
    return _TAGS.get(mode_of(settings), _JOINT_TAGS)


def mode_of(settings: Mapping[str, Any]) -> str:
    """The mode of the sampler that a run's settings say; `joint` where they say none."""
    sampler = settings.get("sampler")
    return str(sampler.get("mode", "joint")) if isinstance(sampler, Mapping) else "joint"


def camera_in_words(settings: Mapping[str, Any]) -> str:
    """The camera that a run assumes, from its semantic settings; empty if it has none."""
    camera = settings.get("camera")
    if not isinstance(camera, Mapping):
        return ""
    preset, fov = camera.get("preset"), camera.get("fov")
    if isinstance(preset, str):
        return preset
    return f"{fov:g}° wide" if isinstance(fov, int | float) else ""


def view_in_words(camera: Intrinsics, height: int, width: int) -> str:
    """Horizontal and vertical field of view: `42.3° × 42.3°`."""
    return f"{camera.horizontal_fov(width):.1f}° × {camera.vertical_fov(height):.1f}°"


def loosened_limits(scores: Mapping[str, ScoreInfo]) -> list[str]:
    """The scores, in words, whose limit lets more pass than the default of their check.

    Args:
        scores: What a run says of its scores, by name.
    """
    return [
        f"{score.label} {score.bound(score.limit)}, by default {score.bound(score.default_limit)}"
        for score in scores.values()
        if score.limit is not None and score.default_limit is not None and _is_looser(score)
    ]


def limits_by_hand(scores: Mapping[str, ScoreInfo], settings: Mapping[str, Any]) -> list[str]:
    """What a run rejects beside its calibration, in words; nothing without one.

    Limits that are others than the calibration's, and checks that reject where they abstain.

    Args:
        scores: What a run says of its scores, by name.
        settings: Its semantic settings.
    """
    calibrated = calibrated_limits(settings)
    if not calibrated:
        return []
    limits = [
        f"{score.label} {score.bound(score.limit)}, calibrated {score.bound(limit)}"
        for name, limit in calibrated.items()
        if (score := scores.get(name)) is not None
        and score.limit is not None
        and score.limit != limit
    ]
    rejecting = [
        f"{name} rejects where it abstains"
        for name, check in settings["checks"].items()
        if isinstance(check, Mapping) and check.get("on_abstain") == "reject"
    ]
    return limits + rejecting


def calibrated_limits(settings: Mapping[str, Any]) -> Mapping[str, float]:
    """By score, the limits of a run's calibration; empty for a run without one.

    Args:
        settings: Its semantic settings.
    """
    found: Any = settings
    for key in ("checks", "calibration", "limits"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def standing_of(name: str, score: ScoreInfo, settings: Mapping[str, Any]) -> str:
    """Where the limit of a score comes from, in words; "" if it has none, or that isn't known.

    Args:
        name: Of the score.
        score: What the run says of it.
        settings: Semantic settings of the run.
    """
    if score.limit is None:
        return ""
    calibrated = calibrated_limits(settings).get(name)
    if calibrated is not None:
        if calibrated == score.limit:
            return "calibrated"
        return f"set by hand: calibrated is {score.bound(calibrated)}"
    if score.default_limit is None:
        return ""
    if score.default_limit == score.limit:
        return "the default"
    how = "loosened" if _is_looser(score) else "stricter than the default"
    return f"{how}: by default {score.bound(score.default_limit)}"


def _is_looser(score: ScoreInfo) -> bool:
    limit, default = score.limit, score.default_limit
    if limit is None or default is None or limit == default:
        return False
    return (limit < default) == score.is_minimum
