"""Consistency checks of RGB-D pairs; `mfsynth.checks.base` shows how to write one."""

from __future__ import annotations

from mfsynth.checks.base import Check, CheckedPair, Failure, Input, Score
from mfsynth.checks.registry import check_names, open_checks
from mfsynth.checks.verdict import Verdict, run_checks, score_infos

__all__ = [
    "Check",
    "CheckedPair",
    "Failure",
    "Input",
    "Score",
    "Verdict",
    "check_names",
    "open_checks",
    "run_checks",
    "score_infos",
]
