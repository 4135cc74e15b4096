"""What people are told of a run's settings: its camera, and limits that let more pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfsynth.geometry import Intrinsics
from mfsynth.shards.commits import ScoreInfo


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
