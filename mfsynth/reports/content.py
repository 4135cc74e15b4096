"""What a report shows, ready to be laid out: no arrays, no IO."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mfsynth.reports.histogram import Histogram
from mfsynth.shards.acceptance import ValueAcceptance
from mfsynth.shards.commits import ScoreInfo


@dataclass(frozen=True, slots=True)
class ScoreCell:
    """A score of one pair: label, value as text, what it measures, whether it failed."""

    label: str
    text: str
    note: str
    failed: bool


@dataclass(frozen=True, slots=True)
class PairCard:
    """An accepted pair; images are data URIs, `width` and `height` those of the data.

    `camera` is in words, with its field of view; empty if there is none.
    """

    sample_id: str
    prompt: str
    seed: int
    rgb_uri: str
    depth_uri: str
    width: int
    height: int
    scores: tuple[ScoreCell, ...]
    camera: str = ""


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
class SlotTable:
    """A slot of the prompts: the values that are shown, of how many."""

    slot: str
    values: tuple[ValueAcceptance, ...]
    of: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run as a page shows it.

    Attributes:
        name: Of the run.
        run_id: Its name and its identity: two runs of one name have two.
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
        slots: Of each slot of the prompts, the values that fewest were accepted of, worst first.
        warning: What people should know before they look at the pairs; "" for nothing.
    """

    name: str
    run_id: str
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
    slots: tuple[SlotTable, ...] = ()
    warning: str = ""

    @property
    def acceptance(self) -> float | None:
        """Accepted share of the candidates, in [0, 1]; None without candidates."""
        return self.accepted / self.candidates if self.candidates else None


def score_cells(
    scores: Mapping[str, float | None], info: Callable[[str], ScoreInfo]
) -> tuple[ScoreCell, ...]:
    """Scores of a pair for display; nan or None shows as a dash, because the check abstained."""
    cells = []
    for name, score in scores.items():
        value = math.nan if score is None else score
        about = info(name)
        text = about.with_unit(f"{value:.2f}" if value < 100 else f"{value:.0f}")
        shown = "–" if math.isnan(value) else text
        cells.append(ScoreCell(about.label, shown, about.note or name, about.fails(value)))
    return tuple(cells)


def failure_in_words(score: ScoreInfo, value: float | None) -> str:
    """Why a pair was rejected: the score's label, and its value and limit if they are why.

    None is no value: the check abstained, and its settings reject what it says nothing of.
    """
    if value is None:
        return f"{score.label}: the check abstained"
    if not score.fails(value):
        return score.label
    limit, digits = f"{score.limit:g}", 3
    # As many digits as tell the value from the limit.
    while f"{value:.{digits}g}" == limit and digits < 9:
        digits += 1
    relation = "<" if score.is_minimum else ">"
    return f"{score.label} {value:.{digits}g} {relation} {score.with_unit(limit)}"
