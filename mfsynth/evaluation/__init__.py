"""How good a model's depth is."""

from __future__ import annotations

from mfsynth.evaluation.depth import DepthScore, image_to_depth, score_depth
from mfsynth.evaluation.protocols import Alignment, Protocol

__all__ = ["Alignment", "DepthScore", "Protocol", "image_to_depth", "score_depth"]
