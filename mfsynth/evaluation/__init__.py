"""How good a model's depth is."""

from mfsynth.evaluation.depth import DepthScore, image_to_depth, score_depth

__all__ = ["DepthScore", "image_to_depth", "score_depth"]
