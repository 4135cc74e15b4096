"""How good a model's depth is."""

from __future__ import annotations

from mfsynth.evaluation.alignment import Alignment, align
from mfsynth.evaluation.depth import DepthScore, image_to_depth, score_depth
from mfsynth.evaluation.protocols import Protocol

__all__ = ["Alignment", "DepthScore", "Protocol", "align", "image_to_depth", "score_depth"]
