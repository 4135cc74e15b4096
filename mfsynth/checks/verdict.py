"""The checks of a run together: all scores of a pair, and why it was turned down."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mfsynth.checks.base import Check, CheckedPair, Failure
from mfsynth.checks.calibration import Calibration
from mfsynth.errors import MfsynthError
from mfsynth.shards.run_manifest import ScoreInfo


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of the checks for one pair.

    Attributes:
        scores: Every score of every check; nan where the check abstains.
        failures: What the pair was turned down for; empty if it is accepted.
        parted: Objects whose mask and image part ways.
    """

    scores: dict[str, float]
    failures: tuple[Failure, ...]
    parted: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """True if no check failed; one that abstains fails only where its settings say so."""
        return not self.failures


def run_checks(pair: CheckedPair, checks: Iterable[Check]) -> Verdict:
    """Run all checks, also after one has failed, so that all scores are known.

    Raises:
        MfsynthError: A score is infinite.
    """
    scores: dict[str, float] = {}
    failures: list[Failure] = []
    parted: list[str] = []
    for check in checks:
        if "scores" in check.inputs:
            pair = replace(pair, scores=dict(scores))
        if any(getattr(pair, name) is None for name in check.inputs):
            own = {score.name: math.nan for score in check.scores}
        else:
            measured = check.measure(pair)
            own = {score.name: float(measured[score.name]) for score in check.scores}
            if endless := [name for name, value in own.items() if math.isinf(value)]:
                raise MfsynthError(
                    f"checks: the score {endless[0]} is infinite, which no limit holds of and no "
                    "file can store; its check should abstain (nan), or give a number"
                )
            parted += check.parted(pair)
        scores |= own
        failures += check.failures(pair, own)
    return Verdict(scores, tuple(failures), tuple(parted))


def score_infos(checks: Iterable[Check]) -> dict[str, ScoreInfo]:
    """What a run keeps of all scores of its checks, by name."""
    checks = tuple(checks)
    infos = {name: info for check in checks for name, info in check.score_infos().items()}
    for check in checks:
        if isinstance(check, Calibration):
            infos = check.marked(infos)
    return infos
