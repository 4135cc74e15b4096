"""What a report shows, ready to be laid out: no arrays, no IO."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mfsynth.reports.histogram import DepthHistogram, Histogram
from mfsynth.reports.pictures import Pictures
from mfsynth.reports.throughput import Throughput
from mfsynth.shards.acceptance import ValueAcceptance
from mfsynth.shards.run_manifest import ScoreInfo


@dataclass(frozen=True, slots=True)
class ScoreCell:
    """A score of one pair.

    Attributes:
        name: Of the score.
        label: For people.
        value: Its value; None where the check abstained.
        text: The value as text, with its unit.
        failed: Whether it is why the pair was rejected.
    """

    name: str
    label: str
    value: float | None
    text: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Card:
    """A pair that is shown, accepted or rejected.

    Attributes:
        sample_id: Of the candidate.
        candidate: Its number.
        prompt: Its text.
        seed: Of its noise.
        scores: All that it has.
        slots: What its prompt took, by slot.
        pictures: Of its pixels; None where the run keeps none.
        thumbnail_uri: A small picture in their place; None where there is none either.
        reasons: Why it was rejected, in words; empty of a pair.
        failed: Labels of the scores that it failed.
        camera: In words, with its field of view; empty if there is none.
        shard: That it is of.
        reproduce: The command that makes it again.
    """

    sample_id: str
    candidate: int
    prompt: str
    seed: int
    scores: tuple[ScoreCell, ...]
    slots: Mapping[str, tuple[str, ...]]
    pictures: Pictures | None
    shard: int
    reproduce: str
    thumbnail_uri: str | None = None
    reasons: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    camera: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the page's script reads it."""
        depth = self.pictures.depth if self.pictures is not None else None
        return {
            "id": self.sample_id,
            "candidate": self.candidate,
            "scores": {cell.name: cell.value for cell in self.scores},
            "slots": {slot: [*values] for slot, values in self.slots.items() if values},
            "reasons": [*self.failed],
            "depth": depth and depth.to_json(),
        }


@dataclass(frozen=True, slots=True)
class QuarantineCard:
    """A candidate that could not be made, why, and the command that tries it again."""

    sample_id: str
    prompt: str
    seed: int
    reason: str
    reproduce: str


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
class ShardRow:
    """A committed shard: what came of it, and the keys of its objects.

    Attributes:
        shard: Its number.
        pairs: That it has.
        candidates: Of which they are.
        created: When it was made, for people.
        machine: Where.
        objects: Kind and key of what is stored of it.
    """

    shard: int
    pairs: int
    candidates: int
    created: str
    machine: str
    objects: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run as a page shows it.

    Attributes:
        name: Of the run.
        run_id: Its name and its identity: two runs of one name have two.
        facts: Label and value: model, licence, sampler, size, seed and the like.
        candidates: Committed candidates: accepted + rejected + quarantined.
        accepted: How many passed all checks.
        rejected: How many failed a check, or are left out by a view.
        quarantined: How many could not be made.
        shards: Committed shards.
        seconds: Worker seconds spent on them.
        pairs: Accepted pairs that are shown; a sample of all.
        rejects: Rejected ones that are shown; a sample of all.
        quarantine: Quarantined ones that are shown.
        reason_counts: Failed scores over all rejected pairs, most frequent first.
        histograms: One a score, over all accepted and rejected pairs.
        depths: Of the depth maps that are shown; None where none is.
        throughput: When and by whom it was made.
        shard_rows: The newest shards, newest first.
        slots: Of each slot of the prompts, the values that fewest were accepted of, worst first.
        made: How its pairs came to be, a sentence without its end.
        warning: What people should know before they look at the pairs; "" for nothing.
        url: Where the run is, without credentials.
        left_out: How many more pairs were asked for, for which a page has no room.
        view: Of which view it is, whose pairs are then the accepted ones; "" for none.
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
    pairs: tuple[Card, ...]
    rejects: tuple[Card, ...]
    quarantine: tuple[QuarantineCard, ...]
    reason_counts: tuple[ReasonCount, ...]
    histograms: tuple[Histogram, ...]
    depths: DepthHistogram | None = None
    throughput: Throughput | None = None
    shard_rows: tuple[ShardRow, ...] = ()
    slots: tuple[SlotTable, ...] = ()
    made: str = ""
    warning: str = ""
    url: str = ""
    left_out: int = 0
    view: str = ""

    @property
    def acceptance(self) -> float | None:
        """Accepted share of the candidates, in [0, 1]; None without candidates."""
        return self.accepted / self.candidates if self.candidates else None


def with_fewer_pairs(report: RunReport, count: int) -> RunReport:
    """The same report with so many of its pairs, taken evenly from all of them."""
    shown = len(report.pairs)
    pairs = tuple(report.pairs[number * shown // count] for number in range(count))
    return replace(report, pairs=pairs, left_out=report.left_out + shown - count)


def score_cells(
    scores: Mapping[str, float | None],
    info: Callable[[str], ScoreInfo],
    reasons: Collection[str] = (),
) -> tuple[ScoreCell, ...]:
    """Scores of a pair for display; nan or None shows as a dash, because the check abstained.

    Args:
        scores: By name.
        info: What is known of a score.
        reasons: Names of those that the pair was rejected for, abstained ones among them.
    """
    cells = []
    for name, score in scores.items():
        value = math.nan if score is None else score
        about = info(name)
        shown = "–" if math.isnan(value) else about.with_unit(_short(value))
        known = value if math.isfinite(value) else None
        failed = name in reasons or about.fails(value)
        cells.append(ScoreCell(name, about.label, known, shown, failed))
    return tuple(cells)


def _short(value: float) -> str:
    """A score in few characters: of small ones two digits, for some limits are of thousandths."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.2g}"


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
