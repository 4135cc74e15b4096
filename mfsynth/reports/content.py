"""What a report shows, ready to be laid out: no arrays, no IO."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mfsynth.reports.histogram import Histogram, Limit

SCORE_LABELS: Mapping[str, str] = {
    "valid_fraction": "valid depth",
    "far_fraction": "at far bound",
    "dynamic_range": "dynamic range",
    "registration": "registration",
    "flying_pixels": "flying pixels",
    "self_agreement": "self agreement",
}
"""Names of scores for people; a score that is not here is shown by its own name."""

SCORE_NOTES: Mapping[str, str] = {
    "valid_fraction": "share of pixels that have a depth",
    "far_fraction": "share of valid pixels at the far bound of the model",
    "dynamic_range": "98th over 2nd percentile of depth",
    "registration": "shift-z: how many standard deviations the unshifted depth edges fit the "
    "image better than shifted ones",
    "flying_pixels": "share of depth jumps with a pixel that hangs between near and far",
    "self_agreement": "relative difference to the depth that the model gives for its own image",
}
"""What a score measures, in a line."""

_CHECK_OF_SCORE = {
    "valid_fraction": ("validity", "min_valid_fraction"),
    "far_fraction": ("validity", "max_far_fraction"),
    "dynamic_range": ("validity", "min_dynamic_range"),
    "registration": ("registration", "min"),
    "flying_pixels": ("flying_pixels", "max"),
    "self_agreement": ("self_agreement", "max"),
}


@dataclass(frozen=True, slots=True)
class ScoreCell:
    """A score of one pair: label, value as text, what it measures, whether it failed."""

    label: str
    text: str
    note: str
    failed: bool


@dataclass(frozen=True, slots=True)
class PairCard:
    """An accepted pair; images are data URIs, `width` and `height` those of the data."""

    sample_id: str
    prompt: str
    seed: int
    rgb_uri: str
    depth_uri: str
    width: int
    height: int
    scores: tuple[ScoreCell, ...]


@dataclass(frozen=True, slots=True)
class RejectCard:
    """A pair that failed a check; without a thumbnail where none was kept."""

    sample_id: str
    prompt: str
    seed: int
    thumbnail_uri: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuarantineCard:
    """A candidate that could not be made, and why."""

    sample_id: str
    prompt: str
    seed: int
    reason: str


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many rejected pairs failed a score; one pair can fail several."""

    label: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run as a page shows it.

    Attributes:
        name: Of the run.
        facts: Label and value: model, licence, sampler, size, seed and the like.
        candidates: Committed candidates: accepted + rejected + quarantined.
        accepted: How many passed all checks.
        rejected: How many failed a check.
        quarantined: How many could not be made.
        shards: Committed shards.
        seconds: Worker seconds spent on them.
        pairs: Accepted pairs that are shown; a sample of all.
        rejects: Rejected ones that are shown; a sample of all.
        quarantine: Quarantined ones that are shown.
        reason_counts: Failed scores over all rejected pairs, most frequent first.
        histograms: One a score, over all accepted and rejected pairs.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    candidates: int
    accepted: int
    rejected: int
    quarantined: int
    shards: int
    seconds: float
    pairs: tuple[PairCard, ...]
    rejects: tuple[RejectCard, ...]
    quarantine: tuple[QuarantineCard, ...]
    reason_counts: tuple[ReasonCount, ...]
    histograms: tuple[Histogram, ...]

    @property
    def acceptance(self) -> float | None:
        """Accepted share of the candidates, in [0, 1]; None without candidates."""
        return self.accepted / self.candidates if self.candidates else None


def score_cells(
    scores: Mapping[str, float | None], limits: Mapping[str, Limit]
) -> tuple[ScoreCell, ...]:
    """Scores of a pair for display; nan or None shows as a dash, because the check abstained."""
    cells = []
    for name, score in scores.items():
        value = math.nan if score is None else score
        limit = limits.get(name)
        failed = limit is not None and (
            value < limit.value if limit.is_minimum else value > limit.value
        )
        text = "–" if math.isnan(value) else f"{value:.2f}" if value < 100 else f"{value:.0f}"
        note = SCORE_NOTES.get(name, name)
        cells.append(ScoreCell(SCORE_LABELS.get(name, name), text, note, failed))
    return tuple(cells)


def limits_of(checks: Mapping[str, Mapping[str, float] | None]) -> dict[str, Limit]:
    """Thresholds by score, from the `checks` part of a run's configuration."""
    limits = {}
    for score, (check, key) in _CHECK_OF_SCORE.items():
        settings = checks.get(check)
        if settings is not None and key in settings:
            limits[score] = Limit(float(settings[key]), is_minimum=key.startswith("min"))
    return limits
