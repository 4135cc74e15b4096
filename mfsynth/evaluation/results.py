"""Results of an evaluation as JSON and as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mfsynth.evaluation.depth import DepthScore
from mfsynth.formatting import table_row

_COLUMNS = (
    "data set",
    "protocol",
    "alignment",
    "images",
    "AbsRel ↓",
    "δ1 ↑",
    "δ2 ↑",
    "δ3 ↑",
    "SIlog ↓",
    "model",
    "revision",
    "steps",
    "input",
    "ground truth",
)
# As git shortens commits; the JSON file has all of it.
_REVISION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Result:
    """One model on one set under one alignment, with all that its figures depend on.

    Attributes:
        data_set: Its name.
        score: The figures, with protocol and alignment.
        protocol_images: How many images the protocol has; None if it names no number.
        model: Its id.
        revision: Commit of a hub model, SHA-256 of a local one.
        steps: Euler steps of image-to-depth.
        seed: Of the first image's noise.
        input_size: (rows, columns) of the images that the model saw.
        truth_sizes: The (rows, columns) that occur among the ground truth.
        truth_by: The model that made the ground truth, in words; None where it was measured or
            rendered.
    """

    data_set: str
    score: DepthScore
    protocol_images: int | None
    model: str
    revision: str
    steps: int
    seed: int
    input_size: tuple[int, int]
    truth_sizes: tuple[tuple[int, int], ...]
    truth_by: str | None = None

    @property
    def complete(self) -> bool | None:
        """Whether it has the protocol's number of images; None if that names no number."""
        return None if self.protocol_images is None else self.score.images == self.protocol_images

    def row(self) -> dict[str, Any]:
        """Everything, flat, for JSON."""
        rest = asdict(self)
        return {"data_set": rest.pop("data_set"), **rest.pop("score"), **rest} | {
            "complete": self.complete
        }


def to_json(results: Sequence[Result]) -> str:
    """A list with an object for each result."""
    return json.dumps([result.row() for result in results], indent=1) + "\n"


def to_markdown(results: Sequence[Result]) -> str:
    """A table for every protocol and alignment: figures of different ones don't compare."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.score.protocol, result.score.alignment), []).append(result)
    parts = ["# Depth from images"]
    for (protocol, alignment), rows in groups.items():
        lines = [table_row(_COLUMNS), table_row(["---"] * len(_COLUMNS)), *map(_table_row, rows)]
        parts += [f"## Protocol {protocol}, {alignment} alignment", "\n".join(lines)]
        parts += [
            f"{row.data_set}: its depth was made by {row.truth_by}. The figures say how far the "
            "two agree, not how right either is."
            for row in rows
            if row.truth_by is not None
        ]
    return "\n\n".join(parts) + "\n"


def _table_row(result: Result) -> str:
    score = result.score
    return table_row(
        [
            result.data_set,
            score.protocol,
            score.alignment,
            _images(result),
            *(
                f"{figure:.4f}"
                for figure in (score.abs_rel, score.delta1, score.delta2, score.delta3)
            ),
            f"{score.silog:.2f}",
            result.model,
            result.revision[:_REVISION_DIGITS],
            str(result.steps),
            _size(result.input_size),
            ", ".join(map(_size, result.truth_sizes)),
        ]
    )


def _images(result: Result) -> str:
    if result.complete is False:
        return f"{result.score.images}, not the protocol's {result.protocol_images}"
    return str(result.score.images)


def _size(size: tuple[int, int]) -> str:
    height, width = size
    return f"{width}×{height}"
