"""How good a model's depth is."""

from __future__ import annotations

from mfsynth.evaluation.depth import image_to_depth, score_depth

__all__ = ["image_to_depth", "score_depth"]
