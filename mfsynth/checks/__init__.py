"""Consistency checks of RGB-D pairs: pure scores, and a verdict by thresholds."""

from __future__ import annotations

from mfsynth.checks.flying_pixels import flying_pixels
from mfsynth.checks.registration import registration, shift_scores
from mfsynth.checks.self_agreement import self_agreement
from mfsynth.checks.validity import dynamic_range, far_fraction, valid_fraction
from mfsynth.checks.verdict import CheckedPair, Verdict, run_checks, score_names

__all__ = [
    "CheckedPair",
    "Verdict",
    "dynamic_range",
    "far_fraction",
    "flying_pixels",
    "registration",
    "run_checks",
    "score_names",
    "self_agreement",
    "shift_scores",
    "valid_fraction",
]
