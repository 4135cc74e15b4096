"""How many candidates were accepted of those whose prompts took a value for a slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mfsynth.shards.reading import read_index, read_rejects
from mfsynth.shards.records import Receipt
from mfsynth.shards.tables import SLOT_PREFIX
from mfsynth.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class ValueAcceptance:
    """What became of the candidates whose prompts took a value for a slot.

    Attributes:
        slot: Name of the slot.
        value: What the prompt took, once or more often.
        accepted: How many of them are pairs.
        made: How many they are, those that could not be made included.
    """

    slot: str
    value: str
    accepted: int
    made: int

    @property
    def share(self) -> float:
        """Accepted share, in [0, 1]."""
        return self.accepted / self.made


@dataclass(slots=True)
class SlotCounts:
    """Counts over the tables of a run, which are added one by one."""

    _accepted: Counter[tuple[str, str]] = field(default_factory=Counter)
    _made: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, table: pa.Table, *, accepted: bool) -> None:
        """Count the rows of an index, or of rejects."""
        for name in table.column_names:
            if not name.startswith(SLOT_PREFIX):
                continue
            slot = name.removeprefix(SLOT_PREFIX)
            for value, count in _rows_by_value(table[name]):
                self._made[slot, value] += count
                if accepted:
                    self._accepted[slot, value] += count

    def by_slot(self) -> dict[str, list[ValueAcceptance]]:
        """The values of each slot, the one with the lowest share first; of equal ones the larger.

        Slots that never offered a choice tell nothing, and are left out.
        """
        found: dict[str, list[ValueAcceptance]] = {}
        for (slot, value), made in self._made.items():
            accepted = self._accepted[slot, value]
            found.setdefault(slot, []).append(ValueAcceptance(slot, value, accepted, made))
        return {
            slot: sorted(values, key=lambda each: (each.share, -each.made, each.value))
            for slot, values in found.items()
            if len(values) > 1
        }


def read_slot_acceptance(
    store: ObjectStore, receipts: Iterable[Receipt]
) -> dict[str, list[ValueAcceptance]]:
    """Acceptance by slot and value over committed shards; reads their tables, not their pixels.

    Raises:
        MfsynthError: A table is missing or damaged.
    """
    committed = [*receipts]
    counts = SlotCounts()
    counts.add(read_index(store, committed), accepted=True)
    for table in read_rejects(store, committed):
        counts.add(table, accepted=False)
    return counts.by_slot()


def _rows_by_value(column: pa.ChunkedArray) -> Iterable[tuple[str, int]]:
    """Values of lists, and in how many rows each stands."""
    # A prompt may take one value twice: it is one candidate.
    lists: Any = column.combine_chunks()
    pairs = pa.table({"row": pc.list_parent_indices(lists), "value": pc.list_flatten(lists)})
    counted = pc.value_counts(pairs.group_by(["row", "value"]).aggregate([])["value"])
    return ((each["values"], each["counts"]) for each in counted.to_pylist())
