"""The candidates of a run that gave no pair: counts and scores of all, details of a few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mfsynth.datasets import RGBDSample
from mfsynth.datasets.decoding import (
    decode_into,
    described,
    encoding_of,
    members,
    room_for,
    span_of,
)
from mfsynth.datasets.ranges import RangeReader
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout, reading, tables
from mfsynth.shards.acceptance import SlotCounts
from mfsynth.shards.columns import QUARANTINED, REJECTED
from mfsynth.shards.records import Receipt
from mfsynth.shards.selection import why_left_out
from mfsynth.shards.views import Rules
from mfsynth.storage.store import ObjectStore

_NONE = np.empty(0, np.int64)
_NO_SCORES = np.empty(0)


@dataclass(slots=True)
class RejectedRows:
    """What a report needs of the rejects.

    Attributes:
        scores: Per score, the values of all rejected candidates, float64 (N,), table by table; nan
            where the check abstained.
        rejected: Rows (`tables.rejects_schema`) of the chosen rejected candidates.
        quarantined: Rows of the chosen quarantined candidates.
        reasons: How many of all rejected candidates failed each score.
        slots: Counts all of them by what their prompts took.
    """

    scores: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    slots: SlotCounts = field(default_factory=SlotCounts)

    def add_scores(self, rows: pa.Table) -> None:
        """Count rows of an index or of rejects among the rejected candidates."""
        for score, values in scores_in(rows).items():
            self.scores.setdefault(score, []).append(values)

    def scores_of(self, name: str) -> NDArray[np.float64]:
        """Values of one score, of all rejected candidates."""
        return np.concatenate([_NO_SCORES, *self.scores.get(name, ())])


def scores_in(rows: pa.Table) -> dict[str, NDArray[np.float64]]:
    """By score, the values of all rows, float64 (N,); nan where the check abstained."""
    return {
        name.removeprefix(tables.SCORE_PREFIX): pc.fill_null(rows[name], float("nan"))
        .to_numpy()
        .astype(np.float64)
        for name in rows.column_names
        if name.startswith(tables.SCORE_PREFIX)
    }


def read_rejects(
    store: ObjectStore,
    commits: Mapping[int, Receipt],
    count: int,
    rng: np.random.Generator,
    returned: NDArray[np.int64] = _NONE,
    rules: Rules | None = None,
) -> RejectedRows:
    """Reads the rejects of all committed shards, one shard at a time.

    Args:
        store: The run.
        commits: Its receipts by shard.
        count: How many rejected and how many quarantined candidates to choose, at random.
        rng: Makes the choice.
        returned: Rejected candidates that a view has; they are left out here.
        rules: Of that view, which then say why others are rejected; None of the run itself.

    Raises:
        MfsynthError: The rejects of a committed shard are missing or damaged.
    """
    rows = RejectedRows()
    outcomes = {REJECTED: rows.rejected, QUARANTINED: rows.quarantined}
    totals = {
        REJECTED: sum(receipt.rejected for receipt in commits.values()) - len(returned),
        QUARANTINED: sum(receipt.quarantined for receipt in commits.values()),
    }
    wanted = {name: choose(total, count, rng) for name, total in totals.items()}
    passed = dict.fromkeys(outcomes, 0)
    for table in reading.read_rejects(store, commits.values()):
        if len(returned):
            table = table.filter(pc.invert(pc.is_in(table["candidate"], pa.array(returned))))
        rows.slots.add(table, accepted=False)
        for name, chosen in outcomes.items():
            part = table.filter(pc.equal(table["outcome"], name))
            if name == REJECTED and rules is not None:
                part = _with_reasons(part, why_left_out(part, rules))
            numbers = wanted[name] - passed[name]
            inside = numbers[(numbers >= 0) & (numbers < part.num_rows)]
            chosen += part.take(pa.array(inside)).to_pylist()
            passed[name] += part.num_rows
            if name == REJECTED:
                rows.reasons.update(pc.list_flatten(part["reasons"]).to_pylist())
                rows.add_scores(part)
    return rows


def _with_reasons(rejected: pa.Table, reasons: Sequence[Sequence[str]]) -> pa.Table:
    column = rejected.schema.get_field_index("reasons")
    kind = rejected.schema.field(column)
    return rejected.set_column(column, kind, pa.array(reasons, kind.type))


def pixels_of(
    store: ObjectStore, commits: Mapping[int, Receipt], rows: Sequence[Mapping[str, Any]]
) -> dict[int, RGBDSample]:
    """The pairs of candidates, by candidate, of those whose pixels the run has kept.

    Args:
        store: The run.
        commits: Its receipts by shard.
        rows: Of the candidates, of rejects or of an index.

    Raises:
        MfsynthError: They are missing or damaged.
    """
    reader, found = RangeReader(), {}
    for row in rows:
        # A pair that the run accepted has no outcome: it lies among its pairs.
        kind = layout.REJECTED_TAR if "outcome" in row else "tar"
        tar = commits[row["shard"]].objects.get(kind)
        if tar is None or row.get("rgb_offset") is None:
            continue
        try:
            span = span_of(row, tar)
            [data] = reader.read(store, tar, [(span.start, span.length)])
            files, pixels = members(row["sample_id"], span, data), room_for(row)
            decode_into(pixels, encoding_of(row), files["rgb"], files["depth"])
            found[row["candidate"]] = described(row, pixels)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MfsynthError(
                f"{store.url}/{tar.key}: {row['sample_id']} can't be read "
                f"({' '.join(str(error).split())[:200]}); `mfsynth verify` says what is damaged"
            ) from error
    return found


def choose(total: int, count: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Up to `count` of the numbers below `total`, in rising order, every choice equally likely."""
    if total <= count:
        return np.arange(total, dtype=np.int64)
    return np.sort(rng.choice(total, count, replace=False)).astype(np.int64)
