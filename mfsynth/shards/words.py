"""What people are told of a run's settings: how its pairs are made, its camera, loose limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfsynth.geometry import Intrinsics
from mfsynth.shards.commits import ScoreInfo

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
_JOINT = (
    "Image and depth were made by a generative model, not by a camera",
    _MADE["i2d"][1],
)


def how_made(settings: Mapping[str, Any]) -> tuple[str, str]:
    """How the pairs of a run come about, and what their depth is good for, by its settings."""
    sampler = settings.get("sampler")
    mode = sampler.get("mode") if isinstance(sampler, Mapping) else None
    return _MADE.get(str(mode), _JOINT)


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
        if score.limit is not None
        and score.default_limit is not None
        and score.limit != score.default_limit
        and (score.limit < score.default_limit) == score.is_minimum
    ]
